"""`/api/v1`: every figure of the pages as JSON, and the OpenAPI document of it.

Knows HTTP. The bodies are the types of `exporter.web.report`; the document is made from them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import cache
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from exporter.web.build_report import ProbeReports, history_report, overview_of, probe_detail
from exporter.web.gzip_body import headers_of, packed, takes_gzip
from exporter.web.moment import Moment, ProbeMoment, ReportSources, take_moment
from exporter.web.openapi import document
from exporter.web.report import ErrorReport, HistoryReport, OverviewReport, ProbeDetail
from exporter.web.selection import Selection
from exporter.web.shared import SharedBy

_NO_STORE = {"Cache-Control": "no-store"}


def api_routes(sources: ReportSources, reports: ProbeReports) -> list[Route]:
    """GET /api/v1/probes, /api/v1/probes/PROBE, …/history and /api/v1/openapi.json."""
    handlers = _Handlers(sources, reports)
    return [
        Route("/api/v1/openapi.json", handlers.openapi),
        Route("/api/v1/probes", handlers.overview),
        # A probe's name may have slashes in it.
        Route("/api/v1/probes/{probe:path}/history", handlers.history),
        Route("/api/v1/probes/{probe:path}", handlers.probe),
    ]


class _Handlers:
    def __init__(self, sources: ReportSources, reports: ProbeReports) -> None:
        self._sources = sources
        self._reports = reports
        self._overviews = SharedBy(self._make_overview)

    async def openapi(self, _request: Request) -> Response:
        return JSONResponse(document(self._sources.facts.version), headers={"Cache-Control": "max-age=3600"})

    async def overview(self, request: Request) -> Response:
        try:
            selection = Selection.asked(request.query_params)
        except ValueError as error:
            return _json(_dumped(ErrorReport(str(error))), 400)
        return _json(await self._overviews.get((selection, takes_gzip(request))))

    async def probe(self, request: Request) -> Response:
        return await self._one(request, self._detail_json)

    async def history(self, request: Request) -> Response:
        return await self._one(request, self._history_json)

    async def _make_overview(self, asked: tuple[Selection, bool]) -> bytes:
        return await asyncio.to_thread(self._overview_json, take_moment(self._sources), *asked)

    def _overview_json(self, moment: Moment, chosen: Selection, gzip: bool) -> bytes:
        probes = self._reports.all(moment)
        report = overview_of(moment, probes, chosen.select(probes))
        return packed(_dumped(report), wanted=gzip)

    async def _one(self, request: Request, make: Callable[[ProbeMoment, float], bytes]) -> Response:
        moment = take_moment(self._sources)
        found = moment.named(request.path_params["probe"])
        if found is None:
            return _json(_dumped(ErrorReport("there is no such probe")), 404)
        gzip = takes_gzip(request)
        return _json(await asyncio.to_thread(lambda: packed(make(found, moment.now_unix_s), wanted=gzip)))

    def _detail_json(self, found: ProbeMoment, now_unix_s: float) -> bytes:
        probe, day = found.view.probe, self._sources.day(found.view.probe)
        return _dumped(probe_detail(probe, self._reports.one(found, day, now_unix_s), day))

    def _history_json(self, found: ProbeMoment, _now_unix_s: float) -> bytes:
        probe = found.view.probe
        return _dumped(history_report(probe, self._sources.day(probe)))


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    """What makes JSON of a type. Made when it is first needed: making those of all types delayed the start."""
    return TypeAdapter(kind)


def _dumped(value: OverviewReport | ProbeDetail | HistoryReport | ErrorReport) -> bytes:
    adapter = _adapter(type(value))  # type: ignore[arg-type]  # a class is hashable
    try:
        return adapter.dump_json(value)
    except PydanticSerializationError:
        # What a server calls itself may be no valid Unicode: then as escapes, which take three times as long.
        return json.dumps(adapter.dump_python(value), ensure_ascii=True, allow_nan=False).encode()


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json", headers={**_NO_STORE, **headers_of(body)})
