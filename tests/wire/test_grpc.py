"""gRPC on a stream: header block, messages, statuses, from bytes made by hand."""

from __future__ import annotations

import gzip
import re
import zlib

import pytest
from hpack import Decoder
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.errors import ProtocolError
from exporter.wire.grpc import OK, Code, Rpc, Status, encode_timeout, request_block
from exporter.wire.grpc_messages import frame_message
from exporter.wire.hpack_blocks import encode_block
from exporter.wire.http2 import Abort, Http2Connection
from exporter.wire.http2_frames import DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, frame
from tests.wire.http2_peers import READY, frames, output
from tests.wire.reused import reused

SECOND = 10**9
GRPC = {":status": "200", "content-type": "application/grpc"}


class SmallRpc(Rpc):
    max_message_bytes = 1000


class CountingRpc(Rpc):
    keep = False


def call(kind: type[Rpc] = Rpc) -> tuple[Http2Connection[Rpc], Rpc]:
    core: Http2Connection[Rpc] = Http2Connection()
    core.receive(READY)
    rpc = kind()
    core.start(rpc, encode_block([(":method", "POST")]), frame_message(b"question"))
    output(core)
    return core, rpc


def headers(fields: dict[str, str], *, end: bool = False) -> bytes:
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), 1, encode_block(fields.items()))


def response(content: bytes, trailers: dict[str, str], head: dict[str, str] = GRPC) -> bytes:
    return headers(head) + frame(DATA, 0, 1, content) + headers(trailers, end=True)


def run(wire: bytes, kind: type[Rpc] = Rpc, cut: int = 1 << 30) -> Rpc:
    core, rpc = call(kind)
    for start in range(0, len(wire), cut):
        reused(core.receive, wire[start : start + cut])
    return rpc


# --- the request -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeout_ns", "text"),
    [
        (-5, "1n"),
        (0, "1n"),
        (1, "1n"),
        (99_999_999, "99999999n"),
        (100_000_000, "100000u"),
        (100_000_001, "100001u"),
        (10 * SECOND, "10000000u"),
        (100 * SECOND, "100000m"),
        (100 * SECOND + 1, "100001m"),
        (99_999_999 * SECOND, "99999999S"),
        (100_000_000 * SECOND, "1666667M"),
        (99_999_999 * 3600 * SECOND, "99999999H"),
        (10**30, "99999999H"),
    ],
)
def test_timeout(timeout_ns: int, text: str) -> None:
    assert encode_timeout(timeout_ns) == text


UNITS = {"n": 1, "u": 10**3, "m": 10**6, "S": SECOND, "M": 60 * SECOND, "H": 3600 * SECOND}


@given(st.integers(1, 10**23))
def test_timeout_is_rounded_up_by_little(timeout_ns: int) -> None:
    text = encode_timeout(timeout_ns)
    sent_ns = int(text[:-1]) * UNITS[text[-1]]
    assert len(text) <= 9
    if text != "99999999H":
        assert (
            timeout_ns <= sent_ns <= timeout_ns * 1.00004 + 1 or sent_ns - timeout_ns < 60 * SECOND < timeout_ns / 1e4
        )


def test_request_block() -> None:
    block = request_block(
        scheme="https",
        authority="h:1",
        path="/s/M",
        user_agent="canary/1",
        timeout_ns=2 * SECOND,
        encoding="gzip",
        metadata=[("Authorization", "Bearer ü"), ("X-A", "b")],
    )
    assert [(name, value) for name, value in Decoder().decode(block, raw=True)] == [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":path", b"/s/M"),
        (b":authority", b"h:1"),
        (b"grpc-timeout", b"2000000u"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"user-agent", b"canary/1"),
        (b"grpc-encoding", b"gzip"),
        (b"grpc-accept-encoding", b"identity, deflate, gzip"),
        (b"authorization", "Bearer ü".encode("latin-1")),
        (b"x-a", b"b"),
    ]


