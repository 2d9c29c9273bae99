"""A channel over HTTP/1.1: one call at a time on a persistent connection, which is reopened when necessary.

Owns the mapping of responses and failures to outcomes. Knows the HTTP core and the connection, and nothing of models.
"""

from __future__ import annotations

import asyncio
import math
import re
import ssl
import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

from exporter.core.errors import ProtocolError, TransportError
from exporter.core.outcome import Outcome
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.core.untrusted_text import clean_location, clean_text
from exporter.transport.call import Call, EncodedRequest, Listener, Response
from exporter.transport.connection import Connection
from exporter.transport.dial import reason_text
from exporter.wire.http1 import MAX_RESPONSE_BYTES, Http1Client

_JOINED_BYTES = 16 * 1024
"""A body up to this size is joined with its head: a small copy is cheaper than a gathering write."""
_ERROR_BODY_BYTES = 1024
_STYLE_OR_TAG = re.compile(r"<style.*?(</style>|$)|<[^>]*>?", re.IGNORECASE | re.DOTALL)
_MAX_RETRY_AFTER_SECONDS = 86_400
_MAX_HTTP_DATE_LENGTH = 64
"""The longest has 33 characters."""

_monotonic_ns = time.monotonic_ns
_OK = Outcome.OK
"""Enum members are slow to look up, and this one is used for each call."""


Judge = Callable[[Http1Client], str]
"""Why the complete response with a status of success is none to the request; "" if it is one. The service's, called for
each response: it must be cheap."""


