"""Servers that do what a real one will not do on request: each connection is served by a script of the test's."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

from exporter.core.outcome import Outcome
from exporter.core.target import Target
from exporter.transport.call import Call, EncodedRequest
from tests.builders import make_target
from tests.waiting import PATIENCE_SECONDS

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"
REQUEST = EncodedRequest(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n", b"body")


@contextlib.asynccontextmanager
async def serving(script: Script, context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """The port of a server that runs the script on each connection, and closes it after that."""
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await script(reader, writer)
        writer.close()

    server = await asyncio.start_server(connection, host, 0, ssl=context, limit=1 << 26)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)  # a transport closes in the loop's next turns


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """One request's body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return await reader.readexactly(length)


def always(response: bytes, *, close: bool = False) -> Script:
    """A script that gives each request the same response."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            writer.write(response)
            if close:
                return

    return script


def reset(writer: asyncio.StreamWriter) -> None:
    """Makes the close that follows a reset."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def http_target(port: int, **changes: object) -> Target:
    return make_target(port=port, **changes)


class Ended:
    """A listener that lets a test wait for calls to end."""

    def __init__(self) -> None:
        self.calls: list[tuple[Outcome, str]] = []
        self._arrived = asyncio.Event()

    def __call__(self, call: Call) -> None:
        self.calls.append((call.outcome, call.text))
        self._arrived.set()

    async def wait(self, count: int = 1) -> tuple[Outcome, str]:
        """The last of `count` calls."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.calls) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.calls[-1]
