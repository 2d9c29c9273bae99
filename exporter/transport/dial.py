"""Connects: name resolution, TCP connect and TLS handshake, each timed separately, all within one time-out.

Owns the way from a target's name to a connected socket. Knows nothing of what is sent over it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass

from exporter.core.errors import TransportError
from exporter.core.outcome import Outcome
from exporter.core.target import Resolve, Target
from exporter.core.units import NS
from exporter.transport import resolve
from exporter.transport.tls import certificate_expiry_unix_s, client_context


@dataclass(frozen=True, slots=True)
class Dialled:
    """A connected non-blocking socket and its timings. The TLS fields are None without TLS.

    `connect_ns` is the TCP connect to the address that accepted, without name resolution.
    """

    sock: socket.socket
    connect_ns: int
    tls_ns: int | None = None
    certificate_expiry_unix_s: float | None = None
    alpn: str | None = None


async def dial(target: Target, alpn: Sequence[str]) -> Dialled:
    """Connects to `target`; with TLS it offers `alpn`.

    Tries the resolved addresses in order, each for an equal share of the remaining time. Raises TransportError:
    CONNECT_ERROR (no address, refused, or no connection within the connect time-out), TLS_ERROR, or TIMEOUT if the
    server accepted but the handshake did not finish in time.
    """
    seconds = target.connect_timeout_ns / NS
    accepted = False
    try:
        async with asyncio.timeout(seconds):
            sock, connect_ns = await _connect(target)
            accepted = True
            if not target.is_tls:
                return Dialled(sock, connect_ns)
            return await _handshake(sock, connect_ns, target, alpn)
    except TimeoutError as error:
        if accepted:
            text = f"no TLS handshake with {_place(target)} within {seconds:g} s"
            raise TransportError(Outcome.TIMEOUT, text) from error
        text = f"no connection to {_place(target)} within {seconds:g} s"
        raise TransportError(Outcome.CONNECT_ERROR, text) from error


async def settle(target: Target) -> str:
    """The address that a sweep of `target` uses: the first resolved address, in the resolver's order, that accepts a
    connection. "" if there is nothing to settle or no address was found; the next connection's error then has the
    reason."""
    if target.address or target.resolve is Resolve.CONNECTION or resolve.is_numeric(target.host):
        return target.address
    try:
        async with asyncio.timeout(target.connect_timeout_ns / NS):
            found = await resolve.addresses(target)
            if len(found) == 1:
                return resolve.as_host(found[0][1])
            sock, _connect_ns = await _connect_first(target, found)
            with sock:
                return resolve.as_host(sock.getpeername())
    except (OSError, UnicodeError):
        return ""


async def _connect(target: Target) -> tuple[socket.socket, int]:
    """Raises TransportError, or TimeoutError if the last address did not respond."""
    try:
        found = await resolve.addresses(target)
    except (OSError, UnicodeError) as error:
        text = f"the name {target.host!r} does not resolve: {reason_text(error)}"
        raise TransportError(Outcome.CONNECT_ERROR, text) from error
    try:
        return await _connect_first(target, found)
    except OSError as error:
        if isinstance(error, TimeoutError) and error.errno is None:  # our own, not the kernel's ETIMEDOUT
            raise
        text = f"cannot connect to {_place(target)}: {reason_text(error)}"
        raise TransportError(Outcome.CONNECT_ERROR, text) from error


async def _connect_first(target: Target, addresses: list[resolve.Address]) -> tuple[socket.socket, int]:
    """Connects to the first address that accepts. Raises the error of the last one."""
    clock = asyncio.get_running_loop().time
    ends = clock() + target.connect_timeout_ns / NS
    failure: OSError = OSError("no address")
    for index, (family, address) in enumerate(addresses):
        # A dead machine does not respond at all, and must not use up the time of the other replicas.
        share = (ends - clock()) / (len(addresses) - index)
        try:
            async with asyncio.timeout(share):
                return await _connect_one(family, address)
        except OSError as error:
            failure = error
    raise failure


def _place(target: Target) -> str:
    """The target's host and port, with the settled address."""
    return f"{target.authority} ({target.address})" if target.address else target.authority


async def _connect_one(family: socket.AddressFamily, address: resolve.SocketAddress) -> tuple[socket.socket, int]:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        started_ns = time.monotonic_ns()
        await asyncio.get_running_loop().sock_connect(sock, address)
        return sock, time.monotonic_ns() - started_ns
    except BaseException:
        sock.close()
        raise


async def _handshake(sock: socket.socket, connect_ns: int, target: Target, alpn: Sequence[str]) -> Dialled:
    """Takes over `sock`, and closes it if the handshake fails."""
    try:
        context = client_context(target, alpn)
        wrapped = context.wrap_socket(sock, server_hostname=target.tls_name, do_handshake_on_connect=False)
    except OSError as error:
        sock.close()
        raise _tls_error(target, error) from error
    except BaseException:
        sock.close()
        raise
    try:
        started_ns = time.monotonic_ns()
        await _shake(wrapped)
        tls_ns = time.monotonic_ns() - started_ns
        expiry = certificate_expiry_unix_s(wrapped.getpeercert(binary_form=True) or b"")
        return Dialled(wrapped, connect_ns, tls_ns, expiry, wrapped.selected_alpn_protocol())
    except (OSError, ValueError) as error:
        wrapped.close()
        if isinstance(error, TimeoutError) and error.errno is None:
            raise
        raise _tls_error(target, error) from error
    except BaseException:
        wrapped.close()
        raise


async def _shake(sock: ssl.SSLSocket) -> None:
    while True:
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            await _ready(sock.fileno(), to_write=False)
        except ssl.SSLWantWriteError:
            await _ready(sock.fileno(), to_write=True)
        else:
            return


async def _ready(descriptor: int, *, to_write: bool) -> None:
    """Waits until the socket can be read (or written)."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not waiter.done():
            waiter.set_result(None)

    add, remove = (loop.add_writer, loop.remove_writer) if to_write else (loop.add_reader, loop.remove_reader)
    add(descriptor, wake)
    try:
        await waiter
    finally:
        with contextlib.suppress(OSError, ValueError):
            remove(descriptor)


def _tls_error(target: Target, error: Exception) -> TransportError:
    return TransportError(Outcome.TLS_ERROR, f"TLS with {_place(target)} failed: {reason_text(error)}")


def reason_text(error: Exception | None) -> str:
    """The error in the system's or OpenSSL's own words, without Python's decoration."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error or "") or "closed by the peer"
