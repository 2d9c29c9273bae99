"""Both sides show a certificate: real servers that ask for ours, in all the forms that it can have, and when it is
replaced."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from exporter.core.outcome import Outcome
from exporter.core.target import TlsOptions
from exporter.demo.triton import free_ports
from exporter.transport.call import Call, EncodedRequest
from exporter.transport.http_channel import HttpChannel
from exporter.transport.tls_files import read_file
from exporter.wire.grpc_messages import frame_message
from exporter.wire.http1 import decoded_body, request_head
from tests.transport.certificates import Certificates, openssl
from tests.transport.grpc_peers import ECHO, Bench
from tests.transport.nginx import nginx_serving
from tests.transport.scripted import Ended, http_target
from tests.wire.test_grpc_servers import Methods

REQUEST = EncodedRequest(b"", frame_message(b"question"))


@pytest.fixture
def own(certificates: Certificates, tmp_path: Path) -> TlsOptions:
    """Copies of our certificate and key, which a test may replace."""
    for source, name in ((certificates.client, "own.pem"), (certificates.client_key, "own.key")):
        shutil.copy(source, tmp_path / name)
    return TlsOptions(
        ca_file=str(certificates.ca), cert_file=str(tmp_path / "own.pem"), key_file=str(tmp_path / "own.key")
    )


def replace_file(path: str, source: Path) -> None:
    """As rotation does it: a new file under the old name."""
    shutil.copy(source, f"{path}.new")
    os.replace(f"{path}.new", path)


def write(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)


# --- grpcio ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grpcio(certificates: Certificates) -> Iterator[int]:
    """A gRPC server that requires a certificate of the tests' authority."""
    pair = (certificates.server_key.read_bytes(), certificates.server.read_bytes())
    credentials = grpc.ssl_server_credentials([pair], certificates.ca.read_bytes(), require_client_auth=True)
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, handlers=[Methods()])
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        try:
            yield port
        finally:
            server.stop(None).wait()


async def grpc_result(port: int, tls: TlsOptions) -> tuple[Outcome, str]:
    bench = Bench(port, method=ECHO, scheme="grpcs", tls=tls)
    try:
        outcome, text = await bench.result(REQUEST)
        # By then the peer has closed: which of the two we notice first is chance.
        return outcome, text.replace("broken pipe", "closed by the peer")
    finally:
        await bench.channel.close()


REFUSED = (
    Outcome.CONNECT_ERROR,
    "connection lost: closed by the peer at once after the TLS handshake; "
    "it may ask for a client certificate, or refuse the one it got",
)
"""gRPC's server sends no TLS alert: that it was for the certificate is a guess, which the outcome must not be."""


async def test_grpc_with_our_certificate(grpcio: int, own: TlsOptions) -> None:
    bench = Bench(grpcio, method=ECHO, scheme="grpcs", tls=own)
    assert [await bench.result(REQUEST) for _ in range(3)] == [(Outcome.OK, "")] * 3
    assert bench.channel.tls_ns is not None
    await bench.channel.close()


async def test_grpc_without_one(grpcio: int, certificates: Certificates) -> None:
    assert await grpc_result(grpcio, TlsOptions(ca_file=str(certificates.ca))) == REFUSED


async def test_grpc_with_a_strangers(grpcio: int, own: TlsOptions, certificates: Certificates) -> None:
    replace_file(own.cert_file, certificates.other_ca)
    replace_file(own.key_file, certificates.other_ca_key)
    assert await grpc_result(grpcio, own) == REFUSED


async def test_grpc_rotated_certificate_is_read_at_the_next_connection(
    grpcio: int, own: TlsOptions, certificates: Certificates
) -> None:
    bench = Bench(grpcio, method=ECHO, scheme="grpcs", tls=own)
    assert await bench.result(REQUEST) == (Outcome.OK, "")
    replace_file(own.cert_file, certificates.other_ca)
    # The connection that is open continues; the next one finds a certificate without its key, and reports it.
    assert await bench.result(REQUEST) == (Outcome.OK, "")
    await bench.channel.close()
    outcome, text = await bench.result(REQUEST)
    assert outcome is Outcome.TLS_ERROR
    assert text.startswith(f"TLS client certificate {own.cert_file} and {own.key_file} cannot be used: ")
    replace_file(own.cert_file, certificates.second_client)
    replace_file(own.key_file, certificates.second_client_key)
    assert await bench.result(REQUEST) == (Outcome.OK, "")
    await bench.channel.close()


# --- nginx -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[int]:
    """Responses over TLS with the subject of the certificate that it was shown; 400 to those who show none."""
    (port,) = free_ports(1)
    servers = f"""
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificates.server}; ssl_certificate_key {certificates.server_key};
    ssl_client_certificate {certificates.ca}; ssl_verify_client on;
    location / {{ return 200 $ssl_client_s_dn; }}
  }}"""
    with nginx_serving(tmp_path_factory.mktemp("nginx"), port, servers):
        yield port


class Https:
    """A channel over https, and the last response's body."""

    def __init__(self, port: int, tls: TlsOptions) -> None:
        self.body = b""
        self.ended = Ended()
        self.port = port
        self.channel = HttpChannel(http_target(port, scheme="https", tls=tls), self._listen, keep_body=True)
        self.count = 0

    def _listen(self, call: Call) -> None:
        if call.outcome is Outcome.OK:
            self.body = decoded_body(*self.channel.client.kept())
        self.ended(call)

    async def result(self) -> tuple[Outcome, str]:
        self.count += 1
        request = EncodedRequest(request_head("GET", "/", f"127.0.0.1:{self.port}", [], 0), b"")
        self.channel.send(Call(0), request)
        return await self.ended.wait(self.count)