def test_binary_metadata_travel_as_base64() -> None:
    block = request_block(scheme="http", authority="a", path="/p", user_agent="u", metadata=[("X-Bin", "abc\xff")])
    assert (b"x-bin", b"YWJj/w") in list(Decoder().decode(block, raw=True))


def test_request_block_leaves_the_peers_table_alone() -> None:
    decoder = Decoder()
    decoder.decode(request_block(scheme="http", authority="h:1", path="/s/M", user_agent="u", metadata=[("a", "b")]))
    assert len(decoder.header_table.dynamic_entries) == 0


# --- messages --------------------------------------------------------------------------------------------------------

CONTENTS = [b"", b"a", b"bc" * 300, b"last"]
STREAM = b"".join(map(frame_message, CONTENTS))


@pytest.mark.parametrize("cut", [1, 2, 4, 5, 6, 17, 1 << 30])
def test_messages_over_any_frame_cut(cut: int) -> None:
    data = b"".join(frame(DATA, 0, 1, STREAM[start : start + cut]) for start in range(0, len(STREAM), cut))
    rpc = run(headers(GRPC) + data + headers({"grpc-status": "0"}, end=True))
    assert rpc.take_messages() == CONTENTS
    assert rpc.take_messages() == []
    assert (rpc.status, rpc.message_count, rpc.size) == (OK, 4, len(STREAM))


@pytest.mark.parametrize("cut", [1, 3, 9, 50])
@pytest.mark.parametrize("kind", [Rpc, CountingRpc])
def test_messages_over_any_cut_of_bytes(kind: type[Rpc], cut: int) -> None:
    rpc = run(response(STREAM, {"grpc-status": "0"}), kind, cut)
    assert (rpc.status, rpc.message_count, rpc.size) == (OK, 4, len(STREAM))
    assert rpc.take_messages() == (CONTENTS if kind.keep else [])


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("kind", [Rpc, CountingRpc])
def test_compressed_responses(encoding: str, kind: type[Rpc]) -> None:
    mixed = frame_message(b"m" * 500, encoding) + frame_message(b"plain") + frame_message(b"", encoding)
    rpc = run(response(mixed, {"grpc-status": "0"}, {**GRPC, "grpc-encoding": encoding}), kind, 7)
    assert (rpc.status, rpc.message_count) == (OK, 3)
    assert rpc.take_messages() == ([b"m" * 500, b"plain", b""] if kind.keep else [])


def test_compression_is_the_formats_that_servers_know() -> None:
    assert gzip.decompress(frame_message(b"abc", "gzip")[5:]) == b"abc"
    assert zlib.decompress(frame_message(b"abc", "deflate")[5:]) == b"abc"
    assert frame_message(b"abc", "gzip")[0] == 1
    assert frame_message(b"abc") == b"\0\0\0\0\3abc"


GZIP = {**GRPC, "grpc-encoding": "gzip"}


@pytest.mark.parametrize(
    ("content", "head", "text"),
    [
        (b"\x02\0\0\0\1x", GRPC, "not a gRPC message: its compression flag is 2"),
        (b"\x01\0\0\0\1x", GRPC, "a compressed message, but grpc-encoding is 'identity'"),
        (b"\x01\0\0\0\1x", {**GRPC, "grpc-encoding": "snappy"}, "a compressed message, but grpc-encoding is 'snappy'"),
        (b"\x01\0\0\0\4junk", GZIP, "the gzip message is invalid: .*"),
        (b"\x01\0\0\0\0", GZIP, "the gzip message is cut off, or followed by other bytes"),
        (frame_message(b"abc", "gzip")[:-1], GZIP, "the response ended within a message"),
        (b"\x01\0\0\0\x20" + frame_message(b"", "gzip")[5:] + b"x" * 12, GZIP, "the gzip message is cut off, or .*"),
        (frame_message(b"x" * 1001), GRPC, "a message of 1001 bytes, at most 1000 are taken.*"),
        (b"\0\xff\xff\xff\xff", GRPC, "a message of 4294967295 bytes, at most 1000 are taken.*"),
        (frame_message(bytes(1001), "gzip"), GZIP, "a message that unpacks to more than 1000 bytes.*"),
        (frame_message(bytes(600), "gzip") * 2, GZIP, "a message that unpacks to more than 1000 bytes.*"),
        (b"\0\0\0", GRPC, "the response ended within a message"),
        (b"\0\0\0\0\2x", GRPC, "the response ended within a message"),
    ],
)
def test_broken_messages(content: bytes, head: dict[str, str], text: str) -> None:
    rpc = run(response(content, {"grpc-status": "0"}, head), SmallRpc)
    assert rpc.status is not None
    assert (rpc.status.code, rpc.status.abort) == (Code.INTERNAL, Abort.BROKEN)
    assert re.fullmatch(text, rpc.status.message)


