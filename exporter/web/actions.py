"""The paths by which a probe is paused, resumed, or swept now; with a token. Knows HTTP, not what a sweep is."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from exporter.schedule.actions import Action, Fault, ProbeActions, RefusedError
from exporter.web.auth import TokenGuard, address_of, refused

_STATUS = {Fault.UNKNOWN: 404, Fault.CONFLICT: 409, Fault.BUDGET: 429, Fault.INTERNAL: 500}


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
        action = Action(request.scope["path"].rpartition("/")[2])
        try:
            done = self._actions.act(action, request.path_params["probe"], by=address_of(request))
        except RefusedError as error:
            return PlainTextResponse(f"{error}\n", _STATUS[error.fault])
        status = 202 if action is Action.SWEEP_NOW else 200
        return JSONResponse({"done": done}, status, headers={"Cache-Control": "no-store"})
