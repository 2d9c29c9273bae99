"""The paths by which a probe is paused, resumed, or swept now, and by which everything or a target is stopped; with a
token. Knows HTTP, not what a sweep is.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from exporter.schedule.actions import Action, Fault, ProbeActions, RefusedError, Stopped
from exporter.web.auth import TokenGuard, address_of, refused

_NO_STORE = {"Cache-Control": "no-store"}
_STATUS = {Fault.UNKNOWN: 404, Fault.CONFLICT: 409, Fault.BUDGET: 429, Fault.INTERNAL: 500}


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
            return PlainTextResponse(f"{error}\n", _STATUS[error.fault])
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
            return PlainTextResponse("only ?target=NAME is known here; without it all targets are meant\n", 400)
        try:
            stopped = act(request.query_params.get("target"), by=address_of(request))
        except RefusedError as error:
            return PlainTextResponse(f"{error}\n", _STATUS[error.fault])
        return JSONResponse({"done": stopped.done, "not_kept": stopped.not_kept}, headers=_NO_STORE)
