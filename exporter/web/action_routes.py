"""The paths that change what runs, with a token: pause, resume or sweep a probe now, stop everything or a target, read
the configuration again; and the one that shows the configuration. Knows HTTP, not what a sweep or a configuration is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from exporter.core.errors import ConfigError
from exporter.schedule.actions import Action, ProbeActions, RefusalKind, RefusedError, Stopped
from exporter.web.auth import TokenGuard, address_of, refused
from exporter.web.shared import Shared

Reload = Callable[[str], Awaitable[ConfigError | None]]
"""Reloads for the reason given; returns what is wrong with the new configuration."""

_NO_STORE = {"Cache-Control": "no-store"}
STATUS_OF = {RefusalKind.UNKNOWN: 404, RefusalKind.CONFLICT: 409, RefusalKind.BUDGET: 429, RefusalKind.INTERNAL: 500}


def action_routes(actions: ProbeActions, guard: TokenGuard) -> list[Route]:
    """POST /api/probes/PROBE/ACTION, and POST /api/pause and /api/resume, of everything or with ?target=NAME. The name
    of a probe of one replica has a slash in it."""
    handlers = _Handlers(actions, guard)
    return [
        *(Route(f"/api/probes/{{probe:path}}/{action}", handlers.act, methods=["POST"]) for action in Action),
        Route("/api/pause", handlers.stop, methods=["POST"]),
        Route("/api/resume", handlers.resume, methods=["POST"]),
    ]


class _Handlers:
    def __init__(self, actions: ProbeActions, guard: TokenGuard) -> None:
        self._actions = actions
        self._guard = guard

    async def act(self, request: Request) -> Response:
        if (refusal := await refused(self._guard, request)) is not None:
            return refusal
        action = Action(request.scope["path"].rpartition("/")[2])
        try:
            done = self._actions.act(action, request.path_params["probe"], by=address_of(request))
        except RefusedError as error:
            return PlainTextResponse(f"{error}\n", STATUS_OF[error.kind])
        status = 202 if action is Action.SWEEP_NOW else 200
        return JSONResponse({"done": done}, status, headers=_NO_STORE)

    async def stop(self, request: Request) -> Response:
        return await self._of_all(request, self._actions.stop)

    async def resume(self, request: Request) -> Response:
        return await self._of_all(request, self._actions.resume)

    async def _of_all(self, request: Request, act: Callable[..., Stopped]) -> Response:
        if (refusal := await refused(self._guard, request)) is not None:
            return refusal
        if set(request.query_params) - {"target"}:
            # A misspelt target must not stop, or start, everything else.
            return PlainTextResponse(
                "the only parameter is ?target=NAME; without it all targets are paused or resumed\n", 400
            )
        try:
            stopped = act(request.query_params.get("target"), by=address_of(request))
        except RefusedError as error:
            return PlainTextResponse(f"{error}\n", STATUS_OF[error.kind])
        return JSONResponse({"done": stopped.done, "not_kept": stopped.not_kept}, headers=_NO_STORE)


def config_routes(reload: Reload, shown: Callable[[], str], guard: TokenGuard) -> list[Route]:
    """POST /-/reload: 200 once the new configuration is in force, 500 with every error if it is not. GET /config: what
    `shown` gives, called in a thread."""

    text = Shared(lambda: asyncio.to_thread(shown))

    async def show(_request: Request) -> Response:
        return PlainTextResponse(await text.get(), headers=_NO_STORE)

    async def post(request: Request) -> Response:
        if (refusal := await refused(guard, request)) is not None:
            return refusal
        error = await reload(f"request of {address_of(request) or 'unknown'}")
        if error is None:
            return PlainTextResponse("Reloaded\n")
        return PlainTextResponse(f"Not reloaded, the old configuration is still in use:\n{error}\n", 500)

    return [Route("/-/reload", post, methods=["POST"]), Route("/config", show)]
