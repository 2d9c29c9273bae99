"""Reading one source once: files, the web, names, repository indexes, and what is wrong with them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from exporter.core.errors import PreflightError, WorkerLostError
from exporter.core.outcome import Reason
from exporter.core.target import Header, Target
from exporter.core.units import NS
from exporter.discovery import sources
from exporter.discovery.found import DiscoveryError, Found
from exporter.discovery.sources import Response, Source
from exporter.discovery.sources import read as read_any
from tests.builders import make_target
from tests.transport.certificates import Certificates
from tests.transport.scripted import serving
from tests.waiting import patient

GROUPS = [{"targets": ["a:1", "b:2"], "labels": {"zone": "z", "__meta_x": "y"}}]
FOUND = (Found("a", 1, labels=(("zone", "z"),)), Found("b", 2, labels=(("zone", "z"),)))


def source(**changes: Any) -> Source:
    return Source(make_target(name="fleet"), 30 * NS, labels=("zone",), **changes)


async def read(of: Source) -> Response:
    """What a source states that is no index."""
    return await read_any(of, _no_models)


async def _no_models(_target: Target) -> tuple[str, ...]:
    raise AssertionError("no source asks for models")


async def error_of(of: Source) -> str:
    with pytest.raises(DiscoveryError) as caught:
        await read(of)
    return str(caught.value)


# --- files -----------------------------------------------------------------------------------------------------------


async def test_json_and_yaml_files_by_pattern(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(GROUPS))
    (tmp_path / "b.yaml").write_text("- targets: ['c:3', 'a:1']\n  labels:\n    zone: other\n")
    files = (str(tmp_path / "*.json"), str(tmp_path / "b.yaml"))
    assert await read(source(files=files)) == (*FOUND, Found("c", 3, labels=(("zone", "other"),)))


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("x.json", "[{", "x.json: Expecting property name"),
        ("x.yaml", "a: [", "x.yaml: line 2: is not YAML"),
        ("x.yaml", "targets: []", "x.yaml: must be a list of target groups"),
        ("x.yaml", "- targets: ['no port at all:']", "x.yaml: [0].targets[0]: found 'no port at all:': must be"),
        (
            "x.yaml",
            "!!python/object/apply:os.system ['true']",
            "x.yaml: line 1: tag '!!python/object/apply:os.system' has no meaning",
        ),
        ("x.yaml", "\x00", "x.yaml: line 1: is not YAML"),
    ],
)
async def test_broken_files(tmp_path: Path, name: str, text: str, error: str) -> None:
    (tmp_path / name).write_text(text)
    assert error in await error_of(source(files=(str(tmp_path / name),)))


async def test_no_file_and_one_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = str(tmp_path / "*.json")
    assert await error_of(source(files=(pattern,))) == f"{pattern}: there is no such file"
    monkeypatch.setattr(sources, "MAX_LIST_BYTES", 1 << 20)
    (tmp_path / "a.json").write_text(" " * (1 << 20) + "[]")
    assert "a.json: is larger than 1 MiB" in await error_of(source(files=(pattern,)))


async def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("pipe.json", "."):
        began_s = time.monotonic()
        error = await error_of(source(files=(str(tmp_path / name),)))
        assert "is not a regular file" in error or "Is a directory" in error
        assert time.monotonic() - began_s < patient(1)


async def test_aliases_and_nesting_are_bounded(tmp_path: Path) -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in itertools.pairwise("abcdefgh")
    )
    for text, error in ((bomb, "holds more than 1000000 values"), ("[" * 5000, "is nested more than 50 deep")):
        (tmp_path / "x.yaml").write_text(text)
        began_s = time.monotonic()
        assert error in await error_of(source(files=(str(tmp_path / "x.yaml"),)))
        assert time.monotonic() - began_s < patient(5)


async def test_lists_and_files_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LIST_FILES", 2)
    for number in range(3):
        (tmp_path / f"{number}.json").write_text("[]")
    assert "there are more than 2 such files" in await error_of(source(files=(str(tmp_path / "*.json"),)))
    many = [{"targets": [f"h{number}" for number in range(20_001)]}]
    (tmp_path / "many.json").write_text(json.dumps(many))
    assert "has more than 20000 addresses" in await error_of(source(files=(str(tmp_path / "many.json"),)))


async def test_a_reading_that_hangs_is_left_behind_and_not_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, began = threading.Event(), []

    def hang(path: Path, _labels: object) -> tuple[Found, ...]:
        began.append(path)
        gate.wait(30)
        return ()

    monkeypatch.setattr(sources, "READ_LIMIT_SECONDS", 0.1)
    monkeypatch.setattr(sources, "_read_file", hang)
    (tmp_path / "a.json").write_text("[]")
    of = source(files=(str(tmp_path / "a.json"),))
    assert await error_of(of) == "was not read within 0.1 s"
    for _ in range(3):
        assert await error_of(of) == "an earlier reading has not ended yet"
    assert len(began) == 1
    gate.set()
    await asyncio.sleep(0.1)
    assert await read(of) == ()


HANGING = """
import asyncio, os, sys, threading, time
from exporter.discovery.reader_threads import ReaderThreads

