"""Triton's C API by ctypes: the functions of `tritonserver.h` that are used here, and its errors as exceptions.

Owns signatures and the API's version. Knows nothing of loops, models, or what is measured.
"""

from __future__ import annotations

import ctypes
from ctypes import c_bool, c_char_p, c_double, c_int, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.core.errors import PreflightError
from exporter.core.outcome import Outcome, Reason
from exporter.core.untrusted_text import load_json

API_MAJOR, API_MINOR = 1, 31
"""The major version must be this one, the minor at least this: it has all that is used here."""

RESPONSE_FINAL = 1
RELEASED = 1
"""The flags of the release callback when a request is its owner's again."""
SEQUENCE_START, SEQUENCE_END = 1, 2
NEWEST = -1
"""The model version that is the server's choice."""
MEMORY_CPU = 0
MODEL_CONTROL_EXPLICIT = 2

AllocateFunction = ctypes.CFUNCTYPE(
    *(c_void_p, c_void_p, c_void_p, c_size_t, c_int, c_int64, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)
)
FreeFunction = ctypes.CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_void_p, c_size_t, c_int, c_int64)
ResponseFunction = ctypes.CFUNCTYPE(None, c_void_p, c_uint32, c_void_p)

_TEXT_LENGTH = 300
_CODES = [
    "UNKNOWN",
    "INTERNAL",
    "NOT_FOUND",
    "INVALID_ARG",
    "UNAVAILABLE",
    "UNSUPPORTED",
    "ALREADY_EXISTS",
    "CANCELLED",
]
_OUTCOMES = {
    "NOT_FOUND": Outcome.CLIENT_ERROR,
    "INVALID_ARG": Outcome.CLIENT_ERROR,
    "UNAVAILABLE": Outcome.OVERLOAD,
    "UNSUPPORTED": Outcome.CLIENT_ERROR,
    "ALREADY_EXISTS": Outcome.CLIENT_ERROR,
}
"""The others are the server's errors. As over gRPC, UNAVAILABLE comes from a live server: its queue is full."""

_WAITING: dict[str, tuple[Any, ...]] = {
    "ServerOptionsNew": (c_void_p,),
    "ServerOptionsDelete": (c_void_p,),
    "ServerNew": (c_void_p, c_void_p),
    "ServerStop": (c_void_p,),
    "ServerDelete": (c_void_p,),
    "ServerLoadModel": (c_void_p, c_char_p),
    "ServerUnloadModelAndDependents": (c_void_p, c_char_p),
    "ServerIsLive": (c_void_p, c_void_p),
    "ServerIsReady": (c_void_p, c_void_p),
    "ServerModelIsReady": (c_void_p, c_char_p, c_int64, c_void_p),
    "ServerMetadata": (c_void_p, c_void_p),
    "ServerModelMetadata": (c_void_p, c_char_p, c_int64, c_void_p),
    "ServerModelConfig": (c_void_p, c_char_p, c_int64, c_uint32, c_void_p),
    "ServerModelStatistics": (c_void_p, c_char_p, c_int64, c_void_p),
    "ServerModelIndex": (c_void_p, c_uint32, c_void_p),
    "ServerInferAsync": (c_void_p, c_void_p, c_void_p),
    "InferenceRequestNew": (c_void_p, c_void_p, c_char_p, c_int64),
    "InferenceRequestDelete": (c_void_p,),
    "InferenceResponseDelete": (c_void_p,),
    "ResponseAllocatorDelete": (c_void_p,),
}
"""May wait for a thread of Triton's, and that for the interpreter's lock in a callback: so the lock is let go."""

_QUICK: dict[str, tuple[Any, ...]] = {
    "ApiVersion": (c_void_p, c_void_p),
    "ErrorDelete": (c_void_p,),
    "MessageSerializeToJson": (c_void_p, c_void_p, c_void_p),
    "MessageDelete": (c_void_p,),
    "ServerOptionsSetModelRepositoryPath": (c_void_p, c_char_p),
    "ServerOptionsSetBackendDirectory": (c_void_p, c_char_p),
    "ServerOptionsSetRepoAgentDirectory": (c_void_p, c_char_p),
    "ServerOptionsSetCacheDirectory": (c_void_p, c_char_p),
    "ServerOptionsSetBackendConfig": (c_void_p, c_char_p, c_char_p, c_char_p),
    "ServerOptionsSetModelControlMode": (c_void_p, c_int),
    "ServerOptionsSetModelLoadRetryCount": (c_void_p, c_uint32),
    "ServerOptionsSetStrictModelConfig": (c_void_p, c_bool),
    "ServerOptionsSetStrictReadiness": (c_void_p, c_bool),
    "ServerOptionsSetExitTimeout": (c_void_p, c_uint32),
    "ServerOptionsSetMetrics": (c_void_p, c_bool),
    "ServerOptionsSetLogFile": (c_void_p, c_char_p),
    "ServerOptionsSetLogInfo": (c_void_p, c_bool),
    "InferenceRequestSetId": (c_void_p, c_char_p),
    "InferenceRequestFlags": (c_void_p, c_void_p),
    "InferenceRequestSetFlags": (c_void_p, c_uint32),
    "InferenceRequestSetCorrelationId": (c_void_p, c_uint64),
    "InferenceRequestAddInput": (c_void_p, c_char_p, c_int, c_void_p, c_uint64),
    "InferenceRequestAppendInputData": (c_void_p, c_char_p, c_void_p, c_size_t, c_int, c_int64),
    "InferenceRequestSetReleaseCallback": (c_void_p, c_void_p, c_void_p),
    "InferenceRequestSetResponseCallback": (c_void_p, c_void_p, c_void_p, ResponseFunction, c_void_p),
    "InferenceRequestSetStringParameter": (c_void_p, c_char_p, c_char_p),
    "InferenceRequestSetIntParameter": (c_void_p, c_char_p, c_int64),
    "InferenceRequestSetBoolParameter": (c_void_p, c_char_p, c_bool),
    "InferenceRequestSetDoubleParameter": (c_void_p, c_char_p, c_double),
    "InferenceResponseError": (c_void_p,),
    "InferenceResponseOutputCount": (c_void_p, c_void_p),
    "InferenceResponseOutput": (c_void_p, c_uint32, *(c_void_p,) * 9),
    "ResponseAllocatorNew": (c_void_p, AllocateFunction, FreeFunction, c_void_p),
}
"""Only set or get something: the interpreter's lock is kept, which is quicker."""


