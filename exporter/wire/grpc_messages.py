"""gRPC's messages as bytes: a flag, a length, the content, compressed or not ("Length-Prefixed-Message").

Owns framing and compression both ways, and their bounds. Knows neither streams nor statuses.
"""

from __future__ import annotations

import zlib
from struct import Struct

from exporter.wire.codings import WINDOW_BITS, compress
from exporter.wire.http2_frames import ErrorCode, StreamError

ACCEPTED_ENCODINGS = "identity, deflate, gzip"
"""What we can read, as in `grpc-accept-encoding`. "deflate" is zlib's format (RFC 1950)."""

MESSAGE_PREFIX = Struct(">BI")
_MORE = " (the target's max_response sets it for the load)"


def frame_message(message: bytes, encoding: str = "identity") -> bytes:
    """A message with its prefix, compressed if `encoding` is gzip or deflate."""
    if encoding == "identity":
        return MESSAGE_PREFIX.pack(0, len(message)) + message
    packed = compress(message, encoding)
    return MESSAGE_PREFIX.pack(1, len(packed)) + packed


class MessageReader:
    """Cuts a stream's DATA into messages, wherever it was cut before. Raises StreamError.

    With `keep` it returns their contents; the caller takes them away before it reads more. Without, uncompressed
    content is passed over, so that a large response costs no copy. What is held is at most one message, and what one
    `read` unpacks at most `max_bytes`.
    """

    __slots__ = ("_compressed", "_content", "_encoding", "_keep", "_left", "_max_bytes", "_prefix", "_unpacked_bytes")

    def __init__(self, encoding: str, keep: bool, max_bytes: int) -> None:
        self._encoding = encoding
        self._keep = keep
        self._max_bytes = max_bytes
        self._prefix = b""
        self._compressed = False
        self._left = 0
        self._content = bytearray()
        self._unpacked_bytes = 0

    @property
    def inside(self) -> bool:
        """Whether a message has begun and is not complete."""
        return self._left > 0 or bool(self._prefix)

    @property
    def held(self) -> int:
        """Bytes of the message that has begun."""
        return len(self._content)

    def read(self, data: bytes | memoryview, start: int, stop: int, messages: list[bytes]) -> int:
        """Takes `data[start:stop]`, appends the completed messages (with `keep`), returns how many they are."""
        completed = 0
        self._unpacked_bytes = 0
        while start < stop:
            if not self._left:
                taken = min(5 - len(self._prefix), stop - start)
                self._prefix += data[start : start + taken]
                start += taken
                if len(self._prefix) < 5:
                    break
                self._begin()
            taken = min(self._left, stop - start)
            if self._keep or self._compressed:
                self._content += data[start : start + taken]
            start += taken
            self._left -= taken
            if not self._left:
                completed += 1
                self._complete(messages)
        return completed

    def _begin(self) -> None:
        compressed, self._left = MESSAGE_PREFIX.unpack(self._prefix)
        self._prefix = b""
        if compressed > 1:
            raise StreamError(ErrorCode.CANCEL, f"not a gRPC message: its compression flag is {compressed}")
        if compressed and self._encoding not in WINDOW_BITS:
            raise StreamError(ErrorCode.CANCEL, f"a compressed message, but grpc-encoding is {self._encoding!r}")
        self._compressed = bool(compressed)
        if self._left > self._max_bytes:
            text = f"a message of {self._left} bytes, at most {self._max_bytes} are taken{_MORE}"
            raise StreamError(ErrorCode.CANCEL, text)

    def _complete(self, messages: list[bytes]) -> None:
        message = self._unpack() if self._compressed else bytes(self._content)
        self._content = bytearray()
        if self._keep:
            messages.append(message)

    def _unpack(self) -> bytes:
        decompressor = zlib.decompressobj(WINDOW_BITS[self._encoding])
        space = self._max_bytes - self._unpacked_bytes
        try:
            message = decompressor.decompress(self._content, space + 1)
        except zlib.error as error:
            raise StreamError(ErrorCode.CANCEL, f"the {self._encoding} message is invalid: {error}") from None
        if len(message) > space:
            raise StreamError(ErrorCode.CANCEL, f"a message that unpacks to more than {self._max_bytes} bytes{_MORE}")
        if not decompressor.eof or decompressor.unused_data:
            raise StreamError(ErrorCode.CANCEL, f"the {self._encoding} message is cut off, or followed by other bytes")
        if self._keep:
            self._unpacked_bytes += len(message)
        return message
