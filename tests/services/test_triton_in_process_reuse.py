"""Requests of an in-process Triton that are used again: when they may be, and that none outlives the server."""
# ruff: noqa: N802 - the fake's functions have the library's names

from __future__ import annotations

from collections.abc import AsyncIterator
from ctypes import c_uint32
from typing import Any, cast

import pytest
import pytest_asyncio

from exporter.services.triton_in_process.handover import RequestObject
from exporter.services.triton_in_process.library import RESPONSE_FINAL, TritonLibrary
from exporter.services.triton_in_process.server import MAX_IDLE, MAX_REUSED_TEMPLATES, Template, TritonServer
from tests.services.test_triton_in_process import target

DELETES, NOTES = "InferenceRequestDelete", "InferenceRequestSetFlags"


class FakeLibrary:
    """Triton's functions for requests. `flags` are those of each request that is not deleted, by its handle."""

    def __init__(self) -> None:
        self.flags: dict[int, int] = {}
        self.release: dict[int, str] = {}
        self.sent: list[int] = []
        self.wrong: list[str] = []
        self._names: list[str] = []

    def address(self, name: str) -> int:
        self._names.append(name)
        return len(self._names)

    def check(self, error: int | None) -> None:
        assert not error

    def InferenceRequestNew(self, pointer: Any, *_arguments: Any) -> None:
        pointer._obj.value = handle = 1000 + len(self.release)
        self.flags[handle] = 0

    def InferenceRequestSetReleaseCallback(self, handle: int, address: int, _user: None) -> None:
        self.release[handle] = self._names[address - 1]

    def InferenceRequestFlags(self, handle: int, address: int) -> None:
        c_uint32.from_address(address).value = self.flags[handle]

    def InferenceRequestSetFlags(self, handle: int, flags: int) -> None:
        self.flags[handle] = flags

    def InferenceRequestDelete(self, handle: int) -> None:
        if handle in self.sent and not self.flags[handle]:
            self.wrong.append(f"{handle} was deleted in flight")
        del self.flags[handle]

    def ServerInferAsync(self, _server: int, handle: int, _trace: None) -> None:
        if self.flags[handle]:
            self.wrong.append(f"{handle} was sent with flags {self.flags[handle]}")
        self.sent.append(handle)

    def __getattr__(self, name: str) -> Any:
        return lambda *_arguments: None

    def released(self, request: RequestObject) -> None:
        """Triton is done with it."""
        if self.release[request.handle] == DELETES:
            del self.flags[request.handle]
        elif request.handle in self.flags:
            self.flags[request.handle] = 1


@pytest_asyncio.fixture
async def library() -> FakeLibrary:
    return FakeLibrary()


@pytest_asyncio.fixture
async def server(library: FakeLibrary, tmp_path: Any) -> AsyncIterator[TritonServer]:
    it = TritonServer(cast(TritonLibrary, library), target(tmp_path))
    yield it
    assert library.wrong == []
    it.close()


def template(name: str = "id") -> Template:
    return Template(b"model", -1, name.encode(), ())


def send(server: TritonServer, of: Template, **options: bool) -> RequestObject:
    request = server.prepare(of, **options)
    server.send(request, lambda *_: None, None)
    return request


def respond(server: TritonServer, request: RequestObject, flags: int = RESPONSE_FINAL) -> None:
    """A response without an output, as Triton's thread hands it over and the loop takes it."""
    server._handover._responded(None, flags, request.token)
    server._handover._drain()


async def test_used_again_once_it_is_released_and_has_ended(server: TritonServer, library: FakeLibrary) -> None:
    of = template()
    first = send(server, of)
    library.released(first)  # a decoupled model can let go of the request long before the last response
    respond(server, first, flags=0)
    second = send(server, of)
    assert second is not first
    respond(server, second)  # ended, and Triton's thread has it for a moment longer
    assert send(server, of) not in (first, second)
    respond(server, first)
    library.released(second)
    assert {send(server, of).handle, send(server, of).handle} == {first.handle, second.handle}
    assert len(library.release) == 3


async def test_requests_of_other_inputs_are_others(server: TritonServer, library: FakeLibrary) -> None:
    one, other = template(), template()
    request = send(server, one)
    library.released(request)
    respond(server, request)
    assert send(server, other) is not request
    assert send(server, one) is request


async def test_once_is_once(server: TritonServer, library: FakeLibrary) -> None:
    of = template()
    request = send(server, of, once=True)
    library.released(request)
    respond(server, request)
    assert library.flags == {}
    assert send(server, of).handle != request.handle


async def test_what_is_given_up_is_used_again_after_its_response(server: TritonServer, library: FakeLibrary) -> None:
    of, taken = template(), []
    request = server.prepare(of)
    server.send(request, lambda *_: taken.append(1), None)
    request.taker = None
    assert send(server, of) is not request
    library.released(request)
    respond(server, request)
    assert taken == []
    assert send(server, of) is request


async def test_a_large_data_set_is_not_kept(server: TritonServer, library: FakeLibrary) -> None:
    for number in range(3 * MAX_REUSED_TEMPLATES):
        request = send(server, template(str(number)))
        library.released(request)
        respond(server, request)
    assert len(library.flags) == MAX_REUSED_TEMPLATES


async def test_one_that_is_never_released_does_not_keep_the_others(server: TritonServer, library: FakeLibrary) -> None:
    of = template()
    respond(server, send(server, of))  # an instance that hangs in its clean-up, and another that serves
    for _ in range(1000):
        request = send(server, of)
        library.released(request)
        respond(server, request)
    assert len(library.release) == 2


@pytest.mark.parametrize("stuck", [10, 3 * MAX_IDLE])
async def test_those_that_are_never_released_are_few(server: TritonServer, library: FakeLibrary, stuck: int) -> None:
    of = template()
    kept = [send(server, of) for _ in range(stuck)]
    for request in kept:
        respond(server, request)
    for _ in range(1000):
        request = send(server, of)
        library.released(request)
        respond(server, request)
    assert len(library.flags) <= max(stuck, MAX_IDLE)
    for request in kept:
        library.released(request)
    made = len(library.release)
    for _ in range(100):
        request = send(server, of)
        library.released(request)
        respond(server, request)
    assert len(library.release) == made


async def test_none_is_left_when_the_server_ends(
    server: TritonServer, library: FakeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model is not unloaded while a request of it exists: also of those that have no final response."""
    of, left = template(), []
    requests = [send(server, of) for _ in range(4)]
    server.discard([server.prepare(of)])
    for request in requests[:2]:
        respond(server, request)
    for request in requests[:3]:
        library.released(request)
    server._server, server._models = 1, [b"model"]

    def index(*_arguments: Any) -> list[dict[str, str]]:
        left.append(sorted(library.flags))
        library.released(requests[3])
        return [{"state": "READY"}] if library.flags else []

    monkeypatch.setattr(server, "ask", index)
    server.stop()
    assert left == [[requests[3].handle], []]
