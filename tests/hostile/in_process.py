"""The kit for a Triton in the worker's own process: the same responses, and the same behaviours, by its library."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from typing import Any, cast

from exporter.core.units import NS
from exporter.services.bounded import BoundedControl
from exporter.services.triton_in_process.control import InProcess, InProcessControl
from exporter.services.triton_in_process.library import TritonError, TritonLibrary
from tests.builders import make_target
from tests.hostile.server import HTTP, Behaviour, Response

PATHS = {
    "ServerMetadata": "/v2",
    "ServerModelMetadata": "/v2/models/m",
    "ServerModelConfig": "/v2/models/m/config",
    "ServerModelStatistics": "/v2/models/m/stats",
    "ServerModelIndex": "/v2/repository/index",
}
"""Where the same is asked over HTTP."""


class HostileLibrary:
    """In the place of a loaded server, and of the process's only one. The library's own reading of messages is used."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.server = self
        self._behaviour = behaviour
        self._body = b""
        self._library = cast(Any, TritonLibrary.__new__(TritonLibrary))
        self._library.check = lambda _error: None
        self._library.MessageSerializeToJson = self._serialize
        self._library.MessageDelete = lambda _message: 0
        for name in PATHS:
            setattr(self._library, name, lambda *_arguments: 0)

    def _serialize(self, _message: Any, base: Any, size: Any) -> int:
        base._obj.value = ctypes.cast(ctypes.c_char_p(self._body), ctypes.c_void_p).value
        size._obj.value = len(self._body)
        return 0

    def ask(self, name: str, *arguments: Any) -> Any:
        path = PATHS[name]
        response = self._behaviour(path, Response(json.dumps(HTTP[path]).encode()))
        if response.status != 200:
            raise TritonError("INTERNAL", response.body.decode(errors="replace"))
        self._body = response.body
        return self._library.ask(name, *arguments)

    def is_true(self, _name: str, *_arguments: Any) -> bool:
        return True

    def load_model(self, _model: str) -> None:
        """It is there."""

    async def load(self, _target: object) -> HostileLibrary:
        return self

    async def unload(self) -> None:
        """It stays."""

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


def in_process(behaviour: Behaviour) -> BoundedControl:
    """The control plane as a worker's session has it."""
    target = make_target(kind="triton_in_process", scheme="", port=0, server_directory="/t", model_repository="/m")
    host = cast(InProcess, HostileLibrary(behaviour))
    return BoundedControl(InProcessControl(target, 5 * NS, host), target)
