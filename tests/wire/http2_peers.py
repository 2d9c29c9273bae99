"""What the HTTP/2 tests share: a stream that records, frames by hand, and h2's server as the peer in memory."""

from __future__ import annotations

from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event
from h2.settings import SettingCodes, Settings

from exporter.wire.hpack_blocks import HeaderBlock, encode_block
from exporter.wire.http2 import Abort, Http2Connection, Stream
from exporter.wire.http2_frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER,
    GOAWAY,
    HEADERS,
    SETTINGS,
    frame,
    settings_frame,
)

REQUEST_FIELDS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/a/b"),
    (":authority", "x:1"),
    ("te", "trailers"),
]
REQUEST = encode_block(REQUEST_FIELDS)
RESPONSE_HEAD = encode_block([(":status", "200"), ("content-type", "application/grpc")])
TRAILERS = encode_block([("grpc-status", "0")])
ACKNOWLEDGED = frame(SETTINGS, ACK, 0)
READY = settings_frame({})
EVERYTHING = 1 << 40

HEAD_FIELDS = ((b":status", b"200"), (b"content-type", b"application/grpc"))
TAIL_FIELDS = ((b"grpc-status", b"0"),)
WHOLE = [("headers", HEAD_FIELDS, False), ("data", b"hello"), ("headers", TAIL_FIELDS, True), ("end",)]


def response(stream_id: int = 1, content: bytes = b"hello") -> bytes:
    return (
        frame(HEADERS, END_HEADERS, stream_id, RESPONSE_HEAD)
        + frame(DATA, 0, stream_id, content)
        + frame(HEADERS, END_HEADERS | END_STREAM, stream_id, TRAILERS)
    )


def goaway(last: int, code: int = 0, debug: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big") + debug)


class Recorder(Stream):
    """Keeps what it is reported, in order; DATA in sequence is joined, so that cuts do not show."""

    def __init__(self) -> None:
        super().__init__()
        self.reported: list[tuple[Any, ...]] = []

    def headers_received(self, block: HeaderBlock, ended: bool) -> None:
        self.reported.append(("headers", block.fields, ended))

    def data_received(self, data: bytes | memoryview, start: int, stop: int) -> None:
        assert 0 <= start < stop <= len(data)
        if self.reported and self.reported[-1][0] == "data":
            self.reported[-1] = ("data", self.reported[-1][1] + bytes(data[start:stop]))
        else:
            self.reported.append(("data", bytes(data[start:stop])))

    def end_received(self) -> None:
        self.reported.append(("end",))

    def aborted(self, how: Abort, code: int, text: str) -> None:
        self.reported.append((how, code, text))


Core = Http2Connection[Recorder]


def output(core: Http2Connection[Any], limit: int = EVERYTHING) -> bytes:
    """All that the core would write now."""
    written = b""
    while parts := core.sender.take(limit):
        written += b"".join(parts)
    return written


def frames(written: bytes) -> list[tuple[int, int, int, bytes]]:
    """Kind, flags, stream and payload of each frame."""
    cut = []
    position = 0
    while position < len(written):
        head, flags, stream_id = FRAME_HEADER.unpack_from(written, position)
        position += 9 + (head >> 8)
        cut.append((head & 0xFF, flags, stream_id, written[position - (head >> 8) : position]))
    assert position == len(written)
    return cut


def ready_core(settings: dict[int, int] | None = None) -> Core:
    """A core whose opening is over: the server's SETTINGS are in, the opening bytes are out."""
    core = Core()
    output(core)
    core.receive(settings_frame(settings or {}))
    assert output(core) == ACKNOWLEDGED
    return core


def started(core: Core, body: bytes | memoryview = b"hello", *, ends: bool = True) -> Recorder:
    """A new stream on the core."""
    stream = Recorder()
    assert core.can_start
    core.start(stream, REQUEST, body, ends=ends)
    return stream


class H2Server:
    """h2's state machine as the server, joined to a core without sockets."""

    def __init__(self, core: Http2Connection[Any], settings: dict[int, int] | None = None) -> None:
        self.core = core
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        chosen = {SettingCodes(key): value for key, value in (settings or {}).items()}
        self.h2.local_settings = Settings(client=False, initial_values=chosen)
        self.h2.max_inbound_frame_size = self.h2.local_settings.max_frame_size
        self.h2.initiate_connection()

    def exchange(self, *, cut: int = 1 << 30, limit: int = EVERYTHING) -> list[Event]:
        """Carries bytes both ways, `cut` at a time towards the core, until both are silent; what h2 saw."""
        seen: list[Event] = []
        while True:
            out = b"".join(self.core.sender.take(limit))
            seen += self.h2.receive_data(out) if out else []
            back = self.h2.data_to_send()
            for start in range(0, len(back), cut):
                self.core.receive(back[start : start + cut])
            if not out and not back:
                return seen
