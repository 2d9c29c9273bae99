"""The HTTP/2 core against frames made by hand: what a peer may do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from exporter.wire.hpack_blocks import encode_block
from exporter.wire.http2 import OUR_CONNECTION_WINDOW, OUR_STREAM_WINDOW, Abort
from exporter.wire.http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HAS_PRIORITY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST_WINDOW,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    frame,
    read_settings,
    rst_stream_frame,
    settings_frame,
    window_update_frame,
)
from tests.wire.http2_peers import (
    ACKNOWLEDGED,
    HEAD_FIELDS,
    READY,
    REQUEST,
    RESPONSE_HEAD,
    TRAILERS,
    WHOLE,
    Core,
    Recorder,
    frames,
    goaway,
    output,
    ready_core,
    response,
    started,
)
from tests.wire.reused import reused

# --- opening ---------------------------------------------------------------------------------------------------------


def test_opening_bytes() -> None:
    written = output(Core())
    assert written.startswith(PREFACE)
    settings, window = frames(written[len(PREFACE) :])
    assert settings[:3] == (SETTINGS, 0, 0)
    assert dict(read_settings(settings[3])) == {1: 0, 2: 0, 4: OUR_STREAM_WINDOW, 5: 1 << 20}
    assert window == (WINDOW_UPDATE, 0, 0, (OUR_CONNECTION_WINDOW - 65_535).to_bytes(4, "big"))


def test_first_block_declares_that_our_table_is_empty() -> None:
    core = ready_core()
    for _ in range(2):
        started(core)
    blocks = [payload for kind, _, _, payload in frames(output(core)) if kind == HEADERS]
    assert blocks == [b"\x20" + REQUEST, REQUEST]


def test_small_request_is_one_headers_and_one_data_frame() -> None:
    core = ready_core()
    stream = started(core, b"hello")
    assert stream.sent
    assert frames(output(core)) == [
        (HEADERS, END_HEADERS, 1, b"\x20" + REQUEST),
        (DATA, END_STREAM, 1, b"hello"),
    ]


def test_long_header_block_continues_in_continuation_frames() -> None:
    core = ready_core()
    block = encode_block([*[(f"x-{i}", "é" * 500) for i in range(60)]])
    assert len(block) > 32_768
    core.start(Recorder(), block, b"")
    cut = frames(output(core))
    assert [(kind, flags) for kind, flags, _, _ in cut] == [
        (HEADERS, 0), *[(CONTINUATION, 0)] * (len(cut) - 3), (CONTINUATION, END_HEADERS), (DATA, END_STREAM)
    ]  # fmt: skip
    assert b"".join(payload for *_, payload in cut) == b"\x20" + block


# --- responses, however they are cut
# -----------------------------------------------------------------------------------

PADDED_RESPONSE = (
    frame(HEADERS, END_HEADERS | PADDED | HAS_PRIORITY, 1, b"\x03" + bytes(5) + RESPONSE_HEAD + bytes(3))
    + frame(DATA, PADDED, 1, b"\x04hello" + bytes(4))
    + frame(HEADERS, END_HEADERS | END_STREAM, 1, TRAILERS)
)
SPLIT_RESPONSE = (
    frame(HEADERS, 0, 1, RESPONSE_HEAD[:2])
    + frame(CONTINUATION, 0, 1, RESPONSE_HEAD[2:5])
    + frame(CONTINUATION, END_HEADERS, 1, RESPONSE_HEAD[5:])
    + frame(DATA, 0, 1, b"he")
    + frame(DATA, 0, 1, b"")
    + frame(DATA, PADDED, 1, b"\x00llo")
    + frame(HEADERS, END_STREAM, 1, TRAILERS)
    + frame(CONTINUATION, END_HEADERS, 1)
)
BETWEEN = frame(99, 255, 1, b"unknown") + frame(PRIORITY, 0, 1, bytes(5)) + frame(PING, ACK, 0, bytes(8))


@pytest.mark.parametrize(
    "wire",
    [response(), PADDED_RESPONSE, SPLIT_RESPONSE, BETWEEN + response() + BETWEEN],
    ids=["plain", "padded", "continued", "with-ignored-frames"],
)
@pytest.mark.parametrize("cut", [1, 2, 3, 7, 9, 10, 1000])
@pytest.mark.parametrize(
    "receive", [Core.receive, lambda core, data: reused(core.receive, data)], ids=["bytes", "view"]
)
def test_response_cut_anywhere(wire: bytes, cut: int, receive: Callable[[Core, bytes], None]) -> None:
    core = ready_core()
    stream = started(core)
    output(core)
    news = []
    for start in range(0, len(wire), cut):
        receive(core, wire[start : start + cut])
        news += list(core.take_news())
    assert stream.reported == WHOLE
    assert set(news) == {stream}
    assert core.open_streams == []
    assert output(core) == b""


def test_response_that_ends_in_data() -> None:
    core = ready_core()
    stream = started(core)
    core.receive(frame(HEADERS, END_HEADERS, 1, RESPONSE_HEAD) + frame(DATA, END_STREAM, 1, b"x"))
    assert stream.reported == [("headers", HEAD_FIELDS, False), ("data", b"x"), ("end",)]


def test_large_data_frame_is_passed_on_in_pieces_and_not_held() -> None:
    core = ready_core()
    stream = started(core)
    core.receive(frame(HEADERS, END_HEADERS, 1, RESPONSE_HEAD))
    whole = frame(DATA, END_STREAM, 1, b"x" * 100_000)
    core.receive(whole[:50_009])
    assert stream.reported[-1] == ("data", b"x" * 50_000)
    core.receive(whole[50_009:] + b"")
    assert stream.reported[1:] == [("data", b"x" * 100_000), ("end",)]


def test_interleaved_responses_and_order_of_news() -> None:
    core = ready_core()
    first, second = started(core), started(core)
    core.receive(frame(HEADERS, END_HEADERS, 3, RESPONSE_HEAD) + response(1) + frame(DATA, 0, 3, b"hello"))
    assert list(core.take_news()) == [second, first]
    core.receive(frame(HEADERS, END_HEADERS | END_STREAM, 3, TRAILERS))
    assert first.reported == second.reported == WHOLE
    assert core.take_news() == {second: None}


def test_responses_reserved_bit_of_the_stream_id_is_ignored() -> None:
    core = ready_core()
    stream = started(core)
    core.receive(response(0x8000_0001))
    assert stream.reported == WHOLE


def test_end_before_the_request_was_sent_resets_without_error() -> None:
    core = ready_core()
    stream = started(core, b"x" * 100_000)
    core.sender.take(1)
    core.receive(response())
    assert stream.reported == WHOLE
    assert frames(output(core)) == [(RST_STREAM, 0, 1, bytes(4))]


# --- sending under windows -------------------------------------------------------------------------------------------


def data_lengths(written: bytes) -> list[tuple[int, int]]:
    return [(stream_id, len(payload)) for kind, _, stream_id, payload in frames(written) if kind == DATA]


def test_nothing_large_before_the_peers_settings() -> None:
    core = Core()
    output(core)
    small, large = started(core, b"s" * 16_384), started(core, b"l" * 16_385)
    assert data_lengths(output(core)) == [(1, 16_384)]
    assert (small.sent, large.sent) == (True, False)
    core.receive(READY)
    assert data_lengths(output(core)) == [(3, 16_384), (3, 1)]
    assert large.sent


def test_body_waits_for_the_stream_window_and_for_the_connections() -> None:
    core = ready_core({INITIAL_WINDOW_SIZE: 100_000})
    started(core, b"x" * 120_000)
    assert data_lengths(output(core)) == [(1, 16_384)] * 3 + [(1, 16_383)]
    core.receive(window_update_frame(0, 1 << 20))
    assert sum(size for _, size in data_lengths(output(core))) == 100_000 - 65_535
    core.receive(window_update_frame(1, 19_999))
    assert data_lengths(output(core)) == [(1, 16_384), (1, 3615)]
    core.receive(window_update_frame(1, 1))
    assert frames(output(core)) == [(DATA, END_STREAM, 1, b"x")]


def test_initial_window_change_moves_open_streams_below_zero() -> None:
    core = ready_core({INITIAL_WINDOW_SIZE: 1000})
    stream = started(core, b"x" * 1500)
    assert data_lengths(output(core)) == [(1, 1000)]
    core.receive(settings_frame({INITIAL_WINDOW_SIZE: 100}))
    assert stream.send_window == -900
    assert output(core) == ACKNOWLEDGED
    core.receive(window_update_frame(1, 900))
    assert output(core) == b""
    core.receive(settings_frame({INITIAL_WINDOW_SIZE: 350}))
    assert data_lengths(output(core)) == [(1, 250)]
    core.receive(settings_frame({INITIAL_WINDOW_SIZE: 1000}))
    assert data_lengths(output(core)) == [(1, 250)]
    assert stream.sent


def test_window_that_is_taken_away_while_a_stream_waits_for_its_turn() -> None:
    core = ready_core({INITIAL_WINDOW_SIZE: 100_000})
    core.receive(window_update_frame(0, 1 << 20))
    stream = started(core, b"x" * 50_000)
    core.receive(settings_frame({INITIAL_WINDOW_SIZE: 0}))
    assert data_lengths(output(core)) == []
    core.receive(window_update_frame(1, 20_000))
    assert data_lengths(output(core)) == [(1, 16_384), (1, 3616)]
    core.receive(settings_frame({INITIAL_WINDOW_SIZE: 30_000}))
    assert data_lengths(output(core)) == [(1, 16_384), (1, 13_616)]
    assert stream.sent


def test_frame_size_of_the_peer_is_used() -> None:
    core = ready_core({MAX_FRAME_SIZE: 40_000})
    started(core, b"x" * 50_000)
    assert data_lengths(output(core)) == [(1, 40_000), (1, 10_000)]


def test_streams_take_turns() -> None:
    core = ready_core({INITIAL_WINDOW_SIZE: 1 << 20})
    core.receive(window_update_frame(0, 1 << 20))
    started(core, b"a" * 40_000)
    started(core, b"b" * 40_000)
    started(core, b"small")
    assert [stream_id for stream_id, _ in data_lengths(output(core))] == [1, 3, 5, 1, 3, 1, 3]


def test_a_blocked_stream_does_not_hold_up_others() -> None:
    core = ready_core({INITIAL_WINDOW_SIZE: 10})
    started(core, b"x" * 11)
    assert data_lengths(output(core)) == [(1, 10)]
    started(core, b"y" * 10)
    assert data_lengths(output(core)) == [(3, 10)]


def test_output_is_taken_in_portions_and_never_copied() -> None:
    core = ready_core({INITIAL_WINDOW_SIZE: 1 << 20})
    core.receive(window_update_frame(0, 1 << 20))
    body = bytes(500_000)
    started(core, body)
    parts = core.sender.take(100_000)
    views = [part for part in parts if isinstance(part, memoryview)]
    assert 100_000 <= sum(map(len, views)) < 120_000
    assert all(view.obj is body for view in views)


def test_messages_one_after_the_other_then_half_close() -> None:
    core = ready_core()
    stream = started(core, b"one", ends=False)
    core.send(stream, b"two")
    core.send(stream, b"", ends=True)
    assert frames(output(core))[1:] == [
        (DATA, 0, 1, b"one"),
        (DATA, 0, 1, b"two"),
        (DATA, END_STREAM, 1, b""),
    ]
    assert stream.sent


def test_half_close_alone_needs_no_window() -> None:
    core = ready_core({INITIAL_WINDOW_SIZE: 0})
    stream = started(core, b"", ends=False)
    core.send(stream, b"", ends=True)
    assert frames(output(core))[1:] == [(DATA, END_STREAM, 1, b"")]


# --- receiving under windows -----------------------------------------------------------------------------------------


def test_windows_are_given_back_in_batches() -> None:
    core = ready_core()
    started(core)
    output(core)
    core.receive(frame(HEADERS, END_HEADERS, 1, RESPONSE_HEAD))
    piece = frame(DATA, 0, 1, bytes(1 << 20))
    updates = []
    for _ in range(33):
        core.receive(piece)
        updates += frames(output(core))
    assert updates == [(WINDOW_UPDATE, 0, 1, (33 << 20).to_bytes(4, "big"))]


def test_padding_counts_in_the_window() -> None:
    core = ready_core()
    stream = started(core)
    core.receive(frame(HEADERS, END_HEADERS, 1, RESPONSE_HEAD) + frame(DATA, PADDED, 1, b"\x04hello" + bytes(4)))
    assert OUR_STREAM_WINDOW - stream.receive_window == 10


# --- resets and GOAWAY -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reported"),
    [
        (7, (Abort.REFUSED, 7, "RST_STREAM REFUSED_STREAM")),
        (8, (Abort.RESET, 8, "RST_STREAM CANCEL")),
        (2, (Abort.RESET, 2, "RST_STREAM INTERNAL_ERROR")),
        (4242, (Abort.RESET, 4242, "RST_STREAM error code 4242")),
    ],
)
def test_reset_by_the_peer(code: int, reported: tuple[Abort, int, str]) -> None:
    core = ready_core()
    stream = started(core, b"x" * 100_000)
    core.sender.take(1)
    core.receive(rst_stream_frame(1, code))
    assert stream.reported == [reported]
    assert core.take_news() == {stream: None}
    assert output(core) == b""
    assert core.can_start


def test_reset_by_us_and_what_still_comes_on_the_stream() -> None:
    core = ready_core()
    stream = started(core, b"x" * 100_000)
    core.sender.take(1)
    core.reset(stream)
    core.reset(stream)
    assert frames(output(core)) == [(RST_STREAM, 0, 1, (8).to_bytes(4, "big"))]
    core.receive(response() + window_update_frame(1, 5) + rst_stream_frame(1, 0))
    assert stream.reported == []
    other = started(core)
    core.receive(response(3))
    assert other.reported == WHOLE


def test_a_response_and_its_reset_that_come_twice() -> None:
    """As gRPC's C core was seen to do with a call past its deadline."""
    core = ready_core()
    stream = started(core)
    late = response(stream.id) + rst_stream_frame(stream.id, ErrorCode.NO_ERROR)
    core.receive(late)
    reported = list(stream.reported)
    core.receive(late)
    assert stream.reported == reported
    assert not core.retired


