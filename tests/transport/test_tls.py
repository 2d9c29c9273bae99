"""TLS: who is believed, who the daemon presents itself as, what is measured apart, and what is read again."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import re
import shutil
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from exporter.core.errors import TransportError
from exporter.core.outcome import Outcome
from exporter.core.target import Target, TlsOptions
from exporter.server.metrics import PageReader
from exporter.transport.call import Call, EncodedRequest
from exporter.transport.connection import Connection
from exporter.transport.http_channel import HttpChannel
from exporter.transport.tls import certificate_expiry_unix_s, certificate_names, client_context
from exporter.transport.tls_files import der_element
from exporter.wire.http1 import decoded_body
from tests.builders import make_target
from tests.transport.certificates import Certificates, openssl
from tests.transport.scripted import OK, REQUEST, Ended, always, http_target, read_request, serving
from tests.waiting import PATIENCE_SECONDS

DAY_SECONDS = 86_400


def options(certificates: Certificates, **changes: Any) -> TlsOptions:
    return TlsOptions(**({"ca_file": str(certificates.ca)} | changes))


async def test_verified_call_measures_connect_and_handshake_apart(certificates: Certificates) -> None:
    ended = Ended()
    async with serving(always(OK), certificates.server_context(alpn="http/1.1")) as port:
        channel = HttpChannel(http_target(port, scheme="https", tls=options(certificates)), ended)
        await channel.open()
        for count in range(1, 4):
            channel.send(Call(0), REQUEST)
            assert await ended.wait(count) == (Outcome.OK, "")
        await channel.close()
    assert channel.connect_ns is not None
    assert channel.connect_ns > 0
    assert channel.tls_ns is not None
    assert channel.tls_ns > 0
    assert channel.certificate_expiry_unix_s == pytest.approx(time.time() + 30 * DAY_SECONDS, abs=DAY_SECONDS)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another authority": ({"ca_file": "OTHER"}, "unable to get local issuer certificate"),
    "the system's authorities": ({"ca_file": ""}, "unable to get local issuer certificate"),
    "another name": ({"server_name": "other.test"}, "Hostname mismatch, certificate is not valid for 'other.test'"),
    "no such file": ({"ca_file": "/no/such/file"}, "TLS file /no/such/file cannot be read: No such file"),
    "not a certificate": ({"ca_file": __file__}, "holds no usable certificate"),
    "key without certificate": ({"cert_file": __file__}, "TLS client certificate .* cannot be used"),
}


@pytest.mark.parametrize(("changes", "text"), REFUSED.values(), ids=REFUSED)
async def test_refused(certificates: Certificates, changes: dict[str, Any], text: str) -> None:
    if changes.get("ca_file") == "OTHER":
        changes = {"ca_file": str(certificates.other_ca)}
    async with serving(always(OK), certificates.server_context()) as port:
        ended = Ended()
        channel = HttpChannel(http_target(port, scheme="https", tls=options(certificates, **changes)), ended)
        call = Call(0)
        channel.send(call, REQUEST)
        outcome, found = await ended.wait()
        await channel.close()
    assert outcome is Outcome.TLS_ERROR
    assert re.search(text, found), found
    assert call.sent_ns == 0


@pytest.mark.parametrize("trusted", ["server.pem", "middle.pem"])
async def test_what_is_no_root_is_trusted_as_it_is(certificates: Certificates, tmp_path: Path, trusted: str) -> None:
    """A file with the server's own certificate (pinning), or its issuer's alone: as curl and perf_analyzer do."""
    folder = tmp_path
    (folder / "authority").write_text("basicConstraints=critical,CA:TRUE\n")
    (folder / "names").write_text("subjectAltName=DNS:localhost,DNS:canary.test,IP:127.0.0.1\n")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    chain = (("middle", certificates.ca, "authority"), ("server", folder / "middle.pem", "names"))
    for name, issuer, extensions in chain:
        subject = ("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN=canary {name}")
        openssl(folder, "req", "-new", *key, *subject)
        signing = ("-CA", str(issuer), "-CAkey", str(issuer.with_suffix(".key")), "-CAcreateserial", "-days", "30")
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signing, "-extfile", extensions)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    async with serving(always(OK), context) as port:
        target = http_target(port, scheme="https", tls=TlsOptions(ca_file=str(folder / trusted)))
        channel = HttpChannel(target, Ended())
        await channel.open()
        await channel.close()
        page = PageReader(make_target(metrics_url=f"https://127.0.0.1:{port}/metrics", tls=target.tls), "m", "")
        assert "TLS failed" not in (await asyncio.to_thread(page.read)).error
        page.close()


async def test_an_authority_without_key_usage_is_trusted_under_every_python(plain_certificates: Certificates) -> None:
    async with serving(always(OK), plain_certificates.server_context()) as port:
        channel = HttpChannel(http_target(port, scheme="https", tls=options(plain_certificates)), Ended())
        await channel.open()
        await channel.close()


async def test_server_name_replaces_the_host(certificates: Certificates) -> None:
    async with serving(always(OK), certificates.server_context()) as port:
        target = http_target(port, scheme="https", tls=options(certificates, server_name="canary.test"))
        channel = HttpChannel(target, Ended())
        await channel.open()
        await channel.close()


async def test_no_verification_is_warned_of_once_and_still_knows_the_expiry(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with serving(always(OK), certificates.server_context()) as port:
        target = http_target(port, name="unverified", scheme="https", tls=TlsOptions(verify=False))
        for _opening in range(2):
            channel = HttpChannel(target, Ended())
            await channel.open()
            assert channel.certificate_expiry_unix_s is not None
            await channel.close()
    assert caplog.messages == ["target unverified: the server's TLS certificate is not verified"]


async def test_peer_alone_checks_the_chain_and_not_the_name(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with serving(always(OK), certificates.server_context()) as port:

        def target(**changes: Any) -> Target:
            tls = options(certificates, verify_host=False, server_name="other.test", **changes)
            return http_target(port, name="peer-only", scheme="https", tls=tls)

        for _opening in range(2):
            channel = HttpChannel(target(), Ended())
            await channel.open()
            await channel.close()
        with pytest.raises(TransportError, match="unable to get local issuer certificate"):
            await HttpChannel(target(ca_file=str(certificates.other_ca)), Ended()).open()
    text = "target peer-only: the server's TLS certificate is verified, but not that it bears the server's name"
    assert caplog.messages == [text]


async def test_client_certificate(certificates: Certificates) -> None:
    ours = {"cert_file": str(certificates.client), "key_file": str(certificates.client_key)}
    async with serving(always(OK), certificates.server_context(mutual=True)) as port:
        ended = Ended()
        channel = HttpChannel(http_target(port, scheme="https", tls=options(certificates, **ours)), ended)
        channel.send(Call(0), REQUEST)
        assert await ended.wait() == (Outcome.OK, "")
        await channel.close()


async def test_missing_client_certificate_is_named_though_it_is_refused_after_the_handshake(
    certificates: Certificates,
) -> None:
    """By a blocking server: asyncio's own drops the alert that states why."""

    def serve_one() -> None:
        sock, _address = listening.accept()
        with sock, contextlib.suppress(OSError):
            certificates.server_context(mutual=True).wrap_socket(sock, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listening, concurrent.futures.ThreadPoolExecutor(1) as threads:
        serving_one = threads.submit(serve_one)
        ended = Ended()
        port = listening.getsockname()[1]
        channel = HttpChannel(http_target(port, scheme="https", tls=options(certificates)), ended)
        channel.send(Call(0), REQUEST)
        outcome, text = await ended.wait()
        await channel.close()
        serving_one.result(5)
    assert outcome is Outcome.TLS_ERROR
    assert "certificate required" in text


async def test_plain_server_behind_a_tls_target() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(script) as port:
        with pytest.raises(TransportError, match="wrong version number") as caught:
            await HttpChannel(http_target(port, scheme="https", tls=TlsOptions(verify=False)), Ended()).open()
    assert caught.value.outcome is Outcome.TLS_ERROR


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_large_bodies_both_ways_arrive_whole(certificates: Certificates, version: ssl.TLSVersion) -> None:
    body = bytes(range(256)) * 32768  # 8 MiB
    received: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        received.append(await read_request(reader))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await reader.read()

    bodies: list[bytes] = []
    done = asyncio.Event()

    def listener(call: Call) -> None:
        bodies.append(decoded_body(*channel.client.kept()))
        done.set()

    context = certificates.server_context()
    context.maximum_version = version
    async with serving(script, context) as port:
        channel = HttpChannel(http_target(port, scheme="https", tls=options(certificates)), listener, keep_body=True)
        await channel.open()
        call = Call(0)
        channel.send(call, EncodedRequest(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body), body))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await done.wait()
        await channel.close()
    assert call.outcome is Outcome.OK
    assert received == [body]
    assert bodies == [body]
    assert call.sent_ns < call.send_done_ns <= call.first_ns < call.last_ns


