"""The sending half of an HTTP/2 connection: windows, slices, and whose turn it is (RFC 9113, sections 5.2 and 6.9).

Owns the bytes that wait to be sent. A large body stays where it lies and goes out in slices between frame headers, one
frame of each stream in turn. Knows nothing of the peer's responses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from exporter.core.bounds import HTTP2_ACKNOWLEDGEMENTS
from exporter.wire.http2_frames import (
    CONTINUATION,
    DATA,
    DEFAULT_FRAME_SIZE,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER,
    HEADERS,
    LARGEST_WINDOW,
    ErrorCode,
    Http2Error,
    StreamError,
    frame,
)

Buffer = bytes | memoryview


class SendState:
    """What the sender knows of one stream. `sent` turns true when its last byte has been handed out."""

    __slots__ = ("ends", "id", "pending", "queued", "send_window", "sent")

    def __init__(self) -> None:
        self.id = 0
        self.send_window = 0
        self.pending: deque[memoryview] | None = None
        self.ends = False
        self.queued = False
        self.sent = False


class Http2Sender:
    """Frames on their way out. `ready` means that the peer's SETTINGS are known: no message over 16 KiB goes before.
    `queue` holds the streams whose large bodies are going out: while it is not empty, `take` gives large parts."""

    def __init__(self) -> None:
        self.ready = False
        self.max_frame = DEFAULT_FRAME_SIZE
        self.window = DEFAULT_WINDOW
        self.initial_window = DEFAULT_WINDOW
        self._out: list[Buffer] = []
        self.queue: deque[SendState] = deque()
        self._acknowledgements_waiting = 0

    # --- in ----------------------------------------------------------------------------------------------------------

    def control(self, data: bytes) -> None:
        """A frame (or several) that no window holds back."""
        self._out.append(data)

    def response(self, data: bytes) -> None:
        """A frame that the peer's own frame asked for. Raises Http2Error if it asks and asks but does not read."""
        self._acknowledgements_waiting += 1
        if self._acknowledgements_waiting > HTTP2_ACKNOWLEDGEMENTS:
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "too many PING or SETTINGS frames")
        self._out.append(data)

    def start(self, stream: SendState, block: bytes, body: Buffer, ends: bool) -> None:
        """Sends a stream's header block and its first message. `stream.id` is set."""
        size = len(body)
        initial = self.initial_window
        out = self._out
        if len(block) <= DEFAULT_FRAME_SIZE:
            out.append(FRAME_HEADER.pack(len(block) << 8 | HEADERS, END_HEADERS, stream.id))
            out.append(block)
        else:
            self._long_block(stream.id, block)
        if 0 < size <= DEFAULT_FRAME_SIZE and size <= self.window and size <= initial and not self.queue:
            out.append(FRAME_HEADER.pack(size << 8, ends, stream.id))
            out.append(body)
            self.window -= size
            stream.send_window = initial - size
            stream.sent = ends
        else:
            stream.send_window = initial
            self.send(stream, body, ends)

    def send(self, stream: SendState, body: Buffer, ends: bool) -> None:
        """Queues more of a stream's body; `ends` closes our side after it."""
        assert not stream.ends
        stream.ends = ends
        size = len(body)
        if (
            0 < size <= DEFAULT_FRAME_SIZE
            and size <= self.window
            and size <= stream.send_window
            and not (self.queue or stream.pending)
        ):
            self._out.append(FRAME_HEADER.pack(size << 8, ends, stream.id))
            self._out.append(body)
            self.window -= size
            stream.send_window -= size
            stream.sent = ends
            return
        if size:
            if stream.pending is None:
                stream.pending = deque()
            stream.pending.append(memoryview(body))
        if stream.pending:
            self._enqueue(stream)
        elif ends:
            self._out.append(frame(DATA, END_STREAM, stream.id))
            stream.sent = True

    def drop(self, stream: SendState) -> None:
        """Forgets what the stream has not sent yet."""
        stream.pending = None
        if stream.queued:
            self.queue.remove(stream)
            stream.queued = False

    def _long_block(self, stream_id: int, block: bytes) -> None:
        """A block over several frames; nothing may come between them (section 6.10)."""
        kind = HEADERS
        for start in range(0, len(block), DEFAULT_FRAME_SIZE):
            flags = END_HEADERS if start + DEFAULT_FRAME_SIZE >= len(block) else 0
            self._out.append(frame(kind, flags, stream_id, block[start : start + DEFAULT_FRAME_SIZE]))
            kind = CONTINUATION

    # --- windows -----------------------------------------------------------------------------------------------------

    def grow(self, increment: int) -> None:
        """The peer has capacity for more on the connection."""
        if increment == 0:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
        self.window += increment
        if self.window > LARGEST_WINDOW:
            raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "the connection's flow-control window overflowed")

    def grow_stream(self, stream: SendState, increment: int) -> None:
        """The peer has capacity for more on a stream."""
        if increment == 0:
            raise StreamError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
        self._shift(stream, increment)
        if stream.send_window > LARGEST_WINDOW:
            raise StreamError(ErrorCode.FLOW_CONTROL_ERROR, "the stream's flow-control window overflowed")

    def set_initial_window(self, size: int, streams: Iterable[SendState]) -> None:
        """A new SETTINGS_INITIAL_WINDOW_SIZE moves the window of every open stream, below zero if need be (6.9.2)."""
        change = size - self.initial_window
        self.initial_window = size
        for stream in streams:
            self._shift(stream, change)
            if stream.send_window > LARGEST_WINDOW:
                raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "a stream's flow-control window overflowed by SETTINGS")

    def _shift(self, stream: SendState, change: int) -> None:
        stream.send_window += change
        if stream.pending:
            self._enqueue(stream)

    def _enqueue(self, stream: SendState) -> None:
        if not stream.queued and stream.send_window > 0:
            stream.queued = True
            self.queue.append(stream)

    # --- out ---------------------------------------------------------------------------------------------------------

    def take(self, limit: int) -> list[Buffer]:
        """What is to be written now, in order: all frames that no window holds back, and about `limit` bytes of
        bodies, as far as the peer's windows allow. Bodies are views of what was given, not copies."""
        if self.queue and self.ready:
            self._slice_bodies(limit)
        taken, self._out = self._out, []
        self._acknowledgements_waiting = 0
        return taken

    def _slice_bodies(self, limit: int) -> None:
        queue = self.queue
        while queue and self.window > 0 and limit > 0:
            stream = queue.popleft()
            stream.queued = False
            if stream.send_window <= 0:
                continue  # SETTINGS took its window away while it waited; more window brings it back
            limit -= self._slice(stream, self.max_frame if queue else limit)
            if stream.pending:
                self._enqueue(stream)

    def _slice(self, stream: SendState, limit: int) -> int:
        """DATA frames of a stream that may send, of one message and until they hold `limit` bytes."""
        pending, frame_size, out = stream.pending, self.max_frame, self._out
        assert pending
        body = pending[0]
        size = min(len(body), self.window, stream.send_window, -(-limit // frame_size) * frame_size)
        if size == len(body):
            pending.popleft()
        else:
            pending[0] = body[size:]
        stream.sent = stream.ends and not pending
        self.window -= size
        stream.send_window -= size
        last = (size - 1) // frame_size * frame_size
        head = FRAME_HEADER.pack(frame_size << 8, 0, stream.id)
        for start in range(0, last, frame_size):
            out.append(head)
            out.append(body[start : start + frame_size])
        out.append(FRAME_HEADER.pack((size - last) << 8, stream.sent, stream.id))
        out.append(body[last:size])
        return size
