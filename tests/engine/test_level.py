"""The engine against a service without a server. Every test's level must account for each request it sent."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import itertools
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.analysis.window_counts import count_window
from exporter.analysis.windows import latencies_ns, response_times_ns
from exporter.core.bounds import RETRY_AFTER_S
from exporter.core.errors import PreflightError, TransportError
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import Distribution, LoadLevel, Mode, OverloadPolicy, Slo
from exporter.core.units import MS, NS
from exporter.core.window import LevelEnd, RecordColumns, Window
from exporter.engine import in_flight as flight
from exporter.engine.abandoned import Abandoned
from exporter.engine.level import Level, first_channels
from exporter.engine.plan import LevelPlan, LevelStarted, MemberEvent
from exporter.engine.recorder import Recorder
from exporter.transport.call import EncodedRequest
from tests.builders import concurrency
from tests.engine.fakes import FakeService, Reply, always, make_plan, request_rate
from tests.engine.levels import OnEvent, events_of

OK, TIMEOUT, CANCELLED = Outcome.OK, Outcome.TIMEOUT, Outcome.CANCELLED


class Run:
    """A level that was run to its end, with what it reported."""

    def __init__(self, service: FakeService, events: list[MemberEvent], *, gapless: bool = True) -> None:
        self.service = service
        self.started = [event for event in events if isinstance(event, LevelStarted)]
        self.windows = [event for event in events if isinstance(event, Window)]
        assert isinstance(events[-1], LevelEnd)
        self.end = events[-1]
        self.rows = RecordColumns.concatenate([window.columns for window in self.windows])
        self.outcomes = Counter(Outcome(code) for code in self.rows.outcome.tolist())
        self._check(gapless=gapless)

    def _check(self, *, gapless: bool) -> None:
        """What holds for every level."""
        assert self.end.sent == len(self.service.sent_ns) == len(self.rows) == sum(w.sent for w in self.windows)
        assert sorted(self.rows.sent_ns.tolist()) == sorted(self.service.sent_ns)  # each of them, and once
        for index, window in enumerate(self.windows):
            assert window.index == index
            assert np.all(window.columns.last_ns <= window.end_ns)
            assert np.all(window.columns.last_ns >= window.start_ns)
        for before, after in itertools.pairwise(self.windows):
            assert before.end_ns == after.start_ns if gapless else before.end_ns <= after.start_ns
        measured = [window for window in self.windows if not window.warm_up]
        assert all(a.after is b.before for a, b in itertools.pairwise(measured))


async def run_level(
    plan: LevelPlan,
    service: FakeService,
    *,
    stop_after: int | None = None,
    on_event: OnEvent | None = None,
    requests: int = 1,
    abandoned: Abandoned | None = None,
    streams: Sequence[Sequence[int]] = (),
    on_level: Callable[[Level], None] = lambda _: None,
    gapless: bool = True,
) -> Run:
    """Runs the level; stops it once `stop_after` measured windows have come."""
    measured = 0

    async def count(level: Level, event: MemberEvent) -> None:
        nonlocal measured
        if on_event is not None and (waiting := on_event(level, event)) is not None:
            await waiting
        measured += isinstance(event, Window) and not event.warm_up
        if stop_after is not None and measured >= stop_after:
            level.stop()

    encoded = [EncodedRequest(b"", bytes([step])) for step in range(requests)]
    events = await events_of(
        plan, service, encoded, on_event=count, on_level=on_level, abandoned=abandoned, streams=streams
    )
    return Run(service, events, gapless=gapless)


async def test_closed_loop_in_windows() -> None:
    service = FakeService(always(delay_ms=1))
    run = await run_level(make_plan(concurrency(4)), service, stop_after=3)
    assert run.end == LevelEnd(Reason.NONE, "", run.end.sent, 0)
    assert [window.warm_up for window in run.windows] == [True, False, False, False, True]
    assert run.outcomes == {OK: run.end.sent}
    assert service.most_at_server == 4
    assert service.opened == service.closed == 4
    for window in run.windows[1:4]:
        assert window.duration_ns >= 20 * MS
        assert window.in_flight == 4
        assert window.before is not None
        assert window.after is not None
        assert window.before.received_ns <= window.after.asked_ns
        assert window.health.cpu_ratio > 0
    assert run.rows.bytes_out.tolist() == [1] * run.end.sent
    # In a closed loop a request is meant to be sent when the one before ended: send lag is our own time only.
    assert np.all(run.rows.intended_ns <= run.rows.sent_ns)


async def test_the_cold_request_goes_alone_and_warm_up_lasts_until_each_slot_had_a_response() -> None:
    service = FakeService(lambda n: Reply(delay_ms=30 if n == 0 else 10 if n == 3 else 1))
    run = await run_level(make_plan(concurrency(3)), service, stop_after=1)
    (started,) = run.started
    assert started.connection.connect_ns == 1000
    assert started.connection.cold_first_request_ns is not None
    assert started.connection.cold_first_request_ns >= 29 * MS
    rows = np.sort(run.rows.sent_ns)
    assert rows[1] - rows[0] >= 29 * MS
    warm_up = run.windows[0]
    assert warm_up.columns.last_ns.max() - warm_up.columns.sent_ns.min() >= 39 * MS
    assert len(warm_up.columns) >= 4


async def test_steps_go_round_in_turn() -> None:
    service = FakeService()
    await run_level(make_plan(concurrency(1), max_requests=7), service, requests=3)
    assert service.bodies == [bytes([n % 3]) for n in range(7)]


@pytest.mark.parametrize("value", [1, 4, 16])
@pytest.mark.parametrize("budget", [1, 5, 100])
async def test_the_request_budget_holds_exactly(value: int, budget: int) -> None:
    service = FakeService(always(delay_ms=0.1))
    run = await run_level(make_plan(concurrency(value), max_requests=budget), service)
    assert run.end == LevelEnd(Reason.REQUEST_BUDGET, f"all {budget} allowed requests were sent", budget, 0)
    assert run.outcomes == {OK: budget}
    assert run.windows[-1].warm_up


async def test_the_time_budget_ends_it() -> None:
    run = await run_level(make_plan(concurrency(2), max_duration_ms=50), FakeService(always(delay_ms=1)))
    assert (run.end.reason, run.end.text) == (Reason.TIME_BUDGET, "the level has run for the allowed 0.05 s")


@pytest.mark.parametrize("value", [1, 8])
async def test_the_error_ratio_ends_it_at_once(value: int) -> None:
    service = FakeService(always(Outcome.SERVER_ERROR, text="500 boom"))
    run = await run_level(make_plan(concurrency(value), error_min_requests=20), service)
    assert run.end.reason is Reason.ERROR_RATIO
    assert run.end.text == (
        "20 of 20 requests failed (100 %: 20 server_error), more than the 10 % allowed; last: server_error: 500 boom"
    )
    assert run.end.sent < 20 + value
    assert run.windows[-1].error_text == "server_error: 500 boom"


async def test_few_errors_do_not_end_it() -> None:
    service = FakeService(lambda n: Reply(Outcome.SERVER_ERROR if n % 20 == 19 else OK, 0.1))
    run = await run_level(make_plan(concurrency(2), max_requests=200), service)
    assert run.end.reason is Reason.REQUEST_BUDGET
    assert run.outcomes == {OK: 190, Outcome.SERVER_ERROR: 10}


async def test_concurrency_is_capped_by_max_in_flight() -> None:
    service = FakeService(always(delay_ms=1))
    await run_level(make_plan(concurrency(50), max_in_flight=3), service, stop_after=1)
    assert service.most_at_server == 3
    assert service.opened == 3


async def test_a_time_out_is_a_record_and_its_request_keeps_its_place() -> None:
    """Both slots time out at 30 ms. The server may still work at their requests, so that nothing more is sent until
    these are presumed dropped, at 60 ms: never more than two at the server."""
    service = FakeService(lambda n: Reply(delay_ms=None if 1 <= n <= 2 else 0.5))
    plan = make_plan(concurrency(2), timeout_ms=30, max_in_flight=2, max_error_ratio=1.0, max_requests=20)
    run = await run_level(plan, service)
    assert run.outcomes == {OK: 18, TIMEOUT: 2}
    sent_ns = service.sent_ns
    assert sent_ns[3] - sent_ns[1] >= 60 * MS
    timed_out = run.rows.outcome == TIMEOUT
    assert np.all(run.rows.last_ns[timed_out] - run.rows.intended_ns[timed_out] >= 30 * MS)
    assert run.windows[0].error_text == "timeout: no response within 0.03 s"


async def test_a_time_out_reported_by_the_server_keeps_its_place_too() -> None:
    """gRPC's DEADLINE_EXCEEDED comes from the server's library; its model works on."""
    service = FakeService(lambda n: Reply(TIMEOUT if n == 1 else OK, text="DEADLINE_EXCEEDED"))
    plan = make_plan(concurrency(1), timeout_ms=40, max_in_flight=1, max_error_ratio=1.0, max_requests=4)
    run = await run_level(plan, service)
    assert service.sent_ns[2] - service.sent_ns[1] >= 40 * MS
    assert run.outcomes == {OK: 3, TIMEOUT: 1}


async def test_what_an_earlier_level_abandoned_keeps_its_place() -> None:
    abandoned = Abandoned()
    abandoned.hold(time.monotonic_ns() + 60_000 * MS)
    service = FakeService(always(delay_ms=1))
    run = await run_level(make_plan(concurrency(3), max_in_flight=3, max_requests=20), service, abandoned=abandoned)
    assert service.most_at_server == 2  # of three: the other place is still held
    assert (run.end.sent, run.end.abandoned) == (20, 1)


async def test_a_request_abandoned_costs_nothing_where_the_budget_allows_it() -> None:
    abandoned = Abandoned()
    abandoned.hold(time.monotonic_ns() + 60_000 * MS)
    service = FakeService(always(delay_ms=1))
    await run_level(make_plan(concurrency(3), max_in_flight=4, max_requests=20), service, abandoned=abandoned)
    assert service.most_at_server == 3


async def test_the_first_request_waits_for_a_place_too() -> None:
    abandoned = Abandoned()
    held_until_ns = time.monotonic_ns() + 60 * MS
    abandoned.hold(held_until_ns)
    abandoned.hold(held_until_ns + 20 * MS)
    service = FakeService(always(delay_ms=30))
    await run_level(make_plan(max_in_flight=2, max_requests=3), service, abandoned=abandoned)
    assert service.sent_ns[0] >= held_until_ns


async def test_a_dead_server_is_not_hammered() -> None:
    service = FakeService(always(Outcome.CONNECT_ERROR, text="refused"))
    run = await run_level(make_plan(concurrency(1), max_error_ratio=1.0, max_requests=5), service)
    gaps_ns = np.diff(service.sent_ns[1:])  # the first request of all is the cold one
    assert np.all(gaps_ns >= np.array([10, 20, 40]) * MS)
    assert run.outcomes == {Outcome.CONNECT_ERROR: 5}


async def test_stop_waits_for_what_is_in_flight_and_counts_it_apart() -> None:
    service = FakeService(lambda n: Reply(delay_ms=0 if n < 4 else 40))
    run = await run_level(make_plan(concurrency(3), window_ms=10), service, stop_after=1)
    assert run.outcomes == {OK: run.end.sent}
    assert run.windows[-1].warm_up
    assert len(run.windows[-1].columns) >= 3
    assert service.given_up == []


async def test_stop_gives_up_what_does_not_end() -> None:
    service = FakeService(lambda n: Reply(delay_ms=None if n > 6 else 0))
    run = await run_level(make_plan(concurrency(2), window_ms=10, timeout_ms=200), service, stop_after=1)
    assert run.end.reason is Reason.NONE
    assert run.outcomes[TIMEOUT] + run.outcomes[CANCELLED] == 2
    assert len(service.given_up) == 2


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (Outcome.CONNECT_ERROR, Reason.UNREACHABLE),
        (Outcome.TIMEOUT, Reason.UNREACHABLE),
        (Outcome.TLS_ERROR, Reason.TLS),
        (Outcome.PROTOCOL_ERROR, Reason.PROTOCOL),
        (Outcome.AUTH_ERROR, Reason.AUTH),
    ],
)
async def test_a_server_that_cannot_be_reached(outcome: Outcome, reason: Reason) -> None:
    service = FakeService(open_error=TransportError(outcome, "no way"))
    run = await run_level(make_plan(), service)
    assert run.end == LevelEnd(reason, "no way", 0, 0)
    assert (run.started, run.windows) == ([], [])


async def test_a_later_channel_that_does_not_open_is_left_to_its_calls() -> None:
    refused = TransportError(Outcome.CONNECT_ERROR, "connection refused")
    service = FakeService(always(delay_ms=1), open_error=refused, opens_before_error=1)
    run = await run_level(make_plan(concurrency(3)), service, stop_after=1)
    assert service.opened == 1
    assert service.most_at_server == 3
    assert run.outcomes == {OK: run.end.sent}


async def test_a_slow_snapshot_holds_up_the_edge_not_the_load() -> None:
    service = FakeService(always(delay_ms=1), snapshot_delay_s=0.1)
    run = await run_level(make_plan(concurrency(1), window_ms=200), service, stop_after=1)
    assert [window.after is not None for window in run.windows] == [True, True, False]
    asked = run.windows[0].after
    assert asked is not None
    meanwhile = (run.rows.sent_ns > asked.asked_ns) & (run.rows.last_ns < asked.received_ns)
    assert np.any(meanwhile)


async def test_a_snapshot_that_does_not_come_is_left_out() -> None:
    service = FakeService(always(delay_ms=1), snapshot_delay_s=60)
    run = await run_level(make_plan(concurrency(1), window_ms=20), service, stop_after=1)
    assert [(window.before, window.after) for window in run.windows] == [(None, None)] * 3


async def test_a_reader_that_is_slow_gets_longer_windows() -> None:
    async def slow(_: Level, event: MemberEvent) -> None:
        await asyncio.sleep(0.06 if isinstance(event, Window) else 0)

    run = await run_level(make_plan(concurrency(1)), FakeService(always(delay_ms=1)), stop_after=2, on_event=slow)
    assert all(window.duration_ns >= 60 * MS for window in run.windows[1:3])


async def test_rows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window that is full ends early; if windows are not taken up, the level ends."""

    class Small(Recorder):
        def __init__(self, on_full: Callable[[int], None]) -> None:
            super().__init__(on_full, max_rows=100, chunk_rows=50)

    monkeypatch.setattr(flight, "Recorder", Small)
    monkeypatch.setattr(flight, "MAX_ROWS", 100)
    monkeypatch.setattr("exporter.engine.level.MAX_ROWS", 100)
    run = await run_level(make_plan(concurrency(1), window_ms=60_000), FakeService(), stop_after=3)
    assert all(100 <= len(window.columns) < 200 for window in run.windows[1:4])

    async def stuck(_: Level, event: MemberEvent) -> None:
        if isinstance(event, Window) and event.index == 0:
            await asyncio.sleep(0.3)

    run = await run_level(make_plan(concurrency(1), window_ms=60_000), FakeService(), on_event=stuck)
    assert (run.end.reason, run.end.text) == (
        Reason.INTERNAL,
        "200 requests ended, and the windows before were not taken up yet",
    )


