"""A client of a TLS endpoint, until its handshake is over. It counts against the limit of connections from its first
moment: one that does not end its handshake is closed as one that sends no head.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from exporter.web.client_connection import ClientConnection, ConnectionLimiter
from exporter.web.tls_endpoint import TlsEndpoint

HANDSHAKE_SECONDS = 10.0
"""How long a handshake may take."""

_SHUTDOWN_SECONDS = 2.0


class TlsHandshake(asyncio.Protocol):
    """Shakes hands, and then gives its place to the connection that `make` makes."""

    transport: asyncio.Transport
    is_idle = True

    def __init__(self, endpoint: TlsEndpoint, limiter: ConnectionLimiter, make: Callable[[], ClientConnection]) -> None:
        self._endpoint = endpoint
        self._limiter = limiter
        self._make = make
        self._early = bytearray()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self._limiter.enter(self)
        self._limiter.waits(self)
        self._task = asyncio.get_running_loop().create_task(self._shake_hands())

    def data_received(self, data: bytes) -> None:
        """What came with the handshake's end, before the connection was made."""
        self._early += data

    def end_soon(self) -> None:
        """Its handshake began with what was asked before."""
        self.transport.abort()

    async def _shake_hands(self) -> None:
        transport = None
        try:
            if not self.transport.is_closing():  # the limiter may have closed it again at once
                transport = await asyncio.get_running_loop().start_tls(
                    self.transport,
                    self,
                    self._endpoint,
                    server_side=True,
                    ssl_handshake_timeout=HANDSHAKE_SECONDS,
                    ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
                )
        except OSError:
            pass  # the client's affair; a line for each would let any client fill the log
        finally:
            self._limiter.leave(self)
        if transport is not None:  # it is None where the place was lost meanwhile
            self._go_in(transport)

    def _go_in(self, transport: asyncio.Transport) -> None:
        connection = self._make()
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if self._early:
            connection.data_received(bytes(self._early))
