"""The commonest mistakes with an endpoint, before real peers: what is reported, and by whom."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.text import parse_endpoint
from exporter.core.errors import PreflightError
from exporter.core.outcome import Reason
from exporter.core.target import Header, Target, TlsOptions
from exporter.core.units import NS
from exporter.demo.triton import EmbeddedTriton, free_ports
from exporter.services.bounded import BoundedControl
from exporter.services.diagnosis import Seen, advice, explained
from exporter.services.endpoint_look import HttpSeen, TlsSeen, _parsed
from exporter.services.triton.service import TritonService
from tests.builders import make_target
from tests.services.mistakes import Mistake, mistakes
from tests.transport.certificates import Certificates

NAMES = (
    *("HTTP on the gRPC port", "gRPC on the HTTP port", "TLS on the plain HTTP port", "TLS on the plain gRPC port"),
    *("plain HTTP on a TLS port", "plain gRPC on a TLS port", "HTTP on the metrics port", "gRPC on the metrics port"),
    *("another service", "gRPC at another service", "a login page by redirect", "a login form"),
    *("a password is asked for", "a proxy without its server", "a redirect to https", "an expired certificate"),
    *("an unknown authority", "an unknown host name", "a missing path prefix", "a path prefix too many"),
    *("a port without a server", "a certificate for another name"),
)


@pytest.fixture(scope="module")
def table(
    triton: EmbeddedTriton, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Mistake]]:
    with mistakes(triton, certificates, tmp_path_factory.mktemp("mistakes")) as made:
        yield made


def target_of(mistake: Mistake) -> Target:
    endpoint = parse_endpoint(mistake.url)
    tls = TlsOptions(ca_file=mistake.ca_file)
    where = {"scheme": endpoint.scheme, "host": endpoint.host, "port": endpoint.port, "path": endpoint.path}
    return make_target(tls=tls, headers=(Header("authorization", "Bearer hunter2"),), **where)


async def failure(target: Target) -> PreflightError:
    control = BoundedControl(TritonService().control(target, 5 * NS), target)
    try:
        with pytest.raises(PreflightError) as caught:
            await control.preflight("addsub", "")
    finally:
        await control.close()
    return caught.value


def test_the_table_is_whole(table: dict[str, Mistake]) -> None:
    assert set(table) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
async def test_each_mistake_has_its_sentence(table: dict[str, Mistake], name: str) -> None:
    mistake = table[name]
    error = await failure(target_of(mistake))
    text = str(error)
    assert text.startswith(mistake.sentence), text
    assert "hunter2" not in text
    assert text.isprintable()
    assert error.reason is not Reason.NONE


async def test_a_good_endpoint_is_not_looked_at(triton: EmbeddedTriton) -> None:
    """Nothing is wrong with it: what fails is the model's name, and the text stays as it is."""
    for scheme, port in (("http", triton.http_port), ("grpc", triton.grpc_port)):
        target = make_target(scheme=scheme, port=port)
        control = BoundedControl(TritonService().control(target, 5 * NS), target)
        with pytest.raises(PreflightError, match=r"^model 'nope' is not known"):
            await control.preflight("nope", "")
        await control.close()
        error = PreflightError(Reason.PROTOCOL, "something else")
        assert str(await explained(target, error)) == "something else"


@pytest.mark.parametrize(
    ("scheme", "default"),
    [("http", "Triton's default is 8000"), ("https", "https's default is 443"), ("grpcs", "Triton's default is 8001")],
)
async def test_a_refused_connection_names_the_default_port_of_what_has_it(scheme: str, default: str) -> None:
    (port,) = free_ports(1)
    text = str(await explained(make_target(scheme=scheme, port=port), PreflightError(Reason.UNREACHABLE, "refused")))
    assert text == f"nothing listens on port {port} of 127.0.0.1 ({default}) (refused)"


