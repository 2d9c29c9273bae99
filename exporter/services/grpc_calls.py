"""Questions over gRPC to any kind of server, on a connection made as the load's are: with its authority, its name in
the TLS handshake, its verification, and its bounds.

Owns how a call's end becomes the reason of a failed sweep.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from exporter.core.bounds import CONTROL_BYTES
from exporter.core.errors import PreflightError, TransportError
from exporter.core.outcome import Outcome, Reason
from exporter.core.target import Target
from exporter.core.untrusted_text import clean_text
from exporter.services.connectivity import transport_reason
from exporter.transport.call import Call, EncodedRequest, Listener
from exporter.transport.grpc_channel import GrpcChannel
from exporter.transport.grpc_link import GrpcLink, UnaryRpc
from exporter.wire.grpc import Code, Status
from exporter.wire.grpc_messages import frame_message

_M = TypeVar("_M", bound=Message)

_REASONS = {
    Code.UNAUTHENTICATED: Reason.AUTH,
    Code.PERMISSION_DENIED: Reason.AUTH,
    Code.UNAVAILABLE: Reason.UNREACHABLE,
    Code.DEADLINE_EXCEEDED: Reason.PREFLIGHT_TIMEOUT,
    Code.NOT_FOUND: Reason.MODEL_UNKNOWN,
}


class GrpcCalls:
    """Calls of one server. It connects when first used, and again after `close`."""

    def __init__(self, target: Target, max_bytes: int = CONTROL_BYTES) -> None:
        self._target = target
        self._max_bytes = max_bytes
        self._channel: _ControlChannel | None = None

    async def call(self, method: str, request: Message, response: type[_M]) -> _M:
        """The response to a unary call; it takes as long as it takes. Raises PreflightError, with the status's name
        where the server gave one."""
        channel = self._channel
        if channel is None:
            channel = self._channel = _ControlChannel(self._target, _end, self._max_bytes)
        encoded = EncodedRequest(f":path: {method}".encode(), frame_message(request.SerializeToString()))
        call = _ControlCall()
        channel.send(call, encoded)
        try:
            await call.ended
        except asyncio.CancelledError:
            channel.give_up(call, Outcome.CANCELLED)
            raise
        if call.outcome is not Outcome.OK or call.response is None:
            raise self._failure(call)
        try:
            message: _M = response.FromString(bytes(call.response.messages[0]))
        except DecodeError as error:
            text = f"{self._target.url}{method} sent a response that cannot be read: {clean_text(str(error))}"
            raise PreflightError(Reason.PROTOCOL, text) from error
        return message

    async def close(self) -> None:
        """Closes its connection."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    def _failure(self, call: _ControlCall) -> PreflightError:
        status = call.status
        if status is None or status.abort is not None:
            return transport_reason(TransportError(call.outcome, call.text or "no response"), self._target.url)
        reason = _REASONS.get(status.code, Reason.PROTOCOL)
        text = f"{self._target.url} reported {status.code.name}: {clean_text(status.message)}"
        return PreflightError(reason, text, status.code.name)


class _ControlCall(Call):
    """A call that is awaited. `status` is the server's, where it gave one."""

    __slots__ = ("ended", "status")

    def __init__(self) -> None:
        super().__init__(0)
        self.status: Status | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class _ControlLink(GrpcLink):
    def _end(self, rpc: UnaryRpc, outcome: Outcome, text: str, now_ns: int) -> None:
        assert isinstance(rpc.call, _ControlCall)
        rpc.call.status = rpc.status
        super()._end(rpc, outcome, text, now_ns)


class _ControlChannel(GrpcChannel):
    def __init__(self, target: Target, listener: Listener, max_bytes: int) -> None:
        super().__init__(target, listener, _CALLS_AT_A_TIME, method="", keep_responses=True)
        self._max_bytes = max_bytes

    def _make_link(self) -> GrpcLink:
        return _ControlLink(self._target, "", self, keep_responses=True, max_bytes=self._max_bytes)


_CALLS_AT_A_TIME = 64
"""No caller sends more at once; what waits for a connection has no limit of its own."""


def _end(call: Any) -> None:
    if not call.ended.done():
        call.ended.set_result(None)
