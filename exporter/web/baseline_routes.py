"""The paths about baselines: to show, to export and, with a token, to change. Knows HTTP, not what a baseline is."""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from exporter.baseline.actions import ACTIONS, ActionError, BaselineActions, PinRequest
from exporter.web.auth import TokenGuard, address_of, refused

_MAX_BODY_BYTES = 32 * 1024 * 1024
_NO_STORE = {"Cache-Control": "no-store"}


def baseline_routes(actions: BaselineActions, guard: TokenGuard) -> list[Route]:
    """GET /api/baseline/PROBE and …/export, POST /api/baseline/PROBE/ACTION."""
    handlers = _Handlers(actions, guard)
    return [
        # A probe's name may have slashes in it: that of a model of `models: all-ready` does.
        Route("/api/baseline/{probe:path}/export", handlers.export),
        *(Route(f"/api/baseline/{{probe:path}}/{action}", handlers.act, methods=["POST"]) for action in ACTIONS),
        Route("/api/baseline/{probe:path}", handlers.show),
    ]


class _Handlers:
    def __init__(self, actions: BaselineActions, guard: TokenGuard) -> None:
        self._actions = actions
        self._guard = guard

    async def show(self, request: Request) -> Response:
        try:
            return JSONResponse(self._actions.show(request.path_params["probe"]), headers=_NO_STORE)
        except ActionError as error:
            return _refused(error)

    async def export(self, request: Request) -> Response:
        try:
            return PlainTextResponse(self._actions.export(request.path_params["probe"]), headers=_NO_STORE)
        except ActionError as error:
            return _refused(error)

    async def act(self, request: Request) -> Response:
        if (refusal := await refused(self._guard, request)) is not None:
            return refusal
        action = request.scope["path"].rpartition("/")[2]
        body = await _body(request)
        if body is None:
            text = "the document is too large, or is not UTF-8 text"
            self._guard.log_refusal(request, 413, text)
            return PlainTextResponse(f"{text}\n", 413)
        try:
            done = self._actions.act(
                action,
                request.path_params["probe"],
                level=request.query_params.get("level", ""),
                document=body,
                by=address_of(request),
                pin=PinRequest(
                    since=request.query_params.get("since", ""),
                    dry_run=request.query_params.get("dry_run") == "true",
                    force=request.query_params.get("force") == "true",
                ),
            )
        except ActionError as error:
            return _refused(error)
        return Response(json.dumps({"done": done}), media_type="application/json", headers=_NO_STORE)


async def _body(request: Request) -> str | None:
    """The request's body as text; None where it is none, or too large to be one."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > _MAX_BODY_BYTES:
            return None
        parts.append(part)
    try:
        return b"".join(parts).decode()
    except UnicodeDecodeError:
        return None


def _refused(error: ActionError) -> Response:
    return PlainTextResponse(f"{error}\n", 404 if error.unknown else 409)
