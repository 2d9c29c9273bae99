"""The paths of rollout gates: to start one with a token, as a pipeline, Argo Rollouts or Flagger does, and to read
results. Knows HTTP, not how a gate is decided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from exporter.config.quantities import parse_duration
from exporter.core.errors import ConfigError
from exporter.core.units import NS
from exporter.core.untrusted_text import load_json
from exporter.schedule.actions import RefusedError
from exporter.web.action_routes import STATUS_OF
from exporter.web.auth import TokenGuard, address_of, refused

_MAX_BODY_BYTES = 64 * 1024
_NO_STORE = {"Cache-Control": "no-store"}
MAX_WAIT_SECONDS = 3600.0
MAX_READ_WAIT_SECONDS = 60.0
"""Without a token: each waiting client holds a connection."""
RUNNING_STATUS, NOT_PASSED_STATUS = 409, 422
"""What Flagger gets while a gate runs, and from one that did not pass: it continues with 200 to 202 alone."""


class GateActions(Protocol):
    """What the daemon can do. `start` and `start_flagger` take the parsed body and the address that sent it, raise
    ConfigError and RefusedError, and return the gate's document. `flagger_token` is "" where the body has none. `wait`
    returns when the gate has ended, or after so many seconds."""

    def start(self, body: Any, by: str) -> Mapping[str, Any]: ...

    def flagger_token(self, body: Any) -> str: ...

    def start_flagger(self, body: Any, by: str) -> Mapping[str, Any]: ...

    def get(self, gate_id: str) -> Mapping[str, Any] | None: ...

    async def wait(self, gate_id: str, seconds: float) -> None: ...

    def all(self) -> Sequence[Mapping[str, Any]]: ...


def gate_routes(actions: GateActions, guard: TokenGuard) -> list[Route]:
    """POST and GET /api/v1/gates, GET /api/v1/gates/ID, POST /api/v1/gates/flagger."""
    handlers = _Handlers(actions, guard)
    return [
        Route("/api/v1/gates", handlers.all),
        Route("/api/v1/gates", handlers.start, methods=["POST"]),
        Route("/api/v1/gates/flagger", handlers.flagger, methods=["POST"]),
        # An id may have slashes in it: that of a Flagger canary does.
        Route("/api/v1/gates/{gate:path}", handlers.one),
    ]


class _Handlers:
    def __init__(self, actions: GateActions, guard: TokenGuard) -> None:
        self._actions = actions
        self._guard = guard

    async def all(self, _request: Request) -> Response:
        return JSONResponse({"gates": list(self._actions.all())}, headers=_NO_STORE)

    async def one(self, request: Request) -> Response:
        gate_id = request.path_params["gate"]
        try:
            seconds = _wait_seconds(request, MAX_READ_WAIT_SECONDS)
        except ConfigError as error:
            return _error(400, error.problems)
        await self._actions.wait(gate_id, seconds)
        document = self._actions.get(gate_id)
        if document is None:
            return _error(404, ["there is no such gate"])
        return JSONResponse(document, headers=_NO_STORE)

    async def start(self, request: Request) -> Response:
        """202 while it runs, 200 once it ended, whatever its verdict; the same id returns the same gate."""
        if (refusal := await refused(self._guard, request)) is not None:
            return refusal
        try:
            seconds = _wait_seconds(request, MAX_WAIT_SECONDS)
            document = self._actions.start(await _body(request), address_of(request))
        except ConfigError as error:
            return _error(400, error.problems)
        except RefusedError as error:
            return _error(STATUS_OF[error.kind], [str(error)])
        await self._actions.wait(document["id"], seconds)
        document = self._actions.get(document["id"]) or document
        return JSONResponse(document, 202 if document["running"] else 200, headers=_NO_STORE)

    async def flagger(self, request: Request) -> Response:
        """200 once the gate passed, and a line of text that Flagger logs. It sends no headers of one's own: the token
        may be in the metadata."""
        try:
            body = await _body(request)
            authorization = request.headers.get("authorization")
            if token := self._actions.flagger_token(body):
                authorization = f"Bearer {token}"
            if (refusal := await refused(self._guard, request, authorization)) is not None:
                return refusal
            document = self._actions.start_flagger(body, address_of(request))
        except ConfigError as error:
            return _line(400, "; ".join(error.problems))
        except RefusedError as error:
            return _line(STATUS_OF[error.kind], str(error))
        if document["running"]:
            return _line(RUNNING_STATUS, f"gate {document['id']} is running: {document['pairs']} pairs so far")
        status = 200 if document["passed"] else NOT_PASSED_STATUS
        return _line(status, f"gate {document['id']}: {document['text']}")


def _wait_seconds(request: Request, most: float) -> float:
    """How long the client wants to wait for the gate's end, ?wait=15m, at most so long; 0 without. Raises
    ConfigError."""
    try:
        return min(parse_duration(request.query_params.get("wait", "0s")) / NS, most)
    except ValueError as error:
        raise ConfigError([f"wait: {error}"]) from None


async def _body(request: Request) -> Any:
    """The request's body as JSON. Raises ConfigError."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > _MAX_BODY_BYTES:
            raise ConfigError([f"the body has more than {_MAX_BODY_BYTES // 1024} KiB"])
        parts.append(part)
    try:
        return load_json(b"".join(parts))
    except ValueError as error:
        raise ConfigError([f"the body is not JSON: {error}"[:200]]) from None


def _error(status: int, problems: Sequence[str]) -> Response:
    return JSONResponse({"error": "; ".join(problems), "problems": list(problems)}, status, headers=_NO_STORE)


def _line(status: int, text: str) -> Response:
    return PlainTextResponse(f"{text}\n", status, headers=_NO_STORE)
