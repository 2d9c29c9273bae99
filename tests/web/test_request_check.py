"""Requests that are refused whoever sent them, over real connections."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import bcrypt
import httpx
import pytest

from exporter.metrics.page import MetricsPage
from exporter.web.access import WebAccess
from exporter.web.app import WebSources, create_app
from exporter.web.http_server import WebServer
from exporter.web.request_check import HostNames
from tests.metrics.results import make_exporter_facts
from tests.metrics.scenario import make_scenario

HEALTHY = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[str]:
    """Where the pages are served to users only, and to `canary.example` as a host."""
    (tmp_path / "web.yml").write_text(f"basic_auth_users: {{a: {bcrypt.hashpw(b'b', bcrypt.gensalt(4)).decode()}}}")
    facts = make_exporter_facts()
    page = MetricsPage(make_scenario(), facts, max_series=100_000)
    sources = WebSources(
        make_scenario(),
        page,
        facts,
        healthy=lambda: True,
        ready=lambda: True,
        access=WebAccess(tmp_path / "web.yml"),
        hosts=HostNames.of("127.0.0.1", ["canary.example"]),
    )
    server = WebServer(create_app(sources), "127.0.0.1", 0)
    yield await server.start()
    await server.stop()
    page.close()


async def exchange(address: str, data: bytes) -> bytes:
    """All that comes back until the server closes."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    async with asyncio.timeout(5):
        received = await reader.read()
    writer.close()
    return received


@pytest.mark.parametrize("body", [b"ZZZ\r\n", b"1\r\nab", b"1;" + b"x" * 20_000])
async def test_a_malformed_body_is_no_line_of_the_log(
    guarded: str, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert (await exchange(guarded, head + body)).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 401 "))
    await asyncio.sleep(0.05)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info] == []


async def test_two_lengths_end_the_connection(guarded: str) -> None:
    head = b"POST /-/healthy HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    received = await exchange(guarded, head + HEALTHY)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 421),
        ("evil.example:9787", 421),
        ("evil.example/-/healthy?", 421),
        ("127.0.0.1.evil.example", 421),
        ("canary.example:9787", 401),
        ("CANARY.example.", 401),
        ("127.0.0.1:9787", 401),
        ("[::1]:9787", 401),
        ("10.1.2.3", 401),
        ("localhost:1", 401),
        ("a.localhost", 401),
        ("canary", 401),
    ],
)
async def test_a_name_that_is_not_ours(guarded: str, host: str, status: int) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        for path, expected in (("/metrics", status), ("/-/healthy", 200)):
            response = await client.get(f"http://{guarded}{path}", headers={"Host": host})
            assert response.status_code == expected


@pytest.mark.parametrize(
    ("listen", "names", "allowed"),
    [
        ("127.0.0.1", (), False),
        ("::1", (), False),
        ("localhost", (), False),
        ("", (), True),
        ("0.0.0.0", (), True),
        ("0.0.0.0", ("canary.example",), False),
    ],
)
def test_names_are_checked_where_only_this_machine_connects_and_where_they_are_configured(
    listen: str, names: tuple[str, ...], allowed: bool
) -> None:
    assert HostNames.of(listen, names).allow("evil.example") is allowed
    assert HostNames.of(listen, names).allow("")
