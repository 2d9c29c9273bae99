"""What an endpoint speaks, found out by speaking to it: one question over HTTP/1.1, an HTTP/2 preface, a TLS handshake.

For an endpoint that has already failed to respond as it should. Sends no header of the target's: whoever listens there
may not be who is meant to read them. Reads little, and waits little. Knows nothing of what the finding means.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from exporter.core.errors import TransportError
from exporter.core.target import Target
from exporter.core.untrusted_text import clean_location, clean_text
from exporter.transport.dial import dial
from exporter.transport.tls import certificate_expiry_unix_s, certificate_names
from exporter.wire.http1 import read_header, request_head

LOOK_SECONDS = 2.0
"""For each question."""
_READ_BYTES = 16 * 1024
_SHOWN = 80
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04\x00" + bytes(4)
"""RFC 9113, section 3.4: the client's preface with an empty SETTINGS frame."""
_SETTINGS = 4


@dataclass(frozen=True, slots=True)
class HttpSeen:
    """An HTTP/1.x response in short; its texts are cleaned."""

    status: int
    server: str = ""
    location: str = ""
    content_type: str = ""
    challenge: str = ""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class TlsSeen:
    """A server that speaks TLS, whatever its certificate: the protocol that it chose ("" for none), when the
    certificate expires, and its names."""

    alpn: str
    expiry_unix_s: float | None
    names: tuple[str, ...]


async def ask_http(target: Target, path: str, *, over_tls: bool) -> HttpSeen | None:
    """The response to GET `path`; None where nothing came back that is HTTP/1.x."""
    head = request_head("GET", path, target.sent_authority, [("Connection", "close")], 0)
    async with _connected(target, over_tls, ["http/1.1"]) as streams:
        if streams is None:
            return None
        raw = await _exchange(streams, head, b"\r\n\r\n")
    return _parsed(raw)


async def speaks_http2(target: Target) -> bool:
    """Whether the server responds to an HTTP/2 preface, without TLS, with its SETTINGS: gRPC does."""
    async with _connected(target, False, []) as streams:
        if streams is None:
            return False
        raw = await _exchange(streams, _PREFACE, b"", at_least=9)
    return len(raw) >= 9 and raw[3] == _SETTINGS and raw[5:9] == bytes(4)


async def shake_hands(target: Target) -> TlsSeen | None:
    """What a TLS handshake shows, without verification; None where the server does not speak TLS."""
    async with _connected(target, True, ["h2", "http/1.1"]) as streams:
        if streams is None:
            return None
        session = streams[1].get_extra_info("ssl_object")
        certificate = session.getpeercert(binary_form=True) or b""
        names = tuple(clean_text(name, _SHOWN) for name in certificate_names(certificate)[:5])
        return TlsSeen(session.selected_alpn_protocol() or "", certificate_expiry_unix_s(certificate), names)


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def _connected(target: Target, over_tls: bool, alpn: list[str]) -> AsyncIterator[_Streams | None]:
    """A connection to the target's host and port; None where there is none, or no TLS."""
    plain = replace(target, scheme="http", connect_timeout_ns=min(target.connect_timeout_ns, int(LOOK_SECONDS * 10**9)))
    streams: _Streams | None = None
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            dialled = await dial(plain, [])
            if over_tls:
                name = target.tls_name
                context = _unverified(alpn)
                streams = await asyncio.open_connection(sock=dialled.sock, ssl=context, server_hostname=name)
            else:
                streams = await asyncio.open_connection(sock=dialled.sock)
    except (TransportError, OSError, ValueError, TimeoutError):
        streams = None
    try:
        yield streams
    finally:
        if streams is not None:
            streams[1].transport.abort()


def _unverified(alpn: list[str]) -> ssl.SSLContext:
    """Nothing is sent over it that is worth a verification."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(alpn)
    return context


async def _exchange(streams: _Streams, question: bytes, end: bytes, at_least: int = 0) -> bytes:
    """What comes back: up to the end of the connection, or to what was read when the time was up."""
    reader, writer = streams
    received = b""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(LOOK_SECONDS):
            writer.write(question)
            while len(received) < _READ_BYTES and not (at_least and len(received) >= at_least):
                part = await reader.read(_READ_BYTES - len(received))
                if not part:
                    break
                received += part
                if end and _is_complete(received):
                    break
    return received


def _is_complete(raw: bytes) -> bool:
    """Whether a response with a length has come in whole: a server need not close, though it was asked to."""
    head, separator, body = raw.partition(b"\r\n\r\n")
    if not separator:
        return False
    length = read_header(head + separator, "content-length")
    return length is not None and length.isdigit() and len(body) >= int(length[:12])


def _parsed(raw: bytes) -> HttpSeen | None:
    head, _, body = raw.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit() or len(words[1]) != 3:
        return None
    head += b"\r\n\r\n"

    def header(name: str) -> str:
        return clean_text(read_header(head, name) or "", _SHOWN)

    return HttpSeen(
        status=int(words[1]),
        server=header("server"),
        location=clean_location(read_header(head, "location") or "", _SHOWN),
        content_type=header("content-type").partition(";")[0].lower(),
        challenge=header("www-authenticate"),
        body=body,
    )