def test_a_broken_message_resets_the_stream() -> None:
    core, rpc = call()
    core.receive(headers(GRPC) + frame(DATA, 0, 1, b"\x02\0\0\0\1x"))
    assert frames(output(core)) == [(RST_STREAM, 0, 1, (8).to_bytes(4, "big"))]
    assert core.take_news() == {rpc: None}


def test_large_message_is_kept_only_as_far_as_it_came() -> None:
    core, rpc = call()
    core.receive(headers(GRPC) + frame(DATA, 0, 1, b"\0\x07\xff\xff\xff" + b"x" * 100))
    assert rpc._reader is not None
    assert len(rpc._reader._content) == 100


# --- statuses --------------------------------------------------------------------------------------------------------

HTML = {":status": "502", "content-type": "text/html"}


@pytest.mark.parametrize(
    ("trailers", "status"),
    [
        ({"grpc-status": "0"}, OK),
        ({"grpc-status": "0", "grpc-message": "ignored"}, OK),
        ({"grpc-status": "14", "grpc-message": "no%20model%3A %C3%BC%"}, Status(Code.UNAVAILABLE, "no model: ü%")),
        ({"grpc-status": "3", "grpc-message": "raw ü"}, Status(Code.INVALID_ARGUMENT, "raw \ufffd")),
        (
            {"grpc-status": "8", "grpc-retry-pushback-ms": "250"},
            Status(Code.RESOURCE_EXHAUSTED, pushback_ns=250_000_000),
        ),
        ({"grpc-status": "8", "grpc-retry-pushback-ms": "-1"}, Status(Code.RESOURCE_EXHAUSTED)),
        ({"grpc-status": "8", "grpc-retry-pushback-ms": "9" * 40}, Status(Code.RESOURCE_EXHAUSTED)),
        ({"grpc-status": "16"}, Status(Code.UNAUTHENTICATED)),
        ({"grpc-status": "17", "grpc-message": "new"}, Status(Code.UNKNOWN, "grpc-status 17: new")),
        ({"grpc-status": "-1"}, Status(Code.UNKNOWN, "grpc-status -1: ")),
        ({"grpc-status": "9" * 5000}, Status(Code.UNKNOWN, f"grpc-status {'9' * 20}: ")),
        ({"grpc-status": ""}, Status(Code.UNKNOWN, "grpc-status : ")),
        ({"x": "y"}, Status(Code.INTERNAL, "a response without grpc-status", abort=Abort.BROKEN)),
    ],
)
def test_status_in_trailers(trailers: dict[str, str], status: Status) -> None:
    rpc = run(response(frame_message(b"a"), trailers))
    assert rpc.status == status
    assert rpc.take_messages() == [b"a"]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ({**GRPC, "grpc-status": "12", "grpc-message": "no"}, Status(Code.UNIMPLEMENTED, "no")),
        ({**GRPC, "grpc-status": "0"}, OK),
        ({":status": "200", "grpc-status": "5"}, Status(Code.NOT_FOUND)),
        (GRPC, Status(Code.INTERNAL, "a response without grpc-status", abort=Abort.BROKEN)),
        ({":status": "503"}, Status(Code.UNAVAILABLE, "HTTP status 503 with content-type none: not gRPC")),
    ],
)
def test_trailers_only(head: dict[str, str], status: Status) -> None:
    rpc = run(headers(head, end=True))
    assert rpc.status == status
    assert rpc.started


