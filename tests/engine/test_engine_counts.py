"""Levels that count: windows that end by their requests, request counts, and warm-up by requests and by time."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import COUNT_WINDOW_LIMIT, LoadLevel, WindowMode
from exporter.core.units import MS
from exporter.core.window import RecordColumns, Window
from exporter.engine.plan import LevelPlan
from tests.builders import concurrency
from tests.engine.fakes import FakeService, Reply, always, make_plan, request_rate
from tests.engine.test_level import Run, run_level
from tests.waiting import patient

OK = Outcome.OK


def counting(plan: LevelPlan, **changes: Any) -> LevelPlan:
    return replace(plan, probe=replace(plan.probe, measurement=replace(plan.probe.measurement, **changes)))


def measured(run: Run) -> list[Window]:
    return [window for window in run.windows if not window.warm_up]


@pytest.mark.parametrize(("level", "requests"), [(concurrency(4), 30), (concurrency(1), 1), (request_rate(1000), 20)])
async def test_a_count_window_ends_with_its_requests(level: LoadLevel, requests: int) -> None:
    # The window of time is so long that only the count can end it.
    plan = counting(make_plan(level, window_ms=5000), window_mode=WindowMode.COUNT, window_requests=requests)
    run = await run_level(plan, FakeService(always(delay_ms=1)), stop_after=3)
    windows = measured(run)
    assert len(windows) == 3
    for window in windows:
        # At least so many, and no more than ended while the window's end was seen to.
        assert requests <= len(window.columns) <= requests + 40
        assert window.duration_ns < patient(1000) * MS
        assert np.all((window.start_ns <= window.columns.last_ns) & (window.columns.last_ns <= window.end_ns))
    for before, after in itertools.pairwise(windows):
        assert before.end_ns == after.start_ns


async def test_a_server_that_responds_no_more_does_not_hold_a_count_window_for_ever() -> None:
    service = FakeService(lambda n: Reply(delay_ms=1 if n < 5 else None))
    plan = counting(
        make_plan(concurrency(1), window_ms=10, timeout_ms=200), window_mode=WindowMode.COUNT, window_requests=50
    )
    run = await run_level(plan, service, stop_after=1)
    (window,) = measured(run)
    assert len(window.columns) < 50
    assert window.duration_ns >= COUNT_WINDOW_LIMIT * 10 * MS


@pytest.mark.parametrize("level", [concurrency(1), concurrency(4), concurrency(16), request_rate(1000)])
@pytest.mark.parametrize("warm_up", [0, 1, 7])
async def test_a_request_count_is_exact_and_is_one_window(level: LoadLevel, warm_up: int) -> None:
    service = FakeService(always(delay_ms=1))
    plan = counting(make_plan(level), request_count=25, warm_up_requests=warm_up)
    run = await run_counted(plan, service)
    (window,) = measured(run)
    assert (run.end.reason, run.end.sent, len(service.sent_ns)) == (Reason.NONE, 1 + warm_up + 25, 1 + warm_up + 25)
    assert (window.sent, len(window.columns), set(window.columns.outcome.tolist())) == (25, 25, {int(OK)})
    # From its first request's start to its last one's end, and none of those to warm up was still in flight.
    assert window.start_ns == window.columns.sent_ns.min()
    assert window.end_ns == window.columns.last_ns.max()
    before = RecordColumns.concatenate([w.columns for w in run.windows if w.warm_up])
    assert len(before) == 1 + warm_up
    assert before.last_ns.max() <= window.start_ns
    assert window.before is not None
    assert window.after is not None
    assert window.before.received_ns <= window.start_ns
    assert window.end_ns <= window.after.asked_ns


async def run_counted(plan: LevelPlan, service: FakeService) -> Run:
    """A request count's window is not contiguous with those before it; all else that is checked holds."""
    return await run_level(plan, service, gapless=False)


async def test_fewer_requests_than_places() -> None:
    service = FakeService(always(delay_ms=5))
    run = await run_counted(counting(make_plan(concurrency(8)), request_count=20, warm_up_requests=3), service)
    assert (run.end.sent, service.most_at_server) == (24, 8)


async def test_failures_are_counted_like_responses() -> None:
    service = FakeService(lambda n: Reply(Outcome.SERVER_ERROR if n % 2 else OK, 1))
    plan = counting(make_plan(concurrency(2), max_error_ratio=1.0), request_count=10)
    (window,) = measured(await run_counted(plan, service))
    assert len(window.columns) == 10
    assert window.columns.outcome.tolist().count(int(Outcome.SERVER_ERROR)) == 5


async def test_the_last_requests_of_a_count_may_take_their_time() -> None:
    """One is given up at its time-out, which is longer than others' drain."""
    service = FakeService(lambda n: Reply(delay_ms=None if n == 10 else 1))
    plan = counting(make_plan(concurrency(2), timeout_ms=60, max_error_ratio=1.0), request_count=10)
    (window,) = measured(await run_counted(plan, service))
    assert len(window.columns) == 10
    assert window.columns.outcome.tolist().count(int(Outcome.TIMEOUT)) == 1
    assert window.duration_ns >= 60 * MS


async def test_a_request_count_that_is_cut_short_is_measured_as_far_as_it_came() -> None:
    plan = counting(make_plan(concurrency(2), max_duration_ms=60), request_count=100_000)
    run = await run_counted(plan, FakeService(always(delay_ms=1)))
    (window,) = measured(run)
    assert run.end.reason is Reason.TIME_BUDGET
    assert 0 < len(window.columns) == run.end.sent - 1


async def test_no_error_ends_the_warm_up_of_a_count_but_a_stop_rule() -> None:
    service = FakeService(always(Outcome.SERVER_ERROR))
    plan = counting(make_plan(concurrency(2), error_min_requests=5), request_count=50, warm_up_requests=50)
    run = await run_counted(plan, service)
    assert run.end.reason is Reason.ERROR_RATIO
    assert measured(run) == []


@pytest.mark.parametrize("level", [concurrency(2), request_rate(500)])
async def test_warm_up_by_requests(level: LoadLevel) -> None:
    plan = counting(make_plan(level, window_ms=20), warm_up_requests=40)
    run = await run_level(plan, FakeService(always(delay_ms=1)), stop_after=1)
    first = next(index for index, window in enumerate(run.windows) if not window.warm_up)
    ended = sum(len(window.columns) for window in run.windows[:first])
    assert 41 <= ended <= 60
    assert len(run.started) == 1


async def test_warm_up_by_time_is_reported_in_windows() -> None:
    plan = counting(make_plan(concurrency(2), window_ms=20), warm_up_ns=90 * MS)
    run = await run_level(plan, FakeService(always(delay_ms=1)), stop_after=1)
    first = next(index for index, window in enumerate(run.windows) if not window.warm_up)
    assert first >= 3
    assert run.windows[first].start_ns - run.windows[0].start_ns >= 90 * MS


async def test_the_warm_up_of_a_count_is_reported_in_windows_too() -> None:
    plan = counting(make_plan(concurrency(1), window_ms=10), request_count=3, warm_up_requests=40)
    run = await run_counted(plan, FakeService(always(delay_ms=1)))
    assert sum(window.warm_up for window in run.windows) >= 3
    assert run.end.sent == 44
