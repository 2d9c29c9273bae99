"""Whether a server can be reached, before it is asked anything; and what it means for a sweep if it cannot."""

from __future__ import annotations

from exporter.core.errors import PreflightError, TransportError
from exporter.core.outcome import Outcome, Reason
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.services.channel_factory import make_channel
from exporter.transport.call import Call

_TRANSPORT_REASONS = {
    Outcome.CONNECT_ERROR: Reason.UNREACHABLE,
    Outcome.TLS_ERROR: Reason.TLS,
    Outcome.TIMEOUT: Reason.PREFLIGHT_TIMEOUT,
    Outcome.AUTH_ERROR: Reason.AUTH,
}


async def check_connection(target: Target) -> None:
    """Connects as the load will, first: the clients report "unavailable" for a refused connection, a refused
    certificate and garbage alike. Raises PreflightError."""
    channel = make_channel(target, _ignore)
    try:
        await channel.open()
    except TransportError as error:
        raise transport_reason(error, target.url) from error
    finally:
        await channel.close()


def transport_reason(error: TransportError, url: str = "") -> PreflightError:
    """A connection that could not be made, as the reason of a failed sweep; its text begins with `url`, if given."""
    text = f"{url}: {error}" if url else str(error)
    return PreflightError(_TRANSPORT_REASONS.get(error.outcome, Reason.PROTOCOL), text)


async def no_response(target: Target, timeout_ns: int, path: str = "") -> PreflightError:
    """What it means that nothing came back in time, as the reason of a failed sweep: the server is asked once more, for
    a connection alone, since a host that drops every packet is not one that accepts and is silent."""
    if not target.in_process:
        try:
            await check_connection(target)
        except PreflightError as error:
            return error
    text = f"{target.url}{path} accepts connections and sent no response within {timeout_ns / NS:g} s"
    return PreflightError(Reason.PREFLIGHT_TIMEOUT, text)


def _ignore(_call: Call) -> None:
    """Listens to a channel on which nothing is sent."""
