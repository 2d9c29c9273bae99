"""Name resolution: which addresses a connection to a target tries, and in which order.

Implements the policies of `Resolve` for a single connection. Does not connect.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from exporter.core.target import Resolve, Target
from exporter.core.threads import Threads

SocketAddress = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
Address = tuple[socket.AddressFamily, SocketAddress]

_resolver = Threads("resolver", 16)
_asked: dict[tuple[str, int], Future[Any]] = {}

_turns: dict[tuple[str, int], set[SocketAddress]] = {}
"""By name and port: the addresses already used in the current round."""


async def addresses(target: Target) -> list[Address]:
    """The target's addresses in the order to try them: only the settled one, or all current ones in the resolver's
    order. Under `Resolve.CONNECTION` each call begins with another one.

    Raises OSError or UnicodeError if the name does not resolve.
    """
    host = target.address or target.host
    if is_numeric(host):
        return _numeric(host, target.port)
    found = await look_up(host, target.port)
    return _next_first(host, target.port, found) if target.resolve is Resolve.CONNECTION else found


async def look_up(host: str, port: int) -> list[Address]:
    """All stream addresses of a name, in the system's order. Each call does a new look-up, or joins the running one.
    Raises OSError, UnicodeError.

    The system's resolver cannot be cancelled, and takes half a minute if no name server responds: a name therefore
    occupies at most one thread, however often it is looked up.
    """
    key = host, port
    asked = _asked.get(key)
    if asked is None or asked.done():
        asked = _asked[key] = _resolver.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        asked.add_done_callback(lambda _: _asked.pop(key, None))
    return _unique(await asyncio.shield(asyncio.wrap_future(asked)))


def is_numeric(host: str) -> bool:
    """Whether the host is already an address: it then needs no resolution, and no thread."""
    try:
        return bool(_numeric(host, 0))
    except (OSError, UnicodeError):
        return False


def as_host(address: SocketAddress) -> str:
    """The address as text, with its scope if it has one."""
    host = str(address[0])
    return f"{host}%{address[3]}" if len(address) == 4 and address[3] else host


def _numeric(host: str, port: int) -> list[Address]:
    return _unique(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))


def _unique(infos: Sequence[tuple[socket.AddressFamily, socket.SocketKind, int, str, SocketAddress]]) -> list[Address]:
    return list(dict.fromkeys((family, address) for family, _type, _protocol, _name, address in infos))


def _next_first(host: str, port: int, found: list[Address]) -> list[Address]:
    """Moves a random address that was not used in this round to the front; the others keep their order.

    Each address then gets the same share, whatever the resolver's order, also when addresses come and go, and without
    coordination between worker processes. Only addresses of the resolver's preferred family take part: `::1` and
    `127.0.0.1` are not two servers, and a host without IPv6 must not try it every second time.
    """
    round_ = _turns.setdefault((host, port), set())
    replicas = [entry for entry in found if entry[0] == found[0][0]]
    left = [entry for entry in replicas if entry[1] not in round_]
    if not left:
        round_.clear()
        left = replicas
    chosen = random.choice(left)  # noqa: S311  # not a secret
    round_.add(chosen[1])
    return [chosen, *(entry for entry in found if entry != chosen)]
