"""A `requests` session whose every exchange ends by a deadline, and goes where it was sent to go. The time-outs of
`requests` are for each read from the socket: a server that sends its head a byte a second would hold its reader for
ever. And its defaults take a proxy, a password (~/.netrc) and a list of CAs from the environment, and follow a server
to wherever that points.

Owns the watch over the session's sockets; knows no page.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from exporter.core.target import TlsOptions
from exporter.core.units import NS

_CHUNK_BYTES = 64 << 10

_AGAIN_SECONDS = 0.05
"""After the deadline: how often a connection that was only then made is looked for."""


class TlsFileError(OSError):
    """A file of the TLS options cannot be used; the text names it."""


class PageSession(requests.Session):
    """One exchange at a time, in whatever thread. The options' `server_name` is not used. With a `proxy_url`
    (http://host:port) it goes through that proxy; under TLS the proxy sees no more than the host's name."""

    def __init__(self, tls: TlsOptions, proxy_url: str = "") -> None:
        super().__init__()
        self.trust_env = False
        if proxy_url:
            self.proxies = dict.fromkeys(("http", "https"), proxy_url)
        # A server compresses only if asked to, and a page that is small on the wire must not be huge here.
        self.headers["Accept-Encoding"] = "identity"
        self._adapter = _Adapter(tls)
        self.mount("http://", self._adapter)
        self.mount("https://", self._adapter)

    def request(self, method: str | bytes, url: str | bytes, *arguments: Any, **options: Any) -> requests.Response:
        """As in the base class, but that no redirect is followed."""
        return super().request(method, url, *arguments, **{**options, "allow_redirects": False})

    def shut(self) -> None:
        """Ends the exchange that is under way in another thread, if there is one."""
        self._adapter.shut()

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
    """Knows the sockets of its connections, also while they are in use, and after a response took them over."""

    def __init__(self, tls: TlsOptions) -> None:
        super().__init__()
        self._tls = tls
        self._pools: list[Any] = []
        self._sockets: list[weakref.ref[socket.socket]] = []

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Mapping[str, str] | None = None, cert: Any = None
    ) -> Any:
        """The pool for a request, as in the base class."""
        pool: Any = super().get_connection_with_tls_context(request, verify, proxies, cert)
        if "ConnectionCls" not in vars(pool):
            self._pools.append(pool)
            pool.ConnectionCls = _with_socket_hook(pool.ConnectionCls, self._opened)
            if pool.scheme == "https":
                pool.conn_kw["ssl_context"] = context = tls_context(self._tls)
                pool.cert_reqs, pool.ca_certs = context.verify_mode, None
                pool.assert_hostname = None if context.check_hostname else False
        return pool

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Nothing: the pool has its context, and `requests` would add its own list of CAs."""

    def close(self) -> None:
        """Closes all connections at once. urllib3 leaves them to the collection of their pool, which an earlier error
        keeps alive until a full one."""
        super().close()
        for pool in self._pools:
            pool.close()
        self._pools.clear()

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


def tls_context(tls: TlsOptions) -> ssl.SSLContext:
    """As for the load: the system's CAs, or those of a file, where one that is no root is trusted as it is, and the
    same rules under every Python (3.13 would add those of VERIFY_X509_STRICT). Raises TlsFileError."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_file or None)
    except OSError as error:
        raise TlsFileError(f"TLS ca_file {tls.ca_file} cannot be used: {error.strerror or error}") from error
    context.verify_flags = (context.verify_flags | ssl.VERIFY_X509_PARTIAL_CHAIN) & ~ssl.VERIFY_X509_STRICT
    if tls.cert_file:
        try:
            # An encrypted key must fail, not ask for its password on a terminal that a daemon has not got.
            context.load_cert_chain(tls.cert_file, tls.key_file or None, password=lambda: "")
        except OSError as error:
            files = " and ".join(path for path in (tls.cert_file, tls.key_file) if path)
            raise TlsFileError(f"TLS client certificate {files} cannot be used: {error.strerror or error}") from error
    context.check_hostname = tls.verify and tls.verify_host
    if not tls.verify:
        context.verify_mode = ssl.CERT_NONE
    return context


def read_body(response: requests.Response, most_bytes: int) -> bytes | None:
    """The body of a response that was requested with `stream`; None if it is larger, as soon as that is known."""
    body = bytearray()
    while piece := response.raw.read1(_CHUNK_BYTES, decode_content=False):
        body += piece
        if len(body) > most_bytes:
            return None
    return bytes(body)


def _with_socket_hook(connection: Any, on_socket: Callable[[socket.socket], None]) -> Any:
    """The kind of connection, reporting each socket that it takes: that to a proxy, and that with TLS round it, too."""

    class Watched(connection):  # type: ignore[misc]
        @property
        def sock(self) -> socket.socket | None:
            return self._watched_sock

        @sock.setter
        def sock(self, sock: socket.socket | None) -> None:
            self._watched_sock = sock
            if sock is not None:
                on_socket(sock)

    return Watched