async def test_https_with_our_certificate(nginx: int, own: TlsOptions) -> None:
    https = Https(nginx, own)
    assert await https.result() == (Outcome.OK, "")
    assert https.body == b"CN=canary client"
    await https.channel.close()


async def test_https_without_one(nginx: int, certificates: Certificates) -> None:
    https = Https(nginx, TlsOptions(ca_file=str(certificates.ca)))
    outcome, text = await https.result()
    assert outcome is Outcome.CLIENT_ERROR
    assert text.startswith("HTTP 400: ")
    await https.channel.close()


async def test_https_rotated_certificate_is_read_at_the_next_connection(
    nginx: int, own: TlsOptions, certificates: Certificates
) -> None:
    https = Https(nginx, own)
    assert await https.result() == (Outcome.OK, "")
    replace_file(own.cert_file, certificates.second_client)
    replace_file(own.key_file, certificates.second_client_key)
    assert await https.result() == (Outcome.OK, "")
    assert https.body == b"CN=canary client"
    await https.channel.close()
    assert await https.result() == (Outcome.OK, "")
    assert https.body == b"CN=canary second"
    await https.channel.close()


# --- forms of certificate and key ------------------------------------------------------------------------------------


FORMS: dict[str, tuple[list[str], str]] = {
    "PEM": ([], "PEM"),
    "PKCS #8 PEM": (["pkcs8", "-topk8", "-nocrypt"], "PEM"),
    "PKCS #8 DER": (["pkcs8", "-topk8", "-nocrypt"], "DER"),
    "SEC 1 DER": (["ec"], "DER"),
}


@pytest.mark.parametrize(("command", "form"), FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("certificate_form", ["PEM", "DER"])
async def test_forms_of_an_elliptic_key(
    nginx: int, own: TlsOptions, tmp_path: Path, command: list[str], form: str, certificate_form: str
) -> None:
    if command:
        openssl(tmp_path, *command, "-in", "own.key", "-outform", form, "-out", "other.key")
        os.replace(tmp_path / "other.key", own.key_file)
    openssl(tmp_path, "x509", "-in", "own.pem", "-outform", certificate_form, "-out", "other.pem")
    os.replace(tmp_path / "other.pem", own.cert_file)
    https = Https(nginx, own)
    assert await https.result() == (Outcome.OK, "")
    assert https.body == b"CN=canary client"
    await https.channel.close()


@pytest.mark.parametrize(
    "command", [["rsa", "-traditional"], ["pkcs8", "-topk8", "-nocrypt"]], ids=["PKCS #1", "PKCS #8"]
)
async def test_forms_of_an_rsa_key(
    nginx: int, own: TlsOptions, certificates: Certificates, tmp_path: Path, command: list[str]
) -> None:
    openssl(
        tmp_path, "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "r.key", "-out", "r.csr", "-subj", "/CN=r"
    )
    authority = ("-CA", str(certificates.ca), "-CAkey", str(certificates.ca_key), "-CAcreateserial", "-days", "30")
    openssl(tmp_path, "x509", "-req", "-in", "r.csr", "-outform", "DER", "-out", own.cert_file, *authority)
    openssl(tmp_path, *command, "-in", "r.key", "-outform", "DER", "-out", own.key_file)
    https = Https(nginx, own)
    assert await https.result() == (Outcome.OK, "")
    assert https.body == b"CN=r"
    await https.channel.close()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\x30\x82", "TLS file {key} holds no private key, neither as PEM nor as DER"),
        (b"\x30\x03\x02\x01\x00", "TLS file {key} holds no private key, neither as PEM nor as DER"),
        (b"neither", "TLS client certificate {cert} and {key} cannot be used: "),
        (b"", "TLS client certificate {cert} and {key} cannot be used: "),
    ],
)
async def test_what_is_no_key_is_named(nginx: int, own: TlsOptions, content: bytes, text: str) -> None:
    write(own.key_file, content)
    https = Https(nginx, own)
    outcome, found = await https.result()
    assert outcome is Outcome.TLS_ERROR
    assert found.startswith(text.format(cert=own.cert_file, key=own.key_file))


async def test_a_key_with_a_password_is_refused_without_asking(nginx: int, own: TlsOptions, tmp_path: Path) -> None:
    openssl(tmp_path, "pkcs8", "-topk8", "-passout", "pass:secret", "-in", "own.key", "-out", "locked.key")
    os.replace(tmp_path / "locked.key", own.key_file)
    outcome, text = await Https(nginx, own).result()
    assert outcome is Outcome.TLS_ERROR
    assert text.startswith(f"TLS client certificate {own.cert_file} and {own.key_file} cannot be used: ")


async def test_certificate_and_key_in_one_file(nginx: int, own: TlsOptions) -> None:
    write(own.cert_file, read_file(own.cert_file) + read_file(own.key_file))
    https = Https(nginx, TlsOptions(ca_file=own.ca_file, cert_file=own.cert_file))
    assert await https.result() == (Outcome.OK, "")
    await https.channel.close()
