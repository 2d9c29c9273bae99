"""The HTTP channel against servers that misbehave: each error is an outcome of its own, and no call is ever lost."""

from __future__ import annotations

import asyncio
import socket
import time
import tracemalloc
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.core.errors import TransportError
from exporter.core.outcome import Outcome
from exporter.core.units import NS
from exporter.transport.call import Call, EncodedRequest
from exporter.transport.http_channel import HttpChannel, error_text, retry_after_ns, status_outcome
from exporter.wire.http1 import decoded_body
from tests.transport.scripted import OK, REQUEST, Ended, Script, always, http_target, read_request, reset, serving
from tests.waiting import PATIENCE_SECONDS


def response(status: str, body: bytes = b"", headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n" % (status.encode(), headers, len(body)) + body


async def reset_at_once(reader: Reader, writer: Writer) -> None:
    await read_request(reader)
    reset(writer)


async def close_without_response(reader: Reader, writer: Writer) -> None:
    await read_request(reader)


async def close_in_body(reader: Reader, writer: Writer) -> None:
    await read_request(reader)
    writer.write(OK[:-1])


async def until_close(reader: Reader, writer: Writer) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\n\r\nall of it")


ERRORS = {
    "ok": (always(OK), Outcome.OK, ""),
    "until close": (until_close, Outcome.OK, ""),
    "401": (always(response("401 No", b"who are you?")), Outcome.AUTH_ERROR, "HTTP 401: who are you?"),
    "403": (always(response("403 No")), Outcome.AUTH_ERROR, "HTTP 403"),
    "404": (always(response("404 No", b'\n\n{"error":"x"}\nmore')), Outcome.CLIENT_ERROR, 'HTTP 404: {"error":"x"}'),
    "408": (always(response("408 Slow")), Outcome.TIMEOUT, "HTTP 408"),
    "429": (always(response("429 Busy")), Outcome.OVERLOAD, "HTTP 429"),
    "500": (always(response("500 Oh", b"a\x00\x1b[1mb")), Outcome.SERVER_ERROR, "HTTP 500: a [1mb"),
    "504": (always(response("504 Slow")), Outcome.TIMEOUT, "HTTP 504"),
    "garbage": (always(b"\x00\x01 garbage\r\n\r\n"), Outcome.PROTOCOL_ERROR, "not an HTTP response"),
    "two responses": (always(OK + OK), Outcome.PROTOCOL_ERROR, "bytes after a complete response"),
    "reset without a response": (reset_at_once, Outcome.CONNECT_ERROR, "connection lost: connection reset by peer"),
    "closed without a response": (close_without_response, Outcome.CONNECT_ERROR, "connection lost: closed by the peer"),
    "closed in the body": (close_in_body, Outcome.PROTOCOL_ERROR, "closed in the middle of the response's body"),
}


@pytest.mark.parametrize(("script", "outcome", "text"), ERRORS.values(), ids=ERRORS)
async def test_outcomes(script: Script, outcome: Outcome, text: str) -> None:
    ended = Ended()
    async with serving(script) as port:
        channel = HttpChannel(http_target(port), ended)
        await channel.open()
        call = Call(0)
        channel.send(call, REQUEST)
        found, found_text = await ended.wait()
        await channel.close()
    assert (found, found_text[: len(text)]) == (outcome, text)
    assert len(found_text) <= 300
    assert call.last_ns >= call.send_done_ns >= call.sent_ns > 0
    assert call.bytes_out == len(REQUEST.head) + len(REQUEST.body)
    assert (call.first_ns > 0) == (call.bytes_in > 0)


async def test_reset_in_the_body_is_a_protocol_error() -> None:
    ended = Ended()
    in_body = asyncio.Event()

    async def script(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        writer.write(OK[:-1])
        await in_body.wait()
        reset(writer)

    async with serving(script) as port:
        channel = HttpChannel(http_target(port), ended)
        call = Call(0)
        channel.send(call, REQUEST)
        while not call.first_ns:
            await asyncio.sleep(0.001)
        in_body.set()
        assert await ended.wait() == (Outcome.PROTOCOL_ERROR, "connection lost: connection reset by peer")
        await channel.close()


@pytest.mark.parametrize(
    "headers",
    [
        b"Retry-After: 7\r\n",
        b"Date: Sun, 06 Nov 1994 08:49:30 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
    ],
)
async def test_retry_after_reaches_the_call(headers: bytes) -> None:
    ended = Ended()
    async with serving(always(response("503 Busy", b"", headers))) as port:
        channel = HttpChannel(http_target(port), ended)
        call = Call(0)
        channel.send(call, REQUEST)
        assert await ended.wait() == (Outcome.OVERLOAD, "HTTP 503")
        assert call.retry_after_ns == 7 * NS
        await channel.close()


async def test_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        port = taken.getsockname()[1]
        ended = Ended()
        channel = HttpChannel(http_target(port), ended)
        with pytest.raises(TransportError, match="connection refused") as caught:
            await channel.open()
        assert caught.value.outcome is Outcome.CONNECT_ERROR
        call = Call(0)
        channel.send(call, REQUEST)
        outcome, text = await ended.wait()
        assert (outcome, call.sent_ns, call.bytes_out) == (Outcome.CONNECT_ERROR, 0, 0)
        assert text == f"cannot connect to 127.0.0.1:{port}: connection refused"
        assert call.last_ns > 0


async def test_name_that_does_not_resolve() -> None:
    channel = HttpChannel(http_target(1, host="no-such-host.invalid"), Ended())
    with pytest.raises(TransportError, match=r"name 'no-such-host.invalid' does not resolve") as caught:
        await channel.open()
    assert caught.value.outcome is Outcome.CONNECT_ERROR


async def test_listener_sends_again_from_within() -> None:
    done = asyncio.Event()
    seen: list[int] = []

    def listener(call: Call) -> None:
        assert call.outcome is Outcome.OK
        seen.append(call.bytes_in)
        if len(seen) == 500:
            done.set()
        else:
            channel.send(call, REQUEST)

    async with serving(always(OK)) as port:
        channel = HttpChannel(http_target(port), listener)
        await channel.open()
        channel.send(Call(0), REQUEST)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await done.wait()
        await channel.close()
    assert seen == [len(OK)] * 500


@pytest.mark.parametrize("announced", [False, True])
async def test_server_that_closes_after_each_response(announced: bool) -> None:
    """Whether the close is announced or comes by itself while idle: no call sees it."""
    ended = Ended()
    text = response("200 OK", b"ab", b"Connection: close\r\n" if announced else b"")
    async with serving(always(text, close=True)) as port:
        channel = HttpChannel(http_target(port), ended)
        for count in range(1, 4):
            channel.send(Call(0), REQUEST)
            assert await ended.wait(count) == (Outcome.OK, "")
            while channel._connection.is_open:
                await asyncio.sleep(0.001)
        await channel.close()


async def test_farewell_of_a_server_to_an_idle_connection_is_no_response() -> None:
    """Proxies state 408 before they close an idle connection: the next call got no response by that."""

    async def script(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        writer.write(OK)
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(response("408 Request Time-out"))

    ended = Ended()
    async with serving(script) as port:
        channel = HttpChannel(http_target(port), ended)
        for count in (1, 2):
            channel.send(Call(0), REQUEST)
            assert await ended.wait(count) == (Outcome.OK, "")
            while channel._connection.is_open:
                await asyncio.sleep(0.001)
        call = Call(0)
        channel.send(call, REQUEST)
        channel.give_up(call, Outcome.TIMEOUT)
        assert call.bytes_in == 0
        await channel.close()


async def test_give_up_closes_the_connection_and_the_next_call_opens_another() -> None:
    ended = Ended()
    closed = asyncio.Event()
    connections = 0

    async def script(reader: Reader, writer: Writer) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)
        if connections == 1:
            assert await reader.read() == b""
            closed.set()
        else:
            writer.write(OK)
            await reader.read()

    async with serving(script) as port:
        channel = HttpChannel(http_target(port), ended)
        await channel.open()
        call = Call(0)
        channel.send(call, REQUEST)
        channel.give_up(call, Outcome.TIMEOUT)
        assert ended.calls == [(Outcome.TIMEOUT, "")]
        assert call.last_ns >= call.sent_ns > 0
        channel.give_up(call, Outcome.TIMEOUT)
        assert len(ended.calls) == 1
        async with asyncio.timeout(PATIENCE_SECONDS):
            await closed.wait()
        channel.send(call, REQUEST)
        assert await ended.wait(2) == (Outcome.OK, "")
        await channel.close()


async def test_give_up_and_close_while_opening() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        ended = Ended()
        channel = HttpChannel(http_target(silent.getsockname()[1], scheme="https"), ended)
        call = Call(0)
        channel.send(call, REQUEST)
        await asyncio.sleep(0)
        channel.give_up(call, Outcome.TIMEOUT)
        channel.send(call, REQUEST)
        await channel.close()
        assert ended.calls == [(Outcome.TIMEOUT, ""), (Outcome.CANCELLED, "")]
        assert call.sent_ns == 0


async def test_large_request_to_a_slow_reader_arrives_whole_and_is_not_copied() -> None:
    body = bytes(range(256)) * 65536  # 16 MiB
    received = bytearray()

    async def script(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        while len(received) < len(body):
            received.extend(await reader.read(1 << 20))
            await asyncio.sleep(0.002)
        writer.write(OK)
        await reader.read()

    ended = Ended()
    async with serving(script) as port:
        channel = HttpChannel(http_target(port), ended)
        await channel.open()
        head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
        call = Call(0)
        received.extend(bytes(len(body)))
        received.clear()
        tracemalloc.start()
        channel.send(call, EncodedRequest(head, body))
        assert call.send_done_ns == 0
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()
        assert await ended.wait() == (Outcome.OK, "")
        await channel.close()
    assert received == body
    assert call.sent_ns < call.send_done_ns <= call.first_ns <= call.last_ns
    assert call.bytes_out == len(head) + len(body)


@pytest.mark.parametrize("then_reset", [False, True])
async def test_response_that_comes_before_the_request_is_all_sent(then_reset: bool) -> None:
    """A server that refuses a large request and closes has responded, even if the rest of it runs into a reset."""

    async def script(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response("413 Too large", b"too large"))
        await writer.drain()
        if not then_reset:
            await asyncio.sleep(10)

    ended = Ended()
    async with serving(script) as port:
        channel = HttpChannel(http_target(port), ended)
        body = bytes(1 << 26)
        channel.send(Call(0), EncodedRequest(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body), body))
        assert await ended.wait() == (Outcome.CLIENT_ERROR, "HTTP 413: too large")
        assert not channel._connection.is_open
        await channel.close()


async def test_timeouts_in_mid_write_leave_nothing_behind() -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await asyncio.sleep(10)

    ended = Ended()
    async with serving(script) as port:
        channel = HttpChannel(http_target(port), ended)
        await channel.open()
        call = Call(0)
        channel.send(call, EncodedRequest(b"POST", bytes(1 << 26)))
        assert channel._connection._queue
        channel.give_up(call, Outcome.TIMEOUT)
        assert not channel._connection._queue
        assert call.send_done_ns == 0
        await channel.close()
    assert ended.calls == [(Outcome.TIMEOUT, "")]


async def test_ipv6() -> None:
    ended = Ended()
    try:
        async with serving(always(OK), host="::1") as port:
            channel = HttpChannel(http_target(port, host="::1"), ended)
            channel.send(Call(0), REQUEST)
            assert await ended.wait() == (Outcome.OK, "")
            await channel.close()
    except OSError:
        pytest.skip("no IPv6 here")


async def test_kept_body_is_there_inside_of_the_listener() -> None:
    bodies: list[bytes] = []
    done = asyncio.Event()

    def listener(call: Call) -> None:
        bodies.append(decoded_body(*channel.client.kept()))
        done.set()

    async with serving(always(OK)) as port:
        channel = HttpChannel(http_target(port), listener, keep_body=True)
        channel.send(Call(0), REQUEST)
        await done.wait()
        await channel.close()
    assert bodies == [b"ab"]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.OK),
        (204, Outcome.OK),
        (302, Outcome.CLIENT_ERROR),
        (400, Outcome.CLIENT_ERROR),
        (501, Outcome.SERVER_ERROR),
        (502, Outcome.SERVER_ERROR),
        (999, Outcome.PROTOCOL_ERROR),
    ],
)
def test_status_outcome(status: int, outcome: Outcome) -> None:
    assert status_outcome(status) is outcome


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("5", 5),
        ("0", 0),
        ("-1", 0),
        ("1.5", 0),
        ("²", 0),
        ("9" * 5000, 86_400),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0),
        ("Fri, 31 Dec 2099 23:59:59 GMT", 86_400),
        ("Fri, 31 Foo 2099 23:59:59 GMT", 0),
        ("Fri, 31 Dec 2099 23:59:59 GMT" + " " * 64, 0),
    ],
)
def test_retry_after(value: str | None, seconds: int) -> None:
    assert retry_after_ns(value) == seconds * NS


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:30 GMT", 7),
        ("Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 06 Nov 1994 08:48:37 GMT", 60),
        ("Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 07:49:37 GMT", 3600),
        ("Sat, 01 Jan 2000 00:00:09 GMT", "Friday, 31-Dec-99 23:59:59 GMT", 10),
        ("Sun, 06 Nov 1994 08:49:37 -0000", "Sun Nov  6 08:49:36 1994", 1),
        ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", 0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:38 GMT", 0),
        ("Wed, 09 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", 86_400),
        ("7", "Sun, 06 Nov 1994 08:49:37 GMT", 7),
        ("soon", "Sun, 06 Nov 1994 08:49:37 GMT", 0),
    ],
)
def test_retry_after_as_a_date_is_of_the_servers_clock(value: str, date: str, seconds: int) -> None:
    assert retry_after_ns(value, date) == seconds * NS


