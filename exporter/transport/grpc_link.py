"""One HTTP/2 connection of a gRPC channel.

Owns a call from start to end on one connection: writes, times, header block. Knows nothing of other connections or of
waiting calls: those are the channel's.
"""

from __future__ import annotations

import asyncio
import functools
import time
from typing import Protocol, TypeVar

from exporter import __version__
from exporter.core.bounds import GRPC_HELD
from exporter.core.errors import ProtocolError, TransportError
from exporter.core.outcome import Outcome
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.core.untrusted_text import clean_text
from exporter.transport.call import Call, EncodedRequest, Response
from exporter.transport.connection import Connection
from exporter.transport.dial import reason_text
from exporter.transport.grpc_outcome import unary_outcome
from exporter.transport.headers import read_headers
from exporter.wire.grpc import OK, Rpc, request_block
from exporter.wire.http2 import Abort, Http2Connection
from exporter.wire.http2_frames import ErrorCode

_USER_AGENT = f"triton-canary/{__version__}"
_WRITE_BYTES = 512 * 1024
"""How much of large bodies is framed at once; the rest waits until the kernel has taken it."""
_MAX_BLOCKS = 64
_PREFIX_BYTES = 5
"""All there is of an empty message."""
EMPTY = "the response is an empty message"
_UNCHECKED_BYTES = 8 << 20
"""How much may be read between two checks of the memory held."""

_monotonic_ns = time.monotonic_ns
_OK = Outcome.OK
"""Enum members are slow to look up, and this one is used for each call."""


class LinkOwner(Protocol):
    """The callbacks from a link to its channel."""

    def call_ended(self, call: Call) -> None:
        """The call has ended and is filled in."""

    def call_unseen(self, call: Call, request: EncodedRequest) -> None:
        """The call crossed a graceful GOAWAY: the server never processed it, so it may be resent."""

    def link_changed(self, link: GrpcLink) -> None:
        """The state changed: a waiting call may be sent now, or the link may take no more calls."""


class UnaryRpc(Rpc):
    """Our call on its stream. Once `ended`, the call belongs to its owner again and must not be touched."""

    __slots__ = ("call", "ended", "request", "resent")

    keep = False
    call: Call
    request: EncodedRequest
    resent: bool
    ended: bool


class KeepingRpc(UnaryRpc):
    """A call whose response is kept."""

    __slots__ = ()

    keep = True


R = TypeVar("R", bound=UnaryRpc)


@functools.cache
def sized(rpc_type: type[R], max_bytes: int) -> type[R]:
    """The type with another message size limit; 0 keeps its own."""
    if not max_bytes:
        return rpc_type
    return type(rpc_type.__name__, (rpc_type,), {"__slots__": (), "max_message_bytes": max_bytes})


