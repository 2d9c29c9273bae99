"""A `requests` session whose every exchange ends by a deadline. Its own time-outs are for each read from the socket: a
server that sends its head a byte a second would hold its reader for ever.

Owns the watch over the session's sockets; knows no page.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from exporter.core.units import NS

_AGAIN_SECONDS = 0.05
"""After the deadline: how often a connection that was only then made is looked for."""


class PageSession(requests.Session):
    """One exchange at a time, in whatever thread."""

    def __init__(self) -> None:
        super().__init__()
        self._adapter = _Adapter()
        self.mount("http://", self._adapter)
        self.mount("https://", self._adapter)

    @contextlib.contextmanager
    def until(self, deadline_ns: int) -> Iterator[None]:
        """Shuts the sockets at the deadline (monotonic), from another thread: what waits for them then ends, by an
        error or as if the server had closed."""
        done = threading.Event()
        watch = threading.Thread(target=self._shut_at, args=(deadline_ns, done), name="page-deadline", daemon=True)
        watch.start()
        try:
            yield
        finally:
            done.set()
            watch.join()

    def _shut_at(self, deadline_ns: int, done: threading.Event) -> None:
        seconds = (deadline_ns - time.monotonic_ns()) / NS
        while not done.wait(seconds):
            self._adapter.shut()
            seconds = _AGAIN_SECONDS


class _Adapter(HTTPAdapter):
    """Knows the sockets of its connections, also while they are in use, and after an answer took them over."""

    def __init__(self) -> None:
        super().__init__()
        self._sockets: list[weakref.ref[socket.socket]] = []

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Mapping[str, str] | None = None, cert: Any = None
    ) -> Any:
        """The pool for a request, as in the base class."""
        pool: Any = super().get_connection_with_tls_context(request, verify, proxies, cert)
        if "ConnectionCls" not in vars(pool):
            pool.ConnectionCls = _told_of_sockets(pool.ConnectionCls, self._opened)
        return pool

    def _opened(self, sock: socket.socket) -> None:
        known = [each for each in self._sockets if each() is not None]
        self._sockets = [*known, weakref.ref(sock)]

    def shut(self) -> None:
        """Ends all reading and writing on the sockets."""
        for sock in [each() for each in self._sockets]:
            if sock is not None:
                with contextlib.suppress(OSError):  # it is closed
                    # Not a TLS socket's own method, which takes its state away under the thread that reads.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _told_of_sockets(connection: Any, tell: Callable[[socket.socket], None]) -> Any:
    """The kind of connection, telling each socket that it takes: that to a proxy, and that with TLS round it, too."""

    class Watched(connection):  # type: ignore[misc]
        @property
        def sock(self) -> socket.socket | None:
            return self._watched_sock

        @sock.setter
        def sock(self, sock: socket.socket | None) -> None:
            self._watched_sock = sock
            if sock is not None:
                tell(sock)

    return Watched