async def test_open_loop_keeps_its_rate() -> None:
    service = FakeService(always(delay_ms=1))
    run = await run_level(make_plan(request_rate(500), window_ms=50), service, stop_after=3)
    assert run.outcomes == {OK: run.end.sent}
    intended = np.sort(run.rows.intended_ns)[1:]  # the first is the cold request
    assert np.all(np.diff(intended) == 2 * MS)
    assert np.all(run.rows.sent_ns >= run.rows.intended_ns)
    assert sum(window.unsent for window in run.windows) == 0
    assert service.opened == 10  # those of 20 ms


async def test_open_loop_is_open() -> None:
    """A server that sends no response for a while delays no send."""
    service = FakeService(lambda n: Reply(delay_ms=200 if 5 <= n < 20 else 0.2))
    run = await run_level(make_plan(request_rate(500), max_requests=60, window_ms=50), service)
    intended = np.sort(run.rows.intended_ns)[1:]
    assert np.all(np.diff(intended) == 2 * MS)
    assert service.most_at_server >= 10
    assert run.outcomes == {OK: 60}


async def test_what_finds_no_place_waits_for_one_and_keeps_its_moment() -> None:
    service = FakeService(lambda n: Reply(delay_ms=0 if n < 2 else 60))
    run = await run_level(make_plan(request_rate(1000), max_in_flight=4, window_ms=50), service, stop_after=3)
    assert service.most_at_server == 4
    assert sum(window.unsent for window in run.windows) == 0
    paced = np.sort(run.rows.intended_ns)[1:]
    assert np.all(np.diff(paced) == MS)  # none is left out, and none overtakes another
    lag = run.rows.sent_ns - run.rows.intended_ns
    assert lag.max() > 20 * MS
    measured = [window for window in run.windows if not window.warm_up]
    assert sum(window.backlog_growth for window in measured) > 50
    assert sum(window.due for window in measured) == pytest.approx(
        sum(window.duration_ns for window in measured) / MS, abs=3
    )


