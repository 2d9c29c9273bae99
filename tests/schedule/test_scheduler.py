from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from exporter.core.outcome import SkipReason
from exporter.core.probe import Probe, Schedule
from exporter.core.units import NS
from exporter.schedule import admission
from exporter.schedule.phase import ProbeKey, probe_key
from exporter.schedule.scheduler import Scheduler
from tests.builders import make_probe, make_target
from tests.schedule.fakes import FakeClocks


def a_probe(name: str, group: str = "", interval_ns: int = 3600 * NS) -> Probe:
    target = make_target(name=f"endpoint-of-{name}", group=group or name)
    return make_probe(name=name, target=target, schedule=Schedule(interval_ns=interval_ns))


A1, A2, B1 = a_probe("a1", "a"), a_probe("a2", "a"), a_probe("b1", "b")


class Stage:
    """A scheduler whose sweeps last until a test ends them, and a record of what happened."""

    def __init__(self, concurrent_sweeps: int = 2) -> None:
        self.fake = FakeClocks()
        self.events: list[str] = []
        self.ends: dict[str, asyncio.Future[None]] = {}
        self.paused: set[Probe] = set()
        self.scheduler = Scheduler(self._run, self._skip, concurrent_sweeps, self.fake.clocks, refuse=self._refusal)

    async def due(self, *probes: Probe) -> None:
        for probe in probes:
            self.scheduler.due(probe)
        await self.settle()

    async def end(self, probe: Probe, error: Exception | None = None) -> None:
        if error is None:
            self.ends[probe.name].set_result(None)
        else:
            self.ends[probe.name].set_exception(error)
        await self.settle()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    def states(self, *probes: Probe) -> list[str]:
        return [self.scheduler.state(probe).value for probe in probes]

    def _refusal(self, probe: Probe) -> SkipReason | None:
        return SkipReason.PAUSED if probe in self.paused else None

    async def _run(self, probe: Probe) -> None:
        self.events.append(f"start {probe.name}")
        self.ends[probe.name] = asyncio.get_running_loop().create_future()
        try:
            await self.ends[probe.name]
        except asyncio.CancelledError:
            self.events.append(f"cancelled {probe.name}")
            raise
        self.events.append(f"end {probe.name}")

    def _skip(self, probe: Probe, reason: SkipReason) -> None:
        self.events.append(f"{reason.value} {probe.name}")


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    yield stage
    assert await stage.scheduler.drain(1)


async def test_sweeps_of_a_group_run_one_after_the_other(stage: Stage) -> None:
    await stage.due(A1, A2, B1)
    assert stage.states(A1, A2, B1) == ["running", "waiting", "running"]
    await stage.end(A1)
    assert stage.states(A1, A2, B1) == ["idle", "running", "running"]
    await stage.end(A2)
    await stage.end(B1)
    assert stage.events == ["start a1", "start b1", "end a1", "start a2", "end a2", "end b1"]


async def test_a_probe_that_is_due_while_it_runs_is_a_skip(stage: Stage) -> None:
    await stage.due(A1, A1)
    assert sorted(stage.events) == ["overlap a1", "start a1"]


