"""The bounds of the load's responses, by HTTP and gRPC."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Callable
from typing import Any

import pytest

from exporter.core.errors import ProtocolError
from exporter.core.outcome import Outcome, Reason
from exporter.core.units import NS
from exporter.services.channel_factory import INFER_METHOD
from exporter.services.openai.reader import OpenAiReader
from exporter.transport.grpc_channel import GrpcChannel
from exporter.wire.codings import decompress
from exporter.wire.hpack_blocks import BlockDecoder, encode_block
from exporter.wire.http1 import Http1Client
from exporter.wire.http2_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER,
    HEADERS,
    PING,
    PREFACE,
    SETTINGS,
    ErrorCode,
    Http2Error,
    StreamError,
    frame,
    settings_frame,
)
from exporter.wire.sse import SseEvent, SseParser
from tests.builders import concurrency
from tests.engine.fakes import FakeService, always, make_plan
from tests.engine.test_level import run_level
from tests.hostile.exceed.registry import exceeds
from tests.services.test_openai import responded
from tests.services.token_server import DONE, ROLE, delta, usage
from tests.transport.grpc_peers import Script, read_frame, scripted
from tests.transport.test_grpc_bounds import test_responses_to_a_streamed_request_are_counted
from tests.wire.http2_peers import RESPONSE_HEAD, output, ready_core, started


def until(
    error: type[Exception], feed: Callable[[bytes], object], first: bytes, then: bytes = b"", times: int = 0
) -> Any:
    """The error that these bytes end in."""
    with pytest.raises(error) as caught:  # noqa: PT012 - which of the pieces raises is not the point
        feed(first)
        for _ in range(times):
            feed(then)
    return caught.value


def http(first: bytes, then: bytes = b"", times: int = 0) -> str:
    """What a client of HTTP makes of these bytes: why it gave up."""
    client = Http1Client()
    client.begin()
    return str(until(ProtocolError, client.receive, first, then, times))


@exceeds("HTTP_HEAD")
def http_head() -> None:
    status = b"HTTP/1.1 200 OK\r\n"
    assert "of more than 65536 bytes" in http(status, b"X-A: " + b"a" * 1000 + b"\r\n", 70)
    assert "of more than 65536 bytes" in http(status + b"X-A: " + b"a" * (64 << 20))


@exceeds("HTTP_BYTES")
def http_bytes() -> None:
    """It is counted, and not kept."""
    assert "1073741824" in http(b"HTTP/1.1 200 OK\r\nContent-Length: 2000000000\r\n\r\n", bytes(16 << 20), 65)


@exceeds("HTTP_INTERIM")
def http_interim() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert http(interim, interim, 32) == "more than 32 interim responses"
    assert http(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" * 10_000) == "more than 32 interim responses"
    client = Http1Client()
    client.begin()
    client.receive(interim * 32)
    assert client.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


@exceeds("GZIP_MEMBERS")
def gzip_members() -> None:
    member = gzip.compress(b"x")
    assert decompress(member * 64, "gzip", 1 << 20) == b"x" * 64
    assert decompress(member * 100_000, "gzip", 1 << 20) == b"x" * 64


@exceeds("SSE_EVENT")
def sse_event() -> None:
    for piece in (b"data: " + b"x" * 1000 + b"\n", b"x" * 1000):
        assert "1048576" in str(until(ProtocolError, SseParser().feed, piece, piece, 1100))


@exceeds("TOKENS")
async def tokens() -> None:
    for count, kept in ((1 << 24, 1 << 24), ((1 << 24) + 1, -1)):
        call = await responded(ROLE, delta(content="a"), delta("length"), usage(5, count), DONE)
        assert (call.outcome, call.output_tokens) == (Outcome.OK, kept)


@exceeds("SESSION_TEXT")
def said() -> None:
    """It comes in pieces, each of them small."""
    piece = SseEvent(b'{"choices": [{"delta": {"content": "%s"}}]}' % (b"x" * 1024))
    reader = OpenAiReader(keep_text=True)
    for _ in range(1024):
        reader.event(piece)
    assert reader.text() == "x" * (1 << 20)
    with pytest.raises(ProtocolError, match="more than 1048576 characters"):
        reader.event(piece)


@exceeds("RETRY_AFTER_S")
async def retry_after() -> None:
    service = FakeService(always(Outcome.OVERLOAD, 0.1, retry_after_ns=10**9 * NS))
    run = await run_level(make_plan(concurrency(4), max_duration_ms=200, max_error_ratio=1.0), service)
    assert 290 < (run.end.spared_until_ns - time.monotonic_ns()) / NS <= 300
    assert run.end.reason in (Reason.NONE, Reason.TIME_BUDGET)


# --- gRPC ------------------------------------------------------------------------------------------------------------


@exceeds("GRPC_MESSAGE")
async def grpc_message() -> None:
    """Its length is enough: nothing of it is awaited. Packed, it is unpacked up to there."""
    large = frame(HEADERS, END_HEADERS, 1, RESPONSE_HEAD) + frame(
        DATA, 0, 1, b"\0" + ((128 << 20) + 1).to_bytes(4, "big")
    )
    async with scripted(Script(lambda _, _stream: large)) as bench:
        outcome, text = await bench.result()
    assert outcome is Outcome.PROTOCOL_ERROR
    assert "134217729 bytes, at most 134217728 are taken" in text


class Unfinished(Script):
    """Begins a response of 120 MiB for each request, and leaves its last byte out; written as it is read."""

    def __init__(self) -> None:
        super().__init__(lambda _connection, _stream: b"")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.opening)
        await reader.readexactly(len(PREFACE))
        while True:
            kind, flags, stream, _ = await read_frame(reader)
            if kind == DATA and flags & END_STREAM:
                writer.write(frame(HEADERS, END_HEADERS, stream, RESPONSE_HEAD))
                writer.write(frame(DATA, 0, stream, b"\0" + (120 << 20).to_bytes(4, "big")))
                for _part in range(119):
                    writer.write(frame(DATA, 0, stream, bytes(1 << 20)))
                    await writer.drain()


@exceeds("GRPC_HELD")
async def grpc_held() -> None:
    """Three responses, none of which ends."""
    async with scripted(Unfinished()) as bench:
        bench.channel = GrpcChannel(bench.channel._target, bench._listen, 64, method=INFER_METHOD, keep_responses=True)
        for _ in range(3):
            bench.send(timeout_ns=60 * NS)
        await bench.wait(1)
        assert bench.ended[0].outcome is Outcome.PROTOCOL_ERROR
        assert "held more than 268435456 bytes" in bench.ended[0].text


@exceeds("STREAM_RESPONSES")
async def stream_responses() -> None:
    """By gRPC, and of a stream of events."""
    await test_responses_to_a_streamed_request_are_counted(1000)
    call = await responded(ROLE, delta(content="a") * 100_001, delta("length"), DONE)
    assert (call.outcome, call.responses) == (Outcome.PROTOCOL_ERROR, 100_001)
    assert call.text == "more than 100000 responses to one request"


@exceeds("HEADER_BLOCK")
def header_block() -> None:
    """As it comes, and unpacked: 3000 bytes that are 180 kB."""
    for block in (encode_block([("grpc-message", "x" * 66_000)]), b"\x20" + b"\x90" * 3000):
        decoder = BlockDecoder()
        decoder.decode(b"\x20")
        with pytest.raises(StreamError, match="of more than 65536 bytes"):
            decoder.decode(block)


def fails(wire: bytes, code: ErrorCode, pieces: int = 1) -> None:
    """The connection ends with this error."""
    core = ready_core()
    started(core, b"")
    output(core)
    assert until(Http2Error, core.receive, wire, wire, pieces).code is code


@exceeds("HEADER_FLOOD")
def header_flood() -> None:
    fails(frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1, bytes(600_000)) * 2, ErrorCode.ENHANCE_YOUR_CALM)


@exceeds("HEADER_FRAMES")
def header_frames() -> None:
    fails(frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1) * 64, ErrorCode.ENHANCE_YOUR_CALM)


@exceeds("HTTP2_FRAME")
def http2_frame() -> None:
    """Its head is enough: nothing of it is held."""
    fails(FRAME_HEADER.pack(((1 << 20) + 1) << 8 | HEADERS, 0, 1), ErrorCode.FRAME_SIZE_ERROR)
    core = ready_core()
    started(core, b"")
    core.receive(FRAME_HEADER.pack((1 << 20) << 8 | DATA, 0, 1))


@exceeds("SETTINGS_BYTES")
def settings_bytes() -> None:
    fails(frame(SETTINGS, 0, 0, bytes(1026)), ErrorCode.ENHANCE_YOUR_CALM)


@exceeds("SETTINGS_CHANGES")
def settings_changes() -> None:
    core = ready_core()
    numbers = iter(range(100_000, 200_000))

    def change(_: bytes) -> None:
        core.receive(settings_frame({4: next(numbers)}))
        output(core)

    assert until(Http2Error, change, b"", b"", 1000).code is ErrorCode.ENHANCE_YOUR_CALM


@exceeds("HTTP2_ACKNOWLEDGEMENTS")
def http2_acknowledgements() -> None:
    fails(frame(PING, 0, 0, bytes(8)), ErrorCode.ENHANCE_YOUR_CALM, pieces=1001)
