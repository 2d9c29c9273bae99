"""A proxy before a language model that holds back what opens a stream, the role, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

_ROLE = b'"role"'


@contextlib.asynccontextmanager
async def delaying_the_role(port: int, seconds: float) -> AsyncIterator[int]:
    """The proxy's port. A read with a role in it is passed on this much later, or with the next content; content that
    comes apart from it is never delayed."""
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
    """One connection's responses, as they come; but a role waits."""
    following = asyncio.ensure_future(reader.read(65_536))
    while data := await following:
        following = asyncio.ensure_future(reader.read(65_536))
        if _ROLE in data:
            await asyncio.wait({following}, timeout=seconds)
        writer.write(data)
