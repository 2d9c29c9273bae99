"""Server-sent events: bytes in, events out. No IO, no clock.

Follows the HTML standard's event stream format (section 9.2.6): lines end with LF, CR or CRLF, several `data` lines are
joined with LF, lines that begin with a colon are comments, and a blank line ends an event. Fields stay bytes: who reads
them decodes them. Owns the limits on a line and on an event.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from exporter.core.bounds import SSE_EVENT
from exporter.core.errors import ProtocolError

MAX_EVENT_BYTES = SSE_EVENT

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class SseEvent(NamedTuple):
    """An event: its data, its type (b"" where the server names none: a message), and the last id that was set."""

    data: bytes
    type: bytes = b""
    id: bytes = b""


class SseParser:
    """The events of one response. Feed it what comes, however it is split; an event is given out with the byte that
    completes its blank line. What follows the last blank line is no event, as the standard has it."""

    __slots__ = ("_after_cr", "_data", "_held", "_id", "_line", "_line_bytes", "_start", "_type")

    def __init__(self) -> None:
        self._start = b""
        self._line: list[bytes] = []
        self._line_bytes = 0
        self._after_cr = False
        self._data: list[bytes] = []
        self._held = 0
        self._type = b""
        self._id = b""

    def feed(self, data: bytes | bytearray) -> list[SseEvent]:
        """The events that these bytes complete, in order. Raises ProtocolError beyond the limit."""
        text = bytes(data)
        if len(self._start) < len(_BYTE_ORDER_MARK):
            text = self._without_mark(text)
        if self._after_cr and text:
            # Its line was taken with the CR, so that nothing waits for more; this LF is of the same line end.
            text = text.removeprefix(b"\n")
            self._after_cr = False
        if self._is_one_message(text):
            return [SseEvent(text[6:-2], b"", self._id)]
        first, *others = _LINE_END.split(text)
        self._line.append(first)
        self._line_bytes += len(first)
        events: list[SseEvent] = []
        for following in others:
            line = self._line[0] if len(self._line) == 1 else b"".join(self._line)
            if line:
                self._take(line)
            elif (event := self._complete()) is not None:
                events.append(event)
            self._line, self._line_bytes = [following], len(following)
        if others and text.endswith(b"\r"):
            self._after_cr = True
        self._check(self._line_bytes)
        return events

    def _is_one_message(self, text: bytes) -> bool:
        """Whether this is what nearly every read is: one event of one line of data, and nothing else. Hot."""
        return (
            text.startswith(b"data: ")
            and text.endswith(b"\n\n")
            and text.find(b"\n") == len(text) - 2
            and b"\r" not in text
            and len(text) < MAX_EVENT_BYTES
            and not (self._line_bytes or self._data or self._type)
        )

    def _without_mark(self, text: bytes) -> bytes:
        """The bytes after a byte order mark, which may be at the very beginning; nothing while that is not sure."""
        begun = self._start + text
        if len(begun) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(begun):
            self._start = begun
            return b""
        self._start = _BYTE_ORDER_MARK  # seen to
        return begun.removeprefix(_BYTE_ORDER_MARK)

    @property
    def is_inside(self) -> bool:
        """Whether an event has begun and its blank line has not come: at the end of a response it was cut off."""
        return bool(self._line_bytes or self._data)

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if name == b"data":
            self._held += len(value) + 1
            self._check(0)
            self._data.append(value)
        elif name == b"event":
            self._check(len(value))
            self._type = value
        elif name == b"id" and b"\0" not in value:
            self._check(len(value))
            self._id = value

    def _complete(self) -> SseEvent | None:
        """The event that a blank line ends; one without data is none."""
        event = SseEvent(b"\n".join(self._data), self._type, self._id) if self._data else None
        self._data, self._held, self._type = [], 0, b""
        return event

    def _check(self, more: int) -> None:
        if self._held + more > MAX_EVENT_BYTES:
            raise ProtocolError(f"a server-sent event of more than {MAX_EVENT_BYTES} bytes")