async def test_what_has_waited_for_too_long_is_unsent() -> None:
    service = FakeService(lambda n: Reply(delay_ms=0 if n < 2 else 30))
    plan = make_plan(request_rate(1000), max_in_flight=4, window_ms=50, timeout_ms=80)
    run = await run_level(plan, service, stop_after=5)
    assert sum(window.unsent for window in run.windows) > 50
    lag = run.rows.sent_ns - run.rows.intended_ns
    assert lag.max() < 85 * MS


@dataclasses.dataclass
class OneByOne:
    """A server that works on one request at a time, for `service_s` each, and stalls at the begin of each `cycle_s`."""

    cycle_s: float
    stall_s: float
    service_s: float = 0.0002
    begun_s: float = dataclasses.field(default_factory=time.monotonic)
    free_s: float = 0.0

    def ends_s(self, arrives_s: float) -> float:
        """When a request is served that arrives then, after all before it; seconds since the server began."""
        start_s = max(arrives_s, self.free_s)
        start_s += max(0.0, self.stall_s - start_s % self.cycle_s)
        self.free_s = start_s + self.service_s
        return self.free_s

    def __call__(self, number: int) -> Reply:
        now_s = time.monotonic() - self.begun_s
        return Reply(delay_ms=1000 * (self.ends_s(now_s) - now_s))


