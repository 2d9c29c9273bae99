"""The pages' paths: the overview, a page per probe, what is done from it, and the two files that they need.

Knows HTTP. It must not know how a report or a page is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import parse_qs, quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from exporter.baseline.actions import ActionError, BaselineActions, PinRequest
from exporter.baseline.store import kept_as
from exporter.core.probe import Probe
from exporter.schedule.actions import Action, ProbeActions, RefusedError
from exporter.web.action_routes import STATUS_OF
from exporter.web.auth import TokenGuard, address_of, refused
from exporter.web.build_report import ProbeReports, overview_of, probe_detail
from exporter.web.charts import Sparklines
from exporter.web.gzip_body import headers_of, packed, takes_gzip
from exporter.web.moment import Moment, ProbeMoment, ReportSources, take_moment
from exporter.web.pages import ACTIONS, SCRIPT, STYLE_SHEET, done_page, overview_page, probe_page
from exporter.web.selection import Selection
from exporter.web.shared import SharedBy

_NO_STORE = {"Cache-Control": "no-store"}
_MAX_FORM_BYTES = 16 * 1024


def page_routes(sources: ReportSources, reports: ProbeReports) -> list[Route]:
    """GET / and /probes/PROBE, and /static/…"""
    handlers = _Pages(sources, reports)
    return [
        Route("/", handlers.overview),
        Route("/probes/{probe:path}", handlers.probe),
        Route("/static/style.css", _file(STYLE_SHEET, "text/css")),
        Route("/static/page.js", _file(SCRIPT, "text/javascript")),
    ]


def page_action_routes(
    probe_actions: ProbeActions,
    baseline_actions: BaselineActions,
    probes: Callable[[], list[Probe]],
    guard: TokenGuard,
    version: str,
) -> list[Route]:
    """POST /probes/PROBE: a form with `action` and `token`."""
    handler = _Actions(probe_actions, baseline_actions, probes, guard, version)
    return [Route("/probes/{probe:path}", handler.act, methods=["POST"])]


def root_of(request: Request) -> str:
    """What leads from this page to the daemon's root, whatever prefix a proxy puts before both. A name's slashes are
    %2F, and part of one step, unless written out."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    return "../" * (raw.partition(b"?")[0].count(b"/") - 1) or "./"


class _Pages:
    def __init__(self, sources: ReportSources, reports: ProbeReports) -> None:
        self._sources = sources
        self._reports = reports
        self._overviews = SharedBy(self._make_overview)
        self._probes = SharedBy(self._make_probe)
        self._sparklines = Sparklines()

    async def overview(self, request: Request) -> Response:
        return _page(await self._overviews.get((Selection.of(request.query_params), takes_gzip(request))))

    async def probe(self, request: Request) -> Response:
        made = await self._probes.get((request.path_params["probe"], root_of(request), takes_gzip(request)))
        if made is None:
            return PlainTextResponse("there is no such probe\n", 404)
        return _page(made)

    async def _make_overview(self, asked: tuple[Selection, bool]) -> bytes:
        return await asyncio.to_thread(self._overview_html, take_moment(self._sources), *asked)

    def _overview_html(self, moment: Moment, chosen: Selection, gzip: bool) -> bytes:
        probes = self._reports.all(moment)
        selected = chosen.select(probes)
        report = overview_of(moment, probes, chosen.on_page(selected))
        found = {each.view.probe.name: each.view.probe for each in moment.probes}
        sparks = {
            shown.name: self._sparklines.get(
                shown.name, self._sources.day(found[shown.name]), shown.main_level or "", moment.now_unix_s
            )
            for shown in report.probes
        }
        return _encoded(overview_page(report, chosen, probes, len(selected), sparks), gzip)

    async def _make_probe(self, asked: tuple[str, str, bool]) -> bytes | None:
        name, root, gzip = asked
        moment = take_moment(self._sources)
        found = moment.named(name)
        return None if found is None else await asyncio.to_thread(self._probe_html, moment, found, root, gzip)

    def _probe_html(self, moment: Moment, found: ProbeMoment, root: str, gzip: bool) -> bytes:
        probe, day = found.view.probe, self._sources.day(found.view.probe)
        html = probe_page(
            probe_detail(probe, self._reports.one(found, day, moment.now_unix_s), day),
            day,
            now_unix_s=moment.now_unix_s,
            version=moment.version,
            ready=moment.ready,
            notices=moment.notices,
            root=root,
        )
        return _encoded(html, gzip)


