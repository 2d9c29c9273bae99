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

from exporter.web.build_report import Moment, ReportSources, history_report, probe_detail, probe_report, take_moment
from exporter.web.openapi import document
from exporter.web.report import ErrorReport, HistoryReport, OverviewReport, ProbeDetail, ProbeReport
from exporter.web.selection import Selection, counts_of
from exporter.web.shared import SharedBy

_NO_STORE = {"Cache-Control": "no-store"}


def api_routes(sources: ReportSources) -> list[Route]:
    """GET /api/v1/probes, /api/v1/probes/PROBE, …/history and /api/v1/openapi.json."""
    handlers = _Handlers(sources)
    return [
        Route("/api/v1/openapi.json", handlers.openapi),
        Route("/api/v1/probes", handlers.overview),
        # A probe's name may have slashes in it.
        Route("/api/v1/probes/{probe:path}/history", handlers.history),
        Route("/api/v1/probes/{probe:path}", handlers.probe),
    ]


class _Handlers:
    def __init__(self, sources: ReportSources) -> None:
        self._sources = sources
        self._overviews = SharedBy(self._make_overview)

    async def openapi(self, _request: Request) -> Response:
        return JSONResponse(document(self._sources.facts.version), headers={"Cache-Control": "max-age=3600"})

    async def overview(self, request: Request) -> Response:
        return _json(await self._overviews.get(Selection.of(request.query_params)))

    async def probe(self, request: Request) -> Response:
        return await self._one(request, self._detail_json)

    async def history(self, request: Request) -> Response:
        return await self._one(request, self._history_json)

    async def _make_overview(self, chosen: Selection) -> bytes:
        return await asyncio.to_thread(self._overview_json, take_moment(self._sources), chosen)

    def _overview_json(self, moment: Moment, chosen: Selection) -> bytes:
        probes = [self._report(moment, number) for number in range(len(moment.views))]
        return _dumped(
            OverviewReport(
                moment.version,
                moment.ready,
                moment.now_unix_s,
                moment.notices,
                counts_of(probes),
                chosen.select(probes),
            ),
        )

    async def _one(self, request: Request, make: Callable[[Moment, int], bytes]) -> Response:
        name = request.path_params["probe"]
        moment = take_moment(self._sources)
        number = next((at for at, (_, status) in enumerate(moment.views) if status.name == name), None)
        if number is None:
            return _json(_dumped(ErrorReport("there is no such probe")), 404)
        return _json(await asyncio.to_thread(make, moment, number))

    def _report(self, moment: Moment, number: int) -> ProbeReport:
        view, status = moment.views[number]
        day = self._sources.day(view.probe)
        return probe_report(view, status, day, moment.now_unix_s, self._sources.grafana_url)

    def _detail_json(self, moment: Moment, number: int) -> bytes:
        probe = moment.views[number][0].probe
        return _dumped(probe_detail(probe, self._report(moment, number), self._sources.day(probe)))

    def _history_json(self, moment: Moment, number: int) -> bytes:
        probe = moment.views[number][0].probe
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
    return Response(body, status, media_type="application/json", headers=_NO_STORE)