def truth(server: OneByOne, rate: float, threshold_s: float) -> tuple[float, float]:
    """The p95 of the response time in seconds, and the part above the threshold, for users who do not wait for each
    other: every request reaches the server when it is due."""
    due_s = np.arange(round(20 * server.cycle_s * rate)) / rate
    response_s = np.array([server.ends_s(each) for each in due_s]) - due_s
    return float(np.quantile(response_s, 0.95)), float((response_s > threshold_s).mean())


def test_the_truth_of_a_stall() -> None:
    """2 s of every 10 s at 1000/s, before a server of 5000/s: what is due in the stall, and until its queue is gone."""
    p95_s, bad = truth(OneByOne(10.0, 2.0), 1000.0, 0.1)
    assert p95_s == pytest.approx(1.6, abs=0.01)
    assert bad == pytest.approx(0.2375, abs=0.001)


def in_whole_cycles(run: Run, begun_s: float, cycle_s: float) -> Window:
    """What was due in whole cycles of a server that began then, as one window. Where a window's edge falls is by
    chance: four of them may have the stalls of three cycles."""
    first, *_, last = [window for window in run.windows if not window.warm_up]
    # All that was due before the last one sent is among the rows: none overtakes another.
    sent_until_ns = min(last.end_ns, run.rows.intended_ns.max())
    first_cycle = math.ceil((first.start_ns / NS - begun_s) / cycle_s)
    end_cycle = math.floor((sent_until_ns / NS - begun_s) / cycle_s)
    begin_ns, end_ns = (round((begun_s + cycle * cycle_s) * NS) for cycle in (first_cycle, end_cycle))
    chosen = (run.rows.intended_ns >= begin_ns) & (run.rows.intended_ns < end_ns)
    columns = {field.name: getattr(run.rows, field.name) for field in dataclasses.fields(RecordColumns)}
    rows = RecordColumns(**{name: each[chosen] if len(each) else each for name, each in columns.items()})
    unsent = sum(window.unsent for window in run.windows)
    assert end_cycle > first_cycle
    return dataclasses.replace(first, start_ns=begin_ns, end_ns=end_ns, columns=rows, unsent=unsent)