async def test_a_wait_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "WAIT_SLACK_NS", 0)
    skipped: asyncio.Future[tuple[Probe, SkipReason]] = asyncio.get_running_loop().create_future()

    async def run(probe: Probe) -> None:
        await asyncio.Event().wait()

    scheduler = Scheduler(run, lambda probe, reason: skipped.set_result((probe, reason)), 1)
    impatient = a_probe("impatient", "a", interval_ns=NS // 1000)
    scheduler.due(A1)
    scheduler.due(impatient)
    assert scheduler.state(impatient) == "waiting"
    assert await asyncio.wait_for(skipped, 10) == (impatient, SkipReason.OVERLAP)
    assert scheduler.state(impatient) == "idle"
    assert await scheduler.drain(1)


async def test_a_sweep_that_raises_is_logged_and_makes_space(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    await stage.due(A1, A2)
    with caplog.at_level(logging.ERROR, "exporter.schedule"):
        await stage.end(A1, RuntimeError("a bug"))
    assert "internal error in the sweep of endpoint-of-a1/a1" in caplog.text
    assert "RuntimeError: a bug" in caplog.text
    assert stage.states(A1, A2) == ["idle", "running"]


async def test_pause_and_resume(stage: Stage) -> None:
    await stage.due(A1, A2)
    stage.paused.add(A2)
    stage.scheduler.ask_again(A2)
    assert stage.states(A1, A2) == ["running", "idle"]
    await stage.due(A2)
    await stage.end(A1)
    stage.paused.clear()
    await stage.due(A2)
    assert stage.events == ["start a1", "paused a2", "paused a2", "end a1", "start a2"]


async def test_draining_cancels_who_runs_and_skips_who_waits() -> None:
    stage = Stage(concurrent_sweeps=1)
    stage.scheduler.start([A1, A2, B1], {})
    await stage.due(A1, A2, B1)
    assert await stage.scheduler.drain(1)
    assert stage.events == ["start a1", "shutdown a2", "shutdown b1", "cancelled a1"]
    assert stage.states(A1, A2, B1) == ["idle", "idle", "idle"]
    await stage.due(A1)
    assert stage.events[-1] == "shutdown a1"
    assert stage.scheduler.next_run(A1) is None
    assert len(asyncio.all_tasks()) == 1  # this test


async def test_a_sweep_cancelled_before_its_first_step_is_over_too() -> None:
    stage = Stage()
    stage.scheduler.due(A1)
    assert await stage.scheduler.drain(1)
    assert stage.events == []
    assert stage.states(A1) == ["idle"]


async def test_draining_gives_a_sweep_time_to_end_well() -> None:
    ended: list[str] = []

    async def run(probe: Probe) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # closes connections, writes its result
            ended.append(probe.name)

    scheduler = Scheduler(run, lambda probe, reason: None, 1)
    scheduler.due(A1)
    await asyncio.sleep(0)
    assert await scheduler.drain(1)
    assert ended == ["a1"]


async def test_draining_leaves_behind_what_does_not_end(caplog: pytest.LogCaptureFixture) -> None:
    release = asyncio.Event()

    async def run(probe: Probe) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    scheduler = Scheduler(run, lambda probe, reason: None, 1)
    scheduler.due(A1)
    await asyncio.sleep(0)
    assert not await scheduler.drain(0.001)
    assert "sweep endpoint-of-a1/a1 did not end within 0.001 s of its cancellation" in caplog.text
    release.set()
    assert await scheduler.drain(1)


@pytest.mark.parametrize(
    ("last_run_ago", "soon"),
    [(None, True), (3700.0, True), (100_000.0, True), (3500.0, False), (0.0, False), (-3600.0, False)],
)
async def test_a_probe_without_a_run_in_its_last_interval_runs_soon(
    stage: Stage, last_run_ago: float | None, soon: bool
) -> None:
    probe = a_probe("p")
    last_run: dict[ProbeKey, float] = {}
    if last_run_ago is not None:
        last_run[probe_key(probe)] = stage.fake.unix_s - last_run_ago
    stage.scheduler.start([probe], last_run)
    next_run = stage.scheduler.next_run(probe)
    assert next_run is not None
    regular = Stage()
    regular.scheduler.start([probe], {probe_key(probe): regular.fake.unix_s})
    regular_run = regular.scheduler.next_run(probe)
    assert regular_run is not None
    if soon:
        assert 0 < next_run - stage.fake.unix_s <= 1 + 1e-5
    else:
        assert next_run == pytest.approx(regular_run, abs=1e-3)
    assert await regular.scheduler.drain(1)


async def test_timetable_and_runs_together() -> None:
    runs: list[str] = []
    enough = asyncio.Event()

    async def run(probe: Probe) -> None:
        runs.append(probe.name)
        if runs.count("a1") >= 2 and runs.count("b1") >= 2:
            enough.set()

    probes = [a_probe("a1", "a", NS // 50), a_probe("b1", "b", NS // 40)]
    scheduler = Scheduler(run, lambda probe, reason: None, 1)
    scheduler.start(probes, {})
    await asyncio.wait_for(enough.wait(), 10)
    assert await scheduler.drain(1)


async def test_a_late_slot_is_a_misfire(stage: Stage) -> None:
    probe = a_probe("slow")
    stage.scheduler.start([probe], {probe_key(probe): stage.fake.unix_s})
    stage.scheduler._timetable._scheduler.modify_job(repr(probe_key(probe)), next_run_time="2020-01-01 00:00:00")
    await stage.settle()
    assert stage.events == ["misfire slow"]


async def test_a_clock_jump_is_counted_and_the_timetable_follows(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    probe = a_probe("p")
    assert stage.scheduler.last_tick_unix_s == 0
    stage.scheduler.start([probe], {probe_key(probe): stage.fake.unix_s})
    assert stage.scheduler.last_tick_unix_s == pytest.approx(stage.fake.unix_s, abs=1e-3)
    stage.fake.advance(5)
    stage.fake.jump(-86_400)
    stage.scheduler._watch.tick()
    next_run = stage.scheduler.next_run(probe)
    assert next_run is not None
    assert 0 < next_run - stage.fake.unix_s <= 3600
    assert stage.scheduler.clock_jumps == 1
    assert stage.scheduler.last_tick_unix_s == pytest.approx(stage.fake.unix_s, abs=1e-3)
    assert "the wall clock jumped by -86400.0 s: schedules are re-aligned" in caplog.text


# --- extra sweeps ----------------------------------------------------------------------------------------------------


async def test_an_extra_sweep_has_the_group_for_itself(stage: Stage) -> None:
    ended = asyncio.Event()

    async def work(probe: Probe) -> None:
        stage.events.append("extra begins")
        await ended.wait()

    task = stage.scheduler.run_extra(A1, work)
    assert isinstance(task, asyncio.Task)
    assert stage.scheduler.run_extra(A2, work) is SkipReason.OVERLAP
    await stage.due(A1, B1)
    assert stage.states(A1, B1) == ["waiting", "running"]
    assert stage.scheduler.run_extra(B1, work) is SkipReason.OVERLAP
    ended.set()
    await stage.settle()
    assert stage.events == ["extra begins", "start b1", "start a1"]


async def test_no_extra_sweep_of_a_paused_probe_nor_after_the_drain(stage: Stage) -> None:
    async def work(probe: Probe) -> None:
        raise AssertionError("it must not run")

    stage.paused.add(A1)
    assert stage.scheduler.run_extra(A1, work) is SkipReason.PAUSED
    await stage.scheduler.drain(1)
    assert stage.scheduler.run_extra(B1, work) is SkipReason.SHUTDOWN


async def test_a_new_set_of_probes_leaves_an_extra_sweep_alone(stage: Stage) -> None:
    stage.scheduler.start([A1], {probe_key(A1): stage.fake.unix_s})
    ended = asyncio.Event()

    async def work(probe: Probe) -> None:
        await ended.wait()
        stage.events.append("extra ends")

    stage.scheduler.run_extra(A1, work)
    await stage.settle()
    stage.scheduler.replace([], {})
    ended.set()
    await stage.settle()
    assert stage.events == ["extra ends"]
