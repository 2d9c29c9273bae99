"""Questions over HTTP to any kind of server, on connections made as the load's are: to the target's own host and with
its name, without proxies or anything else of the environment, and without following the server anywhere.

Owns how a response becomes a page, or the reason of a failed sweep. What a server sends is bounded here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from exporter.core.bounds import CONTROL_BYTES
from exporter.core.errors import PreflightError, ProtocolError, TransportError
from exporter.core.outcome import Outcome, Reason
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.core.untrusted_text import clean_text, load_json
from exporter.services.connectivity import no_response, transport_reason
from exporter.services.error_body import error_message
from exporter.transport.call import Call, EncodedRequest
from exporter.transport.headers import read_headers
from exporter.transport.http_channel import HttpChannel, error_text
from exporter.wire.codings import decompress
from exporter.wire.http1 import read_header, request_head

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
    """A server's response at `url`."""

    url: str
    status: int
    body: bytes
    head: bytes = b""

    @property
    def is_ok(self) -> bool:
        return 200 <= self.status < 300

    def header(self, name: str) -> str | None:
        """The value of the header `name` (given in lower case)."""
        return read_header(self.head, name)

    def json(self) -> Any:
        """The body as JSON. Raises PreflightError."""
        try:
            return load_json(self.body)
        except ValueError as error:
            raise PreflightError(
                Reason.PROTOCOL, f"{self.url} sent a response that is not JSON: {clean_text(str(error))}"
            ) from error

    def refusal(self, reasons: Mapping[int, Reason] = _REASONS) -> PreflightError:
        """The status as the reason of a failed sweep."""
        location = self.header("location") if 300 <= self.status < 400 else None
        body = error_message(self.body).encode() or self.body
        text = f"{self.url} reported {error_text(self.status, body, location)}"
        return PreflightError(reasons.get(self.status, Reason.PROTOCOL), text, str(self.status))


class PageClient:
    """Asks one server. Connections are kept, and as many are made as questions are asked at a time."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._idle: list[_Exchange] = []

    async def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes = b"",
        headers: Iterable[tuple[str, str]] = (),
        max_bytes: int = CONTROL_BYTES,
    ) -> Page:
        """The response to a question below the target's path, with the target's headers; one that is an error is one,
        too. It takes as long as it takes. Raises PreflightError where there is none."""
        target = self._target
        url = target.url + path
        try:
            every = [*headers, *read_headers(target.headers)]
        except TransportError as error:
            raise transport_reason(error) from error
        head = request_head(method, target.path + path, target.sent_authority, every, len(body))
        request = EncodedRequest(head, body)
        while self._idle and max_bytes == CONTROL_BYTES:
            # A server may have closed it between two questions, or be about to: that is no failure.
            with contextlib.suppress(_GoneError):
                return await self._exchange(self._idle.pop(), request, url)
        try:
            return await self._exchange(_Exchange(target, max_bytes), request, url)
        except _GoneError as error:
            raise PreflightError(Reason.PROTOCOL, f"{url}: {error}") from error

    async def close(self) -> None:
        """Closes its connections. It can be used again."""
        idle, self._idle = self._idle, []
        for exchange in idle:
            await exchange.channel.close()

    async def _exchange(self, exchange: _Exchange, request: EncodedRequest, url: str) -> Page:
        try:
            page = await exchange.run(request, url)
        except BaseException:
            await exchange.channel.close()
            raise
        if exchange.max_bytes == CONTROL_BYTES:
            self._idle.append(exchange)
        else:
            await exchange.channel.close()
        return page


class _GoneError(Exception):
    """The connection was closed before anything came back."""


class _Exchange:
    """One connection, and the question that is on it."""

    def __init__(self, target: Target, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.channel = HttpChannel(target, self._ended, keep_body=True, max_bytes=max_bytes)
        self._result: asyncio.Future[Page | TransportError | _GoneError] | None = None
        self._url = ""

    async def run(self, request: EncodedRequest, url: str) -> Page:
        self._url = url
        self._result = asyncio.get_running_loop().create_future()
        self.channel.send(Call(0), request)
        result = await self._result
        if isinstance(result, TransportError):
            raise transport_reason(result, url) from result
        if isinstance(result, _GoneError):
            raise result
        return result

    def _ended(self, call: Call) -> None:
        if self._result is None or self._result.done():
            return
        self._result.set_result(self._page() if call.responses else self._failure(call))

    def _page(self) -> Page | TransportError:
        client = self.channel.client
        head, raw = client.kept()
        try:
            body = decompress(bytes(raw), read_header(head, "content-encoding") or "", self.max_bytes)
        except ProtocolError as error:
            return TransportError(Outcome.PROTOCOL_ERROR, str(error))
        return Page(self._url, client.status, body, head)

    def _failure(self, call: Call) -> TransportError | _GoneError:
        if call.outcome is Outcome.CONNECT_ERROR and call.sent_ns:
            return _GoneError(call.text)
        return TransportError(call.outcome, call.text or "no response")


async def ask(target: Target, path: str, timeout_ns: int, method: str = "GET") -> Page:
    """The response to one request, as by `PageClient.ask`, within the time-out."""
    client = PageClient(target)
    try:
        async with asyncio.timeout(timeout_ns / NS):
            return await client.ask(path, method)
    except TimeoutError as error:
        raise await no_response(target, timeout_ns, path) from error
    finally:
        await client.close()
