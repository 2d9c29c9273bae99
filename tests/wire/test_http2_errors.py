"""The HTTP/2 core against a peer that breaks the protocol, or does not speak it."""

from __future__ import annotations

import pytest

from exporter.core.errors import ProtocolError
from exporter.wire.http2 import Abort
from exporter.wire.http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    FRAME_HEADER,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST_WINDOW,
    MAX_FRAME_SIZE,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    Http2Error,
    frame,
    rst_stream_frame,
    settings_frame,
    window_update_frame,
)
from tests.wire.http2_peers import (
    ACKNOWLEDGED,
    READY,
    RESPONSE_HEAD,
    WHOLE,
    Core,
    frames,
    output,
    ready_core,
    response,
    started,
)


def receive(core: Core, wire: bytes, cut: int) -> None:
    for start in range(0, len(wire), cut):
        core.receive(wire[start : start + cut])


# --- errors of the connection ----------------------------------------------------------------------------------------

ERRORS = {
    "ping-flood": (frame(PING, 0, 0, bytes(8)) * 1001, ErrorCode.ENHANCE_YOUR_CALM),
    "settings-flood": (READY * 1001, ErrorCode.ENHANCE_YOUR_CALM),
    "ping-length": (frame(PING, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "ping-on-stream": (frame(PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "settings-length": (frame(SETTINGS, 0, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
    "settings-on-stream": (frame(SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "settings-ack-content": (frame(SETTINGS, ACK, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
    "settings-window": (settings_frame({INITIAL_WINDOW_SIZE: 1 << 31}), ErrorCode.FLOW_CONTROL_ERROR),
    "settings-frame-small": (settings_frame({MAX_FRAME_SIZE: 16_383}), ErrorCode.PROTOCOL_ERROR),
    "settings-frame-large": (settings_frame({MAX_FRAME_SIZE: 1 << 24}), ErrorCode.PROTOCOL_ERROR),
    "settings-push": (settings_frame({2: 1}), ErrorCode.PROTOCOL_ERROR),
    "settings-overflow": (
        window_update_frame(1, LARGEST_WINDOW - 65_535) + settings_frame({INITIAL_WINDOW_SIZE: 65_536}),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "goaway-length": (frame(GOAWAY, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "goaway-on-stream": (frame(GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "window-zero": (window_update_frame(0, 0), ErrorCode.PROTOCOL_ERROR),
    "window-overflow": (window_update_frame(0, LARGEST_WINDOW), ErrorCode.FLOW_CONTROL_ERROR),
    "window-length": (frame(WINDOW_UPDATE, 0, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
    "window-idle-stream": (window_update_frame(3, 1), ErrorCode.PROTOCOL_ERROR),
    "rst-length": (frame(RST_STREAM, 0, 1, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
    "rst-idle-stream": (rst_stream_frame(3, 0), ErrorCode.PROTOCOL_ERROR),
    "rst-stream-0": (rst_stream_frame(0, 0), ErrorCode.PROTOCOL_ERROR),
    "priority-stream-0": (frame(PRIORITY, 0, 0, bytes(5)), ErrorCode.PROTOCOL_ERROR),
    "push-promise": (frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "frame-too-large": (FRAME_HEADER.pack(((1 << 20) + 1) << 8 | HEADERS, 0, 1), ErrorCode.FRAME_SIZE_ERROR),
    "data-stream-0": (frame(DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "data-idle-stream": (frame(DATA, 0, 3, b"x"), ErrorCode.PROTOCOL_ERROR),
    "data-server-stream": (frame(DATA, 0, 2, b"x"), ErrorCode.PROTOCOL_ERROR),
    "data-after-end": (response() + frame(DATA, 0, 1, b"x"), ErrorCode.STREAM_CLOSED),
    "headers-after-end": (response() + response(), ErrorCode.STREAM_CLOSED),
    "data-padding": (frame(DATA, PADDED, 1, b"\x05hell"), ErrorCode.PROTOCOL_ERROR),
    "data-padding-missing": (frame(DATA, PADDED, 1, b""), ErrorCode.PROTOCOL_ERROR),
    "headers-stream-0": (frame(HEADERS, END_HEADERS, 0, RESPONSE_HEAD), ErrorCode.PROTOCOL_ERROR),
    "headers-stream-0-open": (frame(HEADERS, 0, 0, RESPONSE_HEAD), ErrorCode.PROTOCOL_ERROR),
    "headers-padding": (frame(HEADERS, END_HEADERS | PADDED, 1, b"\xff" + RESPONSE_HEAD), ErrorCode.PROTOCOL_ERROR),
    "headers-priority": (frame(HEADERS, END_HEADERS | HAS_PRIORITY, 1, b"1234"), ErrorCode.FRAME_SIZE_ERROR),
    "headers-not-hpack": (frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR),
    "headers-unknown-index": (frame(HEADERS, END_HEADERS, 1, b"\xc0"), ErrorCode.COMPRESSION_ERROR),
    "block-broken-up": (frame(HEADERS, 0, 1, RESPONSE_HEAD) + frame(DATA, 0, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
    "block-broken-up-early": (frame(HEADERS, 0, 1) + FRAME_HEADER.pack(99 << 8, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "block-of-another": (frame(HEADERS, 0, 1, RESPONSE_HEAD) + frame(CONTINUATION, 4, 3), ErrorCode.PROTOCOL_ERROR),
    "block-of-many-frames": (
        frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1) * 64,
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "block-too-long": (
        frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1, bytes(600_000)) * 2,
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "continuation-alone": (frame(CONTINUATION, END_HEADERS, 1, RESPONSE_HEAD), ErrorCode.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("cut", [1, 1 << 30], ids=["bytewise", "whole"])
@pytest.mark.parametrize("name", ERRORS)
def test_error_of_the_connection(name: str, cut: int) -> None:
    wire, code = ERRORS[name]
    core = ready_core()
    started(core, b"")
    output(core)
    with pytest.raises(Http2Error, match=code.name) as caught:
        receive(core, wire, cut)
    assert caught.value.code is code
    assert frames(output(core))[-1] == (GOAWAY, 0, 0, bytes(4) + code.to_bytes(4, "big"))
    assert core.retired
    with pytest.raises(ProtocolError, match="failed before"):
        core.receive(b"")


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the server speaks HTTP/1, not HTTP/2"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the server speaks something else, not HTTP/2"),
        (frame(PING, 0, 0, bytes(8)), "the server speaks something else, not HTTP/2"),
        (ACKNOWLEDGED, "the server speaks something else, not HTTP/2"),
        (FRAME_HEADER.pack((1 << 22) << 8 | SETTINGS, 0, 0), "a frame of 4194304 bytes"),
    ],
)
def test_something_else_than_settings_first(wire: bytes, text: str) -> None:
    with pytest.raises(ProtocolError, match=text):
        Core().receive(wire)


def test_connection_window_is_enforced() -> None:
    core = ready_core()
    started(core)
    core._receive_window = 10
    with pytest.raises(Http2Error, match="FLOW_CONTROL_ERROR"):
        core.receive(frame(DATA, 0, 1, bytes(11)))


def test_news_before_an_error_are_not_lost() -> None:
    core = ready_core()
    stream = started(core)
    with pytest.raises(ProtocolError):
        core.receive(response() + window_update_frame(0, 0))
    assert stream.reported == WHOLE
    assert core.take_news() == {stream: None}


def test_abandon_gives_the_open_streams() -> None:
    core = ready_core()
    first, second = started(core), started(core)
    core.receive(response(1))
    assert core.abandon() == [second]
    assert core.open_streams == []
    assert core.retired
    assert first.reported == WHOLE


# --- errors of a stream ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wire", "code", "text"),
    [
        (window_update_frame(1, 0), ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by 0"),
        (
            window_update_frame(1, LARGEST_WINDOW),
            ErrorCode.FLOW_CONTROL_ERROR,
            "the stream's flow-control window overflowed",
        ),
    ],
)
def test_error_of_a_stream_resets_it_alone(wire: bytes, code: ErrorCode, text: str) -> None:
    core = ready_core()
    broken, other = started(core), started(core)
    output(core)
    core.receive(wire + response(3))
    assert broken.reported == [(Abort.BROKEN, code, text)]
    assert frames(output(core)) == [(RST_STREAM, 0, 1, code.to_bytes(4, "big"))]
    assert other.reported == WHOLE


def test_stream_window_is_enforced() -> None:
    core = ready_core()
    stream = started(core)
    output(core)
    core.receive(frame(HEADERS, END_HEADERS, 1, RESPONSE_HEAD))
    stream.receive_window = 10
    core.receive(frame(DATA, 0, 1, bytes(11)))
    assert stream.reported[-1][:2] == (Abort.BROKEN, ErrorCode.FLOW_CONTROL_ERROR)
