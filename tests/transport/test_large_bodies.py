"""Requests of 64 MB: they arrive whole over each protocol, and are sent from where they lie."""

from __future__ import annotations

import socket
import ssl
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import blake2b

import pytest

from exporter.core.outcome import Outcome
from exporter.core.target import Target, TlsOptions
from exporter.services.channel_factory import make_channel
from exporter.transport.call import Call, EncodedRequest
from exporter.wire.grpc_messages import frame_message
from exporter.wire.http2_frames import (
    DATA,
    END_STREAM,
    FRAME_HEADER,
    INITIAL_WINDOW_SIZE,
    PREFACE,
    settings_frame,
    window_update_frame,
)
from tests.builders import make_target
from tests.transport.certificates import Certificates
from tests.transport.grpc_peers import response
from tests.transport.scripted import OK, Ended

SIZE = 64 * 2**20
MOST_KEPT = 4 * 2**20


@pytest.fixture(scope="module")
def content() -> bytes:
    return bytes(range(256)) * (SIZE // 256)


class Reading:
    """Reads into one buffer, so that what the server takes in costs no memory that counts."""

    def __init__(self, sock: socket.socket) -> None:
        self._file = sock.makefile("rb", 1 << 18)
        self._buffer = memoryview(bytearray(1 << 18))
        self.digest = blake2b()

    def exactly(self, size: int) -> bytes:
        return bytes(self._file.read(size))

    def until_empty_line(self) -> None:
        while self._file.readline().strip():
            pass

    def digested(self, size: int) -> None:
        while size:
            count = self._file.readinto(self._buffer[: min(size, len(self._buffer))])  # type: ignore[attr-defined]
            assert count, "the client closed"
            self.digest.update(self._buffer[:count])
            size -= count


def read_http(sock: socket.socket) -> str:
    reading = Reading(sock)
    reading.until_empty_line()
    reading.digested(SIZE)
    sock.sendall(OK)
    return reading.digest.hexdigest()


def read_http2(sock: socket.socket) -> str:
    sock.sendall(settings_frame({INITIAL_WINDOW_SIZE: 2 * SIZE}) + window_update_frame(0, 2 * SIZE))
    reading = Reading(sock)
    reading.exactly(len(PREFACE))
    flags, kind, prefix = 0, 0, 5
    while not (kind == DATA and flags & END_STREAM):
        head, flags, stream_id = FRAME_HEADER.unpack(reading.exactly(9))
        kind, size = head & 0xFF, head >> 8
        if kind == DATA:
            reading.exactly(prefix)
            reading.digested(size - prefix)
            prefix = 0
        else:
            reading.exactly(size)
    sock.sendall(response(stream_id))
    return reading.digest.hexdigest()


@contextmanager
def server(scheme: str, certificates: Certificates) -> Iterator[tuple[Target, Future[str]]]:
    """A target whose server takes one request; what it read is the future's, as a digest."""
    is_grpc, is_tls = scheme.startswith("grpc"), scheme.endswith("s")

    def serve() -> str:
        sock, _address = listening.accept()
        if is_tls:
            context: ssl.SSLContext = certificates.server_context(alpn="h2" if is_grpc else "http/1.1")
            sock = context.wrap_socket(sock, server_side=True)
        with sock:
            return (read_http2 if is_grpc else read_http)(sock)

    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as threads:
        target = make_target(
            scheme=scheme, port=listening.getsockname()[1], tls=TlsOptions(ca_file=str(certificates.ca))
        )
        yield target, threads.submit(serve)


@pytest.mark.parametrize("scheme", ["http", "https", "grpc", "grpcs"])
async def test_it_arrives_whole_and_is_not_copied(certificates: Certificates, content: bytes, scheme: str) -> None:
    if scheme.startswith("grpc"):
        request = EncodedRequest(b"", frame_message(content))
    else:
        request = EncodedRequest(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % SIZE, content)
    with server(scheme, certificates) as (target, received):
        ended = Ended()
        channel = make_channel(target, ended)
        call = Call(0)
        tracemalloc.start()
        channel.send(call, request)
        assert await ended.wait() == (Outcome.OK, "")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        await channel.close()
        assert received.result(10) == blake2b(content).hexdigest()
    assert peak < MOST_KEPT
    assert call.sent_ns < call.send_done_ns <= call.first_ns <= call.last_ns
    assert call.bytes_out > SIZE
