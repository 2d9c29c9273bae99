"""HTTP/2 frames as bytes: their numbers, their builders, and the two kinds of error (RFC 9113, sections 4, 6 and 7).

Knows no connection and no stream state.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from struct import Struct

from exporter.core.errors import ProtocolError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = range(1, 6)

DEFAULT_WINDOW = 65_535
DEFAULT_FRAME_SIZE = 16_384
LARGEST_FRAME_SIZE = 2**24 - 1
LARGEST_WINDOW = LARGEST_STREAM_ID = 2**31 - 1

FRAME_HEADER = Struct(">IBI")
"""Length and type (24 + 8 bits), flags, stream: the 9 bytes before every frame."""
_UINT32 = Struct(">I")
_SETTING = Struct(">HI")


class ErrorCode(enum.IntEnum):
    """RFC 9113, section 7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


def error_name(code: int) -> str:
    """The code's name, or its number where the RFC knows none."""
    try:
        return ErrorCode(code).name
    except ValueError:
        return f"error code {code}"


class Http2Error(ProtocolError):
    """The peer broke HTTP/2 in a way that ends the connection; `code` is what is sent to it."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(f"HTTP/2 {code.name}: {text}")
        self.code = code


class StreamError(Exception):
    """The peer broke one stream, which is reset with `code`; the connection continues. Never leaves the core."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame whose payload is small."""
    return FRAME_HEADER.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def settings_frame(settings: dict[int, int]) -> bytes:
    """Our SETTINGS."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(key, value) for key, value in settings.items()))


def window_update_frame(stream_id: int, increment: int) -> bytes:
    """Window for `increment` more bytes, on a stream or (0) on the connection."""
    return frame(WINDOW_UPDATE, 0, stream_id, _UINT32.pack(increment))


def rst_stream_frame(stream_id: int, code: int) -> bytes:
    """Ends one stream."""
    return frame(RST_STREAM, 0, stream_id, _UINT32.pack(code))


def goaway_frame(code: int) -> bytes:
    """The reason why the connection ends. The peer opens no streams here, so the last one of its own is 0."""
    return frame(GOAWAY, 0, 0, _UINT32.pack(0) + _UINT32.pack(code))


def read_uint32(payload: bytes, kind: str) -> int:
    """The only number of a frame that holds just that."""
    if len(payload) != 4:
        raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, f"{kind} of {len(payload)} bytes, not 4")
    return int.from_bytes(payload, "big")


def read_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """The peer's settings in their order, values checked; unknown ones are passed on to be ignored."""
    if len(payload) % 6:
        raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes, not a multiple of 6")
    for key, value in _SETTING.iter_unpack(payload):
        if key == INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW:
            raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, f"SETTINGS with an initial window of {value}")
        if key == MAX_FRAME_SIZE and not DEFAULT_FRAME_SIZE <= value <= LARGEST_FRAME_SIZE:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, f"SETTINGS with a frame size of {value}")
        if key == ENABLE_PUSH and value != 0:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, f"SETTINGS from a server with ENABLE_PUSH {value}")
        yield key, value


def unpad(flags: int, payload: bytes) -> bytes:
    """The payload without its padding (sections 6.1 and 6.2)."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise Http2Error(ErrorCode.PROTOCOL_ERROR, "padding longer than its frame")
    return payload[1 : len(payload) - payload[0]]
