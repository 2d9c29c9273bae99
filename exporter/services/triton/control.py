"""Triton's control plane: that of the Open Inference Protocol, and what Triton's extensions report beyond it.

Owns what is asked of a model's configuration, statistics and trace settings. Knows nothing of load.
"""

from __future__ import annotations

import asyncio
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
from exporter.core.probe import MAX_COMPOSING_MODELS, InputOptions
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.services.base import Tensors, TraceSettings
from exporter.services.http_client import model_path
from exporter.services.oip.control import OipControl, OipQuestions, index_line
from exporter.services.triton.clients import TritonClient
from exporter.services.triton.model import ensemble_steps, model_facts, model_statistics, text_id_control

_log = logging.getLogger(__name__)


class TritonQuestions(OipQuestions, Protocol):
    """The calls of Triton's control plane. Each raises PreflightError."""

    async def model_config(self, model: str, version: str) -> model_config_pb2.ModelConfig: ...
    async def statistics(self, model: str, version: str) -> service_pb2.ModelStatisticsResponse: ...
    async def trace_settings(self, model: str) -> dict[str, str | list[str]]: ...
    async def set_trace(self, model: str, settings: TraceSettings) -> None: ...
    async def infer(
        self, facts: ModelFacts, model: str, version: str, tensors: Tensors, timeout_ns: int
    ) -> Tensors: ...


class TritonControl(OipControl):
    """A `Control` (services.base): statistics come from Triton's own call, and no page is needed for them."""

    _client: TritonQuestions

    def __init__(self, target: Target, timeout_ns: int, client: TritonQuestions | None = None) -> None:
        super().__init__(target, timeout_ns, client or TritonClient(target, timeout_ns))

    async def snapshot(self, facts: ModelFacts) -> ServerSnapshot | None:
        """The statistics of the model and of those it calls, each by itself: a server's other models may be many. Of
        all versions, where the probe names none; None where there are none or no response in time."""
        if not facts.has_statistics:
            return None
        keys = dict.fromkeys([ModelKey(facts.name, facts.asked_version), *facts.composing])
        asked_ns = time.monotonic_ns()
        try:
            async with asyncio.timeout(self._timeout_ns / NS):
                responses = await asyncio.gather(*(self._client.statistics(key.name, key.version) for key in keys))
        except (PreflightError, TimeoutError):
            await self._disconnect()
            return None
        received_ns = time.monotonic_ns()
        entries = {(entry.name, entry.version): entry for response in responses for entry in response.model_stats}
        return ServerSnapshot(asked_ns, received_ns, tuple(map(model_statistics, entries.values())))

    async def trace_settings(self, model: str, names: Iterable[str]) -> TraceSettings:
        """Of a model without settings of its own Triton reports the server's: these are returned as None, or the model
        would keep them when the server's change. Raises PreflightError."""
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
            text = f"reference model {model!r} at {self._target.url} did not respond within {limit}"
            raise PreflightError(Reason.PREFLIGHT_TIMEOUT, text) from error

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _preflight(self, model: str, version: str, composing: Sequence[str], options: InputOptions) -> ModelFacts:
        client = self._client
        server = await self._fit_server()
        if not await client.model_ready(model, version):
            raise await self._why_not_ready(model, version)
        metadata = await client.model_metadata(model, version)
        config = await client.model_config(model, version)
        called: dict[ModelKey, model_config_pb2.ModelConfig] = {}
        left_out = await self._follow(ensemble_steps(config), called)
        # A request's id goes to all steps of an ensemble. What another model sends to those it calls is its own affair.
        parts = [config, *called.values()]
        self._refuse_text_ids(model, parts)
        left_out += await self._follow(map(ModelKey.parse, composing), called)
        if names := list(dict.fromkeys(key.name for key in left_out if key not in called)):
            _log.warning(
                "the model calls more models than are followed, and the figures of the others are missing",
                extra=logs.fields(model=config.name, followed=len(called), left_out=", ".join(names)),
            )
        return replace(
            model_facts(server, metadata, config, version),
            composing=tuple(called),
            sequence=any(part.HasField("sequence_batching") for part in parts),
        )

    async def _follow(
        self, keys: Iterable[ModelKey], found: dict[ModelKey, model_config_pb2.ModelConfig]
    ) -> list[ModelKey]:
        """Adds these models, and those that they call in turn, to `found`: each once, those called first first, at most
        MAX_COMPOSING_MODELS in all. What was left out. Raises PreflightError for one that the server does not have."""
        waiting = deque(keys)
        while waiting and len(found) < MAX_COMPOSING_MODELS:
            key = waiting.popleft()
            if key not in found:
                found[key] = await self._client.model_config(key.name, key.version)
                waiting.extend(ensemble_steps(found[key]))
        return list(waiting)

    def _refuse_text_ids(self, model: str, parts: Iterable[model_config_pb2.ModelConfig]) -> None:
        """Ids are sent as numbers. Triton writes one over the first bytes of a text, and refuses that."""
        for part in parts:
            if control := text_id_control(part):
                where = "" if part.name == model else f", which model {model!r} calls,"
                text = f"model {part.name!r}{where} takes the ids of sequences as text (its control {control!r} is a "
                raise PreflightError(Reason.UNSUPPORTED, f"{text}CONTROL_SEQUENCE_CORRID of TYPE_STRING): use numbers")

    async def _why_not_ready(self, model: str, version: str) -> PreflightError:
        """A model in the repository that is not loaded, or failed to load, is not the same as an unknown one."""
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
        over_http = not (self._target.is_grpc or self._target.in_process)
        is_escaped = model_path(self._target.kind, model, "") != model_path(self._target.kind, "", "") + model
        if over_http and is_escaped and all(entry.state == "READY" for entry in asked or entries):
            fix = "rename the model" if self._target.takes_prompts else "use grpc:// in the url"
            text = (
                f"model {model!r} is ready at {url}, but cannot be asked there: its name needs escaping in a path, and "
            )
            return PreflightError(Reason.MODEL_NOT_READY, f"{text}Triton's HTTP endpoint does not decode that: {fix}")
        text = f"model {model!r} is known to {url} but not ready: {'; '.join(map(index_line, asked or entries))}"
        return PreflightError(Reason.MODEL_NOT_READY, text)
