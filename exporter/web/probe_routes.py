"""GET /probe: the multi-target pattern. The one page that causes load when it is read; it knows HTTP alone."""

from __future__ import annotations

import enum
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from exporter.core.probe import Probe
from exporter.core.result import SweepResult
from exporter.metrics.on_demand_page import CONTENT_TYPE, on_demand_page

TIMEOUT_HEADER = "X-Prometheus-Scrape-Timeout-Seconds"
_DEFAULT_SECONDS = 10.0  # Prometheus's own scrape_timeout
_OFFSET_SECONDS = 0.5  # left for the way back
_MIN_SECONDS, _MAX_SECONDS = 0.5, 60.0


class NoSweep(enum.Enum):
    """Why there is no sweep now: the status of the response, and its words."""

    GROUP_BUSY = 429, "another sweep of the group runs"
    ALL_BUSY = 429, "limits.concurrent_sweeps sweeps of other groups run"
    BUDGET = 429, "the group's hourly budget does not allow a sweep now"
    PAUSED = 503, "the probe is paused"
    SHUTDOWN = 503, "the daemon is shutting down"


@dataclass(frozen=True, slots=True)
class ProbePage:
    """What the page asks of the daemon. `find` gives the configured probe of a target's name and its own, `run` a sweep
    of it within so many seconds, or why there is none now."""

    enabled: bool
    find: Callable[[str, str], Probe | None]
    run: Callable[[Probe, float], Awaitable[SweepResult | NoSweep]]


def probe_routes(page: ProbePage) -> list[Route]:
    """200 with `probe_success` 0 or 1; 400 for what isn't configured, 403 where the page is off, 405 for HEAD, 429
    where another sweep or the budget does not allow it, 503 while the probe is paused or the daemon stops."""

    async def get(request: Request) -> Response:
        if request.method != "GET":  # a HEAD would make a load and throw its result away
            return PlainTextResponse("Method Not Allowed\n", 405, headers={"Allow": "GET"})
        if not page.enabled:
            return PlainTextResponse("/probe causes load and is disabled: web.probe: true enables it\n", 403)
        probe = page.find(*map(request.query_params.get, ("target", "module"), ("", "")))
        if probe is None:
            return PlainTextResponse("target and module must name a configured probe\n", 400)
        seconds = scrape_seconds(request.headers.get(TIMEOUT_HEADER))
        if seconds is None:
            return PlainTextResponse(f"{TIMEOUT_HEADER} must be a number of seconds\n", 400)
        result = await page.run(probe, seconds)
        if isinstance(result, NoSweep):
            return _refused(result)
        return Response(on_demand_page(result, seconds), media_type=None, headers={"Content-Type": CONTENT_TYPE})

    return [Route("/probe", get)]


def scrape_seconds(header: str | None) -> float | None:
    """How long a sweep may take for a scraper that waits as long as its header sets; None for what is no number."""
    try:
        wanted = float(header) if header is not None else _DEFAULT_SECONDS
    except ValueError:
        return None
    if not math.isfinite(wanted) or wanted <= 0:
        return None
    return min(max(wanted - _OFFSET_SECONDS, _MIN_SECONDS), _MAX_SECONDS)


def _refused(why: NoSweep) -> Response:
    status, text = why.value
    return PlainTextResponse(f"no sweep now: {text}\n", status, headers={"Retry-After": "5"} if status == 429 else {})