def test_memory_of_resets_is_bounded_and_forgiving() -> None:
    core = ready_core()
    for _ in range(1500):
        core.reset(started(core))
        output(core)
    assert len(core._reset_ids) == 1024
    core.receive(response(1) + response(2999))


def test_goaway_refuses_streams_above_the_last_and_lets_others_finish() -> None:
    core = ready_core()
    first, second = started(core), started(core)
    core.receive(goaway(1, 0, b"max_age"))
    assert second.reported == [(Abort.GOAWAY, 0, "GOAWAY NO_ERROR: max_age")]
    assert core.retired
    assert not core.can_start
    assert core.goaway_text == "GOAWAY NO_ERROR: max_age"
    core.receive(response(1))
    assert first.reported == WHOLE


def test_goaway_in_two_steps_as_a_graceful_shutdown() -> None:
    core = ready_core()
    first, second = started(core), started(core)
    core.receive(goaway(LARGEST_WINDOW))
    assert (first.reported, second.reported) == ([], [])
    core.receive(goaway(1) + goaway(LARGEST_WINDOW, 11))
    assert second.reported == [(Abort.GOAWAY, 0, "GOAWAY NO_ERROR")]
    assert first.reported == []


def test_stream_ids_run_out() -> None:
    core = ready_core()
    core._next_id = LARGEST_WINDOW - 2
    started(core)
    last = started(core)
    assert last.id == LARGEST_WINDOW
    assert (core.retired, core.can_start) == (True, False)
    core.receive(response(LARGEST_WINDOW))
    assert last.reported == WHOLE


def test_max_concurrent_streams() -> None:
    core = ready_core({MAX_CONCURRENT_STREAMS: 2})
    first = started(core)
    started(core)
    seen = [core.can_start]
    core.receive(response(1))
    assert first.reported == WHOLE
    seen.append(core.can_start)
    core.receive(settings_frame({MAX_CONCURRENT_STREAMS: 0}))
    assert [*seen, core.can_start] == [False, True, False]


def test_ping_and_settings_are_acknowledged() -> None:
    core = ready_core()
    core.receive(frame(PING, 0, 0, b"12345678") + settings_frame({99: 1}))
    assert output(core) == frame(PING, ACK, 0, b"12345678") + ACKNOWLEDGED