class _Actions:
    def __init__(
        self,
        probe_actions: ProbeActions,
        baseline_actions: BaselineActions,
        probes: Callable[[], list[Probe]],
        guard: TokenGuard,
        version: str,
    ) -> None:
        self._probe_actions = probe_actions
        self._baseline_actions = baseline_actions
        self._probes = probes
        self._guard = guard
        self._version = version

    async def act(self, request: Request) -> Response:
        """The token is in the form, which no other site's page can know; one that a browser reports as another site's
        is refused before the token is looked at, so that no user's browser can be used to try tokens."""
        if _from_elsewhere(request):
            text = "the form comes from another site"
            self._guard.log_refusal(request, 403, text)
            return PlainTextResponse(f"{text} is not taken\n", 403)
        form = await _form(request)
        if form is None:
            return PlainTextResponse("this form does not belong to this page\n", 413)
        if (refusal := await refused(self._guard, request, f"Bearer {form.get('token', '')}")) is not None:
            return self._reported(request, [bytes(refusal.body).decode().strip()], refusal.status_code)
        action = form.get("action", "")
        if action not in dict(ACTIONS):
            return PlainTextResponse("no such action\n", 400)
        return self._do(request, action)

    def _do(self, request: Request, action: str) -> Response:
        name, by = request.path_params["probe"], address_of(request)
        try:
            if action in ("pin", "pin-preview"):
                probe = next((probe for probe in self._probes() if probe.name == name), None)
                pin = PinRequest(dry_run=action == "pin-preview")
                kept = kept_as(probe) if probe else name
                done = self._baseline_actions.act("pin", kept, by=by, pin=pin)
            else:
                done = [self._probe_actions.act(Action(action), name, by=by)]
        except ActionError as error:
            return self._reported(request, [str(error)], 404 if error.unknown else 409)
        except RefusedError as error:
            return self._reported(request, [str(error)], STATUS_OF[error.kind])
        return self._reported(request, done, 200)

    def _reported(self, request: Request, lines: list[str], status: int) -> Response:
        root, name = root_of(request), request.path_params["probe"]
        action = f"{root}probes/{quote(name, safe='')}"
        html = done_page(name, lines, ok=status == 200, version=self._version, root=root, action=action)
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        return HTMLResponse(html.encode(errors="replace"), status, headers=_NO_STORE | headers)


def _from_elsewhere(request: Request) -> bool:
    """Whether a browser marks that another site's page sent this. Programs, and browsers before 2023, send no
    such mark."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is not None and origin.partition("://")[2] != request.headers.get("host", "")


async def _form(request: Request) -> dict[str, str] | None:
    """The fields of a form; None for what is none, or too large to be one."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        return None
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MAX_FORM_BYTES:
            return None
    try:
        fields = parse_qs(body.decode(), strict_parsing=True, max_num_fields=10)
    except ValueError:
        return None
    return {name: values[-1] for name, values in fields.items()}


def _file(content: bytes, kind: str) -> Callable[[Request], Response]:
    def send(_request: Request) -> Response:
        return Response(content, media_type=kind, headers={"Cache-Control": "max-age=3600"})

    return send


def _encoded(html: str, gzip: bool) -> bytes:
    # What a server calls itself may be no valid Unicode: that costs a character, never the page.
    return packed(html.encode(errors="replace"), wanted=gzip)


def _page(body: bytes) -> Response:
    return HTMLResponse(body, headers={**_NO_STORE, **headers_of(body)})
