"""A proxy before a language model that holds back what opens a stream, the role, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

_ROLE_END = b"\n\n"


@contextlib.asynccontextmanager
async def delaying_the_role(port: int, seconds: float) -> AsyncIterator[int]:
    """The proxy's port. What came before the end of the first event goes so much later, or with the first byte after
    it: content is never held back."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", port)
        requests = asyncio.create_task(_copy(reader, upstream_writer))
        tasks.add(requests)
        try:
            await _responses(upstream_reader, writer, seconds)
        finally:
            requests.cancel()
            for each in (upstream_writer, writer):
                each.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
    with contextlib.suppress(OSError):
        writer.write_eof()


async def _responses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """One connection's responses: this server closes each after its stream, so there is one role."""
    held = b""
    while _ROLE_END not in held.partition(b"\r\n\r\n")[2]:
        data = await reader.read(65_536)
        if not data:
            writer.write(held)
            return
        held += data
    following = asyncio.ensure_future(reader.read(65_536))
    await asyncio.wait({following}, timeout=seconds)
    writer.write(held)
    while data := await following:
        writer.write(data)
        following = asyncio.ensure_future(reader.read(65_536))