async def test_alpn_is_offered_and_the_choice_known(certificates: Certificates) -> None:
    class Silent:
        def data_received(self, data: bytes | memoryview, now_ns: int) -> None: ...
        def drained(self, now_ns: int) -> None: ...
        def connection_lost(self, error: OSError | None) -> None: ...

    async with serving(always(OK), certificates.server_context(alpn="h2")) as port:
        target = make_target(port=port, scheme="grpcs", tls=options(certificates))
        for offer, chosen in ((("h2",), "h2"), (("http/1.1",), None)):
            connection = Connection(target, offer, Silent())
            await connection.open()
            assert connection.alpn == chosen
            connection.close()


def test_context_is_kept_until_a_file_changes(certificates: Certificates, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    shutil.copy(certificates.ca, ca)
    target = make_target(scheme="https", tls=TlsOptions(ca_file=str(ca)))
    first = client_context(target, ("http/1.1",))
    assert client_context(target, ("http/1.1",)) is first
    assert client_context(target, ("h2",)) is not first
    shutil.copy(certificates.other_ca, ca)
    os.utime(ca, ns=(1, 1))
    second = client_context(target, ("http/1.1",))
    assert second is not first
    assert second.get_ca_certs()[0]["subject"] == ((("commonName", "canary other"),),)


def test_certificate_facts(certificates: Certificates) -> None:
    der = ssl.PEM_cert_to_DER_cert(certificates.server.read_text())
    decoded: Any = ssl._ssl._test_decode_cert(str(certificates.server))  # type: ignore[attr-defined]
    assert certificate_expiry_unix_s(der) == ssl.cert_time_to_seconds(decoded["notAfter"])
    assert certificate_names(der) == ["localhost", "canary.test"]


@pytest.mark.parametrize("length", [0, 1, 2, 10, 40, 100, 200])
def test_cut_certificate_contains_no_information(certificates: Certificates, length: int) -> None:
    der = ssl.PEM_cert_to_DER_cert(certificates.server.read_text())[:length]
    assert certificate_expiry_unix_s(der) is None
    assert certificate_names(der) == []


def test_times_after_2049_have_another_encoding() -> None:
    validity = der_element(bytes.fromhex("3011180f") + b"20600102030405Z", 0)[1]
    assert der_element(validity, 0)[1] == b"20600102030405Z"
    inner = bytes.fromhex("02010130003000") + b"\x30\x20" + b"\x17\x0d250102030405Z" + b"\x18\x0f20600102030405Z"
    certificate = bytes([0x30, len(inner) + 2, 0x30, len(inner)]) + inner
    assert certificate_expiry_unix_s(certificate) == ssl.cert_time_to_seconds("Jan  2 03:04:05 2060 GMT")
