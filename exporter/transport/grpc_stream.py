"""A channel over gRPC's bidirectional streams: one stream per place in flight, reused from request to request.

Owns which messages of a stream belong to which call: a stream carries one call at a time. The service's reader decides
whether a message is a response, the last one, or an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from exporter.core.bounds import STREAM_RESPONSES
from exporter.core.outcome import Outcome
from exporter.core.target import Target
from exporter.core.untrusted_text import clean_text
from exporter.transport.call import TOO_MANY_RESPONSES, Call, EncodedRequest, Listener, Response
from exporter.transport.grpc_channel import GrpcChannel
from exporter.transport.grpc_link import GrpcLink, LinkOwner, UnaryRpc, sized
from exporter.transport.grpc_outcome import unary_outcome
from exporter.wire.grpc import OK
from exporter.wire.http2 import Abort
from exporter.wire.http2_frames import ErrorCode

NOT_FINAL = "no final response"
"""Why a request is given up after an error without a final response."""

_OK = Outcome.OK


class StreamMessage(NamedTuple):
    """An interpreted message from the server. A final message without content only marks the end. An error message need
    not be final: until the final one comes, the server is not done with the request."""

    has_content: bool
    is_final: bool
    outcome: Outcome = Outcome.OK
    text: str = ""


@dataclass(frozen=True, slots=True)
class StreamProtocol:
    """A service's streams: the gRPC method, and the interpreter of its messages."""

    method: str
    read: Callable[[bytes | bytearray], StreamMessage]


class StreamRpc(UnaryRpc):
    """A stream. While `ended` it carries no call; `call` is then the previous one. `failure` is the call's first error,
    if more messages are to come."""

    __slots__ = ("failure",)

    keep = True
    failure: StreamMessage | None


