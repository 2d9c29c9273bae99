"""gRPC over one HTTP/2 stream, without IO: a call's header block, the messages of its response, the status that ends
it.

Owns the part of the specification "gRPC over HTTP2" about requests and responses: `grpc-timeout`, trailers, responses
that are trailers only, and responses of something that is not gRPC at all. Knows no service.
"""

from __future__ import annotations

import base64
import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import unquote

from exporter.core.bounds import GRPC_MESSAGE
from exporter.core.untrusted_text import clean_location, clean_text
from exporter.wire.grpc_messages import ACCEPTED_ENCODINGS, MESSAGE_PREFIX, MessageReader
from exporter.wire.hpack_blocks import HeaderBlock, encode_block
from exporter.wire.http2 import Abort, Stream
from exporter.wire.http2_frames import ErrorCode, StreamError


class Code(enum.IntEnum):
    """gRPC's status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


_CODE_OF_HTTP = {
    400: Code.INTERNAL,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.UNIMPLEMENTED,
    429: Code.UNAVAILABLE,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.UNAVAILABLE,
}
"""The specification's page "HTTP to gRPC Status Code Mapping"; all others are UNKNOWN."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a call ended. `abort` means that it was not by a status from the server: the code is then UNAVAILABLE where
    the server never began, else INTERNAL. `pushback_ns` is how long the server wants us to wait, None if not
    reported."""

    code: Code
    message: str = ""
    abort: Abort | None = None
    pushback_ns: int | None = None


OK = Status(Code.OK)

_NS_PER_UNIT = ((b"n", 1), (b"u", 10**3), (b"m", 10**6), (b"S", 10**9), (b"M", 60 * 10**9), (b"H", 3600 * 10**9))
_LARGEST_TIMEOUT = 99_999_999


def encode_timeout(timeout_ns: int) -> str:
    """The value of `grpc-timeout`: at most 8 digits, in the finest unit in which they are enough, rounded up.
    A time-out that has passed already is sent as the shortest there is, since 0 is not allowed."""
    for unit, ns in _NS_PER_UNIT:
        amount = max(1, -(-timeout_ns // ns))
        if amount <= _LARGEST_TIMEOUT:
            return f"{amount}{unit.decode()}"
    return f"{_LARGEST_TIMEOUT}H"


def request_block(
    *,
    scheme: str,
    authority: str,
    path: str,
    user_agent: str,
    timeout_ns: int | None = None,
    encoding: str = "identity",
    metadata: Iterable[tuple[str, str]] = (),
) -> bytes:
    """The header block of a call; it is the same for every call, so that it need be made only once."""
    fields = [(":method", "POST"), (":scheme", scheme), (":path", path), (":authority", authority)]
    if timeout_ns is not None:
        fields.append(("grpc-timeout", encode_timeout(timeout_ns)))
    fields += [("te", "trailers"), ("content-type", "application/grpc"), ("user-agent", user_agent)]
    if encoding != "identity":
        fields.append(("grpc-encoding", encoding))
    fields.append(("grpc-accept-encoding", ACCEPTED_ENCODINGS))
    fields += [(name.lower(), _on_the_wire(name, value)) for name, value in metadata]
    return encode_block(fields)


def _on_the_wire(name: str, value: str) -> str:
    """A value whose name ends so is bytes, which travel as base64."""
    return base64.b64encode(value.encode("latin-1")).decode().rstrip("=") if name.lower().endswith("-bin") else value


class Rpc(Stream):
    """One call, unary or streaming. `started` is whether the response has begun; `status` is None until the call has
    ended, however it did. `size` is how many bytes of messages came, with their prefixes.

    With `keep`, `take_messages` gives what came since it was last called, which is to be after each `receive`; without,
    messages are only counted.
    """

    __slots__ = ("_head", "_messages", "_reader", "_trailers", "message_count", "size", "status")

    keep: ClassVar[bool] = True
    max_message_bytes: ClassVar[int] = GRPC_MESSAGE

    def __init__(self) -> None:
        super().__init__()
        self.status: Status | None = None
        self.message_count = 0
        self.size = 0
        self._messages: list[bytes] = []
        self._reader: MessageReader | None = None
        self._head: HeaderBlock | None = None
        self._trailers: HeaderBlock | None = None

    @property
    def held(self) -> int:
        """Bytes of messages that are kept, in whole or in part."""
        return sum(map(len, self._messages)) + (self._reader.held if self._reader is not None else 0)

    @property
    def started(self) -> bool:
        return self._head is not None

    def take_messages(self) -> list[bytes]:
        """The messages that are complete, unpacked, without their prefixes."""
        taken, self._messages = self._messages, []
        return taken

    def headers_received(self, block: HeaderBlock, ended: bool) -> None:
        if self._head is not None:
            if not ended:
                raise StreamError(ErrorCode.PROTOCOL_ERROR, "trailers that do not end the stream")
            self._trailers = block
            return
        if block.status <= 0:
            raise StreamError(ErrorCode.PROTOCOL_ERROR, "a response without a :status")
        if block.status >= 200:
            self._head = block
        elif ended:
            raise StreamError(ErrorCode.PROTOCOL_ERROR, "an informational response that ends the stream")

    def data_received(self, data: bytes | memoryview, start: int, stop: int) -> None:
        if self._head is None:
            raise StreamError(ErrorCode.PROTOCOL_ERROR, "DATA before HEADERS")
        self.size += stop - start
        if self._reader is None:
            if not self._head.is_grpc:
                return
            size = stop - start - 5
            if size >= 0 and MESSAGE_PREFIX.unpack_from(data, start) == (0, size) and size <= self.max_message_bytes:
                self.message_count += 1
                if self.keep:
                    self._messages.append(bytes(data[start + 5 : stop]))
                return
            encoding = self._head.values.get(b"grpc-encoding", b"identity").decode("ascii", "replace")
            self._reader = MessageReader(encoding, self.keep, self.max_message_bytes)
        self.message_count += self._reader.read(data, start, stop, self._messages)

    def end_received(self) -> None:
        if self._head is None:
            raise StreamError(ErrorCode.PROTOCOL_ERROR, "no response")
        trailers = self._trailers or self._head
        if not trailers.is_grpc_ok:
            self.status = _failure(self._head, trailers)
        elif not self._head.is_grpc:
            raise StreamError(ErrorCode.CANCEL, _foreign_text(self._head))
        elif self._reader is not None and self._reader.inside:
            raise StreamError(ErrorCode.CANCEL, "the response ended within a message")
        else:
            self.status = OK

    def aborted(self, how: Abort, code: int, text: str) -> None:
        unseen = how in (Abort.GOAWAY, Abort.REFUSED)
        self.status = Status(Code.UNAVAILABLE if unseen else Code.INTERNAL, text, abort=how)


def _foreign_text(head: HeaderBlock) -> str:
    if 300 <= head.status < 400:
        location = head.values.get(b"location", b"nowhere").decode("utf-8", "replace")
        return f"HTTP status {head.status}, a redirect to {clean_location(location)}, which is not followed"
    kind = head.values.get(b"content-type", b"none").decode("utf-8", "replace")
    return f"HTTP status {head.status} with content-type {clean_text(kind)}: not gRPC"


def _failure(head: HeaderBlock, trailers: HeaderBlock) -> Status:
    """The status of a response that is not ok. Without a `grpc-status` HTTP's own status has to do; where that claims
    success the response makes no sense, and StreamError is raised."""
    text = trailers.values.get(b"grpc-status")
    if text is None:
        if head.status != 200:
            return Status(_CODE_OF_HTTP.get(head.status, Code.UNKNOWN), _foreign_text(head))
        raise StreamError(ErrorCode.CANCEL, "a response without grpc-status" if head.is_grpc else _foreign_text(head))
    message = unquote(trailers.values.get(b"grpc-message", b"").decode("utf-8", "replace"))
    number = int(text) if text.isdigit() and len(text) <= 2 else -1
    if number > Code.UNAUTHENTICATED or number < 0:
        return Status(Code.UNKNOWN, f"grpc-status {text[:20].decode('ascii', 'replace')}: {message}")
    pushback = trailers.values.get(b"grpc-retry-pushback-ms", b"")
    known = pushback.isdigit() and len(pushback) <= 10
    return Status(Code(number), message, pushback_ns=int(pushback) * 10**6 if known else None)
