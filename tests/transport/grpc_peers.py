"""What the gRPC channel's tests share: a channel with its calls, and a server that follows a script."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from exporter.core.outcome import Outcome
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.services.channel_factory import INFER_METHOD
from exporter.transport.call import Call, EncodedRequest
from exporter.transport.grpc_channel import GrpcChannel
from exporter.wire.grpc_messages import frame_message
from exporter.wire.hpack_blocks import encode_block
from exporter.wire.http2_frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST_STREAM,
    frame,
)
from tests.transport.scripted import serving
from tests.waiting import PATIENCE_SECONDS
from tests.wire.http2_peers import READY, RESPONSE_HEAD, TRAILERS

REQUEST = EncodedRequest(b"", frame_message(b"question"))
ECHO = "/test.Test/Echo"


def target(port: int, **changes: Any) -> Target:
    return Target(
        **{"name": "t", "kind": "triton", "scheme": "grpc", "host": "127.0.0.1", "port": port, "group": "g", **changes}
    )


class Bench:
    """A channel and the calls that came back from it."""

    def __init__(self, port: int, capacity: int = 64, method: str = INFER_METHOD, **changes: Any) -> None:
        self.ended: list[Call] = []
        self.on_end: Callable[[Call], None] | None = None
        self.channel = GrpcChannel(target(port, **changes), self._listen, capacity, method=method)

    def _listen(self, call: Call) -> None:
        assert call not in self.ended
        self.ended.append(call)
        if self.on_end is not None:
            self.on_end(call)

    def send(self, request: EncodedRequest = REQUEST, timeout_ns: int = 10 * NS) -> Call:
        call = Call(0)
        call.intended_ns = time.monotonic_ns()
        call.deadline_ns = call.intended_ns + timeout_ns
        self.channel.send(call, request)
        return call

    async def wait(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.ended) < count:
                await asyncio.sleep(0.001)

    async def result(self, request: EncodedRequest = REQUEST) -> tuple[Outcome, str]:
        call = self.send(request)
        await self.wait(len(self.ended) + 1)
        return call.outcome, call.text


# --- a scripted server -----------------------------------------------------------------------------------------------


def response(stream_id: int, content: bytes = b"result", trailers: bytes = TRAILERS) -> bytes:
    return (
        frame(HEADERS, END_HEADERS, stream_id, RESPONSE_HEAD)
        + frame(DATA, 0, stream_id, frame_message(content))
        + frame(HEADERS, END_HEADERS | END_STREAM, stream_id, trailers)
    )


def status(stream_id: int, **fields: str) -> bytes:
    named = [(name.replace("_", "-"), value) for name, value in fields.items()]
    head = [(":status", "200"), ("content-type", "application/grpc"), *named]
    return frame(HEADERS, END_HEADERS | END_STREAM, stream_id, encode_block(head))


def goaway(last: int, code: int = 0) -> bytes:
    return frame(GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big"))


class Script:
    """What the scripted server does: `opening` at once, then for each whole request what `reply` gives for its stream
    (None closes the connection); with `streams` for each message, on streams that stay open. `connections` counts them;
    `seen` holds all frames but the opening ones."""

    def __init__(
        self, reply: Callable[[int, int], bytes | None], opening: bytes = READY, *, streams: bool = False
    ) -> None:
        self.streams = streams
        self.reply = reply
        self.opening = opening
        self.connections = 0
        self.seen: list[tuple[int, int, int, bytes]] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        self.writers.append(writer)
        writer.write(self.opening)
        await reader.readexactly(len(PREFACE))
        while True:
            kind, flags, stream_id, payload = await read_frame(reader)
            if kind in (HEADERS, DATA, RST_STREAM, GOAWAY):
                self.seen.append((kind, flags, stream_id, payload))
            if kind == DATA and (flags & END_STREAM or self.streams):
                reply = self.reply(number, stream_id)
                if reply is None:
                    return
                writer.write(reply)


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, int, int, bytes]:
    head, flags, stream_id = FRAME_HEADER.unpack(await reader.readexactly(9))
    return head & 0xFF, flags, stream_id, await reader.readexactly(head >> 8)


@asynccontextmanager
async def scripted(script: Script, **changes: Any) -> AsyncIterator[Bench]:
    async with serving(script.serve) as port:
        bench = Bench(port, **changes)
        try:
            yield bench
        finally:
            await bench.channel.close()
