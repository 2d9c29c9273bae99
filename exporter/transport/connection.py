"""The connection that all channels use: a socket on the event loop, read and written as fast as Python can.

Owns the socket from dialling to closing. It uses the loop's readers and writers instead of asyncio's transports:
requests cost less (measured), TLS too, and the time when the last byte went to the kernel is known. Large writes are
sent from the caller's own buffers. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Protocol

from exporter.core.target import Target
from exporter.transport.dial import dial

Buffer = bytes | memoryview

_SMALL_BYTES = 8 * 1024
"""Reads up to this size return new bytes, which costs less than parsing through a view."""
_MEMORY_BYTES = 256 * 1024
"""Larger reads go into memory shared by all connections of a thread. For a new buffer each time, glibc would map and
unmap pages, which costs more than all the parsing. Untouched pages take no memory."""
_TLS_RECORD_BYTES = 16 * 1024
_TLS_SLICE_BYTES = 64 * 1024
_SEND_PARTS = 64
_WOULD_BLOCK = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

_monotonic_ns = time.monotonic_ns
_thread = threading.local()


class Receiver(Protocol):
    """The events of a connection. Each method may write to the connection, or close it."""

    def data_received(self, data: bytes | memoryview, now_ns: int) -> None:
        """Bytes arrived; `now_ns` is when they were read. A memoryview is overwritten by the next read."""

    def drained(self, now_ns: int) -> None:
        """The kernel has taken all queued data. Called only after a write that returned False."""

    def connection_lost(self, error: OSError | None) -> None:
        """The peer closed the connection (None) or it broke; it is already closed here. Not called after our own
        `close`."""


class Connection:
    """A connection to a target, which can be reopened after it was closed or lost."""

    def __init__(self, target: Target, alpn: Sequence[str], receiver: Receiver) -> None:
        self.target = target
        self.is_open = False
        self.connect_ns: int | None = None
        self.tls_ns: int | None = None
        self.certificate_expiry_unix_s: float | None = None
        self.alpn: str | None = None
        self._alpn_offer = tuple(alpn)
        self._receiver = receiver
        self._pass_on = receiver.data_received
        self._sock: socket.socket | None = None
        self._descriptor = -1
        self._queue: deque[Buffer] = deque()
        self._tls_slice: Buffer | None = None
        self._waiting = False
        self._write_error: OSError | None = None

    async def open(self) -> None:
        """Dials the target, once. Raises TransportError (CONNECT_ERROR, TLS_ERROR, TIMEOUT). Must not be open."""
        assert not self.is_open
        dialled = await dial(self.target, self._alpn_offer)
        self.connect_ns = dialled.connect_ns
        self.tls_ns = dialled.tls_ns
        self.certificate_expiry_unix_s = dialled.certificate_expiry_unix_s
        self.alpn = dialled.alpn
        self._write_error = None
        self._loop = asyncio.get_running_loop()
        self._sock = dialled.sock
        self._receive = dialled.sock.recv
        self._receive_into = dialled.sock.recv_into
        self._reads_are_large = False
        self._memory = _receive_memory()
        self._send = dialled.sock.send
        self._is_tls = isinstance(dialled.sock, ssl.SSLSocket)
        self._descriptor = dialled.sock.fileno()
        self._loop.add_reader(self._descriptor, self._read_tls if self._is_tls else self._read_plain)
        self.is_open = True

    def close(self) -> None:
        """Closes at once and drops unsent data. The receiver is not called again."""
        if self._sock is None:
            return
        self.is_open = False
        self._loop.remove_reader(self._descriptor)
        self._stop_waiting()
        self._queue.clear()
        self._tls_slice = None
        self._sock.close()
        self._sock = None

    # --- writing -----------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> bool:
        """Sends one small buffer. True: the kernel has taken all of it. False: the rest is sent later, and then
        `drained` (or `connection_lost`) is called. Never raises."""
        if not self._queue and self._write_error is None:
            try:
                sent = self._send(data)
            except _WOULD_BLOCK:
                sent = 0
                self._tls_slice = data if self._is_tls else None
            except OSError as error:
                self._fail_writing(error)
                return False
            if sent == len(data):
                return True
            self._queue.append(memoryview(data)[sent:])
            self._flush()
            return not self._queue and self._write_error is None
        return self.write_parts((data,))

    def write_parts(self, parts: Iterable[Buffer]) -> bool:
        """As `write`, for several buffers of any size. They are sent without copying and must not change before they
        are sent."""
        if self._write_error is not None:
            return False
        idle = not self._queue
        self._queue.extend(filter(len, parts))
        if idle:
            self._flush()
        return not self._queue and self._write_error is None

    def _flush(self) -> None:
        """Sends until the queue is empty or the kernel's buffer is full."""
        send_some = self._send_some_tls if self._is_tls else self._send_some_plain
        try:
            while self._queue:
                self._drop_sent(send_some())
        except _WOULD_BLOCK:
            if not self._waiting:
                self._waiting = True
                self._loop.add_writer(self._descriptor, self._on_writable)
            return
        except OSError as error:
            self._fail_writing(error)
            return
        self._stop_waiting()

    def _send_some_plain(self) -> int:
        assert self._sock is not None
        return self._sock.sendmsg(islice(self._queue, _SEND_PARTS))

    def _send_some_tls(self) -> int:
        """Sends one slice. After "would block" OpenSSL requires the same bytes again, so the slice is kept until
        then."""
        if self._tls_slice is None:
            self._tls_slice = self._next_tls_slice()
        sent = self._send(self._tls_slice)
        self._tls_slice = None
        return sent

    def _next_tls_slice(self) -> Buffer:
        first = self._queue[0]
        if len(first) >= _TLS_RECORD_BYTES or len(self._queue) == 1:
            return memoryview(first)[:_TLS_SLICE_BYTES]
        parts: list[Buffer] = []
        size = 0
        for part in self._queue:
            parts.append(part[: _TLS_SLICE_BYTES - size])
            size += len(parts[-1])
            if size == _TLS_SLICE_BYTES:
                break
        return b"".join(parts)

    def _drop_sent(self, sent: int) -> None:
        queue = self._queue
        while sent:
            first = queue[0]
            if sent < len(first):
                queue[0] = memoryview(first)[sent:]
                return
            sent -= len(first)
            queue.popleft()

    def _on_writable(self) -> None:
        self._flush()
        if not self._queue and self._write_error is None:
            self._receiver.drained(_monotonic_ns())

    def _fail_writing(self, error: OSError) -> None:
        """The peer reads no more, but what it sent before can still be read: the reader ends the connection."""
        self._write_error = error
        self._queue.clear()
        self._tls_slice = None
        self._stop_waiting()
        self._loop.call_soon(self._end_after_write_error, self._sock)

    def _end_after_write_error(self, sock: socket.socket | None) -> None:
        error = self._write_error
        while self._sock is sock:
            data: Buffer = b""
            try:
                data = self._receive_much()
            except OSError as reading_error:
                # A TLS alert has the reason why the peer closed; a failed write does not.
                if isinstance(reading_error, ssl.SSLError) and not isinstance(reading_error, _WOULD_BLOCK):
                    error = reading_error
            if not data:
                self._lose(error)
                return
            self._pass_on(data, _monotonic_ns())

    def _stop_waiting(self) -> None:
        if self._waiting:
            self._waiting = False
            self._loop.remove_writer(self._descriptor)

    # --- reading -----------------------------------------------------------------------------------------------------

    def _read_plain(self) -> None:
        """After the first full small read, reads are large: a connection that received much data is likely to receive
        more."""
        data: Buffer
        try:
            if self._reads_are_large:
                data = self._receive_much()
            else:
                data = self._receive(_SMALL_BYTES)
                if len(data) == _SMALL_BYTES:
                    self._reads_are_large = True
        except _WOULD_BLOCK:
            return
        except OSError as error:
            self._lose(error)
            return
        if data:
            self._pass_on(data, _monotonic_ns())
        else:
            self._lose(None)

    def _read_tls(self) -> None:
        """OpenSSL returns at most one record per read; after a full record another is likely."""
        sock = self._sock
        size = _TLS_RECORD_BYTES
        while size >= _TLS_RECORD_BYTES and self._sock is sock:
            try:
                data = self._receive_much()
            except _WOULD_BLOCK:
                return
            except OSError as error:
                self._lose(error)
                return
            if not data:
                self._lose(None)
                return
            size = len(data)
            self._pass_on(data, _monotonic_ns())

    def _receive_much(self) -> Buffer:
        """A large read, without allocation; small data is still returned as bytes."""
        size = self._receive_into(self._memory, _MEMORY_BYTES)
        data = self._memory[:size]
        return data if size > _SMALL_BYTES else data.tobytes()

    def _lose(self, error: OSError | None) -> None:
        self.close()
        self._receiver.connection_lost(error)


def _receive_memory() -> memoryview:
    """This thread's read buffer. Safe to share: each read is processed before the next one."""
    memory: memoryview | None = getattr(_thread, "memory", None)
    if memory is None:
        memory = _thread.memory = memoryview(bytearray(_MEMORY_BYTES))
    return memory
