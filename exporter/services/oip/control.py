"""The control plane of the Open Inference Protocol: is the server fit to be measured, what is the model.

Owns the order of the questions and the words of the responses. Triton's own client asks them. Knows nothing of load.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final, Protocol

from tritonclient.grpc import service_pb2

from exporter.core.errors import PreflightError
from exporter.core.facts import ModelFacts, TensorSpec
from exporter.core.kinds import refusal
from exporter.core.outcome import Reason
from exporter.core.probe import DEFAULT_INPUT, InputOptions
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.services.connectivity import no_response
from exporter.services.oip.clients import OipClient
from exporter.services.without_extensions import PlainControl, model_inputs

_BINARY: Final = "binary_tensor_data"
"""An extension of the protocol, by the name under which a server's metadata lists it."""
_UNKNOWN_MODEL: Final = ("404", "NOT_FOUND")


class OipQuestions(Protocol):
    """The calls of the control plane. Each raises PreflightError."""

    async def check_connection(self) -> None: ...
    async def close(self) -> None: ...
    async def server_live(self) -> bool: ...
    async def server_ready(self) -> bool: ...
    async def model_ready(self, model: str, version: str) -> bool: ...
    async def server_metadata(self) -> service_pb2.ServerMetadataResponse: ...
    async def model_metadata(self, model: str, version: str) -> service_pb2.ModelMetadataResponse: ...
    async def repository_index(self) -> service_pb2.RepositoryIndexResponse: ...


class OipControl(PlainControl):
    """A `Control` (services.base). Each call ends within the time-out; connections are made at the first one, and
    made again after a failure, so that changed certificates and tokens are read again."""

    def __init__(self, target: Target, timeout_ns: int, client: OipQuestions | None = None) -> None:
        super().__init__(target, timeout_ns)
        self._client: OipQuestions = client or OipClient(target, timeout_ns)

    async def preflight(
        self, model: str, version: str, composing: Sequence[str] = (), options: InputOptions = DEFAULT_INPUT
    ) -> ModelFacts:
        """What the model is, if the server is live and ready and the model, too. Raises PreflightError."""
        try:
            async with asyncio.timeout(self._timeout_ns / NS):
                return await self._preflight(model, version, composing, options)
        except TimeoutError as error:
            await self._disconnect()
            raise await no_response(self._target, self._timeout_ns) from error
        except BaseException:
            await self._disconnect()
            raise

    async def served_version(self, model: str) -> str:
        """By the model's metadata. Raises PreflightError."""
        return latest_version((await self._client.model_metadata(model, "")).versions)

    async def ready_models(self) -> tuple[str, ...]:
        """By the repository index; a model is ready if a version of it is. Raises PreflightError."""
        index = await self._client.repository_index()
        return tuple(sorted({entry.name for entry in index.models if entry.state == "READY"}))

    async def close(self) -> None:
        """Closes the connections. Never raises."""
        await super().close()
        await self._disconnect()

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _disconnect(self) -> None:
        with contextlib.suppress(Exception):
            await self._client.close()

    async def _preflight(self, model: str, version: str, composing: Sequence[str], options: InputOptions) -> ModelFacts:
        if options.batch_size > 1:
            problem = refusal(self._target.kind, "input.batch_size", str(options.batch_size))
            raise PreflightError(Reason.BAD_INPUT, f"input.batch_size: {problem}")
        server = await self._fit_server()
        metadata = await self._model_metadata(model, version)
        return ModelFacts(
            name=model,
            version=version or latest_version(metadata.versions),
            platform=metadata.platform,
            backend="",
            max_batch_size=0,
            inputs=model_inputs(model, list(map(_spec, metadata.inputs)), options),
            outputs=tuple(map(_spec, metadata.outputs)),
            has_statistics=self._page.there,
            server_name=server.name,
            server_version=server.version,
            asked_version=version,
            binary_tensors=_BINARY in server.extensions,
        )

    async def _model_metadata(self, model: str, version: str) -> Any:
        """The server's description of a ready model. Not all servers can list their models, but all know those
        that they have."""
        url = self._target.url
        which = f"model {model!r}{f' version {version}' if version else ''}"
        try:
            ready = await self._client.model_ready(model, version)
            metadata = await self._client.model_metadata(model, version)
        except PreflightError as error:
            if not _is_unknown_model(error):
                raise
            raise PreflightError(Reason.MODEL_UNKNOWN, f"{which} is not known to {url}: {error}") from error
        if not ready:
            raise PreflightError(Reason.MODEL_NOT_READY, f"{which} is known to {url} but not ready")
        return metadata

    async def _fit_server(self) -> service_pb2.ServerMetadataResponse:
        """The server's metadata, if it is live and ready."""
        client = self._client
        url = self._target.url
        await client.check_connection()
        if not await client.server_live():
            # A refused token or a page of some other server looks the same so far, but not when asked for more.
            await client.server_metadata()
            raise PreflightError(Reason.SERVER_NOT_LIVE, f"the server at {url} reports that it is not live")
        server = await client.server_metadata()
        if not await client.server_ready():
            text = f"the server at {url} reports that it is not ready{await self._broken_models()}"
            raise PreflightError(Reason.SERVER_NOT_READY, text)
        return server

    async def _broken_models(self) -> str:
        """With strict readiness, Triton's default, one model that failed to load makes the whole server not ready."""
        try:
            index = await self._client.repository_index()
        except PreflightError:
            return ""
        broken = [index_line(entry) for entry in index.models if entry.state not in ("", "READY")]
        return f"; of its models: {'; '.join(broken)}" if broken else ""


def _is_unknown_model(error: PreflightError) -> bool:
    """MLServer's gRPC endpoint gives the status UNKNOWN to what it does not know; only its text differs."""
    return error.status in _UNKNOWN_MODEL or (error.status == "UNKNOWN" and "not found" in str(error))


def _spec(tensor: Any) -> TensorSpec:
    return TensorSpec(tensor.name, tensor.datatype, tuple(tensor.shape))


_DIGITS = 20
"""More than any version has: Triton's are of 64 bits."""


def latest_version(versions: Any) -> str:
    """The version that responds when none is asked for: the highest that is loaded; "" where none is named."""
    numbers = [version for version in versions if version.isascii() and version.isdigit() and len(version) <= _DIGITS]
    return max(numbers, key=int) if numbers else next(iter(versions), "")


def index_line(entry: service_pb2.RepositoryIndexResponse.ModelIndex) -> str:
    """A line of the repository index in words. One without a state was never loaded."""
    version = f" version {entry.version}" if entry.version else ""
    reason = f" ({entry.reason.strip().splitlines()[0]})" if entry.reason.strip() else ""
    return f"{entry.name}{version} {entry.state.lower() or 'not loaded'}{reason}"
