"""An HTTP/2 client core without IO: bytes in, streams with news out; what must be written is taken from it (RFC 9113).

Owns one connection: its settings, its streams, the receive windows, and the errors of a peer. Only what a gRPC client
needs: no push, no priorities, no header compression that depends on earlier blocks. Knows neither sockets nor clocks,
nor what a stream's bytes mean.
"""

from __future__ import annotations

import enum
from typing import Generic, TypeVar

from exporter.core.bounds import SETTINGS_BYTES, SETTINGS_CHANGES
from exporter.core.errors import ProtocolError
from exporter.core.untrusted_text import clean_text
from exporter.wire.hpack_blocks import TABLE_SIZE_ZERO, BlockDecoder, HeaderBlock
from exporter.wire.http2_frames import (
    ACK,
    DATA,
    DEFAULT_WINDOW,
    ENABLE_PUSH,
    GOAWAY,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST_STREAM_ID,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    Http2Error,
    StreamError,
    error_name,
    frame,
    goaway_frame,
    read_settings,
    read_uint32,
    rst_stream_frame,
    settings_frame,
    window_update_frame,
)
from exporter.wire.http2_parse import OUR_FRAME_SIZE, FrameParser
from exporter.wire.http2_send import Buffer, Http2Sender, SendState

OUR_STREAM_WINDOW = 64 * 1024 * 1024
OUR_CONNECTION_WINDOW = 1024 * 1024 * 1024

_MAX_RESET_IDS = 1024
_MAX_DEBUG_BYTES = 200


class Abort(enum.Enum):
    """How a stream ended without its end."""

    GOAWAY = "goaway"
    """By GOAWAY: the server never looked at it."""
    REFUSED = "refused"
    """By RST_STREAM REFUSED_STREAM: the server did not begin with it."""
    RESET = "reset"
    """By RST_STREAM with any other code."""
    BROKEN = "broken"
    """By us, since the server broke the protocol on it."""


class Stream(SendState):
    """One stream; what it receives is for a subclass to make sense of. A method may raise StreamError to reset it.
    After `end_received` or `aborted` nothing follows."""

    __slots__ = ("receive_window",)

    receive_window: int

    def headers_received(self, block: HeaderBlock, ended: bool) -> None:
        """A header block; if `ended`, `end_received` follows."""
        raise NotImplementedError

    def data_received(self, data: bytes | memoryview, start: int, stop: int) -> None:
        """The body continues with `data[start:stop]`, which is to be copied where it is kept."""
        raise NotImplementedError

    def end_received(self) -> None:
        """The peer's side is complete."""
        raise NotImplementedError

    def aborted(self, how: Abort, code: int, text: str) -> None:
        """The stream is over before its end; `code` is the HTTP/2 error code."""
        raise NotImplementedError


S = TypeVar("S", bound=Stream)


