"""What a gRPC server may send at most: an error text, headers, SETTINGS, responses; and whose calls fail beyond."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from exporter.core.bounds import SETTINGS_CHANGES, STREAM_RESPONSES
from exporter.core.outcome import Outcome
from exporter.services.channel_factory import INFER_METHOD
from exporter.transport.grpc_channel import GrpcChannel
from exporter.transport.grpc_stream import GrpcStreamChannel, StreamMessage, StreamProtocol
from exporter.wire.grpc_messages import frame_message
from exporter.wire.hpack_blocks import encode_block
from exporter.wire.http2_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    RST_STREAM,
    frame,
    settings_frame,
)
from tests.transport.grpc_peers import Script, response, scripted, status
from tests.wire.http2_peers import RESPONSE_HEAD


def split_status(stream_id: int, length: int, size: int) -> bytes:
    """A status with a message so long, in frames of this size."""
    fields = {":status": "200", "content-type": "application/grpc", "grpc-status": "13", "grpc-message": "x" * length}
    block = encode_block(fields.items())
    parts = [block[start : start + size] for start in range(0, len(block), size)]
    frames = [frame(HEADERS, END_STREAM, stream_id, parts[0])]
    frames += [frame(CONTINUATION, 0, stream_id, part) for part in parts[1:]]
    return b"".join(frames) + frame(CONTINUATION, END_HEADERS, stream_id)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(lambda stream: status(stream, grpc_status="13", grpc_message="x" * 100_000), id="one frame"),
        pytest.param(lambda stream: split_status(stream, 100_000, 16_384), id="several frames"),
        pytest.param(lambda stream: split_status(stream, 200_000, 3000), id="many frames"),
        # 3000 bytes, which are 180 kB of `accept-encoding: gzip, deflate`.
        pytest.param(lambda stream: frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x90" * 3000), id="unpacked"),
    ],
)
async def test_an_error_text_that_is_too_long_fails_its_own_call_alone(reply: Callable[[int], bytes]) -> None:
    def reply_to(_connection: int, stream_id: int) -> bytes:
        # The second one is still under way when the first one's text comes.
        return b"" if stream_id == 1 else reply(stream_id) + response(1) if stream_id == 3 else response(stream_id)

    script = Script(reply_to)
    async with scripted(script) as bench:
        first, second = bench.send(), bench.send()
        await bench.wait(2)
        third = bench.send()
        await bench.wait(3)
    assert (first.outcome, third.outcome, script.connections) == (Outcome.OK, Outcome.OK, 1)
    assert second.outcome is Outcome.PROTOCOL_ERROR
    assert second.text == "headers or trailers (an error text is one of these) of more than 65536 bytes"


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(settings_frame(dict.fromkeys(range(10, 200), 1)), id="large"),
        pytest.param(settings_frame({4: 100_000}) * (SETTINGS_CHANGES + 1), id="many"),
    ],
)
async def test_a_flood_of_settings_ends_the_connection(flood: bytes) -> None:
    async with scripted(Script(lambda _, stream: flood + response(stream))) as bench:
        outcome, text = await bench.result()
    assert (outcome, text) == (Outcome.PROTOCOL_ERROR, "HTTP/2 ENHANCE_YOUR_CALM: too many SETTINGS frames")


async def test_settings_that_change_now_and_then_are_taken() -> None:
    async with scripted(Script(lambda _, stream: settings_frame({4: 100_000 + stream}) + response(stream))) as bench:
        for _ in range(20):
            assert await bench.result() == (Outcome.OK, "")


async def test_responses_under_way_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 streams that each keep their response unfinished held 2 GB."""
    monkeypatch.setattr("exporter.transport.grpc_link.GRPC_HELD", 1 << 20)
    monkeypatch.setattr("exporter.transport.grpc_link._UNCHECKED_BYTES", 64 << 10)
    most = 0

    def unfinished(_connection: int, stream_id: int) -> bytes:
        begun = frame_message(bytes(1 << 20))[:-1]
        data = [begun[start : start + 16_384] for start in range(0, len(begun), 16_384)]
        return frame(HEADERS, END_HEADERS, stream_id, RESPONSE_HEAD) + b"".join(
            frame(DATA, 0, stream_id, part) for part in data
        )

    async with scripted(Script(unfinished)) as bench:
        bench.channel = GrpcChannel(bench.channel._target, bench._listen, 64, method=INFER_METHOD, keep_responses=True)
        calls = [bench.send() for _ in range(16)]
        async with asyncio.timeout(10):
            while len(bench.ended) < 15:
                link = bench.channel._link
                most = max(most, sum(rpc.held for rpc in link.core.open_streams) if link else 0)
                await asyncio.sleep(0)
    assert most < 3 << 20
    assert {call.outcome for call in calls} == {Outcome.PROTOCOL_ERROR, Outcome.CANCELLED}
    text = "responses under way on one connection held more than 1048576 bytes, this one the most"
    assert {call.text for call in bench.ended} == {text, ""}


@pytest.mark.parametrize("more", [0, 1, 1000])
async def test_responses_to_a_streamed_request_are_counted(more: int) -> None:
    """Each leaves a time in memory: 60 s of them were 240 MB a request."""

    def reply(_connection: int, stream_id: int) -> bytes:
        count = STREAM_RESPONSES + more if stream_id == 1 else 1
        messages = frame_message(b"part") * count + frame_message(b"end")
        data = [messages[start : start + 16_384] for start in range(0, len(messages), 16_384)]
        head = frame(HEADERS, END_HEADERS, stream_id, RESPONSE_HEAD)
        return head + b"".join(frame(DATA, 0, stream_id, part) for part in data)

    protocol = StreamProtocol(INFER_METHOD, lambda data: StreamMessage(data == b"part", is_final=data == b"end"))
    script = Script(reply, streams=True)
    async with scripted(script) as bench:
        bench.channel = GrpcStreamChannel(bench.channel._target, bench._listen, 64, protocol)
        first = bench.send()
        await bench.wait(1)
        assert (first.outcome, first.text, first.responses) == (
            (Outcome.PROTOCOL_ERROR, "more than 100000 responses to one request", 100_001)
            if more
            else (Outcome.OK, "", 100_000)
        )
        if more:
            # What still comes for the first one is not the second one's.
            second = bench.send()
            await bench.wait(2)
            assert (second.outcome, second.text, second.responses) == (Outcome.OK, "", 1)
    assert script.connections == 1
    assert any(kind == RST_STREAM for kind, *_ in script.seen) == bool(more)


async def test_the_largest_response_is_a_setting_which_its_error_names() -> None:
    async with scripted(Script(lambda _, stream: response(stream, bytes(2000))), max_response_bytes=1999) as bench:
        outcome, text = await bench.result()
    assert outcome is Outcome.PROTOCOL_ERROR
    assert text == "a message of 2000 bytes, at most 1999 are taken (the target's max_response sets it for the load)"
    async with scripted(Script(lambda _, stream: response(stream, bytes(2000))), max_response_bytes=2000) as bench:
        assert await bench.result() == (Outcome.OK, "")
