"""The server: where it listens, what it refuses, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket

import httpx
import pytest
from starlette.applications import Starlette

from exporter.web import client_connection
from exporter.web.http_server import ListenError, WebServer
from tests.waiting import patient


async def exchange(address: str, data: bytes) -> bytes:
    """What the server reports to these bytes until it ends the connection."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_it_serves_and_ends(app: Starlette) -> None:
    server = WebServer(app, "127.0.0.1", 0)
    address = await server.start()
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.get(f"http://{address}/-/healthy")
        assert (response.status_code, response.text) == (200, "Healthy\n")
        assert "server" not in response.headers
        head = await client.head(f"http://{address}/metrics")
        assert (head.status_code, head.content) == (200, b"")
        await server.stop()
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://{address}/-/healthy")
    await server.stop()


async def test_signals_stay_the_daemons(app: Starlette) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    server = WebServer(app, "127.0.0.1", 0)
    await server.start()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    await server.stop()


@pytest.mark.parametrize(("host", "bound"), [("127.0.0.1", "127.0.0.1:"), ("::1", "[::1]:"), ("localhost", "")])
async def test_hosts(host: str, bound: str, app: Starlette) -> None:
    if host == "::1" and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    server = WebServer(app, host, 0)
    address = await server.start()
    assert address.startswith(bound)
    assert b"Healthy" in await ask(address.rpartition(":")[0].strip("[]"), address)
    await server.stop()


async def test_no_host_means_all_addresses_of_both_families(app: Starlette) -> None:
    server = WebServer(app, "", 0)
    address = await server.start()
    for host in ("127.0.0.1", "::1") if socket.has_dualstack_ipv6() else ("127.0.0.1",):
        assert b"Healthy" in await ask(host, address)
    await server.stop()


async def ask(host: str, address: str) -> bytes:
    reader, writer = await asyncio.open_connection(host, int(address.rpartition(":")[2]))
    writer.write(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    response = await reader.read()
    writer.close()
    return response


async def test_a_port_in_use_is_reported_clearly(app: Starlette, address: str) -> None:
    port = int(address.rpartition(":")[2])
    with pytest.raises(ListenError, match=rf"^cannot listen on 127\.0\.0\.1:{port}: Address already in use$"):
        await WebServer(app, "127.0.0.1", port).start()


@pytest.mark.parametrize("host", ["203.0.113.1", "x" * 64], ids=["another machine's", "no name"])
async def test_an_address_that_is_not_ours(host: str, app: Starlette) -> None:
    with pytest.raises(ListenError, match=rf"^cannot listen on {host}:9: .+"):
        await WebServer(app, host, 9).start()


async def test_a_huge_request_head_is_refused(address: str) -> None:
    response = await exchange(address, b"GET / HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 1_000_000)
    assert response == b"" or response.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\nHost"], ids=["silent", "dripping"])
async def test_a_head_that_does_not_come_ends_the_connection(
    data: bytes, app: Starlette, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_connection, "REQUEST_HEAD_SECONDS", 0.05)
    server = WebServer(app, "127.0.0.1", 0)
    address = await server.start()
    assert await exchange(address, data) == b""
    await server.stop()


async def test_a_kept_connection_is_served_again_and_a_dripping_one_ended(
    app: Starlette, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_connection, "REQUEST_HEAD_SECONDS", 0.2)
    server = WebServer(app, "127.0.0.1", 0)
    address = await server.start()
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    request = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"
    for _ in range(2):
        writer.write(request)
        assert (await reader.readuntil(b"Healthy\n")).startswith(b"HTTP/1.1 200 ")
    writer.write(request[:-1])
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    await server.stop()


async def test_a_silent_client_does_not_hold_up_the_end(app: Starlette) -> None:
    server = WebServer(app, "127.0.0.1", 0)
    address = await server.start()
    host, _, port = address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    async with asyncio.timeout(patient(1.5)):
        await server.stop()
    writer.close()
