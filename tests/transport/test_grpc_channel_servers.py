"""The gRPC channel against real servers: grpcio, nginx before it, Triton."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from exporter.core.outcome import Outcome
from exporter.core.target import TlsOptions
from exporter.demo.triton import EmbeddedTriton, free_ports
from exporter.transport.call import EncodedRequest
from exporter.wire.grpc_messages import frame_message
from tests.transport.certificates import Certificates
from tests.transport.grpc_peers import ECHO, Bench
from tests.transport.nginx import nginx_serving
from tests.transport.scripted import always, serving
from tests.wire.test_grpc_servers import grpc_server


@pytest.fixture(scope="module")
def grpcio() -> Iterator[int]:
    with grpc_server() as port:
        yield port


async def test_grpcio_many_at_once(grpcio: int) -> None:
    bench = Bench(grpcio, method=ECHO)
    calls = [bench.send(EncodedRequest(b"", frame_message(os.urandom(n * 100)))) for n in range(100)]
    await bench.wait(100)
    assert {call.outcome for call in calls} == {Outcome.OK}
    assert [call.bytes_in for call in calls] == [n * 100 + 5 for n in range(100)]
    await bench.channel.close()


async def test_grpcio_large_messages_at_once(grpcio: int) -> None:
    bench = Bench(grpcio, method=ECHO)
    body = frame_message(os.urandom(16_000_000))
    calls = [bench.send(EncodedRequest(b"", body)) for _ in range(3)]
    await bench.wait(3)
    assert [(call.outcome, call.bytes_in) for call in calls] == [(Outcome.OK, len(body))] * 3
    for call in calls:
        assert call.sent_ns < call.send_done_ns <= call.last_ns
    await bench.channel.close()


async def test_grpcio_statuses(grpcio: int) -> None:
    bench = Bench(grpcio, method="/test.Test/Deny")
    assert await bench.result() == (Outcome.AUTH_ERROR, "PERMISSION_DENIED: größer als 100%")
    await bench.channel.close()
    bench = Bench(grpcio, method="/test.Test/No")
    assert (await bench.result())[0] is Outcome.CLIENT_ERROR
    await bench.channel.close()


async def test_grpcio_compressed_responses() -> None:
    with grpc_server(grpc.Compression.Gzip) as port:
        bench = Bench(port, method=ECHO)
        call = bench.send(EncodedRequest(b"", frame_message(bytes(1_000_000))))
        await bench.wait(1)
        assert (call.outcome, call.responses) == (Outcome.OK, 1)
        assert call.bytes_in < 100_000
        await bench.channel.close()


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
async def test_grpcio_compressed_requests(grpcio: int, compression: str) -> None:
    """The server reports what it received, unpacked: the flag, the header and the bytes fit each other."""
    content = b"canary " * 100_000
    request = EncodedRequest(f"x-a: 1\ngrpc-encoding: {compression}".encode(), frame_message(content, compression))
    bench = Bench(grpcio, method=ECHO)
    for _ in range(3):
        call = bench.send(request)
        await bench.wait(len(bench.ended) + 1)
        assert (call.outcome, call.text) == (Outcome.OK, "")
        assert call.bytes_out < 10_000
        assert call.bytes_in == len(content) + 5
    await bench.channel.close()


async def test_grpcio_refuses_a_compression_that_the_header_does_not_name(grpcio: int) -> None:
    bench = Bench(grpcio, method=ECHO)
    outcome, _text = await bench.result(EncodedRequest(b"x-a: 1", frame_message(b"canary" * 100, "gzip")))
    assert outcome is not Outcome.OK
    assert await bench.result() == (Outcome.OK, "")
    await bench.channel.close()


async def test_grpcio_server_restarts() -> None:
    port = free_ports(1)[0]
    bench = Bench(port, method=ECHO)
    for _ in range(2):
        with grpc_server(port=port):
            assert await bench.result() == (Outcome.OK, "")
        await asyncio.sleep(0.02)
    outcome, _text = await bench.result()
    assert outcome is Outcome.CONNECT_ERROR
    await bench.channel.close()


# --- nginx -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def nginx(tmp_path: Path, grpcio: int, certificates: Certificates) -> Iterator[tuple[int, int]]:
    """nginx before grpcio's server: a plain port and a TLS port."""
    plain, tls = free_ports(2)
    servers = f"""
  keepalive_requests 20; http2_max_concurrent_streams 8;
  server {{
    listen 127.0.0.1:{plain} http2;
    listen 127.0.0.1:{tls} ssl http2;
    ssl_certificate {certificates.server}; ssl_certificate_key {certificates.server_key};
    location /test.Test/Echo {{ grpc_pass grpc://127.0.0.1:{grpcio}; }}
    location /down {{ grpc_pass grpc://127.0.0.1:1; }}
    location /closed {{ return 403; }}
  }}"""
    with nginx_serving(tmp_path, plain, servers):
        yield plain, tls


