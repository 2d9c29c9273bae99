"""The ASGI application: metrics, health, readiness, the status page and the same as JSON.

It owns paths, methods and headers. It must not know how a figure or a page comes about, nor the server under it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.metrics.exporter_metrics import ExporterFacts
from exporter.metrics.page import MetricsPage
from exporter.state.probe_state import Board
from exporter.web.access import AccessControl, WebAccess
from exporter.web.auth import TokenGuard
from exporter.web.request_check import HostNames, RequestCheck
from exporter.web.shared import Shared
from exporter.web.status import ProbeStatus, probe_status
from exporter.web.status_page import PageFacts, status_page
from exporter.web.style import STYLE_SHEET

_SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True, slots=True)
class WebSources:
    """What the application shows. `healthy`: the scheduler's heartbeat is fresh; `ready`: the configuration is loaded,
    the scheduler runs and no shutdown has begun. Both are asked at each request and must return at once. `routes` are
    those of other parts, `access` says who may read, and `guard` who may change something."""

    board: Board
    metrics: MetricsPage
    facts: ExporterFacts
    healthy: Callable[[], bool]
    ready: Callable[[], bool]
    now: Callable[[], float] = time.time
    routes: Sequence[Route] = ()
    access: WebAccess = field(default_factory=WebAccess)
    guard: TokenGuard = field(default_factory=lambda: TokenGuard(""))
    hosts: HostNames = field(default_factory=HostNames)


def create_app(sources: WebSources) -> Starlette:
    """The application. Unknown paths give 404, other methods 405 with what is allowed."""
    handlers = _Handlers(sources)
    routes = [
        Route("/", handlers.status_page),
        Route("/metrics", handlers.metrics),
        Route("/-/healthy", handlers.healthy),
        Route("/-/ready", handlers.ready),
        Route("/api/status", handlers.api_status),
        Route("/style.css", handlers.style_sheet),
        *sources.routes,
    ]
    middleware = [
        Middleware(_SecurityHeaders, sources.access),
        Middleware(RequestCheck, sources.hosts),
        Middleware(AccessControl, sources.access, sources.guard),
    ]
    app = Starlette(routes=routes, middleware=middleware)
    app.router.redirect_slashes = False
    return app


class _Handlers:
    def __init__(self, sources: WebSources) -> None:
        self._sources = sources
        self._page = Shared(self._render_page)
        self._status = Shared(self._render_status)

    async def metrics(self, request: Request) -> Response:
        rendered = await self._sources.metrics.render(
            accept=_joined(request, "accept"),
            accept_encoding=_joined(request, "accept-encoding"),
            names=request.query_params.getlist("name[]"),
        )
        headers = {"Content-Type": rendered.content_type, "Vary": "Accept, Accept-Encoding"}
        if rendered.content_encoding is not None:
            headers["Content-Encoding"] = rendered.content_encoding
        return Response(rendered.body, headers=headers)

    async def healthy(self, _request: Request) -> Response:
        healthy = self._sources.healthy()
        return PlainTextResponse("Healthy\n" if healthy else "The scheduler stands still\n", 200 if healthy else 503)

    async def ready(self, _request: Request) -> Response:
        ready = self._sources.ready()
        return PlainTextResponse("Ready\n" if ready else "Not ready\n", 200 if ready else 503)

    async def status_page(self, _request: Request) -> Response:
        return HTMLResponse(await self._page.get(), headers={"Cache-Control": "no-store"})

    async def api_status(self, _request: Request) -> Response:
        body = await self._status.get()
        return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})

    async def _render_page(self) -> bytes:
        exporter = self._sources.facts
        facts = PageFacts(
            exporter.version,
            self._sources.ready(),
            self._sources.now(),
            exporter.archive_error(),
            exporter.config_notices(),
            exporter.data_error(),
        )
        return await asyncio.to_thread(_status_html, self._statuses(facts.now_unix_s), facts)

    async def _render_status(self) -> bytes:
        about = {
            "ready": self._sources.ready(),
            "version": self._sources.facts.version,
            "archive_error": self._sources.facts.archive_error(),
            "data_error": self._sources.facts.data_error(),
            "config_notices": list(self._sources.facts.config_notices()),
        }
        return await asyncio.to_thread(_status_json, self._statuses(self._sources.now()), about)

    async def style_sheet(self, _request: Request) -> Response:
        return Response(STYLE_SHEET, media_type="text/css", headers={"Cache-Control": "max-age=3600"})

    def _statuses(self, now_unix_s: float) -> list[ProbeStatus]:
        facts = self._sources.facts
        return [
            probe_status(
                view,
                now_unix_s,
                facts.next_run(view.probe),
                pause=facts.pause(view.probe),
                load=facts.load(view.probe),
            )
            for view in self._sources.board.probes()
        ]


def _status_html(statuses: Sequence[ProbeStatus], facts: PageFacts) -> bytes:
    # What a server calls itself may be no valid Unicode: that costs a character, never the page.
    return status_page(statuses, facts).encode(errors="replace")


def _status_json(statuses: Sequence[ProbeStatus], about: Mapping[str, object]) -> bytes:
    content = {**about, "probes": [status.to_json() for status in statuses]}
    return json.dumps(content, ensure_ascii=True, allow_nan=False).encode()


def _joined(request: Request, header: str) -> str | None:
    """A header that may have come in several lines."""
    return ",".join(request.headers.getlist(header)) or None


class _SecurityHeaders:
    """Puts the security headers on every answer."""

    def __init__(self, app: ASGIApp, access: WebAccess) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update({**_SECURITY_HEADERS, **self._access.headers})
            await send(message)

        await self._app(scope, receive, send_with_headers)
