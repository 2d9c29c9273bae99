"""Maps the end of a gRPC call, its status or abort, to an outcome. Pure; knows no connection."""

from __future__ import annotations

from exporter.core.outcome import Outcome
from exporter.core.untrusted_text import clean_text
from exporter.wire.grpc import Code, Rpc
from exporter.wire.http2 import Abort

_OUTCOME_OF_CODE = {
    Code.OK: Outcome.OK,
    Code.DEADLINE_EXCEEDED: Outcome.TIMEOUT,
    Code.UNAUTHENTICATED: Outcome.AUTH_ERROR,
    Code.PERMISSION_DENIED: Outcome.AUTH_ERROR,
    Code.RESOURCE_EXHAUSTED: Outcome.OVERLOAD,
    Code.UNAVAILABLE: Outcome.OVERLOAD,
    Code.INVALID_ARGUMENT: Outcome.CLIENT_ERROR,
    Code.NOT_FOUND: Outcome.CLIENT_ERROR,
    Code.ALREADY_EXISTS: Outcome.CLIENT_ERROR,
    Code.FAILED_PRECONDITION: Outcome.CLIENT_ERROR,
    Code.OUT_OF_RANGE: Outcome.CLIENT_ERROR,
    Code.UNIMPLEMENTED: Outcome.CLIENT_ERROR,
}
"""All other codes (CANCELLED by the server, UNKNOWN, ABORTED, INTERNAL, DATA_LOSS) are server errors. UNAVAILABLE comes
from a server that is alive enough to refuse, so it is overload. A broken connection has no status."""


def unary_outcome(rpc: Rpc) -> tuple[Outcome, str]:
    """The outcome of a unary call that has ended, and its text: "" if ok, otherwise at most 300 characters."""
    status = rpc.status
    assert status is not None
    if status.abort in (Abort.GOAWAY, Abort.REFUSED):
        return Outcome.OVERLOAD, clean_text(f"refused: {status.message}")
    if status.abort is not None:
        return Outcome.PROTOCOL_ERROR, clean_text(status.message)
    if status.code is Code.OK:
        if rpc.message_count == 1:
            return Outcome.OK, ""
        return Outcome.PROTOCOL_ERROR, f"{rpc.message_count} messages in a unary response"
    text = f"{status.code.name}: {status.message}" if status.message else status.code.name
    return _OUTCOME_OF_CODE.get(status.code, Outcome.SERVER_ERROR), clean_text(text)