async def test_a_stall_costs_what_users_see_whatever_may_be_in_flight() -> None:
    """The same, ten times as fast. A busy machine makes it worse, never better."""
    level, threshold_s = request_rate(1000), 0.01
    plan = make_plan(level, max_in_flight=26, window_ms=1000, timeout_ms=5000)
    server = OneByOne(1.0, 0.2)
    window = in_whole_cycles(await run_level(plan, FakeService(server), stop_after=4), server.begun_s, server.cycle_s)
    p95_s, bad = truth(OneByOne(1.0, 0.2), 1000.0, threshold_s)
    times_ms = response_times_ns(window.columns, 5 * NS, window.unsent) / MS
    assert np.percentile(times_ms, 95) >= 0.9 * 1000 * p95_s
    probe = dataclasses.replace(plan.probe, slo=Slo("fast", round(threshold_s * NS), 95.0, (level.label,)))
    count = count_window(window, level, probe)
    assert count.slo_requests == pytest.approx(window.duration_ns / MS, abs=1)
    assert count.slo_bad / count.slo_requests >= 0.9 * bad


async def test_a_server_that_stalls_shows_in_response_time_and_slo() -> None:
    """Stalled for 0.2 s of every second, at a quarter of the places that it would take to send all in time."""
    begun_s = time.monotonic()

    def stalling(number: int) -> Reply:
        phase_s = (time.monotonic() - begun_s) % 1.0
        return Reply(delay_ms=max(0.0, 200 - 1000 * phase_s) + 1.0)

    level = request_rate(1000)
    plan = make_plan(level, max_in_flight=50, window_ms=1000, timeout_ms=5000)
    window = in_whole_cycles(await run_level(plan, FakeService(stalling), stop_after=3), begun_s, 1.0)
    times_ms = response_times_ns(window.columns, 5 * NS, window.unsent) / MS
    # Of each second's 1000 requests 200 are due in the stall: the 50th longest of all waited for 150 ms.
    assert np.percentile(times_ms, 95) == pytest.approx(150, abs=25)
    probe = dataclasses.replace(plan.probe, slo=Slo("fast", 20 * MS, 95.0, (level.label,)))
    count = count_window(window, level, probe)
    assert 0.17 < count.slo_bad / count.slo_requests < 0.27
    assert np.percentile(latencies_ns(window.columns) / MS, 93) < 20  # what perf_analyzer shows of it


