"""A server made slow or failing in mid-level: how much it is still sent once that could be known."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from exporter.core.facts import ServerReading
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import LoadLevel
from exporter.core.units import MS
from exporter.core.window import LevelEnd, RecordColumns, Window
from exporter.engine.plan import LevelPlan, MemberEvent
from exporter.server.poller import Poller
from exporter.transport.call import EncodedRequest
from tests.builders import concurrency
from tests.engine.fakes import FakeService, Reply, always, make_plan, request_rate
from tests.engine.levels import events_of
from tests.waiting import patient

GOOD_REQUESTS = 200
LIMIT_MS = round(patient(40))


class FakePoller:
    """Readings that a test gives."""

    on_reading: Any = None

    async def edge(self, limit_ns: int) -> tuple[ServerReading, ...]:
        return ()


async def run_level(plan: LevelPlan, service: FakeService, poller: FakePoller | None = None) -> list[MemberEvent]:
    pollers = [cast(Poller, poller)] if poller else ()
    return await events_of(plan, service, [EncodedRequest(b"", b"x")], pollers=pollers)


def rows_of(events: list[MemberEvent]) -> RecordColumns:
    return RecordColumns.concatenate([event.columns for event in events if isinstance(event, Window)])


LOADS = [concurrency(1), concurrency(16), concurrency(64), request_rate(1500), request_rate(5000)]


@pytest.mark.parametrize("load", LOADS, ids=lambda load: f"{load.mode} {load.label}")
async def test_a_server_that_gets_slow(load: LoadLevel) -> None:
    """Nothing is sent once 20 more responses were slow than were not. Before that an open loop continues for as long as
    the first slow responses take: it cannot be known sooner."""
    service = FakeService(lambda n: Reply(delay_ms=0.2 if n < GOOD_REQUESTS else 1.5 * LIMIT_MS))
    plan = make_plan(load, error_min_requests=20, max_latency_ns=LIMIT_MS * MS, max_in_flight=128)
    events = await run_level(plan, service)
    end = events[-1]
    assert isinstance(end, LevelEnd)
    assert (end.reason, end.sent) == (Reason.LATENCY, len(service.sent_ns))
    rows = rows_of(events)
    ended = np.sort(rows.last_ns[rows.last_ns - rows.sent_ns > LIMIT_MS * MS])
    assert len([at_ns for at_ns in service.sent_ns if at_ns > ended[19]]) == 0
    assert end.sent <= GOOD_REQUESTS + 20 + 128


@pytest.mark.parametrize("load", LOADS, ids=lambda load: f"{load.mode} {load.label}")
async def test_a_server_that_begins_to_fail(load: LoadLevel) -> None:
    service = FakeService(
        lambda n: Reply(delay_ms=0.2) if n < GOOD_REQUESTS else Reply(Outcome.SERVER_ERROR, 0.2, "500 boom")
    )
    events = await run_level(make_plan(load, error_min_requests=20, max_in_flight=128), service)
    end = events[-1]
    assert isinstance(end, LevelEnd)
    assert end.reason is Reason.ERROR_RATIO
    rows = rows_of(events)
    failed = np.sort(rows.last_ns[rows.outcome == Outcome.SERVER_ERROR])
    last_allowed_ns = failed[min(20, len(failed)) - 1]  # 20 in a row, or 10 % of all, whichever comes first
    assert len([at_ns for at_ns in service.sent_ns if at_ns > last_allowed_ns]) == 0


@pytest.mark.parametrize(("growth", "stops"), [(3, True), (0, False)])
async def test_a_queue_that_grows(growth: int, stops: bool) -> None:
    service, poller = FakeService(always(delay_ms=1)), FakePoller()
    plan = make_plan(concurrency(2), pending_growth=growth, max_duration_ms=400)
    level = asyncio.create_task(run_level(plan, service, poller))
    while len(service.sent_ns) < 20:
        await asyncio.sleep(0.001)
    for second, pending in enumerate((0.0, 10.0, 20.0, 30.0)):
        if poller.on_reading is not None:
            at_ns = second * plan.probe.target.metrics_interval_ns
            poller.on_reading(ServerReading(at_ns, True, gauges={"pending_requests": pending}))
    sent = len(service.sent_ns)
    end = (await level)[-1]
    assert isinstance(end, LevelEnd)
    assert end.reason is (Reason.PENDING_QUEUE if stops else Reason.TIME_BUDGET)
    assert (len(service.sent_ns) == sent) is stops
    assert poller.on_reading is None


async def test_a_page_that_reports_no_queue_ends_nothing() -> None:
    poller = FakePoller()
    plan = make_plan(concurrency(1), max_duration_ms=60)
    level = asyncio.create_task(run_level(replace(plan), FakeService(always(delay_ms=1)), poller))
    await asyncio.sleep(0.02)
    for second in range(9):
        poller.on_reading(ServerReading(second * plan.probe.target.metrics_interval_ns, True, error="no page"))
    end = (await level)[-1]
    assert isinstance(end, LevelEnd)
    assert end.reason is Reason.TIME_BUDGET
