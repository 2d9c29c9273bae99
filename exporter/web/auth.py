"""Who may change something: a bearer token, read at each request, so that a rotated one holds at once.

It must not know what is changed.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from exporter.logs import fields

TOKEN_VARIABLE = "TRITON_CANARY_API_TOKEN"  # noqa: S105

_AUDIT_SECONDS = 60.0
_AUDIT_ADDRESSES = 30
_SHOWN_PATH = 200

_log = logging.getLogger("exporter.audit")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused: an HTTP status, and words for who sent it. `detail` is for the log alone."""

    status: int
    text: str
    detail: str = ""


class TokenGuard:
    """Lets a request pass that bears the token of a file, or of the environment where there is no file. Keeps the lines
    of the audit log about those that don't: one an address and minute, and 30 a minute in all, since strangers send
    them."""

    def __init__(
        self,
        token_file: str,
        environ: Mapping[str, str] = os.environ,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token_file = token_file
        self._environ = environ
        self._monotonic_s = monotonic_s
        self._minute_began_s = -_AUDIT_SECONDS
        self._addresses: set[str] = set()
        self._left_out = 0

    def refusal(self, authorization: str | None) -> Refusal | None:
        """Why a request with this Authorization header is refused; None if it may pass."""
        try:
            token = self._token()
        except (OSError, UnicodeDecodeError) as error:
            why = (error.strerror or "it fails") if isinstance(error, OSError) else "it is not UTF-8 text"
            return Refusal(503, f"web.api_token_file cannot be read: {why}", self._token_file)
        if not token:
            text = f"changes are refused: no token is configured; set web.api_token_file or {TOKEN_VARIABLE}"
            return Refusal(403, text)
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
            return Refusal(401, "the request has no valid token: Authorization: Bearer <token>")
        return None

    def log_refusal(self, request: Request, status: int, text: str, detail: str = "") -> None:
        """A line of the audit log about a request that may not change anything; of several alike, the first."""
        now_s = self._monotonic_s()
        if now_s - self._minute_began_s >= _AUDIT_SECONDS:
            self._minute_began_s = now_s
            self._addresses.clear()
        by = address_of(request)
        if by in self._addresses or len(self._addresses) >= _AUDIT_ADDRESSES:
            self._left_out += 1
            return
        self._addresses.add(by)
        error = f"{text}: {detail}" if detail else text
        details = {"path": request.scope["path"][:_SHOWN_PATH], "by": by, "status": status, "error": error}
        _log.warning("request refused", extra=fields(**details, left_out=self._left_out))
        self._left_out = 0

    def _token(self) -> str:
        if self._token_file:
            return Path(self._token_file).read_text(encoding="utf-8").strip()
        return self._environ.get(TOKEN_VARIABLE, "").strip()


async def refused(guard: TokenGuard, request: Request, authorization: str | None = None) -> Response | None:
    """The response to a request that may not change anything; None for one that may. `authorization` stands for the
    header where the token came in a form."""
    given = request.headers.get("authorization") if authorization is None else authorization
    refusal = await asyncio.to_thread(guard.refusal, given)
    if refusal is None:
        return None
    guard.log_refusal(request, refusal.status, refusal.text, refusal.detail)
    headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}
    return PlainTextResponse(refusal.text + "\n", refusal.status, headers=headers)


def address_of(request: Request) -> str:
    """Whose request it is; "" where that can't be known."""
    return request.client.host if request.client else ""
