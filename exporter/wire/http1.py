"""HTTP/1.1, the client's side: requests to bytes, bytes to one response at a time. No IO, no clock.

Owns framing and its limits; `httptools` (llhttp) parses. What is not read costs nothing: while all goes well
no header and no body becomes an object. The first bytes of the response are kept as they came, and headers or an
error's text are taken from them when needed.

A response that begins with a head seen before and is as long is not parsed again: see `_remember`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import httptools

from exporter.core.bounds import HTTP_BYTES, HTTP_HEAD, HTTP_INTERIM
from exporter.core.errors import ProtocolError
from exporter.wire.codings import decompress

MAX_HEAD_BYTES = HTTP_HEAD
MAX_RESPONSE_BYTES = HTTP_BYTES
MAX_INTERIM_RESPONSES = HTTP_INTERIM

_KEPT_BYTES = 16 * 1024
"""Of a body as it came, behind its head: enough to describe an error."""
_HEADS_LOOKED_AT = 64
"""How many responses of a connection are looked at for a head to remember: one whose heads all differ shall not pay."""
_FORBIDDEN_IN_FIELD = frozenset("\r\n\0")


def request_head(method: str, path: str, host: str, headers: Iterable[tuple[str, str]], content_length: int) -> bytes:
    """A request's head. Host and Content-Length are added; ValueError if a part holds what would end its line."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers]
    lines.append(f"Content-Length: {content_length}")
    for line in lines:
        if not _FORBIDDEN_IN_FIELD.isdisjoint(line):
            raise ValueError(f"a line end inside of {line.split(':', 1)[0]!r}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class Http1Client:
    """One connection's protocol state: at most one request is outstanding.

    `begin` when a request goes out, then `receive` until it returns True; `receive_eof` when the peer closes. Both
    raise ProtocolError; after that, and after every close, `reset` makes it fit for a new connection. The response's
    attributes and methods hold from its completion until the next `begin`.
    """

    __slots__ = (
        "_body",
        "_feed",
        "_head_end",
        "_heads",
        "_heads_left",
        "_interim",
        "_keep_body",
        "_max_bytes",
        "_outstanding",
        "_parser",
        "_problem",
        "_raw",
        "keep_alive",
        "status",
        "wire_bytes",
    )

    def __init__(self, *, keep_body: bool = False, max_bytes: int = MAX_RESPONSE_BYTES) -> None:
        self._keep_body = keep_body
        self._max_bytes = max_bytes
        self.reset()

    def reset(self) -> None:
        """Forgets everything: the next byte is the first of a new connection."""
        self._parser = httptools.HttpResponseParser(_KeepingCallbacks(self) if self._keep_body else _Callbacks(self))
        self._feed = self._parser.feed_data
        self._heads: dict[int, bytes] = {}
        self._heads_left = _HEADS_LOOKED_AT
        self._problem = ""
        self._interim = 0
        self.status = 0
        self.keep_alive = False
        self.begin()
        self._outstanding = False

    def begin(self) -> None:
        """A request was sent: its response is expected. The one before must be complete."""
        self._outstanding = True
        self._raw = b""
        self.wire_bytes = 0
        if self._keep_body:
            self._body = bytearray()

    # --- bytes in ----------------------------------------------------------------------------------------------------

    def receive(self, data: bytes | memoryview) -> bool:
        """Takes in what came from the peer (not empty); of a view, nothing is referred to afterwards. True: the
        response is complete."""
        if not self._outstanding:
            if bytes(data).strip(b"\r\n"):
                raise ProtocolError("the server sent bytes without a request")
            return False
        size = len(data)
        head = self._heads.get(size)
        if head is not None and not self.wire_bytes and data[: len(head)] == head:
            self._raw = data if isinstance(data, bytes) else bytes(data)
            self.wire_bytes = size
            self.status = 200
            self.keep_alive = True
            self._head_end = len(head)
            if self._keep_body:
                self._body += data[len(head) :]
            self._outstanding = False
            return True
        return self._parse(data)

    def _parse(self, data: bytes | memoryview) -> bool:
        if not self.wire_bytes:
            self._head_end = 0
        self.wire_bytes += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserUpgrade:
            raise ProtocolError("the server switched protocols, which was not requested") from None
        except httptools.HttpParserError as error:
            raise ProtocolError(self._problem or f"not an HTTP response: {error}") from None
        if self._problem:
            raise ProtocolError(self._problem)
        self._keep_beginning(data)
        self._check_limits()
        if self._outstanding:
            return False
        if self._heads_left and len(self._raw) == self.wire_bytes == len(data):
            self._remember(self._raw)
        return True

    def _keep_beginning(self, data: bytes | memoryview) -> None:
        """Keeps the head and the first of the body, the same bytes however they were cut."""
        taken = 0
        while True:
            size = len(self._raw)
            if self._head_end:
                limit = self._head_end + _KEPT_BYTES
            else:
                limit = _KEPT_BYTES if size < _KEPT_BYTES else MAX_HEAD_BYTES
            piece = data[taken : taken + max(limit - size, 0)]
            if not piece:
                return
            self._raw += piece
            taken += len(piece)
            if not self._head_end and (head_end := self._head_bounds()[1]):
                self._head_end = head_end
                self._raw = self._raw[: head_end + _KEPT_BYTES]

    def _remember(self, data: bytes) -> None:
        """Keeps the head of a complete response that came in one read, for `receive` to know it by.

        Sound, because the parser is between two responses then: a 200 whose framing is its Content-Length, and
        which is followed by nothing, leaves it there whatever the body holds (llhttp refuses a Transfer-Encoding or a
        second length beside it). So the same head with a body of the same length means the same, and the parser need
        not see it. A server's heads are mostly constant.
        """
        self._heads_left -= 1
        head = data[: data.find(b"\r\n\r\n") + 4]
        length_line = b"\r\ncontent-length: %d\r\n" % (len(data) - len(head))
        if self.keep_alive and head.startswith(b"HTTP/1.1 200 ") and length_line in head.lower():
            self._heads[len(data)] = head

    def _check_limits(self) -> None:
        if not self._head_end and len(self._raw) >= MAX_HEAD_BYTES:
            raise ProtocolError(f"a response head of more than {MAX_HEAD_BYTES} bytes")
        if self.wire_bytes > self._max_bytes:
            raise ProtocolError(
                f"a response of more than {self._max_bytes} bytes (the target's max_response sets it for the load)"
            )

    def receive_eof(self) -> bool:
        """The peer closed. True: that completed the response, whose end was to be the connection's. False: no byte of
        a response had come. ProtocolError: it was cut off."""
        if not self._outstanding or not self.wire_bytes:
            return False
        if self._head_bounds()[1] == 0:
            raise ProtocolError("closed in the middle of the response's head")
        encoding = self.header("transfer-encoding")
        if encoding is None:
            framed = self.header("content-length") is not None
        else:
            framed = encoding.lower().rpartition(",")[2].strip() == "chunked"
        if framed:
            raise ProtocolError("closed in the middle of the response's body")
        self.status = self._parser.get_status_code()
        self.keep_alive = False
        self._outstanding = False
        return True

    @property
    def started(self) -> bool:
        """Whether a byte of the outstanding response has come."""
        return self.wire_bytes > 0

    # --- the response ------------------------------------------------------------------------------------------------

    def header(self, name: str) -> str | None:
        """The value of the header `name` (given in lower case); several of them joined by ", "."""
        start, end = self._head_bounds()
        return read_header(self._raw[start:end], name)

    def _head_bounds(self) -> tuple[int, int]:
        """Where the head of the last response in `_raw` begins and ends; (0, 0) while it is not all there. llhttp
        insists on CR LF, and takes empty lines before a response."""
        start = 0
        while True:
            while self._raw.startswith((b"\r", b"\n"), start):
                start += 1
            end = self._raw.find(b"\r\n\r\n", start)
            if end < 0:
                return 0, 0
            if not self._raw.startswith(b"1", start + len("HTTP/1.1 ")):
                return start, end + 4
            start = end + 4

    def body_begins(self, starts: tuple[bytes, ...]) -> bool:
        """Whether the body begins with one of these: cheap, but "no" for all that is chunked or compressed."""
        return self._raw.startswith(starts, self._head_end)

    def body_start(self, limit: int) -> bytes:
        """At most the first `limit` bytes of the body, decompressed as far as possible: enough to describe an error."""
        pieces: list[bytes] = []
        parser = httptools.HttpResponseParser(_BodyOnly(pieces))
        with contextlib.suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):
            parser.feed_data(self._raw)
        try:
            return decompress(b"".join(pieces), self.header("content-encoding") or "", limit, partial=True)
        except ProtocolError:
            return b"".join(pieces)[:limit]

    def kept(self) -> tuple[bytes, bytearray]:
        """The head of the response and its body as it came, for `read_header` and `decoded_body`; nothing is copied, so
        the body is the caller's. Only with `keep_body`."""
        start, end = self._head_bounds()
        return self._raw[start:end], self._body


