"""The HTTP/2 core against h2's server, joined in memory: two readings of the same RFC must agree."""

from __future__ import annotations

import random
from collections.abc import Callable

import h2.events as h2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.core.errors import ProtocolError
from exporter.wire.http2 import Abort
from exporter.wire.http2_frames import FRAME_HEADER, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE
from tests.wire.http2_peers import REQUEST, REQUEST_FIELDS, Core, H2Server, output, ready_core, started
from tests.wire.reused import reused

HEADERS = [(b":status", b"200"), (b"content-type", b"application/grpc")]
TRAILERS = [(b"grpc-status", b"0")]


def body_of(events: list[h2.Event], stream_id: int) -> bytes:
    return b"".join(e.data for e in events if isinstance(e, h2.DataReceived) and e.stream_id == stream_id)


def serve(server: H2Server, events: list[h2.Event]) -> list[h2.Event]:
    """Takes in all bodies, giving their windows back, and echoes each when it has ended."""
    seen = list(events)
    pending = list(events)
    while pending:
        for event in pending:
            if isinstance(event, h2.DataReceived):
                server.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        pending = server.exchange()
        seen += pending
    for event in seen:
        if isinstance(event, h2.StreamEnded):
            echo(server, event.stream_id, body_of(seen, event.stream_id))
    return seen


def echo(server: H2Server, stream_id: int, body: bytes) -> None:
    server.h2.send_headers(stream_id, HEADERS)
    for start in range(0, len(body), 16_384):
        server.h2.send_data(stream_id, body[start : start + 16_384], pad_length=start % 7 or None)
    server.h2.send_headers(stream_id, TRAILERS, end_stream=True)


def test_request_as_h2_reads_it() -> None:
    core = Core()
    server = H2Server(core)
    server.exchange()
    started(core, b"hello")
    started(core, b"again")
    events = server.exchange()
    requests = [e for e in events if isinstance(e, h2.RequestReceived)]
    fields = [(name.encode(), value.encode()) for name, value in REQUEST_FIELDS]
    assert [list(e.headers or []) for e in requests] == [fields, fields]
    assert (body_of(events, 1), body_of(events, 3)) == (b"hello", b"again")


@pytest.mark.parametrize("cut", [1, 13, 1000, 1 << 20])
@pytest.mark.parametrize(
    "peer", [{}, {INITIAL_WINDOW_SIZE: 1}, {INITIAL_WINDOW_SIZE: 777}, {MAX_FRAME_SIZE: 100_000}], ids=str
)
def test_bodies_both_ways_under_any_window(peer: dict[int, int], cut: int) -> None:
    large = b"z" * (9000 if INITIAL_WINDOW_SIZE in peer else 200_000)
    bodies = [b"", b"x", random.Random(1).randbytes(3000), large]
    if peer.get(INITIAL_WINDOW_SIZE) == 1:
        bodies = [b"", b"x", b"yz" * 40]
    core = Core()
    server = H2Server(core, peer)
    server.exchange()
    streams = [started(core, body) for body in bodies]
    serve(server, server.exchange())
    server.exchange(cut=cut)
    head, tail = ("headers", tuple(HEADERS), False), ("headers", tuple(TRAILERS), True)
    for stream, body in zip(streams, bodies, strict=True):
        assert stream.reported == [head, *([("data", body)] if body else []), tail, ("end",)]
    assert core.open_streams == []


def test_no_setting_ends_with_a_blocked_stream() -> None:
    core = Core()
    server = H2Server(core, {INITIAL_WINDOW_SIZE: 50})
    server.exchange()
    started(core, b"x" * 100)
    assert body_of(server.exchange(), 1) == b"x" * 50
    server.h2.update_settings({INITIAL_WINDOW_SIZE: 10})
    assert body_of(server.exchange(), 1) == b""
    server.h2.update_settings({INITIAL_WINDOW_SIZE: 200})
    assert body_of(server.exchange(), 1) == b"x" * 50


def test_many_messages_both_ways_on_one_stream() -> None:
    core = Core()
    server = H2Server(core)
    server.exchange()
    stream = started(core, b"0", ends=False)
    server.exchange()
    server.h2.send_headers(1, HEADERS)
    for number in range(1, 5):
        core.send(stream, str(number).encode())
        assert body_of(server.exchange(), 1) == str(number).encode()
        server.h2.send_data(1, b"<%d>" % number)
        server.exchange()
    core.send(stream, b"", ends=True)
    assert any(isinstance(e, h2.StreamEnded) for e in server.exchange())
    server.h2.send_headers(1, TRAILERS, end_stream=True)
    server.exchange()
    assert stream.reported[1:] == [("data", b"<1><2><3><4>"), ("headers", tuple(TRAILERS), True), ("end",)]