async def test_open_loop_budgets_and_errors() -> None:
    run = await run_level(make_plan(request_rate(2000), max_requests=11), FakeService(always(delay_ms=0.1)))
    assert (run.end.reason, run.end.sent) == (Reason.REQUEST_BUDGET, 11)
    plan = make_plan(request_rate(2000), max_in_flight=8, on_overload=OverloadPolicy.COUNT)
    run = await run_level(plan, FakeService(always(Outcome.OVERLOAD, 0.1)))
    assert run.end.reason is Reason.ERROR_RATIO
    assert 20 <= run.end.sent < 28


async def test_stopped_while_it_warms_up() -> None:
    def stopping(number: int) -> Reply:
        asyncio.get_running_loop().call_soon(levels[0].stop)
        return Reply(delay_ms=None)

    levels: list[Level] = []
    run = await run_level(make_plan(concurrency(2), timeout_ms=50), FakeService(stopping), on_level=levels.append)
    assert run.started == []
    assert (run.end.reason, run.end.sent, run.end.abandoned) == (Reason.NONE, 1, 1)
    assert sum(run.outcomes.values()) == 1


@pytest.mark.parametrize("stop_at", [0, 1, 5])
async def test_an_open_loop_leaves_no_file_open(stop_at: int) -> None:
    def stopping(number: int) -> Reply:
        if number == stop_at:
            asyncio.get_running_loop().call_soon(levels[0].stop)
        return Reply()

    levels: list[Level] = []
    open_before = set(os.listdir("/proc/self/fd"))
    await run_level(make_plan(request_rate(500)), FakeService(stopping), on_level=levels.append)
    assert set(os.listdir("/proc/self/fd")) == open_before


async def test_stopped_before_it_began() -> None:
    service = FakeService()
    run = await run_level(make_plan(concurrency(2)), service, on_level=Level.stop)
    assert run.end == LevelEnd(Reason.NONE, "", 0, 0)
    assert service.opened == service.closed == 2


async def test_open_loop_counts_what_it_spares_the_server() -> None:
    service = FakeService(lambda n: Reply(Outcome.OVERLOAD if n == 40 else OK, retry_after_ns=60 * MS))
    run = await run_level(make_plan(request_rate(1000), max_requests=100, window_ms=50), service)
    assert run.outcomes == {OK: 99, Outcome.OVERLOAD: 1}
    paced = np.sort(run.rows.intended_ns)[1:]
    unsent = sum(window.unsent for window in run.windows)
    assert 50 <= unsent <= 65
    assert (paced[-1] - paced[0]) // MS + 1 == len(paced) + unsent


async def intended_of(level: LoadLevel, requests: int) -> list[int]:
    """When the requests of an open loop were meant to be sent, in nanoseconds after the first."""
    run = await run_level(make_plan(level, max_requests=requests + 1), FakeService())
    intended = np.sort(run.rows.intended_ns)[1:]
    return [int(moment - intended[0]) for moment in intended]


async def test_poisson_levels_differ_and_can_be_repeated() -> None:
    one = await intended_of(LoadLevel(Mode.REQUEST_RATE, 2000, "2000", Distribution.POISSON, 7), 40)
    assert await intended_of(LoadLevel(Mode.REQUEST_RATE, 2000, "2000", Distribution.POISSON, 7), 40) == one
    assert await intended_of(LoadLevel(Mode.REQUEST_RATE, 2000, "2000", Distribution.POISSON, 8), 40) != one
    other = await intended_of(LoadLevel(Mode.REQUEST_RATE, 4000, "4000", Distribution.POISSON, 7), 40)
    assert [2 * moment for moment in other] != pytest.approx(one, abs=100)