class Http1Stream(Http1Client):
    """The same for responses whose body is looked at while it comes: `take_body` after each `receive`."""

    __slots__ = ()

    def __init__(self, *, keep_body: bool = True, max_bytes: int = MAX_RESPONSE_BYTES) -> None:
        super().__init__(keep_body=True, max_bytes=max_bytes)

    @property
    def head_status(self) -> int:
        """The status of the response whose head is complete; 0 before."""
        return int(self._parser.get_status_code()) if self._head_bounds()[1] else 0

    def take_body(self) -> bytearray:
        """What came of the body since the last time."""
        body = self._body
        if body:
            self._body = bytearray()
        return body


def read_header(head: bytes, name: str) -> str | None:
    """The value of the header `name` (given in lower case) in the head of a response; several of them joined by ",
    "."""
    values = []
    for line in head.decode("latin-1").split("\r\n")[1:]:
        key, _colon, value = line.partition(":")
        if key.lower() == name:
            values.append(value.strip(" \t"))
    return ", ".join(values) if values else None


def decoded_body(head: bytes, body: bytes | bytearray) -> bytes:
    """The whole body of a response with this head, decompressed. ProtocolError: it can't be decompressed, or grows
    beyond `MAX_RESPONSE_BYTES`."""
    return decompress(bytes(body), read_header(head, "content-encoding") or "", MAX_RESPONSE_BYTES)


class _Callbacks:
    """What llhttp calls back. The fewer methods, the fewer calls and objects in a response."""

    __slots__ = ("_client",)

    def __init__(self, client: Http1Client) -> None:
        self._client = client

    def on_message_begin(self) -> None:
        if not self._client._outstanding:
            self._client._problem = "bytes after a complete response"

    def on_message_complete(self) -> None:
        client = self._client
        status = client._parser.get_status_code()
        if status >= 200:
            client.status = status
            client.keep_alive = client._parser.should_keep_alive()
            client._interim = 0
            client._outstanding = False
            return
        client._interim += 1
        if client._interim > MAX_INTERIM_RESPONSES:
            client._problem = f"more than {MAX_INTERIM_RESPONSES} interim responses"


class _KeepingCallbacks(_Callbacks):
    __slots__ = ()

    def on_body(self, data: bytes) -> None:
        self._client._body += data


class _BodyOnly:
    __slots__ = ("on_body",)

    def __init__(self, pieces: list[bytes]) -> None:
        self.on_body = pieces.append