class TritonError(Exception):
    """What a call of the library failed with: `code` is Triton's name of it."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code

    @property
    def outcome(self) -> Outcome:
        """What a request that fails so counts as."""
        return _OUTCOMES.get(self.code, Outcome.SERVER_ERROR)


class TritonLibrary:
    """The library in this process: the functions without their prefix `TRITONSERVER_`. Each returns an error's address,
    or None; `check` raises it. Raises PreflightError if the library can't be loaded or is of another version."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise PreflightError(Reason.UNREACHABLE, f"there is no {path}: server_directory must hold Triton itself")
        try:
            # By its real path: it finds the libraries beside it by where it lies.
            waiting, quick = ctypes.CDLL(str(path.resolve())), ctypes.PyDLL(str(path.resolve()))
        except OSError as error:
            raise PreflightError(Reason.UNREACHABLE, f"{path} cannot be loaded: {error}") from error
        missing = self._bind(waiting, _WAITING) + self._bind(quick, _QUICK)
        if missing:
            raise PreflightError(
                Reason.UNSUPPORTED, f"{path} lacks {', '.join(missing)}: it is not a Triton whose API is supported"
            )
        for name, kind in {"ErrorCode": c_int, "ErrorMessage": c_char_p}.items():
            function = quick[f"TRITONSERVER_{name}"]
            function.argtypes, function.restype = (c_void_p,), kind
            setattr(self, name, function)
        self.version = self._read_version()
        check_version(self.version, path)

    if TYPE_CHECKING:  # what is bound is an attribute like any other: some of them are looked up for each request

        def __getattr__(self, name: str) -> Any: ...

    def address(self, name: str) -> int:
        """Where a function lies, for Triton to call it itself."""
        return ctypes.cast(getattr(self, name), c_void_p).value or 0

    def check(self, error: int | None) -> None:
        """Raises TritonError if a call has returned an error, and takes that back."""
        if error:
            try:
                raise self.read_error(error)
            finally:
                self.ErrorDelete(error)

    def read_error(self, error: int) -> TritonError:
        """An error that stays its owner's."""
        code, text = self.ErrorCode(error), (self.ErrorMessage(error) or b"").decode(errors="replace")
        name = _CODES[code] if 0 <= code < len(_CODES) else str(code)
        return TritonError(name, text[:_TEXT_LENGTH] or name)

    def ask(self, name: str, *arguments: Any) -> Any:
        """The response of a function whose last argument is a message: what its JSON states."""
        message, base, size = c_void_p(), c_void_p(), c_size_t()
        self.check(getattr(self, name)(*arguments, ctypes.byref(message)))
        try:
            self.check(self.MessageSerializeToJson(message, ctypes.byref(base), ctypes.byref(size)))
            return load_json(ctypes.string_at(base.value or 0, size.value))
        finally:
            self.check(self.MessageDelete(message))

    def _bind(self, library: ctypes.CDLL, functions: dict[str, tuple[Any, ...]]) -> list[str]:
        """Gives the names that the library lacks."""
        missing = []
        for name, arguments in functions.items():
            try:
                function = library[f"TRITONSERVER_{name}"]
            except AttributeError:
                missing.append(f"TRITONSERVER_{name}")
                continue
            function.argtypes, function.restype = arguments, c_void_p
            setattr(self, name, function)
        return missing

    def _read_version(self) -> tuple[int, int]:
        major, minor = c_uint32(), c_uint32()
        self.check(self.ApiVersion(ctypes.byref(major), ctypes.byref(minor)))
        return major.value, minor.value


def check_version(version: tuple[int, int], path: Path) -> None:
    """Raises PreflightError for an API that is not ours."""
    if version[0] != API_MAJOR or version[1] < API_MINOR:
        found, needed = f"{version[0]}.{version[1]}", f"{API_MAJOR}.{API_MINOR}"
        text = f"{path} has version {found} of Triton's C API; needed is {needed} or a later {API_MAJOR}.x"
        raise PreflightError(Reason.UNSUPPORTED, text)
