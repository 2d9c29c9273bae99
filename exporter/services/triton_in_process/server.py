"""A Triton in this process: loaded, asked, sent requests, and unloaded.

Owns the server's options and its life, and requests as the library wants them. Knows nothing of load.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Sequence
from ctypes import c_bool, c_int, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2

from exporter.core.datatypes import DATATYPES
from exporter.core.errors import PreflightError
from exporter.core.outcome import Reason
from exporter.core.target import Target
from exporter.payload.regions import Claim
from exporter.services.triton_in_process.handover import Handover, RequestObject, Taker
from exporter.services.triton_in_process.library import (
    MEMORY_CPU,
    MODEL_CONTROL_EXPLICIT,
    NEWEST,
    RELEASED,
    TritonError,
    TritonLibrary,
)

LIBRARY = "lib/libtritonserver.so"
EXIT_LIMIT_SECONDS = 5
"""How long the server waits, when it is stopped, for requests that it still has and for models to be unloaded."""
LOOK_SECONDS = 0.02
"""Between two looks whether what is to end has ended."""
MAX_REUSED_TEMPLATES = 64
"""The requests of so many templates are used again: a few objects of the library for each."""
MAX_IDLE = 64
"""While so many of a template have ended and wait, a further one is used once: Triton may never release those."""
MAX_LOOKS = 4
"""Of them are looked at for one that is released, before each send."""

_NAMES = {datatype.code: name for name, datatype in DATATYPES.items()}
_LIVE = ("READY", "LOADING", "UNLOADING")
LOG_LINES_SHOWN = 3


@dataclass(frozen=True, slots=True, eq=False)
class LocalInput:
    """An input as the library takes it. `data` holds the memory at `address`."""

    name: bytes
    datatype: int
    shape: ctypes.Array[c_int64]
    data: npt.NDArray[np.uint8]
    address: int
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """All of a request but its place in a sequence."""

    model: bytes
    version: int
    id: bytes
    inputs: tuple[LocalInput, ...]
    parameters: tuple[tuple[str, str | int | float | bool], ...] = ()
    size: int = field(default=0)


def local_input(name: str, datatype: str, shape: Sequence[int], raw: bytes) -> LocalInput:
    """An input of these bytes, in Triton's binary form."""
    data = np.frombuffer(raw, np.uint8)
    code = DATATYPES[datatype].code
    return LocalInput(name.encode(), code, (c_int64 * len(shape))(*shape), data, data.ctypes.data, len(raw))


def version_number(version: str) -> int:
    """A model's version for the library; Triton knows no versions that are no numbers. Raises PreflightError."""
    if version and not version.isdecimal():
        raise PreflightError(Reason.MODEL_UNKNOWN, f"version {version!r}: Triton's versions are whole numbers")
    return int(version) if version else NEWEST


def read_response(library: TritonLibrary, response: int) -> bytes:
    """A response's outputs as the message with the same content over gRPC."""
    message = service_pb2.ModelInferResponse()
    count, code, memory_type, memory_id = c_uint32(), c_int(), c_int(), c_int64()
    name, shape, base, owner = c_void_p(), c_void_p(), c_void_p(), c_void_p()
    dimensions, size = c_uint64(), c_size_t()
    wanted = [name, code, shape, dimensions, base, size, memory_type, memory_id, owner]
    library.check(library.InferenceResponseOutputCount(response, ctypes.byref(count)))
    for index in range(count.value):
        library.check(library.InferenceResponseOutput(response, index, *map(ctypes.byref, wanted)))
        extents = (c_int64 * dimensions.value).from_address(shape.value or 0) if dimensions.value else ()
        message.outputs.add(
            name=ctypes.string_at(name.value or 0).decode(), datatype=_NAMES[code.value], shape=list(extents)
        )
        message.raw_output_contents.append(ctypes.string_at(base.value, size.value) if base.value else b"")
    data: bytes = message.SerializeToString()
    return data


