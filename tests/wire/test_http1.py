"""The HTTP/1.1 core against h11, against cuts at every byte, and against bytes that are no HTTP at all."""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Callable
from unittest import mock

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.errors import ProtocolError
from exporter.wire.codings import decompress
from exporter.wire.http1 import MAX_HEAD_BYTES, MAX_INTERIM_RESPONSES, Http1Client, decoded_body, request_head
from tests.wire.reused import reused

OK = b"HTTP/1.1 200 OK\r\n"


def gzipped(data: bytes) -> bytes:
    """The same at any time: it is in the names of tests, which all processes that run them know."""
    return gzip.compress(data, mtime=0)


GZIPPED = gzipped(b"hello" * 10)

COMPLETE = {
    "content-length": (OK + b"Content-Length: 2\r\n\r\nab", 200, b"ab", True),
    "empty": (OK + b"Content-Length: 0\r\n\r\n", 200, b"", True),
    "chunked": (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2;x=y\r\nbc\r\n0\r\n\r\n", 200, b"abc", True),
    "trailers": (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nTrailer: x\r\n\r\n", 200, b"a", True),
    "close": (OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nab", 200, b"ab", False),
    "http/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", 200, b"ab", False),
    "continue first": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\na", 200, b"a", True),
    "early hints": (b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" * 2 + OK + b"Content-Length: 1\r\n\r\na", 200, b"a", True),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, b"", True),
    "error": (b"HTTP/1.1 503 Busy\r\nRetry-After: 3\r\nContent-Length: 4\r\n\r\nbusy", 503, b"busy", True),
    "gzip": (
        OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(GZIPPED) + GZIPPED,
        200,
        b"hello" * 10,
        True,
    ),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\na", 200, b"a", True),
}

UNTIL_CLOSE = {
    "no framing": (OK + b"\r\nabc", b"abc"),
    "empty body": (OK + b"\r\n", b""),
    "transfer coding that is not chunked": (OK + b"Transfer-Encoding: x-y\r\n\r\nabc", b"abc"),
}

BROKEN = {
    "garbage": b"\x16\x03\x01 this is no HTTP\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "http2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "folded header": OK + b"A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunks": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "negative length": OK + b"Content-Length: -1\r\n\r\n",
    "huge length": OK + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "bad chunk size": OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "bytes after": OK + b"Content-Length: 2\r\n\r\nabc",
    "response after": (OK + b"Content-Length: 2\r\n\r\nab") * 2,
    "bytes after close": OK + b"Connection: close\r\nContent-Length: 0\r\n\r\nab",
    "switching protocols": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nzzz",
    "endless head": OK + b"A: " + b"x" * (MAX_HEAD_BYTES + 10),
    "long head": OK + b"A: " + b"x" * MAX_HEAD_BYTES + b"\r\nContent-Length: 0\r\n\r\n",
    "endless interim": b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_INTERIM_RESPONSES + 1),
}


Feeder = Callable[[Http1Client, list[bytes]], list[bool]]


def begun(*, keep_body: bool = True) -> Http1Client:
    client = Http1Client(keep_body=keep_body)
    client.begin()
    return client


def feed(client: Http1Client, pieces: list[bytes]) -> list[bool]:
    return [client.receive(piece) for piece in pieces]


def feed_reused(client: Http1Client, pieces: list[bytes]) -> list[bool]:
    return [reused(client.receive, piece) for piece in pieces]


@pytest.mark.parametrize(("data", "status", "body", "keep_alive"), COMPLETE.values(), ids=COMPLETE)
def test_response_is_the_same_whole_and_byte_by_byte(data: bytes, status: int, body: bytes, keep_alive: bool) -> None:
    whole, single = [data], [bytes([byte]) for byte in data]
    for pieces, how in itertools.product((whole, single), (feed, feed_reused)):
        client = begun()
        assert how(client, pieces) == [False] * (len(pieces) - 1) + [True]
        assert (client.status, decoded_body(*client.kept()), client.keep_alive) == (status, body, keep_alive)
        assert client.body_start(3) == body[:3]
        assert client.wire_bytes == len(data)


@pytest.mark.parametrize(("data", "status", "body", "keep_alive"), COMPLETE.values(), ids=COMPLETE)
def test_h11_agrees(data: bytes, status: int, body: bytes, keep_alive: bool) -> None:
    oracle = h11.Connection(h11.CLIENT)
    oracle.send(h11.Request(method="POST", target="/", headers=[("Host", "x"), ("Content-Length", "0")]))
    oracle.send(h11.EndOfMessage())
    oracle.receive_data(data)
    response, pieces = None, b""
    while not isinstance(event := oracle.next_event(), h11.EndOfMessage):
        assert event is not h11.NEED_DATA
        if isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            pieces += event.data
    assert response is not None
    assert response.status_code == status
    assert (oracle.their_state is h11.DONE) == keep_alive
    encoding = dict(response.headers).get(b"content-encoding", b"").decode()
    assert decompress(pieces, encoding, 1000) == body


@pytest.mark.parametrize(("data", "body"), UNTIL_CLOSE.values(), ids=UNTIL_CLOSE)
def test_response_that_ends_with_the_connection(data: bytes, body: bytes) -> None:
    client = begun()
    assert not any(client.receive(bytes([byte])) for byte in data)
    assert client.receive_eof()
    assert (client.status, decoded_body(*client.kept()), client.keep_alive) == (200, body, False)


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_broken_response_is_a_protocol_error_however_it_is_cut(data: bytes) -> None:
    for pieces in ([data], [data[at : at + 1] for at in range(len(data))]):
        if len(data) > 10_000 and len(pieces) > 1:
            pieces = [data[at : at + 1000] for at in range(0, len(data), 1000)]
        client = begun()
        with pytest.raises(ProtocolError):
            feed(client, pieces)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"HTTP/1.1 2", "head"),
        (OK + b"Content-Length: 2\r\n\r\na", "body"),
        (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n1\r\na\r\n", "body"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "head"),
    ],
)
def test_cut_off_response(data: bytes, text: str) -> None:
    client = begun()
    client.receive(data)
    with pytest.raises(ProtocolError, match=f"in the middle of the response's {text}"):
        client.receive_eof()


