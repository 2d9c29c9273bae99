"""One client's connection to the web side, and the limit of all: none is kept open for ever, and where there are too
many, the idle ones are closed first.

It owns deadlines and limits of connections. It must not know the paths.
"""

from __future__ import annotations

import asyncio
import resource
import ssl
from typing import Any, Protocol

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from exporter.core.bounds import CLIENTS

REQUEST_HEAD_SECONDS = 10.0
"""How long a request's head may take to arrive."""

FLUSH_SECONDS = 30.0
"""How long a client may take to read a response, once it is made."""

MAX_CONNECTIONS = CLIENTS
"""At most so many, and at most half of the files that this process may open: see `connection_limit`."""

MIN_CONNECTIONS = 16

MAX_UNREAD_RESPONSES = 16
"""Responses that lie in our memory because their clients do not read them. A page can have tens of MB."""


def connection_limit() -> int:
    """How many clients there may be: the rest of the files that this process may open are for targets and archive."""
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if open_files == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(MIN_CONNECTIONS, open_files // 2))


class Client(Protocol):
    """What counts against the limit: a connection, or a TLS handshake that is not over."""

    @property
    def transport(self) -> asyncio.Transport: ...

    @property
    def is_idle(self) -> bool:
        """Whether no request of it is under way."""

    def end_soon(self) -> None:
        """Ends once no request of it is under way."""


class ConnectionLimiter(ServerState):
    """All connections, by what they do, the longest first in each kind. `allowed_names` are the names of which a
    client's certificate must bear one; empty: any."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed_names: frozenset[str] = frozenset()
        self._inside: dict[Client, None] = {}
        self._waiting: dict[Client, None] = {}
        self._unread: dict[Client, None] = {}

    def enter(self, newcomer: Client) -> None:
        """There is one more. If that is one too many, the one goes that has waited longest for a handshake's end or a
        head, else one that is kept alive without a request, else the newcomer."""
        if len(self._inside) >= connection_limit():
            idle = (each for each in self._inside if each.is_idle)
            goes = next(iter(self._waiting), None) or next(idle, newcomer)
            self.leave(goes)
            goes.transport.abort()
            if goes is newcomer:
                return
        self._inside[newcomer] = None

    def waits(self, client: Client) -> None:
        """A handshake's end, or a head, is awaited of it."""
        self._waiting[client] = None

    def end_waits(self) -> None:
        """No client is waited for any more."""
        for client in tuple(self._waiting):
            client.transport.abort()

    def renew(self) -> None:
        """What clients must show has changed: who is connected shows it again. A request under way is finished."""
        for client in tuple(self._inside):
            client.end_soon()

    def waits_no_more(self, connection: ClientConnection) -> None:
        self._waiting.pop(connection, None)

    def does_not_read(self, connection: ClientConnection) -> None:
        """It was sent more than it took so far. If there are too many such, the one goes that is so for the longest."""
        self._unread[connection] = None
        if len(self._unread) > MAX_UNREAD_RESPONSES:
            next(iter(self._unread)).transport.abort()

    def has_read(self, connection: ClientConnection) -> None:
        self._unread.pop(connection, None)

    def leave(self, client: Client) -> None:
        """It is over."""
        self._inside.pop(client, None)
        self._waiting.pop(client, None)
        self._unread.pop(client, None)


class ClientConnection(H11Protocol):
    """Ends where a request's head, or the reading of a response, takes too long: silent, dripping and slow clients
    would else hold their places for ever. Sets in the application's `state` whether the client showed a certificate
    that is allowed."""

    server_state: ConnectionLimiter
    _head_deadline: asyncio.TimerHandle | None = None
    _flush_deadline: asyncio.TimerHandle | None = None

    def __init__(self, config: Any, server_state: ConnectionLimiter, app_state: dict[str, Any]) -> None:
        super().__init__(config, server_state, app_state)
        self.server_state = server_state

    @property
    def is_idle(self) -> bool:
        """Whether no request of it is under way."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        allowed = _is_allowed(transport.get_extra_info("ssl_object"), self.server_state.allowed_names)
        self.app_state = {**self.app_state, "client_certificate": allowed}
        self.server_state.enter(self)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._await_head()
        else:
            self._head_came()

    def send_400_response(self, msg: str) -> None:
        self.transport.pause_reading()  # over TLS it would else take in all that comes until the client closes, too
        if self.cycle is not None and not self.cycle.response_complete:
            # The application may still respond to the request whose body is broken: no client listens any more.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.abort()

    def end_soon(self) -> None:
        """Ends now, or with the response under way."""
        if not self.transport.is_closing():
            self.shutdown()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.get_write_buffer_size() and self._flush_deadline is None:
            self._flush_deadline = self.loop.call_later(FLUSH_SECONDS, self._end_unflushed)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.server_state.does_not_read(self)
        if self._flush_deadline is None:
            self._flush_deadline = self.loop.call_later(FLUSH_SECONDS, self._end_unflushed)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.server_state.has_read(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        if self._flush_deadline is not None:
            self._flush_deadline.cancel()
        self.server_state.leave(self)
        super().connection_lost(exc)

    def _await_head(self) -> None:
        if self._head_deadline is None:
            self._head_deadline = self.loop.call_later(REQUEST_HEAD_SECONDS, self.transport.abort)
            self.server_state.waits(self)

    def _head_came(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None
            self.server_state.waits_no_more(self)

    def _end_unflushed(self) -> None:
        self._flush_deadline = None
        if self.transport.get_write_buffer_size():
            self.transport.abort()


def _is_allowed(tls: ssl.SSLObject | None, names: frozenset[str]) -> bool:
    """Whether the peer showed a certificate (which the handshake has verified), with one of these names if there are
    any."""
    certificate = tls.getpeercert() if tls is not None else None
    if not certificate:
        return False
    alternatives: Any = certificate.get("subjectAltName", ())
    return not names or any(value in names for _, value in alternatives)
