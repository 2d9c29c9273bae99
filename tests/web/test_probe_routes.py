"""GET /probe and the sweep behind it: who gets one, how long it may take, and what its page reports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from exporter.core.outcome import Reason, SweepStatus
from exporter.core.probe import MeasurementOptions, Probe, StopRules, WindowMode
from exporter.core.result import SweepResult
from exporter.core.units import NS
from exporter.daemon.on_demand import shortened
from exporter.web.probe_routes import TIMEOUT_HEADER, NoSweep, ProbePage, probe_routes, scrape_seconds
from tests.builders import concurrency, make_probe
from tests.metrics.results import make_measurement, make_result

PROBE = make_probe(levels=(concurrency(1), concurrency(8)))
ASKED = {"target": "triton-http", "module": "addsub"}


class Daemon:
    """What the page asks."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.response: SweepResult | NoSweep = make_result(
            shortened(PROBE, 9.5), measurements=(make_measurement(concurrency(1)),)
        )

    def find(self, target: str, name: str) -> Probe | None:
        return PROBE if (target, name) == (PROBE.target.name, PROBE.name) else None

    async def run(self, probe: Probe, seconds: float) -> SweepResult | NoSweep:
        assert probe is PROBE
        self.asked.append(seconds)
        return self.response


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
async def client(daemon: Daemon) -> AsyncIterator[httpx.AsyncClient]:
    app = Starlette(routes=probe_routes(ProbePage(True, daemon.find, daemon.run)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://canary") as client:
        yield client


def samples(text: str) -> dict[str, float]:
    """By name; of several the last."""
    return {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}


async def test_the_page_of_a_sweep(client: httpx.AsyncClient, daemon: Daemon) -> None:
    response = await client.get("/probe", params=ASKED)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = samples(response.text)
    assert found["probe_success"] == 1
    assert (
        "# HELP probe_success 1 if the sweep got usable data, else 0. Each read of this page causes load"
        in response.text
    )
    assert isinstance(daemon.response, SweepResult)
    assert found["probe_duration_seconds"] == daemon.response.duration_ns / NS
    assert found["probe_timeout_seconds"] == 9.5
    assert "triton_canary_latency_seconds" in found
    assert found["triton_canary_probe_info"] == 1
    assert not [name for name in found if name.endswith(("_total", "_bucket", "_count"))]
    assert daemon.asked == [9.5]


async def test_a_failed_sweep_is_a_page_too(client: httpx.AsyncClient, daemon: Daemon) -> None:
    daemon.response = make_result(PROBE, SweepStatus.FAILED, reason=Reason.UNREACHABLE, measurements=())
    response = await client.get("/probe", params=ASKED)
    assert response.status_code == 200
    assert samples(response.text)["probe_success"] == 0


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({}, 400),
        ({"target": "triton-http"}, 400),
        ({"module": "addsub"}, 400),
        ({"target": "elsewhere", "module": "addsub"}, 400),
        ({"target": "http://10.0.0.1:8000", "module": "addsub"}, 400),
        ({"target": "triton-http", "module": "other"}, 400),
    ],
)
async def test_what_is_not_configured_gets_no_load(
    params: dict[str, str], status: int, client: httpx.AsyncClient, daemon: Daemon
) -> None:
    assert (await client.get("/probe", params=params)).status_code == status
    assert daemon.asked == []


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE"])
async def test_other_methods_get_no_load(method: str, client: httpx.AsyncClient, daemon: Daemon) -> None:
    response = await client.request(method, "/probe", params=ASKED)
    assert response.status_code == 405
    assert "GET" in response.headers["allow"]
    assert daemon.asked == []


@pytest.mark.parametrize(
    ("why", "status", "text"),
    [
        (NoSweep.GROUP_BUSY, 429, "another sweep of the group runs"),
        (NoSweep.ALL_BUSY, 429, "limits.concurrent_sweeps sweeps of other groups run"),
        (NoSweep.BUDGET, 429, "the group's hourly budget does not allow a sweep now"),
        (NoSweep.PAUSED, 503, "the probe is paused"),
        (NoSweep.SHUTDOWN, 503, "the daemon is shutting down"),
    ],
)
async def test_no_sweep_now(why: NoSweep, status: int, text: str, client: httpx.AsyncClient, daemon: Daemon) -> None:
    daemon.response = why
    response = await client.get("/probe", params=ASKED)
    assert (response.status_code, response.text) == (status, f"no sweep now: {text}\n")
    assert ("retry-after" in response.headers) == (status == 429)


async def test_it_is_off_by_default(daemon: Daemon) -> None:
    app = Starlette(routes=probe_routes(ProbePage(False, daemon.find, daemon.run)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://canary") as client:
        response = await client.get("/probe", params=ASKED)
    assert response.status_code == 403
    assert "web.probe" in response.text
    assert daemon.asked == []


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 9.5),
        ("5", 4.5),
        ("2.25", 1.75),
        ("0.6", 0.5),
        ("3600", 60.0),
        ("0", None),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
    ],
)
def test_the_scrape_time_out(header: str | None, seconds: float | None) -> None:
    assert scrape_seconds(header) == seconds


async def test_a_time_out_that_is_no_number(client: httpx.AsyncClient, daemon: Daemon) -> None:
    assert (await client.get("/probe", params=ASKED, headers={TIMEOUT_HEADER: "soon"})).status_code == 400
    assert daemon.asked == []


def test_a_shortened_probe_is_one_level_in_one_window_within_the_time() -> None:
    long = MeasurementOptions(
        window_ns=60 * NS,
        window_mode=WindowMode.COUNT,
        request_count=500,
        warm_up_requests=100,
        warm_up_ns=30 * NS,
        repeats=3,
    )
    short = shortened(replace(PROBE, measurement=long, stop=StopRules(max_duration_ns=300 * NS)), 10.0)
    assert short.levels == (concurrency(1),)
    m = short.measurement
    assert (m.window_ns, m.warm_up_ns, m.request_timeout_ns) == (4 * NS, NS, 4 * NS)
    assert (m.max_windows, m.stability_windows, m.repeats, m.request_count, m.warm_up_requests) == (1, 1, 1, 0, 0)
    assert m.window_mode is WindowMode.TIME
    assert short.stop.max_duration_ns == 10 * NS
    assert not short.baseline.enabled


def test_what_is_shorter_already_stays() -> None:
    probe = replace(PROBE, measurement=MeasurementOptions(window_ns=NS), stop=StopRules(max_duration_ns=5 * NS))
    short = shortened(probe, 10.0)
    assert (short.measurement.window_ns, short.stop.max_duration_ns) == (NS, 5 * NS)
