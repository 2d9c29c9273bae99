"""A channel over HTTP/1.1 for responses counted in tokens: a stream of server-sent events, or one document.

Owns the times within a stream: first event, events with content, end. The service kind's reader interprets the events.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import NamedTuple, Protocol

from exporter.core.bounds import STREAM_RESPONSES
from exporter.core.errors import ProtocolError
from exporter.core.outcome import Outcome
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.core.untrusted_text import clean_text
from exporter.transport import event_errors
from exporter.transport.call import TOO_MANY_RESPONSES, Call, EncodedRequest, Listener, Response
from exporter.transport.event_errors import EVENT_STREAM
from exporter.transport.http_channel import HttpChannel
from exporter.wire.http1 import Http1Client, Http1Stream, decoded_body
from exporter.wire.sse import SseEvent, SseParser

_OK = Outcome.OK
_ERROR_BODY_BYTES = 4096


class EventMessage(NamedTuple):
    """An interpreted event. An `outcome` other than ok is the request's outcome, whatever follows."""

    has_content: bool
    outcome: Outcome = Outcome.OK
    text: str = ""


class TokenCounts(NamedTuple):
    """Tokens of a complete response; -1: not counted."""

    prompt: int = -1
    output: int = -1
    cached: int = -1
    early_end: bool = False


class EventReader(Protocol):
    """Interprets the responses of one channel, one at a time."""

    def begin(self, request: EncodedRequest) -> EncodedRequest:
        """A request is about to be sent. Returns what to send, which may vary."""

    def event(self, event: SseEvent) -> EventMessage:
        """Interprets the next event of the response. Raises ProtocolError."""

    def document(self, body: bytes) -> EventMessage:
        """Interprets a whole response that is not a stream. Raises ProtocolError."""

    def text(self) -> str:
        """The content of the response, for a dialogue; without reasoning."""

    def refusal(self, body: bytes) -> str:
        """The error text in the body of a response with an error status; "" if the raw body is more useful."""

    def is_complete(self) -> bool:
        """Whether the events so far are a whole response by themselves, though its end is still to come."""

    def explained(self, outcome: Outcome, text: str) -> str:
        """The error text as it is reported: with what to change, where that is known, and without parts of the prompt
        that it repeats, since these do not belong in a log."""

    def end(self) -> TokenCounts:
        """The response is complete. Raises ProtocolError if a part of it is missing."""