async def main():
    try:
        await ReaderThreads().run("key", lambda: time.sleep(60), 0.1)
    except Exception as error:
        print(error)

asyncio.run(main())
"""


def test_the_exit_waits_for_no_reader() -> None:
    began_s = time.monotonic()
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "was not read within 0.1 s\n"
    assert time.monotonic() - began_s < patient(20)


@pytest.mark.parametrize("dripping", [b"HTTP/1.1 200 OK\r\nX-A: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n["])
async def test_a_page_that_drips_ends_at_its_limit(monkeypatch: pytest.MonkeyPatch, dripping: bytes) -> None:
    monkeypatch.setattr(sources, "HTTP_LIMIT_SECONDS", 0.5)
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            client, _ = server.accept()
            with client, contextlib.suppress(OSError):
                client.sendall(dripping)
                while not done.wait(0.05):
                    client.sendall(b" ")

        thread = threading.Thread(target=drip)
        thread.start()
        began_s = time.monotonic()
        error = await error_of(source(url=f"http://127.0.0.1:{server.getsockname()[1]}/"))
        assert error.startswith("http_sd: was not there within ")
        assert time.monotonic() - began_s < patient(5)
        done.set()
        thread.join()


# --- the web ---------------------------------------------------------------------------------------------------------


class Page(ThreadingHTTPServer):
    """Responses what a test states, and keeps the headers that it was asked with."""

    status, body = 200, json.dumps(GROUPS).encode()

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/sd"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Page)
        self.server.asked.append(dict(self.headers))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def page() -> Iterator[Page]:
    server = Page()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_page(page: Page, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("open sesame\n")
    headers = (Header("Authorization", file=str(tmp_path / "token"), prefix="Bearer "),)
    assert await read(source(url=page.url, headers=headers)) == FOUND
    (asked,) = page.asked
    assert asked["X-Prometheus-Refresh-Interval-Seconds"] == "30"
    assert asked["Authorization"] == "Bearer open sesame"


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (500, b"[]", "http_sd got 500, not 200"),
        (302, b"[]", "http_sd got 302, a redirect to /elsewhere, which is not followed"),
        (200, b"<html>", "http_sd: Expecting value: line 1 column 1 (char 0)"),
        (200, b"{}", "must be a list of target groups"),
        (200, b" " * 2048 + b"[]", "http_sd: is larger than 0 MiB"),
        (200, b"[" * 1000, "http_sd: "),
    ],
)
async def test_pages_that_are_of_no_use(
    page: Page, monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, error: str
) -> None:
    monkeypatch.setattr(sources, "MAX_LIST_BYTES", 1024)
    page.status, page.body = status, body
    assert (await error_of(source(url=page.url))).startswith(error)


class Proxy:
    """An HTTP proxy that keeps each request's first line and its Authorization, and goes to `upstream` alone."""

    def __init__(self, upstream: int) -> None:
        self.asked: list[str] = []
        self.authorizations: list[str] = []
        self._upstream = upstream

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        self.asked.append(lines[0])
        self.authorizations += [line for line in lines if line.startswith("Authorization:")]
        back, onward = await asyncio.open_connection("127.0.0.1", self._upstream)
        relays = [asyncio.create_task(_relay(reader, onward)), asyncio.create_task(_relay(back, writer))]
        try:
            if lines[0].startswith("CONNECT "):
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                onward.write(head)
            await asyncio.wait(relays, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for relay in relays:
                relay.cancel()
            await asyncio.gather(*relays, return_exceptions=True)
            onward.transport.abort()
            with contextlib.suppress(ConnectionError):
                await onward.wait_closed()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)


