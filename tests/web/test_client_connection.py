"""Hostile clients, in crowds: a plain scrape still gets its response, and no client holds a place for ever."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from exporter.config.web_file import TlsServerSettings
from exporter.web import client_connection, tls_handshake
from exporter.web.http_server import WebServer
from exporter.web.tls_endpoint import TlsEndpoint
from tests.transport.certificates import make_certificates
from tests.waiting import PATIENCE_SECONDS

HUGE = b"x" * 20_000_000
SILENT = 200


async def _page(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("a page\n")


async def _huge(_request: Request) -> PlainTextResponse:
    return PlainTextResponse(HUGE)


APP = Starlette(routes=[Route("/metrics", _page), Route("/huge", _huge)])


@pytest.fixture
def app() -> Starlette:
    return APP


class Crowd:
    """Clients that connect and do what a test states."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._place = host, int(port)
        self.writers: list[asyncio.StreamWriter] = []
        self.readers: list[asyncio.StreamReader] = []

    async def come(self, count: int, data: bytes = b"") -> None:
        for _ in range(count):
            reader, writer = await asyncio.open_connection(*self._place)
            writer.write(data)
            self.readers.append(reader)
            self.writers.append(writer)

    async def ended(self) -> int:
        """How many connections the server has ended so far."""
        count = 0
        for reader in self.readers:
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(0.001):
                    await reader.read(1)
            count += reader.at_eof() or reader.exception() is not None
        return count

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for writer in self.writers:
            writer.transport.abort()
        await asyncio.sleep(0)


async def scrape(url: str, verify: ssl.SSLContext | bool = True) -> int:
    async with httpx.AsyncClient(trust_env=False, verify=verify) as client:
        return (await client.get(f"{url}/metrics")).status_code


async def test_silent_and_dripping_clients_do_not_keep_others_out(address: str) -> None:
    async with Crowd(address) as crowd:
        await crowd.come(SILENT)
        await crowd.come(SILENT, b"GET / HTTP/1.1\r\nHost")
        assert await scrape(f"http://{address}") == 200


async def test_a_full_house_loses_those_who_wait_longest(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_connection, "MAX_CONNECTIONS", 10)
    async with Crowd(address) as crowd:
        await crowd.come(30)
        assert await scrape(f"http://{address}") == 200
        assert await crowd.ended() >= 20


async def test_then_those_who_are_only_kept_alive(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_connection, "MAX_CONNECTIONS", 5)
    async with Crowd(address) as crowd:
        await crowd.come(5, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        for reader in crowd.readers:
            await reader.readuntil(b"a page\n")
        assert await scrape(f"http://{address}") == 200
        assert await crowd.ended() == 1


async def test_silent_tls_clients(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    settings = TlsServerSettings(cert_file=str(certificates.server), key_file=str(certificates.server_key))
    server = WebServer(APP, "127.0.0.1", 0, TlsEndpoint(settings))
    address = await server.start()
    trusting = ssl.create_default_context(cafile=certificates.ca)
    async with Crowd(address) as crowd:
        await crowd.come(SILENT)
        await crowd.come(50, b"\x16\x03\x01")
        async with AsyncExitStack() as stack:
            for _ in range(10):  # these shake hands, and then contain no information
                host, _, port = address.rpartition(":")
                _, writer = await asyncio.open_connection(host, int(port), ssl=trusting)
                stack.callback(writer.close)
            assert await scrape(f"https://{address}", trusting) == 200
    await server.stop()


def test_places_follow_the_limit_of_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {64: 32, 20: 16, 540: 270, 4096: 512, resource.RLIM_INFINITY: 512}
    for files, places in limits.items():
        monkeypatch.setattr(resource, "getrlimit", lambda _, files=files: (files, files))
        assert client_connection.connection_limit() == places


@pytest.fixture
async def tls_place(tmp_path: Path) -> AsyncIterator[tuple[str, ssl.SSLContext]]:
    """Where the pages are served over TLS, and who trusts that."""
    certificates = make_certificates(tmp_path)
    settings = TlsServerSettings(cert_file=str(certificates.server), key_file=str(certificates.server_key))
    server = WebServer(APP, "127.0.0.1", 0, TlsEndpoint(settings))
    yield await server.start(), ssl.create_default_context(cafile=certificates.ca)
    await server.stop()


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01"], ids=["silent", "dripping"])
async def test_who_shakes_no_hands_has_a_place_too(
    data: bytes, tls_place: tuple[str, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four places one is a scraper's that is kept alive: the silent ones push out each other, never it."""
    monkeypatch.setattr(client_connection, "MAX_CONNECTIONS", 4)
    address, trusting = tls_place
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=trusting)

    async def scrape_again() -> None:
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"a page\n")).startswith(b"HTTP/1.1 200 ")

    await scrape_again()
    async with Crowd(address) as crowd:
        await crowd.come(10, data)
        await until(crowd.ended, 7)
        assert await scrape(f"https://{address}", trusting) == 200
        await until(crowd.ended, 8)
        await scrape_again()
    writer.close()


async def until(count: Callable[[], Awaitable[int]], expected: int) -> None:
    """Waits until so many are counted, and no more."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (found := await count()) < expected:
            await asyncio.sleep(0.01)
    assert found == expected


async def test_a_client_that_shakes_no_hands_does_not_hold_up_the_end(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    settings = TlsServerSettings(cert_file=str(certificates.server), key_file=str(certificates.server_key))
    server = WebServer(APP, "127.0.0.1", 0, TlsEndpoint(settings))
    async with Crowd(await server.start()) as crowd:
        await crowd.come(3, b"\x16\x03\x01")
        await asyncio.sleep(0)
        await server.stop()
        await until(crowd.ended, 3)


async def test_a_handshake_that_takes_too_long_is_given_up(
    tls_place: tuple[str, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_handshake, "HANDSHAKE_SECONDS", 0.05)
    async with Crowd(tls_place[0]) as crowd:
        await crowd.come(2)
        await until(crowd.ended, 2)


async def test_huge_heads_are_cut_off_and_others_are_served_meanwhile(address: str) -> None:
    async def send_huge_head() -> bytes:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        response = b""
        with contextlib.suppress(ConnectionError):
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 10_000_000)
            response = await reader.read()
        writer.transport.abort()
        return response

    heads = asyncio.gather(*(send_huge_head() for _ in range(8)))
    status = await scrape(f"http://{address}")
    responses = await heads
    assert status == 200
    assert all(response == b"" or response.startswith(b"HTTP/1.1 400 ") for response in responses)


def slow_reader(address: str) -> socket.socket:
    """A client that asks for the huge page and takes next to nothing of it."""
    host, _, port = address.rpartition(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((host, int(port)))
    client.sendall(b"GET /huge HTTP/1.1\r\nHost: x\r\n\r\n")
    client.setblocking(False)
    return client


async def test_of_slow_readers_only_some_are_put_up_with(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_connection, "MAX_UNREAD_RESPONSES", 3)
    clients = []
    for _ in range(8):
        clients.append(slow_reader(address))
        await asyncio.sleep(0.05)
    assert await scrape(f"http://{address}") == 200
    await until_reset(clients[0])
    for client in clients:
        client.close()


async def test_a_slow_reader_is_given_up(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_connection, "FLUSH_SECONDS", 0.1)
    client = slow_reader(address)
    await until_reset(client)
    client.close()


async def until_reset(client: socket.socket) -> None:
    """Reads what is left until the server's abort shows."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0.3)
    got = 0
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while data := await loop.sock_recv(client, 2**20):
                got += len(data)
    assert got < len(HUGE)