async def test_nginx_limits_and_goaway(nginx: tuple[int, int]) -> None:
    """nginx allows 8 streams at once here, and states GOAWAY after each 20 requests."""
    bench = Bench(nginx[0], method=ECHO)
    calls = [bench.send(EncodedRequest(b"", frame_message(os.urandom(5000)))) for _ in range(100)]
    await bench.wait(100)
    assert {(call.outcome, call.text) for call in calls} == {(Outcome.OK, "")}
    await bench.channel.close()


async def test_nginx_large_messages_over_tls(nginx: tuple[int, int], certificates: Certificates) -> None:
    tls = TlsOptions(ca_file=str(certificates.ca))
    bench = Bench(nginx[1], method=ECHO, scheme="grpcs", tls=tls)
    await bench.channel.open()
    assert bench.channel.tls_ns is not None
    assert bench.channel.certificate_expiry_unix_s is not None
    assert bench.channel.certificate_expiry_unix_s > time.time()
    body = frame_message(os.urandom(16_000_000))
    assert await bench.result(EncodedRequest(b"", body)) == (Outcome.OK, "")
    assert bench.ended[0].bytes_in == len(body)
    await bench.channel.close()


@pytest.mark.parametrize(
    ("path", "outcome", "text"),
    [
        ("/down", Outcome.OVERLOAD, "UNAVAILABLE: HTTP status 502 with content-type text/html: not gRPC"),
        ("/closed", Outcome.AUTH_ERROR, "PERMISSION_DENIED: HTTP status 403 with content-type text/html: not gRPC"),
        ("/none", Outcome.CLIENT_ERROR, "UNIMPLEMENTED: HTTP status 404 with content-type text/html: not gRPC"),
    ],
)
async def test_nginx_own_responses(nginx: tuple[int, int], path: str, outcome: Outcome, text: str) -> None:
    bench = Bench(nginx[0], method=path)
    assert await bench.result() == (outcome, text)
    await bench.channel.close()


async def test_tls_server_without_http2(certificates: Certificates) -> None:
    async with serving(always(b""), certificates.server_context()) as port:
        bench = Bench(port, scheme="grpcs", tls=TlsOptions(ca_file=str(certificates.ca)))
        text = f"127.0.0.1:{port} does not offer HTTP/2 in its TLS handshake (ALPN)"
        assert await bench.result() == (Outcome.PROTOCOL_ERROR, text)
        await bench.channel.close()


# --- Triton ----------------------------------------------------------------------------------------------------------


def infer(model: str, values: np.ndarray[Any, np.dtype[np.float32]]) -> EncodedRequest:
    request = service_pb2.ModelInferRequest(model_name=model, id="triton-canary-test")
    tensor = request.inputs.add(name="INPUT0", datatype="FP32", shape=[1, len(values)])
    assert tensor is not None
    request.raw_input_contents.append(values.tobytes())
    return EncodedRequest(b"triton-canary: test", frame_message(request.SerializeToString()))


@pytest.mark.parametrize("size", [16, 320_000, 4_000_000])
async def test_triton_tensors(triton: EmbeddedTriton, size: int) -> None:
    bench = Bench(triton.grpc_port)
    calls = [bench.send(infer("identity", np.arange(size, dtype=np.float32))) for _ in range(4)]
    await bench.wait(4)
    for call in calls:
        assert (call.outcome, call.text, call.responses) == (Outcome.OK, "", 1)
        assert 4 * size < call.bytes_in < 4 * size + 200
    await bench.channel.close()


async def test_triton_errors(triton: EmbeddedTriton) -> None:
    bench = Bench(triton.grpc_port)
    outcome, text = await bench.result(infer("nowhere", np.zeros(16, np.float32)))
    assert outcome is Outcome.CLIENT_ERROR
    assert text.startswith("NOT_FOUND: ")
    assert "nowhere" in text
    outcome, text = await bench.result(infer("delay", np.zeros(3, np.float32)))
    assert outcome is Outcome.CLIENT_ERROR
    assert text.startswith("INVALID_ARGUMENT: ")
    outcome, text = await bench.result(infer("repeat", np.zeros(16, np.float32)))
    assert outcome is Outcome.CLIENT_ERROR
    assert await bench.result(EncodedRequest(b"", frame_message(b"\xff\xff"))) != (Outcome.OK, "")
    assert await bench.result(infer("identity", np.zeros(16, np.float32))) == (Outcome.OK, "")
    await bench.channel.close()


async def test_triton_responses_are_remembered_blocks(triton: EmbeddedTriton) -> None:
    """Triton's HPACK encoder keeps to the table of size 0 that we ask for: that is what the memory rests on."""
    bench = Bench(triton.grpc_port)
    for _ in range(3):
        assert await bench.result(infer("identity", np.zeros(16, np.float32))) == (Outcome.OK, "")
    link = bench.channel._link
    assert link is not None
    assert 1 <= len(link.core._decoder.known) <= 4
    await bench.channel.close()