@pytest.mark.parametrize("date", [None, "", "yesterday"])
def test_without_a_date_our_clock_holds(date: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.transport.http_channel.time.time", lambda: 784_111_770.25)
    assert retry_after_ns("Sun, 06 Nov 1994 08:49:37 GMT", date) == 7 * NS, "6.75 s, rounded up"


DATE_PARTS = (
    "Fri,",
    "31",
    "Dec",
    "-Dec-",
    "2099",
    "99",
    "9999",
    "0",
    "23:59:59",
    "23.59",
    ":",
    "+0000",
    "-9999",
    "GMT",
)
ODD_TEXT = st.one_of(
    st.text(),
    st.lists(st.sampled_from(DATE_PARTS) | st.text(max_size=3), max_size=9).map(" ".join),
    st.integers().map(lambda offset: f"Fri, 31 Dec 2099 23:59:59 {offset:+}"),
    st.integers().map(lambda year: f"Fri, 31 Dec {year} 23:59:59 GMT"),
)


@given(ODD_TEXT, st.none() | ODD_TEXT)
@example("Fri, 31 Dec 2099 23:59:59 +999999999999", None)
@example("7", "Fri, 31 Dec 2099 23:+999999999999 59 GMT")
@example("Fri, 31 Dec 9999 23:59:59 -2359", "Mon, 01 Jan 0001 00:00:00 +2359")
def test_no_retry_after_raises(value: str, date: str | None) -> None:
    assert 0 <= retry_after_ns(value, date) <= 86_400 * NS


def test_error_text_is_one_short_printable_line() -> None:
    assert error_text(500, b"") == "HTTP 500"
    assert error_text(500, b"\r\n \r\n") == "HTTP 500"
    assert error_text(500, b"\xff\xfe") == "HTTP 500: \ufffd\ufffd"
    assert len(error_text(500, b"x" * (64 << 20))) == 300
    page = b"<html><head><title>502 Bad Gateway</title><style>a {\n}</style></head>\r\n<body>no <b>upstream</b> <"
    assert error_text(502, page) == "HTTP 502: 502 Bad Gateway no upstream"
    assert (
        error_text(302, b"moved", "http://x/\x1b[2J") == "HTTP 302: a redirect to http://x/ [2J, which is not followed"
    )


async def test_connect_timeout_of_a_silent_tls_server() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        target = http_target(silent.getsockname()[1], scheme="https", connect_timeout_ns=50_000_000)
        started_ns = time.monotonic_ns()
        with pytest.raises(TransportError, match=r"no TLS handshake with 127\.0\.0\.1:\d+ within 0\.05 s") as caught:
            await HttpChannel(target, Ended()).open()
        assert caught.value.outcome is Outcome.TIMEOUT
        assert time.monotonic_ns() - started_ns >= 50_000_000
