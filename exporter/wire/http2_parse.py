"""HTTP/2's incoming bytes as frames, however they were cut (RFC 9113, sections 4 and 6.10).

Owns what has come in part: a frame that is held until it is whole, a DATA frame that is passed on in pieces, a header
block over several frames. What a frame means is for the subclass. What is held is bounded whatever the peer sends.
"""

from __future__ import annotations

from exporter.core.bounds import HEADER_FLOOD, HEADER_FRAMES, HTTP2_FRAME
from exporter.wire.http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    SETTINGS,
    ErrorCode,
    Http2Error,
    unpad,
)

OUR_FRAME_SIZE = HTTP2_FRAME
"""The SETTINGS_MAX_FRAME_SIZE that we announce, and so the most that is held of one frame."""

_STREAM_ID = 0x7FFF_FFFF
_UNUSUAL_HEADERS = END_HEADERS | PADDED | HAS_PRIORITY


class FrameParser:
    """Cuts bytes into frames. `peer_ready` turns true with the peer's SETTINGS, which must come first."""

    def __init__(self) -> None:
        self.peer_ready = False
        self._careful = True
        self._held = bytearray()
        self._held_needs = 0
        self._data_left = 0
        self._data_id = 0
        self._data_ends = False
        self._block = bytearray()
        self._block_id = 0
        self._block_ends = 0
        self._block_frames = 0

    def _on_data(self, stream_id: int, data: bytes | memoryview, start: int, stop: int, flow: int) -> None:
        """A DATA frame, or a part of one: its content is `data[start:stop]`. `flow` is what it takes from the
        windows: the whole frame's length with its first part, 0 with the others."""
        raise NotImplementedError

    def _on_data_end(self, stream_id: int) -> None:
        """The last of a stream's DATA, which was given before, had END_STREAM."""
        raise NotImplementedError

    def _on_block(self, stream_id: int, block: bytes, ends: int) -> None:
        """A whole header block; `ends` is true if it had END_STREAM."""
        raise NotImplementedError

    def _on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Any other frame; unknown kinds too, which are to be ignored."""
        raise NotImplementedError

    def _parse(self, data: bytes | memoryview) -> None:
        """Calls the methods above for all that `data` completes; of a view, nothing is referred to afterwards. Raises
        Http2Error."""
        if self._held_needs:
            self._held += data
            if len(self._held) < self._held_needs:
                return
            data = bytes(self._held)
            self._held.clear()
            self._held_needs = 0
        position = self._more_data(data) if self._data_left else 0
        size = len(data)
        while size - position >= 9:
            head, flags, stream_id = FRAME_HEADER.unpack_from(data, position)
            kind = head & 0xFF
            stream_id &= _STREAM_ID
            start = position + 9
            position = start + (head >> 8)
            if position > size or self._careful:
                self._check_frame(kind, flags, stream_id, position - start, data)
                if position > size:
                    self._begin_frame(kind, flags, stream_id, data, start)
                    return
            if kind == DATA and not flags & PADDED:
                self._on_data(stream_id, data, start, position, position - start)
                if flags & END_STREAM:
                    self._on_data_end(stream_id)
                continue
            payload = data[start:position]
            if isinstance(payload, memoryview):
                payload = bytes(payload)
            if kind == HEADERS and flags & _UNUSUAL_HEADERS == END_HEADERS:
                self._on_block(stream_id, payload, flags & END_STREAM)
            else:
                self._on_unusual(kind, flags, stream_id, payload)
        if position < size:
            self._hold(data, position)

    def _begin_frame(self, kind: int, flags: int, stream_id: int, data: bytes | memoryview, start: int) -> None:
        """A frame of which the end is still to come; its content begins at `start`."""
        if kind == DATA and not flags & PADDED:
            self._part_of_data(flags, stream_id, data, start, int.from_bytes(data[start - 9 : start - 6], "big"))
        else:
            self._hold(data, start - 9)

    def _hold(self, data: bytes | memoryview, position: int) -> None:
        """Keeps a frame that has come in part, and how long it will be: no second look before all of it is there."""
        self._held += data[position:]
        self._held_needs = 9
        if len(self._held) >= 9:
            self._held_needs += int.from_bytes(self._held[:3], "big")

    def _check_frame(self, kind: int, flags: int, stream_id: int, length: int, data: bytes | memoryview) -> None:
        """Before more of a frame is awaited, and where not every frame may come: is it one that we will take?"""
        if not self.peer_ready and (kind != SETTINGS or flags & ACK):
            what = "HTTP/1" if data[:6] == b"HTTP/1" else "something else"
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, f"the server speaks {what}, not HTTP/2")
        if self._block_id and (kind != CONTINUATION or stream_id != self._block_id):
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "another frame within a header block")
        if length > OUR_FRAME_SIZE:
            raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")

    # --- DATA in pieces ----------------------------------------------------------------------------------------------

    def _part_of_data(self, flags: int, stream_id: int, data: bytes | memoryview, start: int, length: int) -> None:
        """The first piece of a DATA frame."""
        self._data_id = stream_id
        self._data_ends = bool(flags & END_STREAM)
        self._data_left = length - (len(data) - start)
        self._on_data(stream_id, data, start, len(data), length)

    def _more_data(self, data: bytes | memoryview) -> int:
        """The next piece of a DATA frame; returns where the rest begins."""
        stop = min(len(data), self._data_left)
        self._data_left -= stop
        self._on_data(self._data_id, data, 0, stop, 0)
        if self._data_ends and not self._data_left:
            self._on_data_end(self._data_id)
        return stop

    # --- HEADERS and CONTINUATION ------------------------------------------------------------------------------------

    def _on_unusual(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == HEADERS:
            self._on_headers(flags, stream_id, payload)
        elif kind == CONTINUATION:
            self._on_continuation(flags, stream_id, payload)
        elif kind == DATA:
            content = unpad(flags, payload)
            self._on_data(stream_id, content, 0, len(content), len(payload))
            if flags & END_STREAM:
                self._on_data_end(stream_id)
        else:
            self._on_frame(kind, flags, stream_id, payload)

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        payload = unpad(flags, payload)
        if flags & HAS_PRIORITY:
            if len(payload) < 5:
                raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "HEADERS too short for its priority")
            payload = payload[5:]
        if flags & END_HEADERS:
            self._on_block(stream_id, payload, flags & END_STREAM)
            return
        if not stream_id:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "HEADERS on stream 0")
        self._careful = True
        self._block_id = stream_id
        self._block_ends = flags & END_STREAM
        self._block_frames = 1
        self._block[:] = payload

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not self._block_id:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._block += payload
        self._block_frames += 1
        if len(self._block) > HEADER_FLOOD or self._block_frames > HEADER_FRAMES:
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "the header block is too long")
        if flags & END_HEADERS:
            self._block_id = 0
            self._careful = False
            self._on_block(stream_id, bytes(self._block), self._block_ends)