class TritonServer:
    """One server. Made on the loop, which it responds to; `start` and `stop` take long, and are for another thread, one
    at a time."""

    def __init__(self, library: TritonLibrary, target: Target) -> None:
        self.library = library
        self._target = target
        self._server: int | None = None
        self._models: list[bytes] = []
        self._claim = Claim()
        self._log = tempfile.NamedTemporaryFile(prefix="triton-canary-", suffix=".log")  # noqa: SIM115 - closed in close
        self._handover = Handover(library)
        self._tokens = itertools.count(1)
        self._kept: dict[Template, None] = {}
        self._idle: dict[Template, deque[RequestObject]] = {}
        self._reusable: dict[int, RequestObject] = {}
        self._flags = c_uint32()
        self._flags_address = ctypes.addressof(self._flags)
        self._delete = library.address("InferenceRequestDelete")
        # It has the callback's first two parameters, so that Triton itself notes the release in the request's flags.
        self._note_release = library.address("InferenceRequestSetFlags")

    # --- its life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the server without a model. Raises PreflightError."""
        library, directory = self.library, Path(self._target.server_directory)
        options = c_void_p()
        try:
            library.check(library.ServerOptionsNew(ctypes.byref(options)))
            for name, *values in self._options(directory):
                library.check(getattr(library, f"ServerOptionsSet{name}")(options, *values))
            server = c_void_p()
            library.check(library.ServerNew(ctypes.byref(server), options))
            self._server = server.value
        except TritonError as error:
            text = f"{self._target.url}: Triton does not start: {error}{self._log_text()}"
            raise PreflightError(Reason.SERVER_NOT_LIVE, text) from error
        finally:
            if options:
                library.ServerOptionsDelete(options)

    def load_model(self, model: str) -> None:
        """Loads a model, and those of which it is an ensemble. Raises TritonError; its text has the log's reason."""
        self._models.append(model.encode())
        try:
            self.library.check(self.library.ServerLoadModel(self._server, model.encode()))
        except TritonError as error:
            raise TritonError(error.code, f"{error}{self._log_text()}") from error

    def stop(self) -> None:
        """Unloads the models and ends the server, as far as it does so in time."""
        if self._server is None:
            return
        with contextlib.suppress(TritonError):
            self._unload_models()
        with contextlib.suppress(TritonError):
            self.library.check(self.library.ServerStop(self._server))
        with contextlib.suppress(TritonError):
            self.library.check(self.library.ServerDelete(self._server))
        self._server = None

    async def idle(self) -> None:
        """Waits until the server has no more of our requests, for EXIT_LIMIT_SECONDS at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EXIT_LIMIT_SECONDS):
                while self._handover.in_flight:  # noqa: ASYNC110 - no event, which the hot path would have to set
                    await asyncio.sleep(LOOK_SECONDS)

    def close(self) -> None:
        """Gives back what is ours, on the loop, after `stop`."""
        self._handover.close()
        self._log.close()
        self._claim.close()
        self._kept.clear()

    # --- questions, each raising TritonError -------------------------------------------------------------------------

    def ask(self, name: str, *arguments: Any) -> Any:
        """A question whose response is a message."""
        return self.library.ask(name, self._server, *arguments)

    def is_true(self, name: str, *arguments: Any) -> bool:
        """A question whose response is yes or no."""
        response = c_bool()
        self.library.check(getattr(self.library, name)(self._server, *arguments, ctypes.byref(response)))
        return response.value

    # --- requests ----------------------------------------------------------------------------------------------------

    def prepare(self, template: Template, *, once: bool = False) -> RequestObject:
        """A request to be sent: one that was used before, or a new one, which is not used again if it is for `once`.
        Raises TritonError. Hot.

        A new one takes six calls of the library or more, its allocations and its deletion; a used one two calls.
        """
        idle = None if once else self._idle.get(template)
        if idle:
            for _ in range(min(len(idle), MAX_LOOKS)):
                request = idle[0]
                if self._is_released(request):
                    idle.popleft()
                    self.library.InferenceRequestSetFlags(request.handle, 0)
                    return request
                idle.rotate(-1)  # Triton can keep it for long, and others be free
            if len(idle) >= MAX_IDLE:
                idle = None
        elif not once and idle is None and len(self._idle) < MAX_REUSED_TEMPLATES:
            idle = self._idle[template] = deque()
        return self._make(template, idle)

    def send(self, request: RequestObject, taker: Taker, owner: Any) -> None:
        """Sends it: all responses go to `taker`, with `owner`. Raises TritonError; then nothing was sent. Hot."""
        request.taker, request.owner = taker, owner
        self._handover.in_flight[request.token] = request
        error = self.library.ServerInferAsync(self._server, request.handle, None)
        if error:
            del self._handover.in_flight[request.token]
            self.discard([request])
            self.library.check(error)

    def discard(self, requests: Iterable[RequestObject]) -> None:
        """Deletes requests that were not sent."""
        for each in requests:
            self._reusable.pop(each.token, None)
            self.library.InferenceRequestDelete(each.handle)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _make(self, template: Template, idle: deque[RequestObject] | None) -> RequestObject:
        """A new request. Triton deletes it when it is done with it, or notes that if it is to be used again. A callback
        of ours would take the interpreter's lock on Triton's thread just when the loop needs it."""
        library, handover = self.library, self._handover
        # The library reads the inputs until it gives the request back, which we don't always hear of: so they stay.
        self._kept[template] = None
        pointer = c_void_p()
        error = library.InferenceRequestNew(ctypes.byref(pointer), self._server, template.model, template.version)
        library.check(error)
        handle, token = pointer.value or 0, next(self._tokens)
        release = self._delete if idle is None else self._note_release
        error = (
            library.InferenceRequestSetId(handle, template.id)
            or self._add_inputs(handle, template)
            or library.InferenceRequestSetReleaseCallback(handle, release, None)
            or library.InferenceRequestSetResponseCallback(handle, handover.allocator, token, handover.responded, token)
        )
        if error:
            library.InferenceRequestDelete(handle)
            library.check(error)
        request = RequestObject(handle, token, idle)
        if idle is not None:
            self._reusable[token] = request
        return request

    def _is_released(self, request: RequestObject) -> bool:
        """Whether Triton has given back this request, which was sent."""
        self.library.InferenceRequestFlags(request.handle, self._flags_address)
        return self._flags.value == RELEASED

    def _delete_released(self) -> None:
        """At the end: each of them is one of the model's users, and it is not unloaded before the last is gone."""
        self.discard([request for request in list(self._reusable.values()) if self._is_released(request)])

    def _unload_models(self) -> None:
        """Triton's own stop does it, too, but looks only once a second whether it is done."""
        end_s = time.monotonic() + EXIT_LIMIT_SECONDS
        self._delete_released()
        for model in self._models:
            self.library.check(self.library.ServerUnloadModelAndDependents(self._server, model))
        while time.monotonic() < end_s:
            if not any(entry.get("state") in _LIVE for entry in self.ask("ServerModelIndex", 0)):
                return
            time.sleep(LOOK_SECONDS)
            self._delete_released()

    def _options(self, directory: Path) -> list[tuple[Any, ...]]:
        """What differs from Triton's own defaults. Only the models that are asked for are loaded, and one of them that
        is broken does not make the server itself unready. Its metrics page is not read, and its log goes to a file,
        for what it reports about a model that does not load."""
        return [
            ("ModelRepositoryPath", str(Path(self._target.model_repository).resolve()).encode()),
            ("BackendDirectory", str(directory / "backends").encode()),
            ("RepoAgentDirectory", str(directory / "repoagents").encode()),
            ("CacheDirectory", str(directory / "caches").encode()),
            ("BackendConfig", b"python", b"shm-region-prefix-name", self._claim.name.encode()),
            ("ModelControlMode", MODEL_CONTROL_EXPLICIT),
            ("ModelLoadRetryCount", 0),  # not 0 by default: a model that fails was seen to be tried 85 times
            ("StrictModelConfig", False),
            ("StrictReadiness", False),
            ("ExitTimeout", EXIT_LIMIT_SECONDS),
            ("Metrics", False),
            ("LogFile", self._log.name.encode()),
            ("LogInfo", False),
        ]

    def _add_inputs(self, handle: int, template: Template) -> int | None:
        """Inputs and parameters; the first error, if there is one."""
        add_input, append_data = self.library.InferenceRequestAddInput, self.library.InferenceRequestAppendInputData
        for each in template.inputs:
            name, shape = each.name, each.shape
            error: int | None = add_input(handle, name, each.datatype, shape, len(shape))
            error = error or append_data(handle, name, each.address, each.size, MEMORY_CPU, 0)
            if error:
                return error
        for key, value in template.parameters:
            error = self._set_parameter(handle, key.encode(), value)
            if error:
                return error
        return None

    def _set_parameter(self, handle: int, name: bytes, value: str | int | float | bool) -> int | None:
        library = self.library
        error: int | None
        if isinstance(value, bool):
            error = library.InferenceRequestSetBoolParameter(handle, name, value)
        elif isinstance(value, int):
            error = library.InferenceRequestSetIntParameter(handle, name, value)
        elif isinstance(value, float):
            error = library.InferenceRequestSetDoubleParameter(handle, name, value)
        else:
            error = library.InferenceRequestSetStringParameter(handle, name, value.encode())
        return error

    def _log_text(self) -> str:
        """The end of the log, for an error's text."""
        lines = Path(self._log.name).read_text(encoding="utf-8", errors="replace").splitlines()
        reported = "; ".join(line.split("] ", 1)[-1].strip(' "') for line in lines[-LOG_LINES_SHOWN:] if line.strip())
        return f" (its log ends with: {reported})" if reported else ""
