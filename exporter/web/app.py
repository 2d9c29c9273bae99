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
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.core.probe import Probe
from exporter.metrics.exporter_metrics import ExporterFacts
from exporter.metrics.page import MetricsPage
from exporter.state.day_ring import Day
from exporter.state.probe_state import Board
from exporter.web.access import AccessControl, WebAccess
from exporter.web.api_routes import api_routes
from exporter.web.auth import TokenGuard
from exporter.web.build_report import ProbeReports
from exporter.web.moment import Moment, ReportSources, take_moment
from exporter.web.page_routes import page_routes
from exporter.web.request_check import HostNames, RequestCheck
from exporter.web.runbook_routes import runbook_routes
from exporter.web.shared import Shared
from exporter.web.status import probe_status

_SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True, slots=True)
class WebSources:
    """What the application shows. `healthy`: the scheduler's heartbeat is fresh; `ready`: the configuration is loaded,
    the scheduler runs and no shutdown has begun. Both are asked at each request and must return at once. `routes` are
    those of other parts, `access` decides who may read, and `guard` who may change something."""

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
    day: Callable[[Probe], Day] = lambda _probe: Day()
    grafana_url: str = ""

    @property
    def reports(self) -> ReportSources:
        """What pages and `/api/v1` are made from."""
        return ReportSources(self.board.probes, self.facts, self.ready, self.now, self.day, self.grafana_url)


def create_app(sources: WebSources) -> Starlette:
    """The application. Unknown paths give 404, other methods 405 with what is allowed."""
    handlers, reports = _Handlers(sources), ProbeReports(sources.reports)
    routes = [
        Route("/metrics", handlers.metrics),
        Route("/-/healthy", handlers.healthy),
        Route("/-/ready", handlers.ready),
        Route("/api/status", handlers.api_status),
        *page_routes(sources.reports, reports),
        *api_routes(sources.reports, reports),
        *runbook_routes(sources.facts.version),
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
        return PlainTextResponse("Healthy\n" if healthy else "The scheduler is stuck\n", 200 if healthy else 503)

    async def ready(self, _request: Request) -> Response:
        ready = self._sources.ready()
        return PlainTextResponse("Ready\n" if ready else "Not ready\n", 200 if ready else 503)

    async def api_status(self, _request: Request) -> Response:
        body = await self._status.get()
        return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})

    async def _render_status(self) -> bytes:
        about = {
            "ready": self._sources.ready(),
            "version": self._sources.facts.version,
            "archive_error": self._sources.facts.archive_error(),
            "data_error": self._sources.facts.data_error(),
            "config_notices": list(self._sources.facts.config_notices()),
        }
        return await asyncio.to_thread(_status_json, take_moment(self._sources.reports), about)


def _status_json(moment: Moment, about: Mapping[str, object]) -> bytes:
    statuses = [
        probe_status(each.view, moment.now_unix_s, each.next_run_unix_s, pause=each.pause, load=each.load)
        for each in moment.probes
    ]
    content = {**about, "probes": [status.to_json() for status in statuses]}
    return json.dumps(content, ensure_ascii=True, allow_nan=False).encode()


def _joined(request: Request, header: str) -> str | None:
    """A header that may have come in several lines."""
    return ",".join(request.headers.getlist(header)) or None


class _SecurityHeaders:
    """Puts the security headers on every response."""

    def __init__(self, app: ASGIApp, access: WebAccess) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update({**_SECURITY_HEADERS, **self._access.headers})
            await send(message)

        await self._app(scope, receive, send_with_headers)