class GrpcLink:
    """A connection that is opened once, and unusable after its end."""

    def __init__(
        self,
        target: Target,
        method: str,
        owner: LinkOwner,
        *,
        keep_responses: bool = False,
        max_bytes: int = 0,
        takes_empty: bool = True,
    ) -> None:
        self._too_small = 0 if takes_empty else _PREFIX_BYTES
        self._rpc_type = sized(KeepingRpc if keep_responses else UnaryRpc, max_bytes or target.max_response_bytes)
        self._unchecked_bytes = 0
        self.connection = Connection(target, ("h2",), self)
        self.core: Http2Connection[UnaryRpc] = Http2Connection()
        self._target = target
        self._method = method
        self._owner = owner
        self._ready: asyncio.Future[None] | None = None
        self._metadata: tuple[tuple[str, str], ...] = ()
        self._blocks: dict[tuple[bytes, int], bytes] = {}
        self._block = self._block_head = b""
        self._block_timeout_ns = self._block_floor_ns = 0
        self._unsent: list[UnaryRpc] = []
        self._reading = False
        self._blocked = False

    # --- opening and closing -----------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connects and waits for the server's SETTINGS. Raises TransportError, and then closes the link."""
        target = self._target
        self._metadata = read_headers(target.headers)
        await self.connection.open()
        try:
            if target.is_tls and self.connection.alpn != "h2":
                text = f"{target.authority} does not offer HTTP/2 in its TLS handshake (ALPN)"
                raise TransportError(Outcome.PROTOCOL_ERROR, text)
            self._ready = asyncio.get_running_loop().create_future()
            self.flush()
            async with asyncio.timeout(target.connect_timeout_ns / NS):
                await self._ready
        except TimeoutError:
            self.connection.close()
            text = f"no HTTP/2 SETTINGS from {target.authority} within {target.connect_timeout_ns / NS:g} s"
            raise TransportError(Outcome.TIMEOUT, text) from None
        except BaseException:
            self.connection.close()
            raise

    def close(self, outcome: Outcome, text: str) -> None:
        """Ends all calls with this outcome, then closes the connection. The server is notified if it still reads."""
        rpcs = self.core.open_streams
        for rpc in rpcs:
            self.core.reset(rpc)
        self.flush()
        self.connection.close()
        self._fail_all(rpcs, outcome, text)

    # --- calls -------------------------------------------------------------------------------------------------------

    def start(self, call: Call, request: EncodedRequest, resent: bool = False) -> None:
        """Sends a call. Only if the core can start a stream."""
        rpc = self._rpc_type()
        rpc.call = call
        rpc.request = request
        rpc.resent = resent
        rpc.ended = False
        remaining_ns = call.deadline_ns and call.deadline_ns - _monotonic_ns()
        if self._block_floor_ns < remaining_ns <= self._block_timeout_ns and request.head == self._block_head:
            block = self._block
        else:
            block = self._choose_block(request.head, remaining_ns)
        self.core.start(rpc, block, request.body)
        call.bytes_out = len(block) + len(request.body)
        self._unsent.append(rpc)
        if not self._reading:
            self.flush()

    def takes(self, call: Call) -> bool:
        """Whether the call can be sent now."""
        return self.core.can_start

    def give_up(self, call: Call, outcome: Outcome) -> bool:
        """Resets the call's stream and ends the call; False if it is not on this link."""
        for rpc in self.core.open_streams:
            if rpc.call is call and not rpc.ended:
                self.core.reset(rpc)
                self._end(rpc, outcome, "", _monotonic_ns())
                self._owner.link_changed(self)
                self.flush()
                return True
        return False

    def _choose_block(self, head: bytes, remaining_ns: int) -> bytes:
        """The header block for a request with `remaining_ns` until its deadline, 0 for no deadline.

        `grpc-timeout` is rounded up by at most 1/32: a few blocks then serve all requests. We enforce the exact
        deadline.
        """
        step = 1 << max(0, remaining_ns.bit_length() - 6)
        timeout_ns = -(-remaining_ns // step) * step
        block = self._blocks.get((head, timeout_ns))
        if block is None:
            block = self._make_block(head, timeout_ns)
            if len(self._blocks) >= _MAX_BLOCKS:
                self._blocks.clear()
            self._blocks[head, timeout_ns] = block
        self._block, self._block_head = block, head
        self._block_timeout_ns, self._block_floor_ns = timeout_ns, timeout_ns - step
        return block

    def _make_block(self, head: bytes, timeout_ns: int) -> bytes:
        lines = (line.partition(": ") for line in head.decode("ascii").splitlines())
        own = {name: value for name, _, value in lines}
        encoding = own.pop("grpc-encoding", "identity")
        return request_block(
            scheme="https" if self._target.is_tls else "http",
            authority=self._target.sent_authority,
            path=own.pop(":path", self._method),
            user_agent=_USER_AGENT,
            timeout_ns=timeout_ns or None,
            encoding=encoding,
            metadata=(*self._metadata, *own.items()),
        )

    def _end(self, rpc: UnaryRpc, outcome: Outcome, text: str, now_ns: int) -> None:
        call = rpc.call
        self._forget(rpc)
        call.outcome = outcome
        call.text = text
        call.last_ns = now_ns
        call.responses = self._responses(rpc)
        call.bytes_in = rpc.size
        if rpc.keep:
            call.response = self._response(rpc)
        self._owner.call_ended(call)

    def _response(self, rpc: UnaryRpc) -> Response | None:
        """The kept response of an ok call."""
        return Response(rpc.take_messages()) if rpc.call.outcome is _OK else None

    def _responses(self, rpc: UnaryRpc) -> int:
        return rpc.message_count

    def _forget(self, rpc: UnaryRpc) -> None:
        """Gives the call back to its owner."""
        rpc.ended = True
        if not rpc.call.send_done_ns and rpc in self._unsent:
            self._unsent.remove(rpc)

    def _fail_all(self, rpcs: list[UnaryRpc], outcome: Outcome, text: str) -> None:
        now_ns = _monotonic_ns()
        for rpc in rpcs:
            if not rpc.ended:
                self._end(rpc, outcome, text, now_ns)

    # --- writing -----------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Writes the core's output until the kernel's buffer is full; `drained` then continues."""
        connection = self.connection
        sender = self.core.sender
        while connection.is_open and not self._blocked:
            large = bool(sender.queue)
            parts = sender.take(_WRITE_BYTES)
            if not parts:
                return
            now_ns = _monotonic_ns()
            for rpc in self._unsent:
                call = rpc.call
                if not call.sent_ns:
                    call.sent_ns = now_ns
            if large:
                self._blocked = not connection.write_parts(parts)
            else:
                self._blocked = not connection.write(b"".join(parts))
            if not self._blocked:
                self._stamp_sent(_monotonic_ns())
                if not sender.queue:
                    return

    def drained(self, now_ns: int) -> None:
        self._blocked = False
        self._stamp_sent(now_ns)
        self.flush()

    def _stamp_sent(self, now_ns: int) -> None:
        """The kernel has taken everything that the core output."""
        left = []
        for rpc in self._unsent:
            if self._is_sent(rpc):
                rpc.call.send_done_ns = now_ns
            else:
                left.append(rpc)
        self._unsent = left

    def _is_sent(self, rpc: UnaryRpc) -> bool:
        """Whether the core has output all of the call."""
        return rpc.sent

    # --- reading -----------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes | memoryview, now_ns: int) -> None:
        core = self.core
        failure = ""
        try:
            core.receive(data)
        except ProtocolError as error:
            failure = str(error)
        self._reading = True
        try:
            for rpc in core.take_news():
                if not rpc.ended:
                    self._notify(rpc, now_ns)
            if self._ready is not None and core.peer_ready and not self._ready.done():
                self._ready.set_result(None)
            self._owner.link_changed(self)
            self._unchecked_bytes += len(data)
            if self._unchecked_bytes > _UNCHECKED_BYTES:
                self._bound_held(now_ns)
        finally:
            self._reading = False
        self.flush()
        if failure:
            self.connection.close()
            self._lose(Outcome.PROTOCOL_ERROR, clean_text(failure))

    def _bound_held(self, now_ns: int) -> None:
        """Gives up the largest response while the unfinished responses together hold too much memory."""
        self._unchecked_bytes = 0
        held = {rpc: self._held(rpc) for rpc in self.core.open_streams}
        limit = max(GRPC_HELD, 2 * self._target.max_response_bytes)
        while sum(held.values()) > limit:
            largest = max(held, key=held.__getitem__)
            del held[largest]
            self._reset(largest)
            if not largest.ended:
                text = f"responses under way on one connection held more than {limit} bytes, this one the most"
                self._end(largest, Outcome.PROTOCOL_ERROR, text, now_ns)

    def _reset(self, rpc: UnaryRpc) -> None:
        self.core.reset(rpc)

    def _held(self, rpc: UnaryRpc) -> int:
        return rpc.held

    def _notify(self, rpc: UnaryRpc, now_ns: int) -> None:
        call = rpc.call
        if not call.first_ns and rpc.started:
            call.first_ns = now_ns
        status = rpc.status
        if status is OK and rpc.message_count == 1:
            if rpc.size > self._too_small:
                self._end(rpc, _OK, "", now_ns)
            else:
                self._end(rpc, Outcome.PROTOCOL_ERROR, EMPTY, now_ns)
        elif status is None:
            return
        elif status.abort is Abort.GOAWAY and self.core.goaway_code == ErrorCode.NO_ERROR and not rpc.resent:
            self._forget(rpc)
            self._owner.call_unseen(call, rpc.request)
        else:
            call.retry_after_ns = status.pushback_ns or 0
            self._end(rpc, *unary_outcome(rpc), now_ns)

    def connection_lost(self, error: OSError | None) -> None:
        goaway = self.core.goaway_text
        after = f" after {goaway}" if goaway else ""
        text = f"connection lost{after}: {reason_text(error)}"
        if self._target.is_tls and not self.core.peer_ready:
            # gRPC's own servers send no TLS alert for it.
            text += " at once after the TLS handshake; it may ask for a client certificate, or refuse the one it got"
        self._lose(Outcome.CONNECT_ERROR, text)

    def _lose(self, outcome: Outcome, text: str) -> None:
        """The connection is gone: ends all its calls."""
        rpcs = self.core.abandon()
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(TransportError(outcome, text))
        self._owner.link_changed(self)
        # As over HTTP/1.1: a truncated response is a protocol error, whatever the cause.
        self._fail_all([rpc for rpc in rpcs if rpc.started], Outcome.PROTOCOL_ERROR, text)
        self._fail_all([rpc for rpc in rpcs if not rpc.started], outcome, text)