class StreamLink(GrpcLink):
    """A connection whose streams stay open between calls."""

    def __init__(
        self, target: Target, method: str, owner: LinkOwner, protocol: StreamProtocol, *, keep_responses: bool = False
    ) -> None:
        super().__init__(target, method, owner)
        self._stream_type = sized(StreamRpc, target.max_response_bytes)
        self._keep_responses = keep_responses
        self._kept: dict[int, list[bytes | bytearray]] = {}
        self._read = protocol.read
        self._streams: dict[int, StreamRpc] = {}

    def takes(self, call: Call) -> bool:
        """Whether the call can be sent now: its place has a stream, or can get one."""
        return not self.core.retired and (self._stream_of(call) is not None or self.core.can_start)

    def start(self, call: Call, request: EncodedRequest, resent: bool = False) -> None:
        """Sends a call on the stream of its place. Only if `takes` is true."""
        rpc = self._stream_of(call)
        is_new = rpc is None
        if rpc is None:
            rpc = self._streams[call.slot] = self._stream_type()
        rpc.take_messages()  # unsolicited messages
        rpc.call, rpc.request, rpc.resent, rpc.ended = call, request, resent, False
        rpc.failure = None
        rpc.size = 0
        call.bytes_out = len(request.body)
        if is_new:
            # No grpc-timeout: the stream outlives its calls. We enforce their deadlines.
            block = self._choose_block(request.head, 0)
            call.bytes_out += len(block)
            self.core.start(rpc, block, request.body, ends=False)
        else:
            self.core.send(rpc, request.body)
        self._unsent.append(rpc)
        if not self._reading:
            self.flush()

    def give_up(self, call: Call, outcome: Outcome) -> bool:
        """As `GrpcLink.give_up`; the next call of its place gets a new stream."""
        rpc = self._streams.get(call.slot)
        if rpc is not None and rpc.call is call and not rpc.ended:
            del self._streams[call.slot]
        return super().give_up(call, outcome)

    def release_idle(self) -> None:
        """Resets the streams that carry no call."""
        for slot, rpc in list(self._streams.items()):
            if rpc.ended:
                del self._streams[slot]
                self.core.reset(rpc)

    def _stream_of(self, call: Call) -> StreamRpc | None:
        """The open stream of the call's place; None if the server has ended it."""
        rpc = self._streams.get(call.slot)
        if rpc is not None and rpc.status is not None:
            del self._streams[call.slot]
            return None
        return rpc

    def _is_sent(self, rpc: UnaryRpc) -> bool:
        return not rpc.pending

    def _notify(self, rpc: UnaryRpc, now_ns: int) -> None:
        for message in rpc.take_messages():
            if self._notify_message(rpc, message, now_ns):
                return
        status = rpc.status
        if status is None:
            return
        if status.abort is Abort.GOAWAY and self.core.goaway_code == ErrorCode.NO_ERROR and not rpc.resent:
            self._forget(rpc)
            self._owner.call_unseen(rpc.call, rpc.request)
        elif status is OK:
            self._end(rpc, Outcome.PROTOCOL_ERROR, "the server ended the stream before the final response", now_ns)
        else:
            rpc.call.retry_after_ns = status.pushback_ns or 0
            self._end(rpc, *unary_outcome(rpc), now_ns)

    def _notify_message(self, rpc: UnaryRpc, data: bytes | bytearray, now_ns: int) -> bool:
        """Returns True if it was the call's last message."""
        assert isinstance(rpc, StreamRpc)
        call, message = rpc.call, self._read(data)
        if message.has_content:
            call.first_ns = call.first_ns or now_ns
            call.response_ns.append(now_ns)
            if len(call.response_ns) > STREAM_RESPONSES:
                self._reset(rpc)
                self._end(rpc, Outcome.PROTOCOL_ERROR, TOO_MANY_RESPONSES, now_ns)
                return True
            if self._keep_responses:
                self._kept.setdefault(call.slot, []).append(data)
            if call.on_response is not None:
                call.on_response(call)
        if rpc.failure is None and message.outcome is not _OK:
            rpc.failure = message
        if message.is_final:
            self._end(rpc, _OK, "", now_ns)
        return message.is_final

    def _end(self, rpc: UnaryRpc, outcome: Outcome, text: str, now_ns: int) -> None:
        """As `GrpcLink._end`. An earlier error of the call determines the outcome, or explains the missing end."""
        assert isinstance(rpc, StreamRpc)
        failure = rpc.failure
        if failure is not None:
            if outcome is _OK:
                outcome, text = failure.outcome, clean_text(failure.text)
            elif outcome is not Outcome.CANCELLED:
                text = clean_text(f"{text or NOT_FINAL} after the error: {failure.text}")
        super()._end(rpc, outcome, text, now_ns)

    def _response(self, rpc: UnaryRpc) -> Response | None:
        kept = self._kept.pop(rpc.call.slot, [])
        return Response(kept, streamed=True) if self._keep_responses and rpc.call.outcome is _OK else None

    def _reset(self, rpc: UnaryRpc) -> None:
        self._streams = {slot: stream for slot, stream in self._streams.items() if stream is not rpc}
        super()._reset(rpc)

    def _held(self, rpc: UnaryRpc) -> int:
        return rpc.held + sum(map(len, self._kept.get(rpc.call.slot, ())))

    def _responses(self, rpc: UnaryRpc) -> int:
        return len(rpc.call.response_ns)


class GrpcStreamChannel(GrpcChannel):
    """A `Channel` (transport.call) whose calls use bidirectional streams and may have any number of responses.

    Giving up a call resets its stream: only that informs the server, and keeps late responses apart from those of the
    next call.
    """

    def __init__(
        self,
        target: Target,
        listener: Listener,
        capacity: int,
        protocol: StreamProtocol,
        *,
        keep_responses: bool = False,
    ) -> None:
        super().__init__(target, listener, capacity, method=protocol.method, keep_responses=keep_responses)
        self._protocol = protocol

    def send(self, call: Call, request: EncodedRequest) -> None:
        """As `GrpcChannel.send`."""
        call.response_ns = []
        super().send(call, request)

    def _make_link(self) -> GrpcLink:
        return StreamLink(self._target, self._method, self, self._protocol, keep_responses=self._keep_responses)

    def _part_with(self, link: GrpcLink) -> None:
        assert isinstance(link, StreamLink)
        link.release_idle()
        link.flush()
        super()._part_with(link)