def test_close_between_responses_is_none() -> None:
    client = Http1Client()
    assert not client.receive_eof()
    client.begin()
    assert not client.receive_eof()
    assert client.receive(OK + b"Content-Length: 0\r\n\r\n")
    assert not client.receive_eof()


def test_many_responses_on_one_connection_leave_no_trace_of_each_other() -> None:
    client = Http1Client(keep_body=True)
    for number in range(50):
        client.begin()
        body = b"x" * number
        assert client.receive(OK + b"N: %d\r\nContent-Length: %d\r\n\r\n" % (number, number) + body)
        assert (decoded_body(*client.kept()), client.header("n")) == (body, str(number))


def test_bytes_without_a_request_are_an_error_and_empty_lines_are_not() -> None:
    client = Http1Client()
    assert not client.receive(b"\r\n")
    with pytest.raises(ProtocolError, match="bytes without a request"):
        client.receive(OK)


def test_reset_makes_it_fit_for_a_new_connection() -> None:
    client = begun()
    with pytest.raises(ProtocolError):
        client.receive(b"garbage")
    client.reset()
    client.begin()
    assert client.receive(OK + b"Content-Length: 1\r\n\r\na")
    assert decoded_body(*client.kept()) == b"a"


@pytest.mark.parametrize(
    ("name", "value"),
    [("retry-after", "3"), ("set-cookie", "a=1, b=2"), ("absent", None), ("link", None), ("empty", "")],
)
def test_header(name: str, value: str | None) -> None:
    client = begun(keep_body=False)
    client.receive(
        b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
        b"HTTP/1.1 429 Slow\r\nRetry-After:  3 \r\nSet-Cookie: a=1\r\nSET-COOKIE: b=2\r\nEmpty:\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    assert client.header(name) == value


def test_large_unrequested_body_is_counted_and_not_kept() -> None:
    client = begun(keep_body=False)
    head = OK + b"Content-Length: 10000000\r\n\r\n"
    client.receive(head)
    for _piece in range(99):
        assert not client.receive(bytes(100_000))
    assert client.receive(bytes(100_000))
    assert client.wire_bytes == len(head) + 10_000_000
    assert len(client._raw) < 20_000


@pytest.mark.parametrize("head_bytes", [100, 16 * 1024 - 1, 16 * 1024, 20_000, MAX_HEAD_BYTES])
@pytest.mark.parametrize("cut", [1000, 16 * 1024, 40_000, 1 << 20])
def test_the_same_beginning_is_kept_however_it_is_cut(head_bytes: int, cut: int) -> None:
    start, end = OK + b"A: ", b"\r\nContent-Length: 100000\r\n\r\n"
    head = start + b"x" * (head_bytes - len(start) - len(end)) + end
    data = head + bytes(range(250)) * 400
    client = begun(keep_body=False)
    assert feed_reused(client, [data[at : at + cut] for at in range(0, len(data), cut)])[-1]
    assert client._raw == data[: len(head) + 16 * 1024]
    assert client.body_start(4096) == data[len(head) :][:4096]


def test_response_beyond_the_limit() -> None:
    client = Http1Client(max_bytes=1000)
    client.begin()
    with pytest.raises(ProtocolError, match="more than 1000 bytes"):
        client.receive(OK + b"\r\n" + bytes(1001))


@pytest.mark.parametrize(
    ("encoding", "data", "body"),
    [
        ("", b"abc", b"abc"),
        ("identity", b"abc", b"abc"),
        ("gzip", gzipped(b"abc"), b"abc"),
        ("x-gzip", gzipped(b"abc") + gzipped(b"def"), b"abcdef"),
        ("deflate", zlib.compress(b"abc"), b"abc"),
        ("deflate", zlib.compress(b"abc")[2:-4], b"abc"),
        ("deflate, gzip", gzipped(zlib.compress(b"abc")), b"abc"),
        ("gzip", b"", b""),
    ],
)
def test_decompress(encoding: str, data: bytes, body: bytes) -> None:
    assert decompress(data, encoding, 1000) == body


@pytest.mark.parametrize(
    ("encoding", "data", "text"),
    [
        ("gzip", gzipped(bytes(100_000)), "more than 1000 bytes"),
        ("gzip", gzipped(b"abc" * 100)[:-9], "is incomplete"),
        ("gzip", b"abc", "is invalid"),
        ("br", b"abc", "content-encoding 'br' was not requested"),
    ],
)
def test_decompress_errors(encoding: str, data: bytes, text: str) -> None:
    with pytest.raises(ProtocolError, match=text):
        decompress(data, encoding, 1000)


def test_the_start_of_a_bomb_can_be_looked_at() -> None:
    client = begun(keep_body=False)
    bomb = gzip.compress(b"No!" * 1_000_000)
    client.receive(b"HTTP/1.1 500 x\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb)
    assert client.body_start(6) == b"No!No!"


def test_request_head() -> None:
    head = request_head("POST", "/v2", "[::1]:8000", [("A", "b")], 3)
    assert head == b"POST /v2 HTTP/1.1\r\nHost: [::1]:8000\r\nA: b\r\nContent-Length: 3\r\n\r\n"


@pytest.mark.parametrize("headers", [[("A", "b\r\nC: d")], [("A\n", "b")], [("A", "\0")]])
def test_request_head_refuses_line_ends(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(ValueError, match="line end"):
        request_head("GET", "/", "x", headers, 0)


# --- any bytes at all ------------------------------------------------------------------------------------------------

FRAGMENTS = st.sampled_from(
    [
        OK,
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.0 500 \r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: 0\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Content-Encoding: gzip\r\n",
        b"X: y\r\n",
        b"\r\n",
        b"\n",
        b"abc",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        GZIPPED,
    ]
)
STREAMS = st.lists(st.one_of(FRAGMENTS, st.binary(max_size=30)), max_size=12).map(b"".join)


def observe(pieces: list[bytes], how: Feeder = feed) -> tuple[object, ...]:
    """What the core makes of these bytes and a close after them."""
    client = begun()
    try:
        complete = how(client, [piece for piece in pieces if piece])
        if any(complete) or client.receive_eof():
            client.body_start(100)
            client.header("content-encoding")
            try:
                body: object = decoded_body(*client.kept())
            except ProtocolError:
                body = "broken"
            return client.status, client.keep_alive, body
    except ProtocolError:
        return ("error",)
    return ("nothing",)


@given(STREAMS, st.lists(st.integers(0, 400), max_size=8))
def test_any_bytes_give_a_response_or_a_protocol_error_however_cut(data: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
    assert observe(pieces) == observe([data])
    assert observe([bytes([byte]) for byte in data]) == observe([data])
    assert observe(pieces, feed_reused) == observe([data], feed_reused) == observe([data])


@given(
    status=st.sampled_from([200, 400, 429, 503, 599]),
    chunks=st.lists(st.binary(min_size=1, max_size=50), max_size=5),
    framing=st.sampled_from(["length", "chunked", "close"]),
    cut=st.integers(1, 60),
)
def test_responses_made_by_h11_are_read(status: int, chunks: list[bytes], framing: str, cut: int) -> None:
    body = b"".join(chunks)
    headers = {"length": [("Content-Length", str(len(body)))], "chunked": [("Transfer-Encoding", "chunked")]}
    server = h11.Connection(h11.SERVER)
    server.receive_data(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    server.next_event()
    server.next_event()
    events = [
        h11.Response(status_code=status, headers=headers.get(framing, [("Connection", "close")])),
        *(h11.Data(data=chunk) for chunk in chunks),
        h11.EndOfMessage(),
    ]
    data = b"".join(server.send(event) or b"" for event in events)
    if framing == "close":
        data = b"HTTP/1.1 %d x\r\nConnection: close\r\n\r\n" % status + body
    client = begun()
    complete = [client.receive(data[at : at + cut]) for at in range(0, len(data), cut)]
    assert complete[-1] or client.receive_eof()
    assert (client.status, decoded_body(*client.kept())) == (status, body)


# --- heads that are remembered ---------------------------------------------------------------------------------------


def exchange(client: Http1Client, pieces: list[bytes]) -> list[object]:
    """One request and all that can be seen of its response; the client is fit for the next one then."""
    client.begin()
    try:
        complete = [client.receive(piece) for piece in pieces]
        seen: list[object] = [complete, client.wire_bytes, client._raw]
        if any(complete):
            seen += [
                client.status,
                client.keep_alive,
                client.header("x"),
                client.body_start(100),
                decoded_body(*client.kept()),
            ]
        if not any(complete) or not client.keep_alive:
            client.reset()
    except ProtocolError as error:
        client.reset()
        return [str(error)]
    return seen


def parses(client: Http1Client, data: bytes) -> bool:
    """Whether the parser is asked about this response."""
    with mock.patch.object(client, "_feed", wraps=client._feed) as feed:
        exchange(client, [data])
    return feed.called


@pytest.mark.parametrize(
    ("first", "second", "parsed"),
    [
        (OK + b"Content-Length: 2\r\n\r\nab", OK + b"Content-Length: 2\r\n\r\ncd", False),
        (OK + b"content-LENGTH: 0\r\nX: y\r\n\r\n", OK + b"content-LENGTH: 0\r\nX: y\r\n\r\n", False),
        (OK + b"Content-Length: 2\r\n\r\nab", OK + b"Content-Length: 2\r\n\r\nabc", True),
        (OK + b"Content-Length: 2\r\n\r\nab", OK + b"Content-Length: 2\r\n\r\na", True),
        (OK + b"Content-Length: 2\r\n\r\nab", b"HTTP/1.1 429 x\r\nContent-Length: 3\r\n\r\nab", True),
        (OK + b"Content-Length: 2\r\n\r\nab\r\n", OK + b"Content-Length: 2\r\n\r\nabHT", True),
        (OK + b"Content-Length:2\r\n\r\nab", OK + b"Content-Length:2\r\n\r\nab", True),
        (COMPLETE["chunked"][0], COMPLETE["chunked"][0], True),
        (COMPLETE["close"][0], COMPLETE["close"][0], True),
        (COMPLETE["error"][0], COMPLETE["error"][0], True),
        (COMPLETE["continue first"][0], COMPLETE["continue first"][0], True),
    ],
)
def test_which_responses_are_known_by_their_head(first: bytes, second: bytes, parsed: bool) -> None:
    client = Http1Client(keep_body=True)
    assert parses(client, first)
    assert parses(client, second) == parsed


def test_heads_that_all_differ_are_not_looked_at_for_ever() -> None:
    client = Http1Client(keep_body=True)
    for number in range(1000):
        exchange(client, [OK + b"X: %d\r\nContent-Length: %d\r\n\r\n" % (number, number) + bytes(number)])
    assert len(client._heads) == 64
    assert not parses(client, OK + b"X: 3\r\nContent-Length: 3\r\n\r\nabc")


RESPONSES = st.one_of(
    st.sampled_from([data for data, *_ in COMPLETE.values()]),
    st.builds(
        lambda head, body, after: OK + head + b"Content-Length: 3\r\n\r\n" + body + after,
        st.sampled_from([b"", b"X: y\r\n", b"Connection: close\r\n", b"Content-Encoding: x\r\n"]),
        st.sampled_from([b"abc", b"\r\n\r", b"HTT", b"ab", b""]),
        st.sampled_from([b"", b"", b"", b"\r", b"\r\n", b"abcd", b"H"]),
    ),
    STREAMS.filter(bool),
)


@given(st.lists(st.tuples(RESPONSES, st.one_of(st.just(0), st.integers(0, 60))), max_size=12))
def test_remembered_heads_change_nothing(responses: list[tuple[bytes, int]]) -> None:
    client, forgetful = Http1Client(keep_body=True), Http1Client(keep_body=True)
    for data, cut in responses:
        pieces = [piece for piece in (data[:cut], data[cut:]) if piece]
        forgetful._heads_left = 0
        assert exchange(client, pieces) == exchange(forgetful, pieces)
        assert not forgetful._heads
