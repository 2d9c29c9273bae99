"""The paths that change what runs, with a token: pause, resume or sweep a probe now, read the configuration again;
and the one that shows the configuration. Knows HTTP, not what a sweep or a configuration is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from exporter.core.errors import ConfigError
from exporter.schedule.actions import Action, ProbeActions, RefusalKind, RefusedError
from exporter.web.auth import TokenGuard, address_of, refused

Reload = Callable[[str], Awaitable[ConfigError | None]]
"""Reloads for the reason given; returns what is wrong with the new configuration."""

_STATUS = {RefusalKind.UNKNOWN: 404, RefusalKind.CONFLICT: 409, RefusalKind.BUDGET: 429, RefusalKind.INTERNAL: 500}


def action_routes(actions: ProbeActions, guard: TokenGuard) -> list[Route]:
    """POST /api/probes/PROBE/ACTION. The name of a probe of one replica has a slash in it."""
    handlers = _Handlers(actions, guard)
    return [Route(f"/api/probes/{{probe:path}}/{action}", handlers.act, methods=["POST"]) for action in Action]


class _Handlers:
    def __init__(self, actions: ProbeActions, guard: TokenGuard) -> None:
        self._actions = actions
        self._guard = guard

    async def act(self, request: Request) -> Response:
        if (refusal := await refused(self._guard, request)) is not None:
            return refusal
        action = Action(request.url.path.rpartition("/")[2])
        try:
            done = self._actions.act(action, request.path_params["probe"], by=address_of(request))
        except RefusedError as error:
            return PlainTextResponse(f"{error}\n", _STATUS[error.kind])
        status = 202 if action is Action.SWEEP_NOW else 200
        return JSONResponse({"done": done}, status, headers={"Cache-Control": "no-store"})


def config_routes(reload: Reload, shown: Callable[[], str], guard: TokenGuard) -> list[Route]:
    """POST /-/reload: 200 once the new configuration is in force, 500 with every fault if it is not. GET /config: what
    `shown` gives, called in a thread."""

    async def show(_request: Request) -> Response:
        text = await asyncio.to_thread(shown)
        return PlainTextResponse(text, headers={"Cache-Control": "no-store"})

    async def post(request: Request) -> Response:
        if (refusal := await refused(guard, request)) is not None:
            return refusal
        error = await reload(f"request of {address_of(request) or 'unknown'}")
        if error is None:
            return PlainTextResponse("Reloaded\n")
        return PlainTextResponse(f"Not reloaded, the old configuration stays in force:\n{error}\n", 500)

    return [Route("/-/reload", post, methods=["POST"]), Route("/config", show)]