def file_level(mode: Mode, path: Path, lines: str) -> LoadLevel:
    path.write_text(lines)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return LoadLevel(mode, 0.0, path.stem, file=str(path), file_digest=digest)


async def test_intervals_go_round(tmp_path: Path) -> None:
    level = file_level(Mode.INTERVALS, tmp_path / "gaps.txt", "1000\n0\n2500\n")
    # The first is sent after the first gap.
    assert await intended_of(level, 6) == [0, 0, 2_500_000, 3_500_000, 3_500_000, 6_000_000]


async def test_a_schedule_is_measured_whole(tmp_path: Path) -> None:
    level = file_level(Mode.SCHEDULE, tmp_path / "night.txt", "0\n1\n1\n25.5\n70\n")
    service = FakeService(lambda n: Reply(delay_ms=30 if n == 5 else 0.5))
    run = await run_level(make_plan(level), service)
    assert run.end == LevelEnd(Reason.NONE, "", 6, 0)
    assert [window.warm_up for window in run.windows] == [True] + [False] * (len(run.windows) - 1)
    assert len(run.windows[0].columns) == 1  # the cold one
    assert len(run.windows) >= 4  # windows of 20 ms: counters move while it runs
    measured = RecordColumns.concatenate([window.columns for window in run.windows[1:]])
    intended = np.sort(measured.intended_ns)
    assert (intended - intended[0]).tolist() == [0, MS, MS, 25_500_000, 70 * MS]
    assert run.windows[-1].after is not None


async def test_a_schedule_waits_for_its_time_outs(tmp_path: Path) -> None:
    level = file_level(Mode.SCHEDULE, tmp_path / "night.txt", "0\n1\n")
    service = FakeService(lambda n: Reply(delay_ms=None if n == 2 else 0))
    run = await run_level(make_plan(level, timeout_ms=50), service)
    assert (run.end.reason, run.outcomes) == (Reason.NONE, {OK: 2, TIMEOUT: 1})
    assert not run.windows[-1].warm_up


async def test_a_schedule_that_cannot_all_be_sent_in_time_is_sent_late(tmp_path: Path) -> None:
    level = file_level(Mode.SCHEDULE, tmp_path / "night.txt", "0\n1\n2\n")
    service = FakeService(lambda n: Reply(delay_ms=0 if n == 0 else 20))
    run = await run_level(make_plan(level, max_in_flight=1), service)
    assert (run.end.sent, run.end.reason) == (4, Reason.NONE)
    assert sum(window.unsent for window in run.windows) == 0


async def test_a_schedule_can_be_cut_short(tmp_path: Path) -> None:
    level = file_level(Mode.SCHEDULE, tmp_path / "night.txt", "0\n1\n60000\n")
    run = await run_level(make_plan(level), FakeService(), stop_after=2)
    assert (run.end.sent, run.end.reason) == (3, Reason.NONE)
    assert run.windows[-1].warm_up


def refusal(level: LoadLevel) -> PreflightError:
    async def publish(event: object) -> None: ...

    service = FakeService()
    with pytest.raises(PreflightError) as caught:
        Level(
            make_plan(level),
            service=service,
            control=service.control(make_plan().probe.target, MS),
            by_place=[[]],
            abandoned=Abandoned(),
            publish=publish,
        )
    return caught.value


async def test_what_cannot_be_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gaps.txt"
    level = file_level(Mode.INTERVALS, path, "5\n")
    path.write_text("6\n")
    error = refusal(level)
    assert error.reason is Reason.BAD_INPUT
    assert str(error) == f"{path} has changed since the configuration was read; read the configuration again"
    path.unlink()
    assert str(refusal(level)) == f"{path}: cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("mode", "value", "members", "channels"),
    [
        (Mode.REQUEST_RATE, 100.0, 1, 8),
        (Mode.REQUEST_RATE, 8000.0, 1, 160),
        (Mode.REQUEST_RATE, 8000.0, 4, 40),
        (Mode.INTERVALS, 999.0, 1, 20),
        (Mode.SCHEDULE, 8000.0, 1, 8),
    ],
)
def test_a_high_rate_has_more_channels_opened_ahead(mode: Mode, value: float, members: int, channels: int) -> None:
    level = LoadLevel(mode, value, f"{value:g}")
    plan = dataclasses.replace(make_plan(level), members=members)
    assert first_channels(plan) == channels


# --- limits that need no daemon -----------------------------------------------------------------------------------