class Http2Connection(FrameParser, Generic[S]):
    """One connection, from its preface on. After ProtocolError only `take_news` and the sender's output are of use.

    `sender` is its sending half, for taking the output from. `retired` means that no stream will ever be started here
    again (GOAWAY, ids used up, an error): take a new connection.
    """

    def __init__(self) -> None:
        super().__init__()
        self.max_streams = LARGEST_STREAM_ID
        self._settings_seen = 0
        self.retired = False
        self.goaway_code: int | None = None
        self.goaway_text: str | None = None
        self.sender = Http2Sender()
        self._failed = False
        self._decoder = BlockDecoder()
        self._known_blocks = self._decoder.known
        self._streams: dict[int, S] = {}
        self._news: dict[S, None] = {}
        self._next_id = 1
        self._last_accepted = LARGEST_STREAM_ID
        self._reset_ids: dict[int, None] = {}
        self._forgotten_id = 0
        self._receive_window = OUR_CONNECTION_WINDOW
        settings = {
            HEADER_TABLE_SIZE: 0,
            ENABLE_PUSH: 0,
            INITIAL_WINDOW_SIZE: OUR_STREAM_WINDOW,
            MAX_FRAME_SIZE: OUR_FRAME_SIZE,
        }
        window = window_update_frame(0, OUR_CONNECTION_WINDOW - DEFAULT_WINDOW)
        self.sender.control(PREFACE + settings_frame(settings) + window)

    # --- streams -----------------------------------------------------------------------------------------------------

    @property
    def can_start(self) -> bool:
        """Whether a stream may be started now: not retired, and below the peer's MAX_CONCURRENT_STREAMS."""
        return len(self._streams) < self.max_streams and not self.retired

    @property
    def open_streams(self) -> list[S]:
        """The streams that have not ended, oldest first."""
        return list(self._streams.values())

    def start(self, stream: S, block: bytes, body: Buffer = b"", *, ends: bool = True) -> None:
        """Starts a stream with a block of `encode_block` and the first part of its body. Only if `can_start`."""
        stream_id = self._next_id
        self._next_id = stream_id + 2
        if stream_id >= LARGEST_STREAM_ID:
            self.retired = True
        self._streams[stream_id] = stream
        stream.id = stream_id
        stream.receive_window = OUR_STREAM_WINDOW
        self.sender.start(stream, block if stream_id > 1 else TABLE_SIZE_ZERO + block, body, ends)

    def send(self, stream: S, body: Buffer, *, ends: bool = False) -> None:
        """Sends more of an open stream's body; `ends` closes our side (alone, with an empty body)."""
        self.sender.send(stream, body, ends)

    def reset(self, stream: S, code: ErrorCode = ErrorCode.CANCEL) -> None:
        """Gives a stream up. It hears nothing more; no effect if it has ended."""
        if self._streams.pop(stream.id, None) is None:
            return
        self.sender.drop(stream)
        self.sender.control(rst_stream_frame(stream.id, code))
        self._note_reset(stream.id)

    def abandon(self) -> list[S]:
        """The connection is gone: nothing more is started, and the streams that were open hear nothing more."""
        self._failed = self.retired = True
        streams = self.open_streams
        self._streams.clear()
        return streams

    # --- input -------------------------------------------------------------------------------------------------------

    def take_news(self) -> dict[S, None]:
        """The streams that received anything or ended since the last call, each once, in the order of their first."""
        news, self._news = self._news, {}
        return news

    def receive(self, data: bytes | memoryview) -> None:
        """Takes in what the peer sent, however it was cut; of a view, nothing is referred to afterwards. Raises
        ProtocolError; the output then ends with a GOAWAY."""
        if self._failed:
            raise ProtocolError("the connection has failed before")
        try:
            self._parse(data)
        except Http2Error as error:
            self._failed = self.retired = True
            self.sender.control(goaway_frame(error.code))
            raise

    def _on_data(self, stream_id: int, data: bytes | memoryview, start: int, stop: int, flow: int) -> None:
        self._receive_window -= flow
        if self._receive_window < OUR_CONNECTION_WINDOW // 2:
            self._widen_connection()
        stream = self._streams.get(stream_id)
        if stream is None:
            self._check_closed(DATA, stream_id)
            return
        self._news[stream] = None
        try:
            stream.receive_window -= flow
            if stream.receive_window < OUR_STREAM_WINDOW // 2:
                self._widen(stream)
            if start < stop:
                stream.data_received(data, start, stop)
        except StreamError as error:
            self._break(stream, error)

    def _on_data_end(self, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._end(stream)

    def _on_block(self, stream_id: int, block: bytes, ends: int) -> None:
        stream = self._streams.get(stream_id)
        try:
            decoded = self._known_blocks.get(block) or self._decoder.decode(block)
            if stream is None:
                self._check_closed(HEADERS, stream_id)
                return
            self._news[stream] = None
            stream.headers_received(decoded, ends != 0)
        except StreamError as error:
            if stream is None:
                self._check_closed(HEADERS, stream_id)
            else:
                self._break(stream, error)
        else:
            if ends:
                self._end(stream)

    def _on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE:
            self._on_window_update(stream_id, read_uint32(payload, "WINDOW_UPDATE") & LARGEST_STREAM_ID)
        elif kind == RST_STREAM:
            self._on_rst_stream(stream_id, read_uint32(payload, "RST_STREAM"))
        elif kind == PRIORITY:
            if not stream_id:
                raise Http2Error(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        elif kind == PUSH_PROMISE:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE, although push is disabled")
        elif kind in (SETTINGS, PING, GOAWAY):
            if stream_id:
                raise Http2Error(ErrorCode.PROTOCOL_ERROR, "a frame of the connection on a stream")
            if kind == SETTINGS:
                self._on_settings(flags, payload)
            elif kind == PING:
                self._on_ping(flags, payload)
            else:
                self._on_goaway(payload)

    # --- frames of a stream ------------------------------------------------------------------------------------------

    def _on_window_update(self, stream_id: int, increment: int) -> None:
        if not stream_id:
            self.sender.grow(increment)
            return
        stream = self._streams.get(stream_id)
        if stream is None:
            self._check_closed(WINDOW_UPDATE, stream_id)
            return
        try:
            self.sender.grow_stream(stream, increment)
        except StreamError as error:
            self._break(stream, error)

    def _on_rst_stream(self, stream_id: int, code: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            self._check_closed(RST_STREAM, stream_id)
            # gRPC's C core has been seen to send the trailers of a call past its deadline, RST_STREAM, and both again.
            self._note_reset(stream_id)
            return
        self._note_reset(stream_id)
        how = Abort.REFUSED if code == ErrorCode.REFUSED_STREAM else Abort.RESET
        self._abort(stream, how, code, f"RST_STREAM {error_name(code)}")

    def _note_reset(self, stream_id: int) -> None:
        """One side has reset the stream: what still comes on it is late, and no error."""
        self._reset_ids[stream_id] = None
        if len(self._reset_ids) > _MAX_RESET_IDS:
            oldest = next(iter(self._reset_ids))
            del self._reset_ids[oldest]
            self._forgotten_id = max(self._forgotten_id, oldest)

    def _check_closed(self, kind: int, stream_id: int) -> None:
        """A frame on a stream that is not open: a late one is no error, content after the end is."""
        if not stream_id & 1 or stream_id >= self._next_id:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, f"a frame on stream {stream_id}, which was never opened")
        given_up = stream_id in self._reset_ids or stream_id <= self._forgotten_id
        if kind in (DATA, HEADERS) and not given_up:
            raise Http2Error(ErrorCode.STREAM_CLOSED, f"a frame on stream {stream_id} after its end")

    def _end(self, stream: S) -> None:
        try:
            stream.end_received()
        except StreamError as error:
            stream.aborted(Abort.BROKEN, error.code, error.text)
        if not stream.sent:
            # The response is complete before the request is: what is left of the request is of no use to anyone.
            self.reset(stream, ErrorCode.NO_ERROR)
        else:
            del self._streams[stream.id]

    def _break(self, stream: S, error: StreamError) -> None:
        self.reset(stream, error.code)
        self._news[stream] = None
        stream.aborted(Abort.BROKEN, error.code, error.text)

    def _abort(self, stream: S, how: Abort, code: int, text: str) -> None:
        del self._streams[stream.id]
        self.sender.drop(stream)
        self._news[stream] = None
        stream.aborted(how, code, text)

    def _widen_connection(self) -> None:
        if self._receive_window < 0:
            raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "more data than the connection's window")
        self.sender.control(window_update_frame(0, OUR_CONNECTION_WINDOW - self._receive_window))
        self._receive_window = OUR_CONNECTION_WINDOW

    def _widen(self, stream: S) -> None:
        if stream.receive_window < 0:
            raise StreamError(ErrorCode.FLOW_CONTROL_ERROR, "more data than the stream's window")
        self.sender.control(window_update_frame(stream.id, OUR_STREAM_WINDOW - stream.receive_window))
        stream.receive_window = OUR_STREAM_WINDOW

    # --- frames of the connection ------------------------------------------------------------------------------------

    def _on_settings(self, flags: int, payload: bytes) -> None:
        if flags & ACK:
            if payload:
                raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS with content")
            return
        self._settings_seen += 1
        if len(payload) > SETTINGS_BYTES or self._settings_seen > SETTINGS_CHANGES:
            # Each setting costs a look at every open stream.
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "too many SETTINGS frames")
        sender = self.sender
        for key, value in dict(read_settings(payload)).items():
            if key == INITIAL_WINDOW_SIZE:
                sender.set_initial_window(value, self._streams.values())
            elif key == MAX_FRAME_SIZE:
                sender.max_frame = value
            elif key == MAX_CONCURRENT_STREAMS:
                self.max_streams = value
        sender.response(frame(SETTINGS, ACK, 0))
        if not self.peer_ready:
            self.peer_ready = sender.ready = True
            self._careful = False

    def _on_ping(self, flags: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, f"PING of {len(payload)} bytes, not 8")
        if not flags & ACK:
            self.sender.response(frame(PING, ACK, 0, payload))

    def _on_goaway(self, payload: bytes) -> None:
        """Streams above the last id were never begun; the others continue. A later GOAWAY may only lower that id."""
        if len(payload) < 8:
            raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, f"GOAWAY of {len(payload)} bytes")
        code = int.from_bytes(payload[4:8], "big")
        debug = clean_text(payload[8 : 8 + _MAX_DEBUG_BYTES].decode("utf-8", "replace"))
        self.retired = True
        self.goaway_code = code
        self.goaway_text = f"GOAWAY {error_name(code)}" + (f": {debug}" if debug else "")
        self._last_accepted = min(self._last_accepted, int.from_bytes(payload[:4], "big") & LARGEST_STREAM_ID)
        for stream in self.open_streams:
            if stream.id > self._last_accepted:
                self._abort(stream, Abort.GOAWAY, code, self.goaway_text)
