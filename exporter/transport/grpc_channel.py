"""A channel over gRPC: many concurrent calls on one HTTP/2 connection, which is replaced when it is retired.

Owns which connection a call uses, and the calls that wait for one. Knows nothing of models.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

from exporter.core.errors import TransportError
from exporter.core.outcome import Outcome
from exporter.core.target import Target
from exporter.core.untrusted_text import clean_text
from exporter.transport.call import Call, EncodedRequest, Listener
from exporter.transport.grpc_link import GrpcLink


class GrpcChannel:
    """A `Channel` (transport.call) for unary calls of one method.

    Calls wait, in order, while the connection is being opened and while the server's MAX_CONCURRENT_STREAMS is reached;
    `sent_ns` is when a call was really sent. After GOAWAY, or when the stream ids are used up, calls in flight finish
    on the old connection and the next call opens a new one. A call that crossed a graceful GOAWAY, which the server
    never processed, is resent once: servers and proxies routinely end connections that way. Nothing else is ever
    resent. If a connection cannot be opened, the calls that wait for it end with the same error. Without `takes_empty`
    a response whose message has no byte is a protocol error.
    """

    def __init__(
        self,
        target: Target,
        listener: Listener,
        capacity: int,
        *,
        method: str,
        keep_responses: bool = False,
        takes_empty: bool = True,
    ) -> None:
        self.capacity = capacity
        self.connect_ns: int | None = None
        self.tls_ns: int | None = None
        self.certificate_expiry_unix_s: float | None = None
        self.call_ended = listener
        self._target = target
        self._method = method
        self._keep_responses = keep_responses
        self._takes_empty = takes_empty
        self._link: GrpcLink | None = None
        self._retired: set[GrpcLink] = set()
        self._waiting: deque[tuple[Call, EncodedRequest, bool]] = deque()
        self._opening: asyncio.Task[None] | None = None

    # --- the Channel protocol ----------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connects, unless it is connected: TCP, TLS, and both sides' SETTINGS. Raises TransportError."""
        if self._link is None:
            link = self._make_link()
            await link.open()
            self._adopt(link)

    def send(self, call: Call, request: EncodedRequest) -> None:
        """Sends the request now, or once there is a connection with a free stream."""
        call.channel = self
        call.text = ""
        call.sent_ns = call.send_done_ns = call.first_ns = 0
        call.responses = call.bytes_out = call.bytes_in = call.retry_after_ns = 0
        link = self._link
        if link is not None and not self._waiting and link.takes(call):
            link.start(call, request)
        else:
            self._waiting.append((call, request, False))
            self._serve_waiting()

    def give_up(self, call: Call, outcome: Outcome) -> None:
        """Resets the call's stream (or removes it from the queue) and ends it. No effect if it has ended."""
        if self._link is not None and self._link.give_up(call, outcome):
            return
        if any(link.give_up(call, outcome) for link in list(self._retired)):
            return
        for entry in self._waiting:
            if entry[0] is call:
                self._waiting.remove(entry)
                self._fail(call, outcome, "")
                return

    async def close(self) -> None:
        """Closes all connections; calls in flight or waiting end as cancelled."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
            self._opening = None
        links = [*self._retired, *([self._link] if self._link else [])]
        self._link = None
        self._retired.clear()
        for link in links:
            link.close(Outcome.CANCELLED, "")
        self._fail_waiting(Outcome.CANCELLED, "")

    # --- links -------------------------------------------------------------------------------------------------------

    def _make_link(self) -> GrpcLink:
        keeps, takes_empty = self._keep_responses, self._takes_empty
        return GrpcLink(self._target, self._method, self, keep_responses=keeps, takes_empty=takes_empty)

    def _adopt(self, link: GrpcLink) -> None:
        """Uses a newly opened link. Raises TransportError if it is already retired."""
        self.connect_ns = link.connection.connect_ns
        self.tls_ns = link.connection.tls_ns
        self.certificate_expiry_unix_s = link.connection.certificate_expiry_unix_s
        if self._link is not None:
            link.close(Outcome.CANCELLED, "")
        elif link.core.retired:
            text = link.core.goaway_text or "closed by the peer"
            link.close(Outcome.CONNECT_ERROR, text)
            raise TransportError(Outcome.CONNECT_ERROR, f"connection lost at its start: {text}")
        else:
            self._link = link

    def call_unseen(self, call: Call, request: EncodedRequest) -> None:
        """Queues a call that crossed a graceful GOAWAY for the next connection."""
        call.sent_ns = call.send_done_ns = call.first_ns = 0
        self._waiting.append((call, request, True))

    def link_changed(self, link: GrpcLink) -> None:
        """The link's state changed: serves waiting calls, and retires the link if it takes no more."""
        if link.core.retired:
            self._part_with(link)
        if self._waiting:
            self._serve_waiting()

    def _part_with(self, link: GrpcLink) -> None:
        """Gives this link no new calls; it is closed after its last one."""
        if link is self._link:
            self._link = None
            self._retired.add(link)
        if link in self._retired and not link.core.open_streams:
            self._retired.discard(link)
            link.close(Outcome.CANCELLED, "")

    # --- calls that wait ---------------------------------------------------------------------------------------------

    def _serve_waiting(self) -> None:
        while self._waiting and self._link is not None and self._link.takes(self._waiting[0][0]):
            self._link.start(*self._waiting.popleft())
        if self._waiting and self._link is not None and self._link.core.retired:
            self._part_with(self._link)
        if self._waiting and self._link is None and self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open_for_waiting())

    async def _open_for_waiting(self) -> None:
        try:
            await self.open()
        except TransportError as error:
            self._opening = None
            self._fail_waiting(error.outcome, str(error))
        else:
            self._opening = None
            self._serve_waiting()

    def _fail_waiting(self, outcome: Outcome, text: str) -> None:
        waiting, self._waiting = self._waiting, deque()
        for call, *_ in waiting:
            self._fail(call, outcome, text)

    def _fail(self, call: Call, outcome: Outcome, text: str) -> None:
        call.outcome = outcome
        call.text = clean_text(text)
        call.last_ns = time.monotonic_ns()
        self.call_ended(call)
