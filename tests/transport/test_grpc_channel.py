"""The gRPC channel against scripted servers: outcomes, stamps, connections."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hpack import Decoder

from exporter.core.errors import TransportError
from exporter.core.outcome import Outcome
from exporter.core.target import Header
from exporter.core.units import NS
from exporter.demo.triton import free_ports
from exporter.services.channel_factory import INFER_METHOD
from exporter.transport.call import Call, EncodedRequest
from exporter.wire.grpc_messages import frame_message
from exporter.wire.hpack_blocks import encode_block
from exporter.wire.http2_frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    RST_STREAM,
    frame,
    rst_stream_frame,
    settings_frame,
    window_update_frame,
)
from tests.transport.grpc_peers import REQUEST, Bench, Script, goaway, response, scripted, status
from tests.wire.http2_peers import READY, RESPONSE_HEAD, TRAILERS


async def test_ok_call_and_its_columns() -> None:
    async with scripted(Script(lambda _, stream: response(stream))) as bench:
        await bench.channel.open()
        assert bench.channel.connect_ns is not None
        assert bench.channel.tls_ns is None
        call = bench.send()
        assert call.channel is bench.channel
        await bench.wait(1)
        assert (call.outcome, call.text, call.responses) == (Outcome.OK, "", 1)
        assert call.intended_ns <= call.sent_ns <= call.send_done_ns <= call.first_ns <= call.last_ns
        assert call.bytes_in == len(frame_message(b"result"))
        assert call.bytes_out > len(REQUEST.body)


@pytest.mark.parametrize(
    ("reply", "outcome", "text"),
    [
        (lambda s: status(s, grpc_status="1", grpc_message="x"), Outcome.SERVER_ERROR, "CANCELLED: x"),
        (lambda s: status(s, grpc_status="2"), Outcome.SERVER_ERROR, "UNKNOWN"),
        (
            lambda s: status(s, grpc_status="3", grpc_message="bad%20shape"),
            Outcome.CLIENT_ERROR,
            "INVALID_ARGUMENT: bad shape",
        ),
        (lambda s: status(s, grpc_status="4"), Outcome.TIMEOUT, "DEADLINE_EXCEEDED"),
        (lambda s: status(s, grpc_status="5"), Outcome.CLIENT_ERROR, "NOT_FOUND"),
        (lambda s: status(s, grpc_status="6"), Outcome.CLIENT_ERROR, "ALREADY_EXISTS"),
        (lambda s: status(s, grpc_status="7"), Outcome.AUTH_ERROR, "PERMISSION_DENIED"),
        (lambda s: status(s, grpc_status="8"), Outcome.OVERLOAD, "RESOURCE_EXHAUSTED"),
        (lambda s: status(s, grpc_status="9"), Outcome.CLIENT_ERROR, "FAILED_PRECONDITION"),
        (lambda s: status(s, grpc_status="10"), Outcome.SERVER_ERROR, "ABORTED"),
        (lambda s: status(s, grpc_status="11"), Outcome.CLIENT_ERROR, "OUT_OF_RANGE"),
        (lambda s: status(s, grpc_status="12"), Outcome.CLIENT_ERROR, "UNIMPLEMENTED"),
        (lambda s: status(s, grpc_status="13"), Outcome.SERVER_ERROR, "INTERNAL"),
        (lambda s: status(s, grpc_status="14"), Outcome.OVERLOAD, "UNAVAILABLE"),
        (lambda s: status(s, grpc_status="15"), Outcome.SERVER_ERROR, "DATA_LOSS"),
        (lambda s: status(s, grpc_status="16"), Outcome.AUTH_ERROR, "UNAUTHENTICATED"),
        (lambda s: status(s, grpc_status="0"), Outcome.PROTOCOL_ERROR, "0 messages in a unary response"),
        (lambda s: status(s), Outcome.PROTOCOL_ERROR, "a response without grpc-status"),
        (lambda s: rst_stream_frame(s, 7), Outcome.OVERLOAD, "refused: RST_STREAM REFUSED_STREAM"),
        (lambda s: rst_stream_frame(s, 8), Outcome.PROTOCOL_ERROR, "RST_STREAM CANCEL"),
        (lambda s: rst_stream_frame(s, 11), Outcome.PROTOCOL_ERROR, "RST_STREAM ENHANCE_YOUR_CALM"),
        (lambda s: goaway(0), Outcome.OK, ""),
        (lambda s: goaway(0, 11), Outcome.OVERLOAD, "refused: GOAWAY ENHANCE_YOUR_CALM"),
        (lambda s: b"garbage, certainly", Outcome.PROTOCOL_ERROR, "HTTP/2 FRAME_SIZE_ERROR: a frame of 6775154 bytes"),
        (lambda s: None, Outcome.CONNECT_ERROR, "connection lost: closed by the peer"),
        (
            lambda s: (
                frame(HEADERS, END_HEADERS, s, RESPONSE_HEAD)
                + frame(DATA, 0, s, frame_message(b"1") + frame_message(b"2"))
                + frame(HEADERS, END_HEADERS | END_STREAM, s, TRAILERS)
            ),
            Outcome.PROTOCOL_ERROR,
            "2 messages in a unary response",
        ),
        (
            lambda s: frame(HEADERS, END_HEADERS | END_STREAM, s, encode_block([(":status", "403")])),
            Outcome.AUTH_ERROR,
            "PERMISSION_DENIED: HTTP status 403 with content-type none: not gRPC",
        ),
    ],
)
async def test_outcomes(reply: Callable[[int], bytes | None], outcome: Outcome, text: str) -> None:
    """Whatever becomes of the first call, the next one is ok again, on a new connection if need be."""
    replies = iter([reply])
    script = Script(lambda _, stream: next(replies, response)(stream))
    async with scripted(script) as bench:
        assert await bench.result() == (outcome, text)
        assert await bench.result() == (Outcome.OK, "")


async def test_half_a_response_then_the_end() -> None:
    half = [frame(HEADERS, END_HEADERS, 1, RESPONSE_HEAD) + frame(DATA, 0, 1, b"\0\0\0\0\x09half"), b""]
    script = Script(lambda _, stream: half[0] if stream == 1 else None)
    async with scripted(script) as bench:
        first, second = bench.send(), bench.send()
        await bench.wait(2)
        assert (first.outcome, first.responses, first.bytes_in) == (Outcome.PROTOCOL_ERROR, 0, 9)
        assert first.first_ns > 0
        assert (second.outcome, second.first_ns) == (Outcome.CONNECT_ERROR, 0)


async def test_pushback() -> None:
    reply = lambda _, s: status(s, grpc_status="8", grpc_retry_pushback_ms="1500")  # noqa: E731
    async with scripted(Script(reply)) as bench:
        call = bench.send()
        await bench.wait(1)
        assert (call.outcome, call.retry_after_ns) == (Outcome.OVERLOAD, 1_500_000_000)


async def test_long_texts_are_cut() -> None:
    async with scripted(Script(lambda _, s: status(s, grpc_status="13", grpc_message="x" * 5000))) as bench:
        assert await bench.result() == (Outcome.SERVER_ERROR, f"INTERNAL: {'x' * 289}…")


async def test_header_block() -> None:
    script = Script(lambda _, stream: response(stream))
    headers = (Header("Authorization", value="token", prefix="Bearer "),)
    async with scripted(script, headers=headers) as bench:
        await bench.result(EncodedRequest(b"triton-canary: 17", REQUEST.body))
        call = bench.send(EncodedRequest(b"", REQUEST.body), timeout_ns=-5)
        call.deadline_ns = 0
        bench.send(timeout_ns=NS)
        await bench.wait(3)
        blocks = [decode(payload) for kind, _, _, payload in script.seen if kind == HEADERS]
    assert blocks[0][":path"] == INFER_METHOD
    assert blocks[0][":scheme"] == "http"
    assert blocks[0]["te"] == "trailers"
    assert blocks[0]["content-type"] == "application/grpc"
    assert blocks[0]["user-agent"].startswith("triton-canary/")
    assert blocks[0]["authorization"] == "Bearer token"
    assert blocks[0]["triton-canary"] == "17"
    assert "triton-canary" not in blocks[1]
    assert [microseconds(block["grpc-timeout"]) for block in blocks][1] == 0
    for block, seconds in ((blocks[0], 10), (blocks[2], 1)):
        assert seconds * 0.95e6 <= microseconds(block["grpc-timeout"]) <= seconds * 1.04e6


def decode(block: bytes) -> dict[str, str]:
    return {str(name): str(value) for name, value in Decoder().decode(block)}


def microseconds(timeout: str) -> int:
    return int(timeout[:-1]) * {"n": 1, "u": 1000, "m": 10**6}[timeout[-1]] // 1000


async def test_calls_without_a_deadline_have_no_timeout() -> None:
    script = Script(lambda _, stream: response(stream))
    async with scripted(script) as bench:
        call = Call(0)
        bench.channel.send(call, REQUEST)
        await bench.wait(1)
    assert "grpc-timeout" not in decode(script.seen[0][3])


async def test_secret_that_cannot_be_read_is_an_auth_error(tmp_path: Path) -> None:
    headers = (Header("authorization", file=str(tmp_path / "token")),)
    async with scripted(Script(lambda _, stream: response(stream)), headers=headers) as bench:
        with pytest.raises(TransportError) as caught:
            await bench.channel.open()
        assert caught.value.outcome is Outcome.AUTH_ERROR
        (tmp_path / "token").write_text("now there")
        assert await bench.result() == (Outcome.OK, "")


async def test_rotated_token_is_read_at_the_next_connection(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one")
    script = Script(lambda _, stream: response(stream))
    async with scripted(script, headers=(Header("authorization", file=str(token)),)) as bench:
        assert await bench.result() == (Outcome.OK, "")
        token.write_text("two")
        assert await bench.result() == (Outcome.OK, "")
        await bench.channel.close()
        assert await bench.result() == (Outcome.OK, "")
    blocks = [decode(payload) for kind, _, _, payload in script.seen if kind == HEADERS]
    assert [block["authorization"] for block in blocks] == ["one", "one", "two"]


async def test_give_up_resets_the_stream() -> None:
    script = Script(lambda _, stream: b"" if stream == 1 else response(stream))
    async with scripted(script) as bench:
        await bench.channel.open()
        call = bench.send()
        bench.channel.give_up(call, Outcome.TIMEOUT)
        assert bench.ended == [call]
        assert (call.outcome, call.first_ns) == (Outcome.TIMEOUT, 0)
        assert call.last_ns >= call.sent_ns > 0
        bench.channel.give_up(call, Outcome.TIMEOUT)
        assert await bench.result() == (Outcome.OK, "")
        assert (RST_STREAM, 0, 1, (8).to_bytes(4, "big")) in script.seen
        assert script.connections == 1


async def test_goaway_lets_calls_finish_and_opens_another_connection() -> None:
    held: list[int] = []

    def reply(connection: int, stream: int) -> bytes:
        if connection == 2:
            return response(stream)
        held.append(stream)
        return goaway(3) if len(held) == 2 else b""

    script = Script(reply)
    async with scripted(script) as bench:
        await bench.channel.open()
        first, second = bench.send(), bench.send()
        while len(held) < 2:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        third = bench.send()
        await bench.wait(1)
        assert bench.ended == [third]
        script.writers[0].write(response(1))
        await bench.wait(2)
        bench.channel.give_up(second, Outcome.CANCELLED)
        assert [call.outcome for call in (first, second, third)] == [Outcome.OK, Outcome.CANCELLED, Outcome.OK]
        assert script.connections == 2
        assert bench.channel._retired == set()


async def test_call_unseen_by_a_graceful_goaway_is_sent_again_once() -> None:
    script = Script(lambda connection, stream: goaway(0))
    async with scripted(script) as bench:
        call = bench.send()
        await bench.wait(1)
        assert (call.outcome, call.text) == (Outcome.OVERLOAD, "refused: GOAWAY NO_ERROR")
        assert script.connections == 2
    script = Script(lambda connection, stream: goaway(0) if connection == 1 else response(stream))
    async with scripted(script) as bench:
        call = bench.send()
        before_ns = time.monotonic_ns()
        await bench.wait(1)
        assert call.outcome is Outcome.OK
        assert before_ns < call.sent_ns <= call.send_done_ns <= call.first_ns


async def test_max_concurrent_streams_makes_calls_wait_in_order() -> None:
    script = Script(lambda _, stream: response(stream), settings_frame({MAX_CONCURRENT_STREAMS: 2}))
    async with scripted(script) as bench:
        await bench.channel.open()
        calls = [bench.send() for _ in range(7)]
        assert [bool(call.sent_ns) for call in calls] == [True, True] + [False] * 5
        bench.channel.give_up(calls[4], Outcome.CANCELLED)
        await bench.wait(7)
        assert bench.ended == [calls[4], *calls[:4], *calls[5:]]
        sent = [call.sent_ns for call in calls if call is not calls[4]]
        assert sent == sorted(sent)
        assert calls[4].sent_ns == 0
        assert {call.outcome for call in calls if call is not calls[4]} == {Outcome.OK}


async def test_settings_in_mid_stream_let_more_go() -> None:
    script = Script(lambda _, stream: response(stream), settings_frame({MAX_CONCURRENT_STREAMS: 0}))
    async with scripted(script) as bench:
        await bench.channel.open()
        call = bench.send()
        await asyncio.sleep(0.01)
        assert call.sent_ns == 0
        script.writers[0].write(settings_frame({MAX_CONCURRENT_STREAMS: 1}))
        await bench.wait(1)
        assert call.outcome is Outcome.OK


async def test_listener_sends_the_next_at_once() -> None:
    async with scripted(Script(lambda _, stream: response(stream))) as bench:

        def again(call: Call) -> None:
            if len(bench.ended) < 200:
                bench.send()

        bench.on_end = again
        for _ in range(5):
            bench.send()
        await bench.wait(204)
        assert {call.outcome for call in bench.ended} == {Outcome.OK}


async def test_tiny_windows() -> None:
    body = frame_message(os.urandom(50_000))
    opened = settings_frame({INITIAL_WINDOW_SIZE: 1000})
    script = Script(lambda _, stream: response(stream), opened)
    async with scripted(script) as bench:
        await bench.channel.open()
        call = bench.send(EncodedRequest(b"", body))
        for _ in range(50):
            await asyncio.sleep(0.001)
            script.writers[0].write(window_update_frame(1, 1001))
        await bench.wait(1)
        assert call.outcome is Outcome.OK
        assert b"".join(payload for kind, _, _, payload in script.seen if kind == DATA) == body
        assert call.sent_ns < call.send_done_ns <= call.last_ns


async def test_close_ends_calls_as_cancelled() -> None:
    script = Script(lambda _, stream: b"", settings_frame({MAX_CONCURRENT_STREAMS: 1}))
    async with scripted(script) as bench:
        await bench.channel.open()
        flying, waiting = bench.send(), bench.send()
        await bench.channel.close()
        assert bench.ended == [flying, waiting]
        assert {flying.outcome, waiting.outcome} == {Outcome.CANCELLED}
        await bench.channel.close()


async def test_close_while_connecting() -> None:
    async with scripted(Script(lambda _, stream: b"", b"")) as bench:
        call = bench.send()
        await asyncio.sleep(0.01)
        await bench.channel.close()
        assert (call.outcome, call.sent_ns) == (Outcome.CANCELLED, 0)


# --- opening ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opening", "outcome", "text"),
    [
        (b"", Outcome.TIMEOUT, "no HTTP/2 SETTINGS from 127.0.0.1:{port} within 0.3 s"),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            Outcome.PROTOCOL_ERROR,
            "HTTP/2 PROTOCOL_ERROR: the server speaks HTTP/1, not HTTP/2",
        ),
        (READY + goaway(0, 11), Outcome.CONNECT_ERROR, "connection lost at its start: GOAWAY ENHANCE_YOUR_CALM"),
    ],
)
async def test_opening_that_fails(opening: bytes, outcome: Outcome, text: str) -> None:
    async with scripted(Script(lambda _, stream: b"", opening), connect_timeout_ns=300_000_000) as bench:
        text = text.format(port=bench.channel._target.port)
        with pytest.raises(TransportError) as caught:
            await bench.channel.open()
        assert (caught.value.outcome, str(caught.value)) == (outcome, text)
        calls = [bench.send(), bench.send()]
        await bench.wait(2)
        assert [(call.outcome, call.text, call.sent_ns) for call in calls] == [(outcome, text, 0)] * 2
        assert all(call.last_ns > 0 for call in calls)


async def test_nothing_listens() -> None:
    bench = Bench(free_ports(1)[0])
    outcome, text = await bench.result()
    assert (outcome, text.partition(":")[2][-20:]) == (Outcome.CONNECT_ERROR, ": connection refused"[-20:])
    await bench.channel.close()


async def test_server_that_closes_at_once() -> None:
    script = Script(lambda _, stream: b"")

    async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    script.serve = slam  # type: ignore[method-assign]
    async with scripted(script) as bench:
        outcome, text = await bench.result()
        assert outcome is Outcome.CONNECT_ERROR
        assert text.startswith("connection lost: ")