class HttpChannel:
    """A `Channel` (transport.call) over HTTP/1.1.

    A connection that the server closed between calls is reopened silently. A connection lost during a call ends the
    call: nothing is ever resent.
    """

    capacity = 1

    def __init__(
        self,
        target: Target,
        listener: Listener,
        *,
        keep_body: bool = False,
        max_bytes: int = 0,
        judge: Judge | None = None,
        core: type[Http1Client] = Http1Client,
    ) -> None:
        self._listener = listener
        self._keep_body = keep_body
        self._judge = judge
        largest = max_bytes or target.max_response_bytes or MAX_RESPONSE_BYTES
        self._client = core(keep_body=keep_body, max_bytes=largest)
        self._connection = Connection(target, ("http/1.1",), self)
        self._call: Call | None = None
        self._joined: tuple[EncodedRequest | None, bytes] = None, b""
        self._opening: asyncio.Task[None] | None = None
        self.connect_ns: int | None = None
        self.tls_ns: int | None = None
        self.certificate_expiry_unix_s: float | None = None

    @property
    def client(self) -> Http1Client:
        """The HTTP core: within the listener it holds the response of the call that has just ended."""
        return self._client

    # --- the Channel protocol ----------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connects, unless it is connected. Raises TransportError."""
        connection = self._connection
        if connection.is_open:
            return
        self._client.reset()
        await connection.open()
        self.connect_ns = connection.connect_ns
        self.tls_ns = connection.tls_ns
        self.certificate_expiry_unix_s = connection.certificate_expiry_unix_s

    def send(self, call: Call, request: EncodedRequest) -> None:
        """Sends the request; reconnects first if the connection is gone. No call may be in flight."""
        assert self._call is None
        self._call = call
        call.channel = self
        call.text = ""
        call.sent_ns = call.send_done_ns = call.first_ns = 0
        call.responses = call.bytes_out = call.bytes_in = call.retry_after_ns = 0
        if self._connection.is_open:
            self._transmit(call, request)
        else:
            self._opening = asyncio.get_running_loop().create_task(self._open_and_transmit(call, request))

    def give_up(self, call: Call, outcome: Outcome) -> None:
        """Ends the call with `outcome` and closes its connection. No effect if it is not in flight."""
        if self._call is call:
            self._abandon()
            self._fail(call, outcome, "")

    async def close(self) -> None:
        """Closes the connection; a call in flight ends as cancelled."""
        self._abandon()
        if self._call is not None:
            self._fail(self._call, Outcome.CANCELLED, "")

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _open_and_transmit(self, call: Call, request: EncodedRequest) -> None:
        try:
            await self.open()
        except TransportError as error:
            self._opening = None
            self._fail(call, error.outcome, str(error))
            return
        self._opening = None
        self._transmit(call, request)

    def _transmit(self, call: Call, request: EncodedRequest) -> None:
        head = request.head
        body = request.body
        self._client.begin()
        call.sent_ns = _monotonic_ns()
        if len(body) <= _JOINED_BYTES:
            if request is not self._joined[0]:
                self._joined = request, head + body
            done = self._connection.write(self._joined[1])
        else:
            done = self._connection.write_parts((head, body))
        if done:
            call.send_done_ns = _monotonic_ns()
        call.bytes_out = len(head) + len(body)

    def data_received(self, data: bytes | memoryview, now_ns: int) -> None:
        call = self._call
        client = self._client
        if call is not None and not call.first_ns:
            call.first_ns = now_ns
        try:
            complete = client.receive(data)
        except ProtocolError as error:
            self._reject(error)
            return
        if complete:
            self._finish(now_ns)

    def _reject(self, error: ProtocolError) -> None:
        """The server broke the protocol: what it sends from here on has no meaning."""
        self._connection.close()
        if self._call is not None:
            self._fail(self._call, Outcome.PROTOCOL_ERROR, str(error))

    def drained(self, now_ns: int) -> None:
        if self._call is not None:
            self._call.send_done_ns = now_ns

    def connection_lost(self, error: OSError | None) -> None:
        call = self._call
        if call is None:
            return
        text = f"connection lost: {reason_text(error)}"
        outcome = Outcome.PROTOCOL_ERROR if self._client.started else Outcome.CONNECT_ERROR
        if isinstance(error, ssl.SSLError):
            # With TLS 1.3 a server refuses a client certificate after the handshake.
            outcome = Outcome.TLS_ERROR
        elif error is None:
            try:
                if self._client.receive_eof():
                    self._finish(_monotonic_ns())
                    return
            except ProtocolError as problem:
                text = str(problem)
        self._fail(call, outcome, text)

    def _finish(self, now_ns: int) -> None:
        call = self._call
        assert call is not None
        client = self._client
        # After a response that came before its request was fully sent, the connection is unusable.
        if not client.keep_alive or not call.send_done_ns:
            self._connection.close()
        self._call = None
        call.last_ns = now_ns
        call.responses = 1
        call.bytes_in = client.wire_bytes
        judge = self._judge
        if not 200 <= client.status < 300:
            self._describe_error(call)
        elif judge is not None and (problem := judge(client)):
            call.outcome = Outcome.PROTOCOL_ERROR
            call.text = clean_text(problem)
        else:
            call.outcome = _OK
            if self._keep_body:
                head, body = client.kept()
                call.response = Response((body,), head)
        self._listener(call)

    def _describe_error(self, call: Call) -> None:
        status = self._client.status
        call.outcome = status_outcome(status)
        location = self._client.header("location") if 300 <= status < 400 else None
        call.text = error_text(status, self._client.body_start(_ERROR_BODY_BYTES), location)
        if call.outcome is Outcome.OVERLOAD:
            call.retry_after_ns = retry_after_ns(self._client.header("retry-after"), self._client.header("date"))

    def _fail(self, call: Call, outcome: Outcome, text: str) -> None:
        self._call = None
        call.last_ns = _monotonic_ns()
        call.outcome = outcome
        call.text = text
        call.bytes_in = self._client.wire_bytes if call.sent_ns else 0
        self._listener(call)

    def _abandon(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        self._connection.close()


def status_outcome(status: int) -> Outcome:
    """The outcome of an HTTP status. A final status outside 200..599 is invalid in HTTP."""
    if 200 <= status < 300:
        return Outcome.OK
    if status in _STATUS_OUTCOMES:
        return _STATUS_OUTCOMES[status]
    if 300 <= status < 500:
        return Outcome.CLIENT_ERROR
    return Outcome.SERVER_ERROR if 500 <= status < 600 else Outcome.PROTOCOL_ERROR


_STATUS_OUTCOMES = {
    401: Outcome.AUTH_ERROR,
    403: Outcome.AUTH_ERROR,
    408: Outcome.TIMEOUT,
    429: Outcome.OVERLOAD,
    503: Outcome.OVERLOAD,
    504: Outcome.TIMEOUT,
}


def error_text(status: int, body: bytes, location: str | None = None) -> str:
    """A readable error: the status and what `readable` shows of the body. For a redirect, which is never followed, its
    location."""
    if location is not None:
        return clean_text(f"HTTP {status}: a redirect to {clean_location(location)}, which is not followed")
    shown = readable(body)
    return clean_text(f"HTTP {status}: {shown}") if shown else f"HTTP {status}"


def readable(body: bytes) -> str:
    """The first non-empty line of a body; all lines of multi-line JSON and of an HTML page's text."""
    text = body[:_ERROR_BODY_BYTES].decode("utf-8", "replace")
    if text.startswith("<"):
        text = _STYLE_OR_TAG.sub(" ", text)
    lines = text.splitlines()
    if body.startswith(b"<") or (lines and lines[0].strip() in ("{", "[")):
        lines = [" ".join(lines)]
    return next(filter(None, map(clean_text, lines)), "")


def retry_after_ns(value: str | None, date: str | None = None) -> int:
    """Parses Retry-After, seconds or an HTTP-date (RFC 9110 section 10.2.3), at most a day; 0 without a usable value.

    A date is of the server's clock, so it is compared with the response's own `date`; without one that can be read,
    with this machine's clock. It is rounded up to seconds, of which such dates are.
    """
    if value is None:
        return 0
    if value.isascii() and value.isdigit():
        return min(int(value[:10]), _MAX_RETRY_AFTER_SECONDS) * NS
    until_s = _http_date_s(value)
    if until_s is None:
        return 0
    now_s = _http_date_s(date or "")
    left_s = math.ceil(until_s - (time.time() if now_s is None else now_s))
    return min(max(left_s, 0), _MAX_RETRY_AFTER_SECONDS) * NS


def _http_date_s(text: str) -> float | None:
    """Seconds since 1970 of an HTTP-date, in any of its three formats; None if it can't be read. Text of a server."""
    if len(text) > _MAX_HTTP_DATE_LENGTH:
        return None
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
