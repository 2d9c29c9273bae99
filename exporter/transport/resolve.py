"""Names to addresses: which addresses a connection to a target tries, and in which order.

Owns the policies of `Resolve` as far as they concern one connection. Knows nothing of connecting.
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
"""By name and port: the addresses that have had their turn in the round that is under way."""


async def addresses(target: Target) -> list[Address]:
    """The addresses of the target in the order in which they are to be tried: the one that it is settled on alone, or
    all that its name has now, in the resolver's order. Under `Resolve.CONNECTION` each call begins with another one.

    Raises OSError or UnicodeError if the name has none.
    """
    host = target.address or target.host
    if is_numeric(host):
        return _numeric(host, target.port)
    found = await look_up(host, target.port)
    return _next_first(host, target.port, found) if target.resolve is Resolve.CONNECTION else found


async def look_up(host: str, port: int) -> list[Address]:
    """All stream addresses of a name, in the system's order, looked up at each call, except while one look-up is
    running already. Raises OSError, UnicodeError.

    The system's resolver can't be cancelled, and takes half a minute where no name server responds: a name has one
    thread at most, however often it is asked for meanwhile."""
    key = host, port
    asked = _asked.get(key)
    if asked is None or asked.done():
        asked = _asked[key] = _resolver.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        asked.add_done_callback(lambda _: _asked.pop(key, None))
    return _unique(await asyncio.shield(asyncio.wrap_future(asked)))


def is_numeric(host: str) -> bool:
    """Whether the host is an address already: then there is nothing to resolve, and no thread is needed for it."""
    try:
        return bool(_numeric(host, 0))
    except (OSError, UnicodeError):
        return False


def as_host(address: SocketAddress) -> str:
    """The address alone as text, with its scope where it has one."""
    host = str(address[0])
    return f"{host}%{address[3]}" if len(address) == 4 and address[3] else host


def _numeric(host: str, port: int) -> list[Address]:
    return _unique(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))


def _unique(infos: Sequence[tuple[socket.AddressFamily, socket.SocketKind, int, str, SocketAddress]]) -> list[Address]:
    return list(dict.fromkeys((family, address) for family, _type, _protocol, _name, address in infos))


def _next_first(host: str, port: int, found: list[Address]) -> list[Address]:
    """Brings to the front an address that has not had its turn in this round, by lot; the others follow as they were.

    So all get the same share, whatever order the resolver gives, as they come and go, and without worker processes
    that agree with each other. Only addresses of the family that the resolver prefers take part: `::1` and
    `127.0.0.1` are not two servers, and a host without IPv6 must not try it each second time.
    """
    round_ = _turns.setdefault((host, port), set())
    replicas = [entry for entry in found if entry[0] == found[0][0]]
    left = [entry for entry in replicas if entry[1] not in round_]
    if not left:
        round_.clear()
        left = replicas
    chosen = random.choice(left)  # noqa: S311  # guessing it gains nothing
    round_.add(chosen[1])
    return [chosen, *(entry for entry in found if entry != chosen)]
