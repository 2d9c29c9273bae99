"""gRPC calls of every shape against grpcio's server: the cores alone, on a blocking socket."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from exporter.wire.grpc import OK, Code, Rpc, request_block
from exporter.wire.grpc_messages import frame_message
from exporter.wire.http2 import Http2Connection
from tests.waiting import PATIENCE_SECONDS


def _echo(request: bytes, context: Any) -> bytes:
    return request


def _deny(request: bytes, context: Any) -> bytes:
    context.abort(grpc.StatusCode.PERMISSION_DENIED, "größer als 100%\n")
    raise AssertionError


def _timeout(request: bytes, context: Any) -> bytes:
    return f"{context.time_remaining():.0f}".encode()


def _metadata(request: bytes, context: Any) -> bytes:
    return repr(sorted((k, v) for k, v in context.invocation_metadata() if k.startswith("x-"))).encode()


def _chat(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    for request in requests:
        for _ in range(2):
            yield request


def _count(requests: Iterator[bytes], context: Any) -> bytes:
    return str([len(request) for request in requests]).encode()


METHODS = {
    "/test.Test/Echo": grpc.unary_unary_rpc_method_handler(_echo),
    "/test.Test/Deny": grpc.unary_unary_rpc_method_handler(_deny),
    "/test.Test/Timeout": grpc.unary_unary_rpc_method_handler(_timeout),
    "/test.Test/Metadata": grpc.unary_unary_rpc_method_handler(_metadata),
    "/test.Test/Chat": grpc.stream_stream_rpc_method_handler(_chat),
    "/test.Test/Count": grpc.stream_unary_rpc_method_handler(_count),
}


class Methods(grpc.GenericRpcHandler):  # type: ignore[misc]
    def service(self, handler_call_details: Any) -> Any:
        return METHODS.get(handler_call_details.method)


@contextmanager
def grpc_server(compression: Any = None, port: int = 0, **options: int) -> Iterator[int]:
    limits = {"grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1, **options}
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, handlers=[Methods()], options=list(limits.items()), compression=compression)
        port = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        try:
            yield port
        finally:
            server.stop(None).wait()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with grpc_server() as port:
        yield port


class Client:
    """The cores on a blocking socket."""

    def __init__(self, port: int) -> None:
        self.core: Http2Connection[Rpc] = Http2Connection()
        self.port = port
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
        self.pump(lambda: self.core.peer_ready)

    def start(self, method: str, body: bytes, *, ends: bool = True, **block: Any) -> Rpc:
        rpc = Rpc()
        authority = f"127.0.0.1:{self.port}"
        head = request_block(scheme="http", authority=authority, path=method, user_agent="test", **block)
        self.core.start(rpc, head, body, ends=ends)
        return rpc

    def pump(self, done: Any) -> None:
        """Writes and reads until `done()`."""
        while True:
            while parts := self.core.sender.take(1 << 16):
                self.sock.sendall(b"".join(parts))
            if done():
                return
            data = self.sock.recv(1 << 17)
            assert data, "the server closed"
            self.core.receive(data)

    def finish(self, rpc: Rpc) -> list[bytes]:
        messages: list[bytes] = []

        def ended() -> bool:
            messages.extend(rpc.take_messages())
            return rpc.status is not None

        self.pump(ended)
        return messages


@pytest.fixture
def client(port: int) -> Iterator[Client]:
    client = Client(port)
    yield client
    client.sock.close()


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 65_530, 65_531, 1_280_000, 16_000_000])
def test_messages_both_ways_of_any_size(client: Client, size: int) -> None:
    message = random.Random(size).randbytes(size)
    rpc = client.start("/test.Test/Echo", frame_message(message))
    assert client.finish(rpc) == [message]
    assert rpc.status == OK


def test_many_calls_at_once(client: Client) -> None:
    rpcs = {number: client.start("/test.Test/Echo", frame_message(b"%d" % number * 5000)) for number in range(50)}
    for number, rpc in rpcs.items():
        assert client.finish(rpc) == [b"%d" % number * 5000]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_both_ways(encoding: str) -> None:
    compression = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}[encoding]
    with grpc_server(compression) as port:
        client = Client(port)
        rpc = client.start("/test.Test/Echo", frame_message(b"m" * 100_000, encoding), encoding=encoding)
        assert client.finish(rpc) == [b"m" * 100_000]
        assert rpc.size < 10_000
        client.sock.close()


def test_statuses_of_the_server(client: Client) -> None:
    denied = client.start("/test.Test/Deny", frame_message(b""))
    unknown = client.start("/test.Test/No", frame_message(b""))
    client.finish(denied)
    client.finish(unknown)
    assert denied.status is not None
    assert (denied.status.code, denied.status.message) == (Code.PERMISSION_DENIED, "größer als 100%\n")
    assert unknown.status is not None
    assert unknown.status.code is Code.UNIMPLEMENTED


def test_timeout_and_metadata_arrive(client: Client) -> None:
    rpc = client.start("/test.Test/Timeout", frame_message(b""), timeout_ns=3_000_000_000_000)
    assert client.finish(rpc) == [b"3000"]
    rpc = client.start("/test.Test/Metadata", frame_message(b""), metadata=[("x-a", "1"), ("X-B", "two words")])
    assert client.finish(rpc) == [b"[('x-a', '1'), ('x-b', 'two words')]"]


def test_deadline_exceeded_at_the_server(client: Client) -> None:
    rpc = client.start("/test.Test/Chat", frame_message(b"x"), ends=False, timeout_ns=50_000_000)
    client.finish(rpc)
    assert rpc.status is not None
    assert rpc.status.abort is not None or rpc.status.code is Code.DEADLINE_EXCEEDED


def test_bidirectional_stream_in_lock_step(client: Client) -> None:
    rpc = client.start("/test.Test/Chat", frame_message(b"first"), ends=False)
    got: list[bytes] = []

    def have(count: int) -> bool:
        got.extend(rpc.take_messages())
        return len(got) >= count

    client.pump(lambda: have(2))
    for number in range(1, 4):
        client.core.send(rpc, frame_message(b"m" * 40_000 * number))
        client.pump(lambda number=number: have(2 + 2 * number))
    client.core.send(rpc, b"", ends=True)
    assert client.finish(rpc) == []
    assert rpc.status == OK
    assert [len(message) for message in got] == [5, 5, 40_000, 40_000, 80_000, 80_000, 120_000, 120_000]


def test_client_stream(client: Client) -> None:
    rpc = client.start("/test.Test/Count", frame_message(b"a"), ends=False)
    client.core.send(rpc, frame_message(b"bb" * 50_000) + frame_message(b""))
    client.core.send(rpc, frame_message(b"ccc"), ends=True)
    assert client.finish(rpc) == [b"[1, 100000, 0, 3]"]


def test_too_many_streams_wait_for_the_servers_limit() -> None:
    with grpc_server(**{"grpc.max_concurrent_streams": 2}) as port:
        client = Client(port)
        rpcs = [client.start("/test.Test/Chat", frame_message(b"x"), ends=False) for _ in range(2)]
        assert (client.core.max_streams, client.core.can_start) == (2, False)
        client.core.send(rpcs[0], b"", ends=True)
        client.finish(rpcs[0])
        assert client.core.can_start
        client.core.reset(rpcs[1])
        client.pump(lambda: True)
        client.sock.close()


def test_server_that_stops(port: int) -> None:
    with grpc_server() as other:
        client = Client(other)
        client.finish(client.start("/test.Test/Echo", frame_message(b"x")))
    client.pump(lambda: client.core.retired)
    assert client.core.goaway_text == "GOAWAY INTERNAL_ERROR: Cancelling all calls"
    client.sock.close()