async def test_a_level_ends_by_itself_after_its_windows() -> None:
    service = FakeService(always(delay_ms=1))
    run = await run_level(dataclasses.replace(make_plan(concurrency(2)), max_windows=2), service)
    assert [window.warm_up for window in run.windows] == [True, False, False, True]
    assert (run.end.reason, run.end.sent) == (Reason.NONE, len(service.sent_ns))


async def test_the_load_ends_if_the_daemon_takes_no_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.engine.level.LOST_AFTER_SECONDS", 0.1)
    service = FakeService(always(delay_ms=1))
    at_edge: list[int] = []

    async def stuck(level: Level, event: MemberEvent) -> None:
        if isinstance(event, Window) and not event.warm_up and not at_edge:
            await asyncio.sleep(0.3)
            at_edge.append(len(service.sent_ns))
            await asyncio.sleep(0.1)

    run = await run_level(make_plan(concurrency(2)), service, on_event=stuck, gapless=False)
    assert (run.end.reason, run.end.text) == (Reason.DAEMON_STALLED, "the daemon collected no window for 0.12 s")
    assert len(service.sent_ns) == at_edge[0]


async def test_a_server_that_asks_for_a_pause_gets_it_from_all_calls_of_the_first_request_on() -> None:
    service = FakeService(lambda n: Reply(Outcome.OVERLOAD if n == 0 else OK, 1, retry_after_ns=200 * MS))
    run = await run_level(make_plan(concurrency(16)), service, stop_after=1)
    first, second = sorted(service.sent_ns)[:2]
    assert second - first >= 200 * MS
    assert run.end.spared_until_ns == 0


async def test_one_that_asks_in_mid_level_too() -> None:
    service = FakeService(lambda n: Reply(Outcome.OVERLOAD if n == 100 else OK, 1, retry_after_ns=200 * MS))
    await run_level(make_plan(concurrency(16), max_requests=300), service)
    gaps_ns = np.diff(np.sort(service.sent_ns))
    assert int(gaps_ns.max()) >= 150 * MS


async def test_a_pause_is_not_kept_where_overload_is_only_counted() -> None:
    rules: dict[str, Any] = {"on_overload": OverloadPolicy.COUNT, "max_error_ratio": 1.0}
    service = FakeService(lambda n: Reply(Outcome.OVERLOAD if n == 0 else OK, 1, retry_after_ns=3600 * NS))
    await run_level(make_plan(concurrency(2), max_requests=50, **rules), service)
    assert len(service.sent_ns) == 50


async def test_a_pause_that_outlives_the_level_is_reported_and_kept_in_the_next() -> None:
    service = FakeService(always(Outcome.OVERLOAD, 0.1, retry_after_ns=10**9 * NS))
    plan = make_plan(concurrency(4), max_duration_ms=200, max_error_ratio=1.0)
    run = await run_level(plan, service)
    left_s = (run.end.spared_until_ns - time.monotonic_ns()) / NS
    assert 290 < left_s <= RETRY_AFTER_S
    assert len(service.sent_ns) == 1
    next_plan = dataclasses.replace(plan, spared_until_ns=run.end.spared_until_ns)
    untouched = FakeService()
    await run_level(next_plan, untouched)
    assert untouched.sent_ns == []


async def test_a_level_takes_no_more_places_than_earlier_ones_left() -> None:
    free_ns = time.monotonic_ns() + 2 * NS  # long enough for a machine that is in use
    most = {True: 0, False: 0}

    def watched(number: int) -> Reply:
        held = time.monotonic_ns() < free_ns
        most[held] = max(most[held], service.at_server)
        return Reply(OK, 5)

    service = FakeService(watched)
    plan = make_plan(concurrency(8), max_in_flight=8)
    await run_level(plan, service, abandoned=Abandoned([free_ns] * 6), stop_after=45)
    assert 0 < most[True] <= 2
    assert most[False] >= 7  # beside the one that is asked about


async def test_a_level_that_warms_up_by_requests_leaves_no_file_open() -> None:
    before = set(os.listdir("/proc/self/fd"))
    plan = make_plan(request_rate(1000))
    counted = dataclasses.replace(plan.probe.measurement, request_count=20, warm_up_requests=10)
    plan = dataclasses.replace(plan, probe=dataclasses.replace(plan.probe, measurement=counted))
    run = await run_level(plan, FakeService(), gapless=False)
    assert run.end.reason is Reason.NONE
    assert set(os.listdir("/proc/self/fd")) == before
