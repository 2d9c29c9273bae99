"""A client at a TLS door, until its handshake is over. From its first moment it has a place in the crowd: who shakes no
hands is counted, and ended, as who sends no head.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from exporter.web.connection import Connection, Crowd
from exporter.web.tls import TlsDoor

HANDSHAKE_SECONDS = 10.0
"""How long a handshake may take."""

_SHUTDOWN_SECONDS = 2.0


class Doorway(asyncio.Protocol):
    """Shakes hands, and then gives its place to the connection that `make` makes."""

    transport: asyncio.Transport
    is_idle = True

    def __init__(self, door: TlsDoor, crowd: Crowd, make: Callable[[], Connection]) -> None:
        self._door = door
        self._crowd = crowd
        self._make = make
        self._early = bytearray()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self._crowd.enter(self)
        self._crowd.waits(self)
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
            if not self.transport.is_closing():  # a full house may have lost it again at once
                transport = await asyncio.get_running_loop().start_tls(
                    self.transport,
                    self,
                    self._door,
                    server_side=True,
                    ssl_handshake_timeout=HANDSHAKE_SECONDS,
                    ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
                )
        except OSError:
            pass  # the client's affair; a line for each would let anybody fill the log
        finally:
            self._crowd.leave(self)
        if transport is not None:  # it is None where the place was lost meanwhile
            self._go_in(transport)

    def _go_in(self, transport: asyncio.Transport) -> None:
        connection = self._make()
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if self._early:
            connection.data_received(bytes(self._early))