async def test_a_page_through_a_proxy(page: Page) -> None:
    proxy = Proxy(page.server_address[1])
    async with serving(proxy.serve) as port:
        of = source(url="http://sd.test/list", proxy_url=f"http://127.0.0.1:{port}")
        assert await read(of) == FOUND
    assert proxy.asked == ["GET http://sd.test/list HTTP/1.1"]
    assert page.asked[0]["Host"] == "sd.test"


async def test_a_page_through_a_proxy_that_sees_nothing_of_it(
    page: Page, certificates: Certificates, tmp_path: Path
) -> None:
    """Under TLS: the certificate is the page's, and so is the token."""
    page.socket = certificates.server_context().wrap_socket(page.socket, server_side=True)
    (tmp_path / "token").write_text("open sesame\n")
    headers = (Header("Authorization", file=str(tmp_path / "token")),)
    proxy = Proxy(page.server_address[1])
    async with serving(proxy.serve) as port:
        through = {"proxy_url": f"http://127.0.0.1:{port}", "headers": headers}
        assert await read(source(url="https://canary.test/list", ca_file=str(certificates.ca), **through)) == FOUND
        other = source(url="https://canary.test/list", ca_file=str(certificates.other_ca), **through)
        assert await error_of(other) == "http_sd cannot be read: SSLError"
    assert set(proxy.asked) == {"CONNECT canary.test:443 HTTP/1.0"} or set(proxy.asked) == {
        "CONNECT canary.test:443 HTTP/1.1"
    }
    assert proxy.authorizations == []
    assert page.asked[0]["Authorization"] == "open sesame"


async def test_a_proxy_that_is_not_there(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert await read(source(url=page.url)) == FOUND, "the environment's is not used"
    assert await error_of(source(url=page.url, proxy_url="http://127.0.0.1:9")) == "http_sd cannot be read: ProxyError"


async def test_a_page_that_is_not_there_and_a_token_that_is_not() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}/secret-path"
        assert await error_of(source(url=url)) == "http_sd cannot be read: ConnectionError"
    headers = (Header("X-Token", env="NO_SUCH_VARIABLE"),)
    expected = "http_sd: header 'X-Token': the environment variable NO_SUCH_VARIABLE is not set"
    assert await error_of(source(url=url, headers=headers)) == expected


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("addresses", "found"),
    [
        (["10.0.0.2", "10.0.0.1", "10.0.0.2"], ["10.0.0.1", "10.0.0.2"]),
        (["fd00::2", "10.0.0.1"], ["10.0.0.1"]),
        (["fd00::2", "fd00::1"], ["fd00::1", "fd00::2"]),
    ],
)
async def test_a_name(monkeypatch: pytest.MonkeyPatch, addresses: list[str], found: list[str]) -> None:
    async def look_up(host: str, port: int) -> list[Any]:
        assert (host, port) == ("triton.example", 8001)
        return [
            (socket.AF_INET6, (a, port, 0, 0)) if ":" in a else (socket.AF_INET, (a, port))
            for a in dict.fromkeys(addresses)
        ]

    monkeypatch.setattr(sources, "look_up", look_up)
    target = make_target(host="triton.example", port=8001)
    expected = tuple(Found("triton.example", 8001, address) for address in found)
    assert await read(Source(target, NS, dns=True)) == expected


async def test_a_name_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(host: str, port: int) -> list[Any]:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(sources, "look_up", look_up)
    target = make_target(host="triton.example")
    text = "the name 'triton.example' does not resolve: [Errno -2] Name or service not known"
    assert await error_of(Source(target, NS, dns=True)) == text


# --- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (PreflightError(Reason.UNREACHABLE, "refused"), "refused"),
        (WorkerLostError(Reason.WORKER_CRASH, "worker ended"), "worker ended"),
        (TimeoutError(), "http://127.0.0.1:8000 did not respond in time"),
    ],
)
async def test_models(failure: Exception, text: str) -> None:
    of = Source(make_target(), NS)
    assert of.is_index

    async def ask(target: Target) -> tuple[str, ...]:
        assert target == of.target
        return ("asr", "vad")

    async def fail(_target: Target) -> tuple[str, ...]:
        raise failure

    assert await read_any(of, ask) == ("asr", "vad")
    with pytest.raises(DiscoveryError) as caught:
        await read_any(of, fail)
    assert str(caught.value) == text
