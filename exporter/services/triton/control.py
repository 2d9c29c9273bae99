"""Triton's control plane: is it fit to be measured, what is the model, what do its statistics say.

Owns the order of the questions and the words of the answers. Knows nothing of load.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from tritonclient.grpc import model_config_pb2, service_pb2

from exporter import logs
from exporter.core.errors import PreflightError
from exporter.core.facts import ModelFacts, ModelKey, ServerSnapshot
from exporter.core.outcome import Reason
from exporter.core.probe import DEFAULT_INPUT, MAX_COMPOSING_MODELS, InputOptions
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.services.base import Tensors, TraceSettings
from exporter.services.connectivity import no_answer
from exporter.services.triton.clients import TritonClient
from exporter.services.triton.model import ensemble_steps, model_facts, model_statistics

_log = logging.getLogger(__name__)


class Client(Protocol):
    """What answers the questions. Each raises PreflightError."""

    async def check_connection(self) -> None: ...
    async def close(self) -> None: ...
    async def server_live(self) -> bool: ...
    async def server_ready(self) -> bool: ...
    async def model_ready(self, model: str, version: str) -> bool: ...
    async def server_metadata(self) -> service_pb2.ServerMetadataResponse: ...
    async def model_metadata(self, model: str, version: str) -> service_pb2.ModelMetadataResponse: ...
    async def model_config(self, model: str, version: str) -> model_config_pb2.ModelConfig: ...
    async def statistics(self, model: str, version: str) -> service_pb2.ModelStatisticsResponse: ...
    async def repository_index(self) -> service_pb2.RepositoryIndexResponse: ...
    async def trace_settings(self, model: str) -> dict[str, str | list[str]]: ...
    async def set_trace(self, model: str, settings: TraceSettings) -> None: ...
    async def infer(
        self, facts: ModelFacts, model: str, version: str, tensors: Tensors, timeout_ns: int
    ) -> Tensors: ...


class TritonControl:
    """A `Control` (services.base). Each call ends within the time-out; connections are made at the first one, and
    made anew after a failure, so that changed certificates and tokens are read again."""

    def __init__(self, target: Target, timeout_ns: int, client: Client | None = None) -> None:
        self._target = target
        self._timeout_ns = timeout_ns
        self._client = client or TritonClient(target, timeout_ns)

    async def preflight(
        self, model: str, version: str, composing: Sequence[str] = (), options: InputOptions = DEFAULT_INPUT
    ) -> ModelFacts:
        """What the model is, if the server is live and ready and the model, too. Raises PreflightError."""
        try:
            async with asyncio.timeout(self._timeout_ns / NS):
                return await self._preflight(model, version, composing, options)
        except TimeoutError as error:
            await self._disconnect()
            raise no_answer(self._target.url, self._timeout_ns) from error
        except BaseException:
            await self._disconnect()
            raise

    async def snapshot(self, facts: ModelFacts) -> ServerSnapshot | None:
        """The statistics of the model and of those it calls, each by itself: a server's other models may be many. Of
        all versions, where the probe names none; None where there are none or no answer in time."""
        if not facts.has_statistics:
            return None
        keys = dict.fromkeys([ModelKey(facts.name, facts.asked_version), *facts.composing])
        asked_ns = time.monotonic_ns()
        try:
            async with asyncio.timeout(self._timeout_ns / NS):
                answers = await asyncio.gather(*(self._client.statistics(key.name, key.version) for key in keys))
        except (PreflightError, TimeoutError):
            await self._disconnect()
            return None
        answered_ns = time.monotonic_ns()
        entries = {(entry.name, entry.version): entry for answer in answers for entry in answer.model_stats}
        return ServerSnapshot(asked_ns, answered_ns, tuple(map(model_statistics, entries.values())))

    async def ready_models(self) -> tuple[str, ...]:
        """By the repository index; a model is ready if a version of it is. Raises PreflightError."""
        index = await self._client.repository_index()
        return tuple(sorted({entry.name for entry in index.models if entry.state == "READY"}))

    async def trace_settings(self, model: str, names: Iterable[str]) -> TraceSettings:
        """Of a model without settings of its own Triton tells the server's: these are told as None, or the model would
        keep them when the server's change. Raises PreflightError."""
        own, server = await self._client.trace_settings(model), await self._client.trace_settings("")
        return {name: None if own.get(name) == server.get(name) else own.get(name) for name in names}

    async def set_trace(self, model: str, settings: TraceSettings) -> None:
        """Changes the model's trace settings. Raises PreflightError."""
        await self._client.set_trace(model, settings)

    async def infer(self, facts: ModelFacts, model: str, version: str, inputs: Tensors, timeout_ns: int) -> Tensors:
        """The outputs of one request to another model. Raises PreflightError."""
        try:
            return await self._client.infer(facts, model, version, inputs, timeout_ns)
        except TimeoutError as error:
            await self._disconnect()
            limit = f"{timeout_ns / NS:g} s, measurement.request_timeout"
            text = f"reference model {model!r} at {self._target.url} did not answer within {limit}"
            raise PreflightError(Reason.PREFLIGHT_TIMEOUT, text) from error

    async def close(self) -> None:
        """Closes the connections. Never raises."""
        await self._disconnect()

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _disconnect(self) -> None:
        with contextlib.suppress(Exception):
            await self._client.close()

    async def _preflight(self, model: str, version: str, composing: Sequence[str], options: InputOptions) -> ModelFacts:
        client = self._client
        server = await self._fit_server()
        if not await client.model_ready(model, version):
            raise await self._why_not_ready(model, version)
        metadata = await client.model_metadata(model, version)
        config = await client.model_config(model, version)
        called = await self._composing(config, composing)
        return replace(model_facts(server, metadata, config, version), composing=called)

    async def _fit_server(self) -> service_pb2.ServerMetadataResponse:
        """The server's metadata, if it is live and ready."""
        client = self._client
        url = self._target.url
        await client.check_connection()
        if not await client.server_live():
            # A refused token or a page of some other server looks the same so far, but not when asked for more.
            await client.server_metadata()
            raise PreflightError(Reason.SERVER_NOT_LIVE, f"the server at {url} says that it is not live")
        server = await client.server_metadata()
        if not await client.server_ready():
            text = f"the server at {url} says that it is not ready{await self._broken_models()}"
            raise PreflightError(Reason.SERVER_NOT_READY, text)
        return server

    async def _composing(self, config: model_config_pb2.ModelConfig, named: Sequence[str]) -> tuple[ModelKey, ...]:
        """The models that this one calls: an ensemble's steps, those named by the probe, and what all of these call in
        turn. Each once, those called first first, at most MAX_COMPOSING_MODELS: the log names the others. Raises
        PreflightError for one that the server does not have."""
        found: dict[ModelKey, None] = {}
        waiting = deque([*ensemble_steps(config), *map(ModelKey.parse, named)])
        while waiting and len(found) < MAX_COMPOSING_MODELS:
            key = waiting.popleft()
            if key not in found:
                found[key] = None
                waiting.extend(ensemble_steps(await self._client.model_config(key.name, key.version)))
        if left_out := list(dict.fromkeys(key.name for key in waiting if key not in found)):
            _log.warning(
                "the model calls more models than are followed, and the figures of the others are missing",
                extra=logs.fields(model=config.name, followed=len(found), left_out=", ".join(left_out)),
            )
        return tuple(found)

    async def _broken_models(self) -> str:
        """With strict readiness, Triton's default, one model that failed to load makes the whole server not ready."""
        try:
            index = await self._client.repository_index()
        except PreflightError:
            return ""
        broken = [_state(entry) for entry in index.models if entry.state not in ("", "READY")]
        return f"; of its models: {'; '.join(broken)}" if broken else ""

    async def _why_not_ready(self, model: str, version: str) -> PreflightError:
        """A model in the repository that isn't loaded, or failed to load, is not the same as one that nobody knows."""
        url = self._target.url
        try:
            index = await self._client.repository_index()
        except PreflightError as error:
            text = f"model {model!r} is not ready at {url}, whose repository index cannot be read ({error})"
            return PreflightError(Reason.MODEL_NOT_READY, text)
        entries = [entry for entry in index.models if entry.name == model]
        if not entries:
            names = ", ".join(sorted({entry.name for entry in index.models})) or "none"
            text = f"model {model!r} is not known to {url}; it knows: {names}"
            return PreflightError(Reason.MODEL_UNKNOWN, text)
        asked = [entry for entry in entries if not version or entry.version == version]
        versions = ", ".join(entry.version for entry in entries if entry.version)
        if not asked and versions:
            text = f"model {model!r} has no version {version} at {url}; it has: {versions}"
            return PreflightError(Reason.MODEL_UNKNOWN, text)
        text = f"model {model!r} is known to {url} but not ready: {'; '.join(map(_state, asked or entries))}"
        return PreflightError(Reason.MODEL_NOT_READY, text)


def _state(entry: service_pb2.RepositoryIndexResponse.ModelIndex) -> str:
    """A line of the repository index in words. One without a state was never loaded."""
    version = f" version {entry.version}" if entry.version else ""
    reason = f" ({entry.reason.strip().splitlines()[0]})" if entry.reason.strip() else ""
    return f"{entry.name}{version} {entry.state.lower() or 'not loaded'}{reason}"
