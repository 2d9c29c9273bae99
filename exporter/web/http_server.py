"""The HTTP server under the application: uvicorn, with a life of its own and with limits.

It owns the listening socket and the server's start and end. Signals are the daemon's. It must not know the paths.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from exporter.core.errors import TritonCanaryError
from exporter.web.client_connection import ClientConnection, ConnectionLimiter
from exporter.web.tls_endpoint import TlsEndpoint
from exporter.web.tls_handshake import TlsHandshake

_MAX_REQUEST_HEAD_BYTES = 16 * 1024
_KEEP_ALIVE_SECONDS = 75  # longer than the usual scrape interval, so that a scraper keeps its connection
_STOP_SECONDS = 2


class ListenError(TritonCanaryError):
    """The address cannot be listened on; the text has which and why."""


class WebServer:
    """Serves an application on `host` ("" = all addresses, IPv4 and IPv6) and `port` (0 = a free one); with an
    `endpoint` over TLS."""

    def __init__(self, app: ASGIApp, host: str, port: int, endpoint: TlsEndpoint | None = None) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._endpoint = endpoint
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Listens and serves; returns the address bound, as `host:port`. Raises ListenError."""
        listener = _listen(self._host, self._port)
        address = _address_text(listener)
        self._server = _Server(_config(self._app), self._endpoint)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]), name="web-server")
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait((self._task, ready), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            await self._task
            raise ListenError(f"the web server on {address} ended while it started")
        return address

    async def stop(self) -> None:
        """Stops listening, lets running responses end within two seconds, and closes what is open."""
        if self._server is None or self._task is None:
            return
        self._server.should_exit = True
        await self._task
        self._server = self._task = None


class _Server(uvicorn.Server):
    """uvicorn without signal handlers, with connections of our own, and with an event for the moment from which it
    serves."""

    def __init__(self, config: uvicorn.Config, endpoint: TlsEndpoint | None) -> None:
        super().__init__(config)
        self.server_state = self._limiter = ConnectionLimiter()
        self._endpoint = endpoint
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """In the place of uvicorn's own, whose TLS hides a client until its handshake is over."""
        await self.lifespan.startup()
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(self._protocol, sock=sock, backlog=self.config.backlog) for sock in sockets or ()
        ]
        if self._endpoint is not None:  # its files are followed in another thread
            self._endpoint.on_change = lambda: loop.call_soon_threadsafe(self._limiter.renew)
        self.started = True
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's own, which does not know of handshakes."""
        if self._endpoint is not None:
            self._endpoint.on_change = lambda: None
        self._limiter.end_waits()
        await super().shutdown(sockets)

    def _protocol(self) -> ClientConnection | TlsHandshake:
        return (
            self._connection()
            if self._endpoint is None
            else TlsHandshake(self._endpoint, self._limiter, self._connection)
        )

    def _connection(self) -> ClientConnection:
        if self._endpoint is not None:
            self._limiter.allowed_names = self._endpoint.allowed_names
        return ClientConnection(self.config, self._limiter, self.lifespan.state)


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=ClientConnection,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",  # a line for each malformed request would let any client fill the log
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_STOP_SECONDS,
        h11_max_incomplete_event_size=_MAX_REQUEST_HEAD_BYTES,
    )


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. Without a host one for both families, where the system has both."""
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if not host and socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server(address, family=family)
    except socket.gaierror as error:
        raise ListenError(f"cannot listen on {shown}: {error.strerror}") from error
    except OSError as error:
        raise ListenError(f"cannot listen on {shown}: {os.strerror(error.errno or 0)}") from error
    except (UnicodeError, OverflowError) as error:
        raise ListenError(f"cannot listen on {shown}: no such address") from error


def _address_text(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
