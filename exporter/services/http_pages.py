"""One question over HTTP, for kinds whose servers have no client library: on a connection made as the load's are."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from exporter.core.errors import PreflightError, TransportError
from exporter.core.outcome import Reason
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.services.connectivity import no_answer, transport_reason
from exporter.transport.call import Call, EncodedRequest
from exporter.transport.headers import read_headers
from exporter.transport.http_channel import HttpChannel, error_text
from exporter.wire.http1 import request_head

_REASONS = {
    401: Reason.AUTH,
    403: Reason.AUTH,
    404: Reason.MODEL_UNKNOWN,
    408: Reason.PREFLIGHT_TIMEOUT,
    502: Reason.UNREACHABLE,
    503: Reason.SERVER_NOT_READY,
    504: Reason.PREFLIGHT_TIMEOUT,
}


@dataclass(frozen=True, slots=True)
class Page:
    """What a server answered at `url`."""

    url: str
    status: int
    body: bytes

    @property
    def is_ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body as JSON. Raises PreflightError."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise PreflightError(Reason.PROTOCOL, f"{self.url} answered what is no JSON: {error}") from error

    def refusal(self) -> PreflightError:
        """The status as the reason of a failed sweep."""
        reason = _REASONS.get(self.status, Reason.PROTOCOL)
        return PreflightError(reason, f"{self.url} said {error_text(self.status, self.body)}", str(self.status))


async def ask(target: Target, path: str, timeout_ns: int, method: str = "GET") -> Page:
    """The answer to a question below the target's path, with the target's headers. Raises PreflightError where there is
    none within the time-out; an answer that is an error is one."""
    url = target.url + path
    ended: asyncio.Future[Page | TransportError] = asyncio.get_running_loop().create_future()

    def listener(call: Call) -> None:
        if ended.done():
            return
        if call.responses:
            ended.set_result(Page(url, channel.client.status, bytes(channel.client.kept()[1])))
        else:
            ended.set_result(TransportError(call.outcome, call.text or "no answer"))

    channel = HttpChannel(target, listener, keep_body=True)
    try:
        head = request_head(method, target.path + path, target.authority, read_headers(target.headers), 0)
        async with asyncio.timeout(timeout_ns / NS):
            channel.send(Call(0), EncodedRequest(head, b""))
            result = await ended
    except TransportError as error:
        raise transport_reason(error) from error
    except TimeoutError as error:
        raise no_answer(url, timeout_ns) from error
    finally:
        await channel.close()
    if isinstance(result, TransportError):
        raise transport_reason(result, url)
    return result
