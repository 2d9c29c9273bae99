"""The control plane of a Triton in this process: one server at a time, loaded by preflight, unloaded when it closes.

Owns the order of loading and unloading, on a thread of its own, and how the library's responses and errors are
reported.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from tritonclient.grpc import model_config_pb2, service_pb2

from exporter.core.errors import InputError, PreflightError
from exporter.core.facts import ModelFacts, ModelKey
from exporter.core.outcome import Reason
from exporter.core.probe import DEFAULT_INPUT, InputOptions
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.core.untrusted_text import clean_text
from exporter.services.base import Tensors, TraceSettings
from exporter.services.encoding import MARK, checked, raw
from exporter.services.oip.responses import decode_response
from exporter.services.triton.control import TritonControl
from exporter.services.triton_in_process.library import TritonError, TritonLibrary
from exporter.services.triton_in_process.server import (
    LIBRARY,
    LocalInput,
    Template,
    TritonServer,
    local_input,
    read_response,
    version_number,
)
from exporter.services.without_extensions import unsupported
from exporter.transport.call import Response

UNLOAD_LIMIT_SECONDS = 10.0

_REASONS = {"NOT_FOUND": Reason.MODEL_UNKNOWN, "UNAVAILABLE": Reason.MODEL_NOT_READY}

_M = TypeVar("_M", bound=Message)
_T = TypeVar("_T")


def _check_folders(target: Target) -> None:
    folders = {"server_directory": target.server_directory, "model_repository": target.model_repository}
    for key, folder in folders.items():
        if not Path(folder).is_dir():
            raise PreflightError(Reason.UNREACHABLE, f"target {target.name}: {key} {folder!r} is not a folder")


def local_inputs(facts: ModelFacts, tensors: Tensors) -> tuple[LocalInput, ...]:
    """The tensors as the library takes them. Raises InputError where they are not the model's."""
    return tuple(
        local_input(spec.name, spec.datatype, tensor.shape, raw(spec, tensor))
        for spec, tensor in checked(facts, tensors)
    )


class InProcess:
    """The one server that this process has at a time."""

    def __init__(self) -> None:
        self.server: TritonServer | None = None
        self._libraries: dict[Path, TritonLibrary] = {}
        self._thread: ThreadPoolExecutor | None = None
        self._unloading: asyncio.Future[None] | None = None

    async def load(self, target: Target) -> TritonServer:
        """A server without models, in place of the one before. Raises PreflightError; RuntimeError if the one before
        does not end: then this process is of no more use."""
        await self.unload()
        if self._unloading is not None and not self._unloading.done():
            raise RuntimeError("the Triton of the previous sweep has not shut down")
        _check_folders(target)
        path = Path(target.server_directory, LIBRARY)
        if path not in self._libraries:
            self._libraries[path] = await self.run(TritonLibrary, path)
        try:
            server = self.server = TritonServer(self._libraries[path], target)
        except InputError as error:  # no capacity in shared memory
            raise PreflightError(Reason.UNSUPPORTED, str(error)) from error
        await self.run(server.start)
        return server

    async def unload(self) -> None:
        """Ends the server, if there is one, within UNLOAD_LIMIT_SECONDS. Never raises."""
        server, self.server = self.server, None
        if server is None:
            return
        await server.idle()
        stopping = self._unloading = asyncio.ensure_future(self.run(server.stop))
        stopping.add_done_callback(lambda _: server.close())
        await asyncio.wait({stopping}, timeout=UNLOAD_LIMIT_SECONDS)

    async def run(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Calls what takes long, in its turn, on a thread of the server's own."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "triton")
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)


class InProcessControl(TritonControl):
    """A `Control` (services.base): Triton's own questions and responses, without an endpoint."""

    def __init__(self, target: Target, timeout_ns: int, host: InProcess) -> None:
        self._local = InProcessClient(target, host)
        super().__init__(target, timeout_ns, self._local)
        self._host = host

    async def preflight(
        self, model: str, version: str, composing: Sequence[str] = (), options: InputOptions = DEFAULT_INPUT
    ) -> ModelFacts:
        """Loads the server and the models first, all within the time-out."""
        async with self._loading(model):
            await self._local.load((model, *(ModelKey.parse(named).name for named in composing)))
        return await super().preflight(model, version, composing, options)

    async def infer(self, facts: ModelFacts, model: str, version: str, inputs: Tensors, timeout_ns: int) -> Tensors:
        """Loads the model first, in the time of loading."""
        async with self._loading(model):
            await self._local.load_further(model, version)
        return await super().infer(facts, model, version, inputs, timeout_ns)

    @contextlib.asynccontextmanager
    async def _loading(self, model: str) -> AsyncIterator[None]:
        seconds = self._timeout_ns / NS
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            text = f"{self._target.url}: model {model!r} was not loaded within {seconds:g} s, target.connect_timeout"
            raise PreflightError(Reason.PREFLIGHT_TIMEOUT, text) from error

    async def close(self) -> None:
        """Unloads the server. Never raises."""
        await self._host.unload()

    async def _why_not_ready(self, model: str, version: str) -> PreflightError:
        error = await super()._why_not_ready(model, version)
        failure = self._local.failures.get(model)
        return PreflightError(error.reason, f"{error}: {failure}") if failure else error


