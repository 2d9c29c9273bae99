"""Why a peer could not be asked: by real clients and real peers that refuse, close, or have no name."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import urllib.request
from collections.abc import Iterator

import pytest
import requests

from exporter.core.causes import cause_of, no_daemon


@contextlib.contextmanager
def plain_server() -> Iterator[int]:
    """Accepts, and responses each peer with a line that is no TLS and no HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listening.accept()
                    peer.sendall(b"220 ready\r\n")
                    peer.close()

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]


def causes(url: str) -> set[str]:
    """What each of the clients that the commands use raises, in words."""
    found = set()
    try:
        requests.get(url, timeout=5)
    except requests.RequestException as error:
        found.add(cause_of(error))
    try:
        urllib.request.urlopen(url, timeout=5)
    except (OSError, ValueError) as error:
        found.add(cause_of(error))
    return found


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert causes(f"http://127.0.0.1:{port}/") == {"connection refused"}


def test_tls_on_a_plain_port() -> None:
    with plain_server() as port:
        assert causes(f"https://127.0.0.1:{port}/") == {"TLS failed; does the address speak it?"}


def test_an_unknown_host() -> None:
    assert causes("http://no-such-host.invalid/") == {"its host name is unknown"}


def test_whatever_it_is_it_is_one_short_line() -> None:
    assert cause_of(ValueError("two\nlines " + "x" * 1000)) == "two lines " + "x" * 190 + "…"
    looping = OSError("a")
    looping.__cause__ = looping
    assert cause_of(looping) == "a"
    assert cause_of(ssl.SSLError(1, "wrong")) == "TLS failed; does the address speak it?"


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("127.0.0.1:9787", "no daemon at 127.0.0.1:9787: --url needs its scheme, as http://127.0.0.1:9787"),
        (
            "http://h:1",
            "no daemon at http://h:1: x; is it running (triton-canary serve), and is --url its web.listen?",
        ),
    ],
)
def test_the_line_of_a_command(url: str, line: str) -> None:
    assert no_daemon(url, "x") == line