class EventChannel(HttpChannel):
    """A `Channel` (transport.call) that records times within a response.

    For a stream, `first_ns` is the first event with content, and `response_ns` are all events with content. Events from
    one read share a time. An error inside a 200 response gets the matching outcome. With `keep_text` the `response` of
    an ok call is its content.
    """

    def __init__(
        self,
        target: Target,
        listener: Listener,
        reader: Callable[[], EventReader],
        *,
        streaming: bool,
        keep_text: bool = False,
    ) -> None:
        super().__init__(target, self._ended, keep_body=not streaming, core=Http1Stream if streaming else Http1Client)
        self._notify = listener
        self._reader = reader()
        self._streaming = streaming
        self._keep_text = keep_text
        self._parser = SseParser()
        self._failure: EventMessage | None = None
        self._is_stream = self._is_lost = False
        self._request: EncodedRequest | None = None
        self._was_used = False
        self._is_resent = False
        self._closes_after_stream = False

    async def open(self) -> None:
        """As `HttpChannel.open`."""
        self._was_used = self._was_used and self._connection.is_open
        await super().open()

    def send(self, call: Call, request: EncodedRequest) -> None:
        """As `HttpChannel.send`."""
        call.response_ns = []
        call.opened_ns = 0
        call.prompt_tokens = call.output_tokens = call.cached_tokens = -1
        call.early_end = False
        self._request = request
        self._is_resent = False
        super().send(call, request)

    def _transmit(self, call: Call, request: EncodedRequest) -> None:
        self._parser = SseParser()
        self._failure = None
        self._is_stream = self._is_lost = False
        super()._transmit(call, self._reader.begin(request))

    def data_received(self, data: bytes | memoryview, now_ns: int) -> None:
        if not self._streaming:
            super().data_received(data, now_ns)
            return
        call, client = self._call, self._client
        assert isinstance(client, Http1Stream)
        try:
            complete = client.receive(data)
            piece = client.take_body()
            if piece and call is not None and self._is_event_stream(client):
                self._take(call, piece, now_ns)
        except ProtocolError as error:
            self._reject(error)
            return
        if complete:
            self._finish(now_ns)

    def _is_event_stream(self, client: Http1Client) -> bool:
        if isinstance(client, Http1Stream) and not self._is_stream and 200 <= client.head_status < 300:
            kind = client.header("content-type") or ""
            self._is_stream = kind.partition(";")[0].strip().lower() == EVENT_STREAM
            if self._is_stream and (coding := client.header("content-encoding") or "identity") != "identity":
                raise ProtocolError(f"a stream in the coding {clean_text(coding, 30)}, which was not asked for")
        return self._is_stream

    def _take(self, call: Call, piece: bytearray, now_ns: int) -> None:
        for event in self._parser.feed(piece):
            call.opened_ns = call.opened_ns or now_ns
            message = self._reader.event(event)
            if message.has_content:
                call.first_ns = call.first_ns or now_ns
                call.response_ns.append(now_ns)
                if len(call.response_ns) > STREAM_RESPONSES:
                    raise ProtocolError(TOO_MANY_RESPONSES)
                if call.on_response is not None:
                    call.on_response(call)
            if message.outcome is not _OK and self._failure is None:
                self._failure = message

    def connection_lost(self, error: OSError | None) -> None:
        """As in `HttpChannel`, except for servers that close after each stream without announcing it (such as
        llama.cpp's): a request sent into the closing connection is resent once, on a new connection, and so are the
        following ones. That is safe: the server sent no byte of a response, and closed because of the previous
        response."""
        call, request = self._call, self._request
        is_loss_of_idle = self._was_used and not self._client.started and not isinstance(error, ssl.SSLError)
        if call is None or request is None or not self._streaming or self._is_resent or not is_loss_of_idle:
            self._is_lost = True
            super().connection_lost(error)
            return
        self._closes_after_stream = self._is_resent = True
        self._opening = asyncio.get_running_loop().create_task(self._open_and_transmit(call, request))

    def _finish(self, now_ns: int) -> None:
        call = self._call
        assert call is not None
        self._was_used = True
        if self._closes_after_stream:
            self._connection.close()
        try:
            if 200 <= self._client.status < 300:
                self._read_end(call)
        except ProtocolError as error:
            text = event_errors.cut_off(str(error), call) if call.response_ns else str(error)
            self._failure = self._failure or EventMessage(False, Outcome.PROTOCOL_ERROR, text)
        super()._finish(now_ns)

    def _read_end(self, call: Call) -> None:
        """Evaluates the complete response. Raises ProtocolError."""
        if not self._streaming:
            head, body = self._client.kept()
            message = self._reader.document(decoded_body(head, body))
            self._failure = message if message.outcome is not _OK else None
        elif not self._is_event_stream(self._client):
            kind = clean_text(self._client.header("content-type") or "", 60)
            error = self._reader.refusal(self._client.body_start(_ERROR_BODY_BYTES))
            raise ProtocolError(event_errors.not_a_stream(kind, clean_text(error)))
        if self._failure is None:
            call.prompt_tokens, call.output_tokens, call.cached_tokens, call.early_end = self._reader.end()

    def _ended(self, call: Call) -> None:
        """The response to a failed call can have more detail than the failure: a server may report an error in its
        stream and then leave it open."""
        if self._streaming:
            call.responses = len(call.response_ns)
        elif call.responses:
            call.response_ns.append(call.last_ns)
        if self._failure is not None and call.outcome is not Outcome.CANCELLED:
            call.outcome, call.text = self._failure.outcome, clean_text(self._failure.text)
        elif self._streaming and call.opened_ns and call.outcome is Outcome.TIMEOUT:
            call.text = event_errors.unfinished(call, is_complete=self._reader.is_complete())
        elif self._is_lost and call.text and (call.opened_ns or not self._client.started):
            call.text = event_errors.cut_off(call.text, call)
        if call.text:
            call.text = self._reader.explained(call.outcome, call.text)
        if self._keep_text:
            call.response = Response((self._reader.text().encode("utf-8", "replace"),)) if call.outcome is _OK else None
        self._notify(call)

    def _describe_error(self, call: Call) -> None:
        super()._describe_error(call)
        if text := self._reader.refusal(self._client.body_start(_ERROR_BODY_BYTES)):
            call.text = clean_text(f"HTTP {self._client.status}: {text}")
        if call.retry_after_ns:
            call.text += f" (Retry-After: {call.retry_after_ns // NS} s)"