@pytest.mark.parametrize(
    ("http", "code"),
    [
        ("400", Code.INTERNAL),
        ("401", Code.UNAUTHENTICATED),
        ("403", Code.PERMISSION_DENIED),
        ("404", Code.UNIMPLEMENTED),
        ("418", Code.UNKNOWN),
        ("429", Code.UNAVAILABLE),
        ("500", Code.UNKNOWN),
        ("502", Code.UNAVAILABLE),
        ("503", Code.UNAVAILABLE),
        ("504", Code.UNAVAILABLE),
    ],
)
def test_response_that_is_not_grpc(http: str, code: Code) -> None:
    rpc = run(headers({":status": http, "content-type": "text/html"}) + frame(DATA, END_STREAM, 1, b"<html>x" * 99))
    assert rpc.status == Status(code, f"HTTP status {http} with content-type text/html: not gRPC")
    assert rpc.message_count == 0


def test_success_that_is_not_grpc() -> None:
    rpc = run(headers({":status": "200", "content-type": "text/html"}) + frame(DATA, END_STREAM, 1, b"<html>"))
    text = "HTTP status 200 with content-type text/html: not gRPC"
    assert rpc.status == Status(Code.INTERNAL, text, abort=Abort.BROKEN)


def test_informational_responses_are_passed_over() -> None:
    rpc = run(
        headers({":status": "103"}) + headers({":status": "100"}) + response(frame_message(b"a"), {"grpc-status": "0"})
    )
    assert (rpc.status, rpc.message_count) == (OK, 1)


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        (headers({"content-type": "application/grpc"}), "a response without a :status"),
        (headers({":status": "2x0"}), "a response without a :status"),
        (headers({":status": "2000"}), "a response without a :status"),
        (headers({":status": "100"}, end=True), "an informational response that ends the stream"),
        (headers(GRPC) + headers({"grpc-status": "0"}), "trailers that do not end the stream"),
        (frame(DATA, 0, 1, b"x"), "DATA before HEADERS"),
    ],
)
def test_responses_out_of_order(wire: bytes, text: str) -> None:
    assert run(wire).status == Status(Code.INTERNAL, text, abort=Abort.BROKEN)


def test_end_without_a_response() -> None:
    assert run(frame(DATA, END_STREAM, 1)).status == Status(Code.INTERNAL, "no response", abort=Abort.BROKEN)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (7, Status(Code.UNAVAILABLE, "RST_STREAM REFUSED_STREAM", abort=Abort.REFUSED)),
        (8, Status(Code.INTERNAL, "RST_STREAM CANCEL", abort=Abort.RESET)),
    ],
)
def test_reset(code: int, status: Status) -> None:
    assert run(headers(GRPC) + frame(RST_STREAM, 0, 1, code.to_bytes(4, "big"))).status == status


PIECES = st.one_of(
    st.builds(
        headers, st.sampled_from([GRPC, GZIP, HTML, {":status": "100"}, {"grpc-status": "0"}]), end=st.booleans()
    ),
    st.builds(lambda data, end: frame(DATA, int(end), 1, data), st.binary(max_size=20), st.booleans()),
    st.sampled_from([frame(DATA, 0, 1, frame_message(b"abc", "gzip")), frame(DATA, 0, 1, frame_message(b"x" * 30))]),
)


@given(st.lists(PIECES, max_size=8), st.integers(1, 40), st.sampled_from([Rpc, SmallRpc, CountingRpc]))
def test_any_response_ends_at_most_once_and_cleanly(pieces: list[bytes], cut: int, kind: type[Rpc]) -> None:
    core, rpc = call(kind)
    wire = b"".join(pieces)
    try:
        for start in range(0, len(wire), cut):
            reused(core.receive, wire[start : start + cut])
            rpc.take_messages()
    except ProtocolError:
        assert core.retired
    assert (rpc.status is None) == (rpc in core.open_streams)