async def test_the_target_s_headers_are_not_sent_to_an_unknown_server() -> None:
    received = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.read(65536))
        writer.write(b"HTTP/1.1 404 Not Found\r\nServer: a\x1b[1mb\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    target = make_target(port=port, headers=(Header("authorization", "Bearer hunter2"),))
    text = str(await explained(target, PreflightError(Reason.PROTOCOL, "x")))
    server.close()
    assert text.startswith(f"port {port} of 127.0.0.1 is served by a [1mb, not by Triton")
    assert b"hunter2" not in received
    assert b"GET /v2/health/live" in received


async def test_a_silent_peer_delays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.services.endpoint_look.LOOK_SECONDS", 0.05)
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await closed.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    error = PreflightError(Reason.PREFLIGHT_TIMEOUT, "no response", problems=("a",))
    for scheme in ("http", "grpcs"):
        target = make_target(scheme=scheme, port=server.sockets[0].getsockname()[1])
        assert await explained(target, error) is error
    closed.set()
    server.close()


NOW = 1_750_000_000.0


@pytest.mark.parametrize(
    ("scheme", "seen", "error", "sentence"),
    [
        (
            "https",
            Seen(tls=TlsSeen("", NOW - 86_400, ())),
            "certificate has expired",
            "2025-06-14 15:06 UTC, 1 day ago",
        ),
        ("https", Seen(tls=TlsSeen("", NOW - 5, ())), "certificate has expired", ", today: renew it"),
        ("https", Seen(tls=TlsSeen("", NOW, ("a.b", "c"))), "Hostname mismatch", "is for a.b, c, not for 127.0.0.1"),
        ("https", Seen(tls=TlsSeen("", NOW, ())), "certificate is not yet valid", "check this machine's clock"),
        ("grpcs", Seen(tls=TlsSeen("h2", NOW, ())), "tlsv13 alert certificate required", "set tls.cert_file"),
        ("https", Seen(tls=TlsSeen("h2", NOW, ())), "closed", "speaks gRPC: use grpcs://127.0.0.1:8000"),
        ("https", Seen(HttpSeen(404, "envoy"), tls=TlsSeen("h2", NOW, ())), "404", "served by envoy, not by Triton"),
        ("http", Seen(HttpSeen(404, "envoy")), "404", "add the path: http://127.0.0.1:8000/PATH"),
        (
            "http",
            Seen(HttpSeen(404, "uvicorn"), metrics=True, openai=True),
            "404",
            "serves OpenAI's API, and Triton was",
        ),
        ("http", Seen(HttpSeen(401)), "reported HTTP 401", "asks for credentials: set the target's headers"),
        ("http", Seen(HttpSeen(400)), "not live", ""),
        ("http", Seen(HttpSeen(200, content_type="application/json")), "x", ""),
        ("http", Seen(HttpSeen(200, content_type="application/json"), metrics=True), "x", ""),
        ("http", Seen(HttpSeen(200, content_type="text/plain"), metrics=True), "x", "serves metrics, no inference"),
        ("http", Seen(HttpSeen(503)), "not ready", ""),
        ("http", Seen(), "x", ""),
        ("grpc", Seen(http2=True), "x", ""),
    ],
)
def test_what_is_seen_and_what_is_reported(scheme: str, seen: Seen, error: str, sentence: str) -> None:
    text = advice(make_target(scheme=scheme, port=8000), replace(seen, now_unix_s=NOW), error)
    assert sentence in text
    assert bool(text) == bool(sentence)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            "reported HTTP 401: no",
            "http://127.0.0.1:8000 asks for credentials and rejects the target's: check its header",
        ),
        (
            "reported HTTP 403: no",
            "http://127.0.0.1:8000 asks for credentials and rejects the target's: check its header",
        ),
        ("reported HTTP 500: no", ""),
    ],
)
def test_a_token_that_was_sent_is_wrong_only_where_it_was_rejected(error: str, sentence: str) -> None:
    target = make_target(port=8000, headers=(Header("authorization", "Bearer x"),))
    text = advice(target, Seen(HttpSeen(401)), error)
    assert text.startswith(sentence)
    assert bool(text) == bool(sentence)


@pytest.mark.parametrize(("kind", "sentence"), [("triton", "use grpc://"), ("openai", "kind openai does not use")])
def test_grpc_is_advised_to_kinds_that_have_it(kind: str, sentence: str) -> None:
    assert sentence in advice(make_target(kind=kind), Seen(http2=True), "x")


@given(st.binary(max_size=200), st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 302\r\nLocation: "]))
def test_whatever_comes_back_is_parsed_or_is_not_http(rest: bytes, begin: bytes) -> None:
    found = _parsed(begin + rest)
    if found is not None:
        assert 100 <= found.status <= 999 or found.status < 100
        assert all(text.isprintable() for text in (found.server, found.location, found.content_type, found.challenge))
