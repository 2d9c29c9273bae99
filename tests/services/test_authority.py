"""Whom requests name: the questions and the load send one Host or `:authority`, and ask for one name in TLS."""

from __future__ import annotations

import asyncio
import ssl
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from typing import Any

import numpy as np
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived

from exporter.core.errors import PreflightError
from exporter.core.facts import TensorSpec
from exporter.core.target import TlsOptions
from exporter.core.units import NS
from exporter.services import SERVICES
from exporter.services.torchserve import BODY
from exporter.transport.call import Call
from tests.builders import make_facts, make_probe, make_target
from tests.transport.certificates import Certificates, make_certificates
from tests.transport.scripted import serving


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


class Listening:
    """A server of either protocol that notes whom its clients name, and has nothing for them."""

    def __init__(self) -> None:
        self.authorities: list[str] = []
        self.names: list[str | None] = []

    def context(self, certificates: Certificates, alpn: str) -> ssl.SSLContext:
        context = certificates.server_context(alpn=alpn)

        def named(_socket: Any, name: str | None, _context: Any) -> None:
            self.names.append(name)

        context.sni_callback = named
        return context

    async def http(self, reader: Reader, writer: Writer) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            self.authorities += [line[6:] for line in head.split("\r\n") if line.startswith("host: ")]
            length = next((int(line[16:]) for line in head.split("\r\n") if line.startswith("content-length: ")), 0)
            await reader.readexactly(length)
            writer.write(b"HTTP/1.1 404 no\r\nContent-Length: 0\r\n\r\n")

    async def grpc(self, reader: Reader, writer: Writer) -> None:
        h2 = H2Connection(H2Configuration(client_side=False))
        h2.initiate_connection()
        writer.write(h2.data_to_send())
        while data := await reader.read(65536):
            for event in h2.receive_data(data):
                if isinstance(event, RequestReceived):
                    fields = {bytes(name).decode(): bytes(value).decode() for name, value in event.headers or ()}
                    self.authorities.append(fields[":authority"])
                    response = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "5")]
                    h2.send_headers(event.stream_id or 0, response, end_stream=True)
            writer.write(h2.data_to_send())


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str, str | None]] = {
    "as in the url": ({}, {}, "127.0.0.1:PORT", None),
    "by a name": ({"host": "canary.test", "address": "127.0.0.1"}, {}, "canary.test:PORT", "canary.test"),
    "host_header": ({"host_header": "canary.test"}, {}, "canary.test", "canary.test"),
    "with a port": ({"host_header": "canary.test:8443"}, {}, "canary.test:8443", "canary.test"),
    "server_name": ({}, {"server_name": "canary.test"}, "127.0.0.1:PORT", "canary.test"),
    "both": ({"host_header": "m.default.example"}, {"server_name": "localhost"}, "m.default.example", "localhost"),
    "unverified": ({"host_header": "m.default.example"}, {"verify": False}, "m.default.example", "m.default.example"),
    "peer": ({}, {"verify_host": False, "server_name": "x.test"}, "127.0.0.1:PORT", "x.test"),
}


@pytest.mark.parametrize("kind", ["triton", "oip", "tfserving", "torchserve"])
@pytest.mark.parametrize("scheme", ["http", "https", "grpc", "grpcs"])
@pytest.mark.parametrize("case", CASES)
async def test_one_authority_for_all_calls(kind: str, scheme: str, case: str, certificates: Certificates) -> None:
    changes, tls, authority, name = CASES[case]
    is_grpc, is_tls = scheme.startswith("grpc"), scheme.endswith("s")
    if (kind == "torchserve" and is_grpc) or (tls and not is_tls):
        pytest.skip("there is none")
    server = Listening()
    context = server.context(certificates, "h2" if is_grpc else "http/1.1") if is_tls else None
    async with serving(server.grpc if is_grpc else server.http, context) as port:
        options = TlsOptions(**({"ca_file": str(certificates.ca)} | tls))
        target = make_target(kind=kind, port=port, scheme=scheme, tls=options, **changes)
        service = SERVICES[kind]()
        control = service.control(target, 5 * NS)
        with pytest.raises(PreflightError):
            await control.preflight("m", "")
        await control.close()
        asked = len(server.authorities)
        await one_request(service, target, kind)
    assert asked
    assert len(server.authorities) > asked
    assert set(server.authorities) == {authority.replace("PORT", str(port))}
    if is_tls:
        assert set(server.names) == {name}


async def one_request(service: Any, target: Any, kind: str) -> None:
    facts = make_facts()
    inputs: dict[str, Any] = {"INPUT0": np.zeros((1, 16), np.float32)}
    if kind == "torchserve":
        facts = make_facts(inputs=(TensorSpec(BODY, "BYTES", (1,)),))
        inputs = {BODY: np.array([b"x"], np.object_)}
    probe = make_probe(target=target)
    (request,) = service.encode(probe, facts, [inputs], "sweep")
    ended: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
    channel = service.channel(target, ended.set_result)
    channel.send(Call(0), request)
    async with asyncio.timeout(5):
        await ended
    await channel.close()
