"""Who may change something: a bearer token, read at each request, so that a rotated one holds at once.

It must not know what is changed.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

TOKEN_VARIABLE = "TRITON_CANARY_API_TOKEN"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused: an HTTP status, and words for who sent it."""

    status: int
    text: str


class TokenGuard:
    """Lets a request pass that bears the token of a file, or of the environment where there is no file."""

    def __init__(self, token_file: str, environ: Mapping[str, str] = os.environ) -> None:
        self._token_file = token_file
        self._environ = environ

    def refusal(self, authorization: str | None) -> Refusal | None:
        """Why a request with this Authorization header is refused; None if it may pass."""
        try:
            token = self._token()
        except (OSError, UnicodeDecodeError) as error:
            return Refusal(503, f"web.api_token_file cannot be read: {error}")
        if not token:
            text = f"changes are refused: no token is configured; set web.api_token_file or {TOKEN_VARIABLE}"
            return Refusal(403, text)
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
            return Refusal(401, "the request bears no token, or not the right one: Authorization: Bearer <token>")
        return None

    def _token(self) -> str:
        if self._token_file:
            return Path(self._token_file).read_text(encoding="utf-8").strip()
        return self._environ.get(TOKEN_VARIABLE, "").strip()


async def refused(guard: TokenGuard, request: Request) -> Response | None:
    """The answer to a request that may not change anything; None for one that may."""
    refusal = await asyncio.to_thread(guard.refusal, request.headers.get("authorization"))
    if refusal is None:
        return None
    headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}
    return PlainTextResponse(refusal.text + "\n", refusal.status, headers=headers)
