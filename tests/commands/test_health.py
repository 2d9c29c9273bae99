"""`triton-canary health` against the real web server, and against what is no daemon."""

from __future__ import annotations

import asyncio
import socket

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from exporter import cli
from exporter.web.http_server import WebServer


async def ask(app: Starlette) -> int:
    server = WebServer(app, "127.0.0.1", 0)
    address = await server.start()
    try:
        return await asyncio.to_thread(cli.run, ["health", "--url", f"http://{address}"])
    finally:
        await server.stop()


def served_version(status: int, text: str) -> Starlette:
    return Starlette(routes=[Route("/-/healthy", lambda _request: PlainTextResponse(text, status))])


async def test_a_healthy_daemon(capsys: pytest.CaptureFixture[str]) -> None:
    assert await ask(served_version(200, "Healthy\n")) == 0
    assert capsys.readouterr().out == "Healthy\n"


async def test_one_that_is_stuck(capsys: pytest.CaptureFixture[str]) -> None:
    assert await ask(served_version(503, "The scheduler is stuck\n")) == 1
    assert capsys.readouterr().err == "503: The scheduler is stuck\n"


def test_no_daemon_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    assert cli.run(["health", "--url", url]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"no daemon at {url}: connection refused; is it running")


def test_what_is_no_address(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["health", "--url", "127.0.0.1:9787"]) == 1
    assert capsys.readouterr().err == "no daemon at 127.0.0.1:9787: --url needs its scheme, as http://127.0.0.1:9787\n"