def test_resets_goaway_and_ping_as_h2_makes_and_reads_them() -> None:
    core = Core()
    server = H2Server(core)
    server.exchange()
    ours, theirs, refused = started(core), started(core), started(core, b"", ends=False)
    server.exchange()
    core.reset(ours)
    assert [(e.stream_id, e.error_code) for e in server.exchange() if isinstance(e, h2.StreamReset)] == [(1, 8)]
    server.h2.reset_stream(3, 11)
    server.h2.ping(b"12345678")
    assert [e.ping_data for e in server.exchange() if isinstance(e, h2.PingAckReceived)] == [b"12345678"]
    server.h2.close_connection(0, b"bye", last_stream_id=3)
    server.exchange()
    assert ours.reported == []
    assert theirs.reported == [(Abort.RESET, 11, "RST_STREAM ENHANCE_YOUR_CALM")]
    assert refused.reported == [(Abort.GOAWAY, 0, "GOAWAY NO_ERROR: bye")]


def test_goaway_of_ours_as_h2_reads_it() -> None:
    core = Core()
    server = H2Server(core)
    server.exchange()
    with pytest.raises(ProtocolError):
        core.receive(FRAME_HEADER.pack(7 << 8 | 6, 0, 0) + bytes(7))
    assert [e.error_code for e in server.exchange() if isinstance(e, h2.ConnectionTerminated)] == [6]


# --- any bytes -------------------------------------------------------------------------------------------------------

FRAMES = st.builds(
    lambda kind, flags, stream, payload: FRAME_HEADER.pack(len(payload) << 8 | kind, flags, stream) + payload,
    st.integers(0, 10),
    st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x2D, 0xFF]),
    st.sampled_from([0, 0, 1, 1, 3, 3, 5, 2, 1 << 31, (1 << 32) - 1]),
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([b"\x88", b"\x20\x88", b"\x40\x01a\x01b", bytes(4), bytes(8), b"\x7f\xff\xff\xff", REQUEST]),
    ),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(FRAMES | st.binary(max_size=30), max_size=30), st.integers(1, 200), st.booleans())
def test_any_frames_give_events_or_a_protocol_error(pieces: list[bytes], cut: int, opened: bool) -> None:
    core = ready_core() if opened else Core()
    streams = [started(core, b"x" * size, ends=bool(size)) for size in (5, 0, 100_000)]
    wire = b"".join(pieces)
    failed = False
    for start in range(0, len(wire), cut):
        try:
            reused(core.receive, wire[start : start + cut])
        except ProtocolError:
            failed = True
            break
        output(core, 50_000)
    assert failed == (failed and core.retired)
    assert len(core._held) <= (1 << 20) + 9
    for stream in streams:
        ends = [reported for reported in stream.reported if reported[0] == "end" or isinstance(reported[0], Abort)]
        assert len(ends) <= 1
        assert ends == stream.reported[len(stream.reported) - len(ends) :]
        assert (stream in core.open_streams) == (not ends)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_the_cut_makes_no_difference(data: st.DataObject) -> None:
    wire = b"".join(data.draw(st.lists(FRAMES, max_size=12)))
    cuts = data.draw(st.lists(st.integers(1, 60), min_size=1, max_size=10))
    results = []
    ways: list[tuple[list[int], Callable[[Core, bytes], None]]] = [
        (cuts, Core.receive),
        (cuts, lambda core, piece: reused(core.receive, piece)),
        ([len(wire) + 1], Core.receive),
    ]
    for plan, receive in ways:
        core = ready_core()
        streams = [started(core, b"x"), started(core, b"", ends=False)]
        output(core)
        error = ""
        position = turn = 0
        try:
            while position < len(wire):
                step = plan[turn % len(plan)]
                receive(core, wire[position : position + step])
                position += step
                turn += 1
        except ProtocolError as problem:
            error = str(problem)
        results.append(([stream.reported for stream in streams], error, output(core)))
    assert results[0] == results[1] == results[2]
