"""The paths that show the configuration and have it read again. Knows HTTP, not what a configuration is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from exporter.core.errors import ConfigError
from exporter.web.auth import TokenGuard, address_of, refused
from exporter.web.shared import Shared

Reload = Callable[[str], Awaitable[ConfigError | None]]
"""Reloads for the reason given; returns what is wrong with the new configuration."""


def config_routes(reload: Reload, shown: Callable[[], str], guard: TokenGuard) -> list[Route]:
    """POST /-/reload: 200 once the new configuration is in force, 500 with every fault if it is not. GET /config: what
    `shown` gives, called in a thread."""

    text = Shared(lambda: asyncio.to_thread(shown))

    async def show(_request: Request) -> Response:
        return PlainTextResponse(await text.get(), headers={"Cache-Control": "no-store"})

    async def post(request: Request) -> Response:
        if (refusal := await refused(guard, request)) is not None:
            return refusal
        error = await reload(f"request of {address_of(request) or 'unknown'}")
        if error is None:
            return PlainTextResponse("Reloaded\n")
        return PlainTextResponse(f"Not reloaded, the old configuration stays in force:\n{error}\n", 500)

    return [Route("/-/reload", post, methods=["POST"]), Route("/config", show)]
