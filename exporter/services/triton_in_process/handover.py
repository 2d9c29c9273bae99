"""From Triton's threads to the event loop: the callbacks of an in-process Triton, and the memory of its outputs.

Owns what runs on threads that are not ours. That is little: each callback needs the interpreter's lock, which the loop
would otherwise have. What is to be done with a response is done on the loop.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from ctypes import c_int, c_int64, c_size_t, c_uint64, c_void_p
from dataclasses import dataclass
from typing import Any

from exporter.services.triton_in_process.library import (
    MEMORY_CPU,
    RESPONSE_FINAL,
    AllocateFunction,
    FreeFunction,
    ResponseFunction,
    TritonLibrary,
)

_libc = ctypes.PyDLL(None)
_libc.malloc.argtypes, _libc.malloc.restype = (c_size_t,), c_void_p
_libc.free.argtypes, _libc.free.restype = (c_void_p,), None
_libc.eventfd_write.argtypes, _libc.eventfd_write.restype = (c_int, c_uint64), c_int

Taker = Callable[[Any, int | None, bool, int, int], None]
"""Takes a response on the loop: `(owner, response, is_final, at_ns, bytes_in)`. The response is the server's own, and
is deleted after this returns; None is none, only the word that no more follow."""

_SIZE_CLASSES = 65


@dataclass(slots=True, eq=False)
class RequestObject:
    """A request of the library's, at `handle`; one use of it after the other. Its `token` is what the callbacks get.

    `idle` is where it waits for its next use once it has got its final response; None: it has no other, and Triton
    deletes it. Without a `taker` its responses are dropped.
    """

    handle: int
    token: int
    idle: deque[RequestObject] | None
    taker: Taker | None = None
    owner: Any = None


class Handover:
    """The callbacks of one server, which responds to the loop that is running.

    A response is stamped where it comes, put into a queue, and an eventfd wakes the loop, once for all that come until
    it has woken. From the stamp to the next request, in a closed loop of one on a busy development machine: eventfd 55
    us, socketpair 72 us, `call_soon_threadsafe` 74 us; and eventfd without `_keep_thread` 86 us. The eventfd is written
    with the interpreter's lock held: it does not wait, and the loop that it wakes would else take the lock that this
    thread needs to return to Triton.

    A buffer for an output has a power of two of bytes, and is used again: pages that are fresh each time would cost a
    large output more than its copy does.
    """

    def __init__(self, library: TritonLibrary) -> None:
        self.in_flight: dict[int, RequestObject] = {}
        """By token, those whose final response has not come yet."""
        self._library = library
        self._loop = asyncio.get_running_loop()
        self._responses: deque[tuple[int, int | None, int, int]] = deque()
        self._is_woken = False
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._free: list[list[int]] = [[] for _ in range(_SIZE_CLASSES)]
        self._received: dict[int, int] = {}
        self._thread = threading.local()
        # Triton has only their addresses: they must live as long as it may call them.
        self.responded = ResponseFunction(self._responded)
        self._functions = AllocateFunction(self._allocate), FreeFunction(self._release)
        allocator = c_void_p()
        library.check(library.ResponseAllocatorNew(ctypes.byref(allocator), *self._functions, None))
        self.allocator = allocator.value
        self._loop.add_reader(self._eventfd, self._drain)

    def close(self) -> None:
        """Gives everything back. Only on the loop, once the server is gone: nothing calls back any more."""
        self._loop.remove_reader(self._eventfd)
        os.close(self._eventfd)
        self._library.ResponseAllocatorDelete(self.allocator)
        for buffers in self._free:
            while buffers:
                _libc.free(buffers.pop())

    # --- on Triton's threads -----------------------------------------------------------------------------------------

    def _responded(self, response: int | None, flags: int, token: int) -> None:
        now_ns = time.monotonic_ns()
        self._responses.append((token, response, flags, now_ns))
        if not hasattr(self._thread, "is_kept"):
            self._keep_thread()
        if not self._is_woken:
            self._is_woken = True
            _libc.eventfd_write(self._eventfd, 1)

    def _allocate(  # noqa: PLR0917 - as the library calls it
        self,
        _allocator: int,
        _name: int,
        size: int,
        memory_type: int,
        _memory_id: int,
        token: int,
        buffer: int,
        _buffer_owner: int,
        actual_type: int,
        actual_id: int,
    ) -> int:
        if not hasattr(self._thread, "is_kept"):
            self._keep_thread()
        self._received[token] = self._received.get(token, 0) + size
        try:
            address = self._free[size.bit_length()].pop()
        except IndexError:
            address = _libc.malloc(1 << size.bit_length())
        c_void_p.from_address(buffer).value = address
        if memory_type != MEMORY_CPU:  # as it was before the call; a GPU's output is asked for where we can read it
            c_int.from_address(actual_type).value = MEMORY_CPU
            c_int64.from_address(actual_id).value = 0
        return 0

    def _release(
        self, _allocator: int, buffer: int | None, _buffer_owner: int, size: int, _memory_type: int, _memory_id: int
    ) -> int:
        if buffer:
            self._free[size.bit_length()].append(buffer)
        return 0

    def _keep_thread(self) -> None:
        """Keeps what the interpreter knows of this thread, which it would otherwise make and drop in each callback:
        that takes longer than all else that is done here."""
        ctypes.pythonapi.PyGILState_Ensure()
        self._thread.is_kept = True

    # --- on the loop -------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Hot."""
        os.eventfd_read(self._eventfd)
        self._is_woken = False
        responses, in_flight = self._responses, self.in_flight
        # No more than are there: a request that is sent meanwhile can get its response at once, from a cache.
        for _ in range(len(responses)):
            token, response, flags, at_ns = responses.popleft()
            is_final = flags & RESPONSE_FINAL != 0
            request = in_flight.pop(token) if is_final else in_flight[token]
            received = self._received.pop(token, 0) if is_final else 0
            try:
                if request.taker is not None:
                    request.taker(request.owner, response, is_final, at_ns, received)
            finally:
                if response is not None:
                    self._library.InferenceResponseDelete(response)
                if is_final and request.idle is not None:
                    request.idle.append(request)