class InProcessClient:
    """The face of `TritonClient` on the server in this process. Questions take some 0.1 ms and are asked on the loop: a
    busy one gives a thread the interpreter's lock late, and a window's statistics would be of a later time."""

    def __init__(self, target: Target, host: InProcess) -> None:
        self.target = target
        self.failures: dict[str, str] = {}
        """Why models did not load."""
        self._host = host

    async def load(self, models: Iterable[str]) -> None:
        """Loads the server and these models. A model's error is reported when the model is asked for. Raises
        PreflightError."""
        server = await self._host.load(self.target)
        for model in models:
            await self._load_model(server, model)

    async def check_connection(self) -> None:
        """There is nothing to connect to."""

    async def close(self) -> None:
        """Nothing to do: it is the control that unloads the server."""

    async def server_live(self) -> bool:
        return await self._is_true("ServerIsLive")

    async def server_ready(self) -> bool:
        return await self._is_true("ServerIsReady")

    async def model_ready(self, model: str, version: str) -> bool:
        try:
            return await self._is_true("ServerModelIsReady", model.encode(), version_number(version))
        except PreflightError:
            return False

    async def server_metadata(self) -> service_pb2.ServerMetadataResponse:
        return await self._ask(service_pb2.ServerMetadataResponse(), "ServerMetadata")

    async def model_metadata(self, model: str, version: str) -> service_pb2.ModelMetadataResponse:
        number = version_number(version)
        return await self._ask(service_pb2.ModelMetadataResponse(), "ServerModelMetadata", model.encode(), number)

    async def model_config(self, model: str, version: str) -> model_config_pb2.ModelConfig:
        number = version_number(version)
        return await self._ask(model_config_pb2.ModelConfig(), "ServerModelConfig", model.encode(), number, 1)

    async def statistics(self, model: str, version: str) -> service_pb2.ModelStatisticsResponse:
        number = version_number(version)
        return await self._ask(service_pb2.ModelStatisticsResponse(), "ServerModelStatistics", model.encode(), number)

    async def repository_index(self) -> service_pb2.RepositoryIndexResponse:
        return await self._ask(service_pb2.RepositoryIndexResponse(), "ServerModelIndex", 0)

    async def trace_settings(self, model: str) -> dict[str, str | list[str]]:
        raise self._no_trace()

    async def set_trace(self, model: str, settings: TraceSettings) -> None:
        raise self._no_trace()

    async def load_further(self, model: str, version: str) -> None:
        """Loads another model, if it is not. Raises PreflightError."""
        if not await self.model_ready(model, version):
            await self._load_model(self._server, model)
        if model in self.failures:
            raise PreflightError(Reason.MODEL_NOT_READY, f"{self.target.url}: {self.failures[model]}")

    async def infer(self, facts: ModelFacts, model: str, version: str, tensors: Tensors, timeout_ns: int) -> Tensors:
        """The outputs of one request to a model that takes the inputs of `facts`. Raises TimeoutError, too."""
        server = self._server
        name, number, request_id = model.encode(), version_number(version), f"{MARK}-reference".encode()
        template = Template(name, number, request_id, local_inputs(facts, tensors))
        responses: asyncio.Queue[bytes | TritonError] = asyncio.Queue()

        def take(_owner: None, response: int | None, _is_final: bool, _at_ns: int, _received: int) -> None:
            if response:
                error = server.library.InferenceResponseError(response)
                responses.put_nowait(
                    server.library.read_error(error) if error else read_response(server.library, response)
                )

        try:
            server.send(server.prepare(template, once=True), take, None)
        except TritonError as error:
            raise self._failed(error) from error
        async with asyncio.timeout(timeout_ns / NS):
            response = await responses.get()
        if isinstance(response, TritonError):
            raise self._failed(response)
        return decode_response(Response([response]))[0]

    # --- inside ------------------------------------------------------------------------------------------------------

    @property
    def _server(self) -> TritonServer:
        if self._host.server is None:
            raise PreflightError(Reason.UNREACHABLE, f"{self.target.url}: no Triton is loaded in this process")
        return self._host.server

    async def _load_model(self, server: TritonServer, model: str) -> None:
        try:
            await self._host.run(server.load_model, model)
        except TritonError as error:
            self.failures[model] = str(error)

    async def _ask(self, empty: _M, name: str, *arguments: Any) -> _M:
        try:
            response = self._server.ask(name, *arguments)
        except TritonError as error:
            raise self._failed(error) from error
        if isinstance(response, list):  # the repository index, as over HTTP
            response = {"models": response}
        try:
            json_format.ParseDict(response, empty, ignore_unknown_fields=True)
        except json_format.ParseError as error:
            text = f"{self.target.url}: {name} returned an invalid message: {clean_text(str(error))}"
            raise PreflightError(Reason.PROTOCOL, text) from error
        return empty

    async def _is_true(self, name: str, *arguments: Any) -> bool:
        try:
            return self._server.is_true(name, *arguments)
        except TritonError as error:
            raise self._failed(error) from error

    def _failed(self, error: TritonError) -> PreflightError:
        return PreflightError(
            _REASONS.get(error.code, Reason.PROTOCOL), f"{self.target.url} reported {error.code}: {error}"
        )

    def _no_trace(self) -> PreflightError:
        return unsupported(self.target, "server_settings")
