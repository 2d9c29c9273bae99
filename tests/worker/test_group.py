"""Several real worker processes as one, with fake services inside."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exporter.core.errors import PreflightError, WorkerLostError
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import Distribution, LoadLevel, Mode
from exporter.core.units import MS
from exporter.core.window import LevelEnd, RecordColumns, Window
from exporter.engine.plan import LevelEvent, LevelPlan, LevelStarted, MemberEvent
from exporter.payload.timing_files import read_schedule
from exporter.worker.group import WorkerGroup
from exporter.worker.local import LocalWorker
from tests.builders import concurrency, make_facts, make_target
from tests.engine.fakes import make_plan, request_rate
from tests.waiting import PATIENCE_SECONDS, patient
from tests.worker.test_local import FAKE_WORKER, probe, run


@pytest.fixture
async def members() -> AsyncIterator[list[LocalWorker]]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        workers = list(await asyncio.gather(*(LocalWorker.spawn(module=FAKE_WORKER) for _ in range(2))))
        yield workers
        await asyncio.gather(*(worker.kill() for worker in workers))


@pytest.fixture
def group(members: list[LocalWorker]) -> WorkerGroup:
    return WorkerGroup(members)


def plan(level: LoadLevel, kind: str = "fake", window_ms: float = 100, **rules: int) -> LevelPlan:
    it = make_plan(level, window_ms=window_ms, **rules)
    return replace(it, probe=replace(it.probe, target=make_target(kind=kind)))


def windows_of(events: list[LevelEvent]) -> list[Window]:
    """The windows of a level that went its whole way, checked for what holds of any level."""
    windows = [event for event in events if isinstance(event, Window)]
    assert sum(isinstance(event, LevelStarted) for event in events) == 1
    assert isinstance(events[0], LevelStarted)
    end = events[-1]
    assert isinstance(end, LevelEnd)
    assert [window.index for window in windows] == list(range(len(windows)))
    assert all(early.end_ns == late.start_ns for early, late in itertools.pairwise(windows))
    assert end.sent == sum(window.sent for window in windows) == sum(len(window.columns) for window in windows)
    return windows


async def test_a_sweep(group: WorkerGroup) -> None:
    assert await group.preflight(probe()) == make_facts()
    windows = windows_of(await run(group, plan(concurrency(5)), windows=3))
    assert [window.warm_up for window in windows] == [True, False, False, False, True]
    for window in windows[1:4]:
        assert window.in_flight == 5
        assert window.duration_ns == pytest.approx(100 * MS, rel=patient(0.2))
        assert (window.columns.outcome == Outcome.OK).all()
        assert window.before is not None
        assert window.after is not None
    assert windows[1].after == windows[2].before
    await group.end_sweep()
    # The workers are fit for the next one.
    assert await group.preflight(probe()) == make_facts()


@pytest.mark.parametrize(("warm_up_ns", "warm_up_requests"), [(250 * MS, 0), (0, 300)])
async def test_a_longer_warm_up_is_shared(group: WorkerGroup, warm_up_ns: int, warm_up_requests: int) -> None:
    it = plan(concurrency(4), window_ms=100)
    measurement = replace(it.probe.measurement, warm_up_ns=warm_up_ns, warm_up_requests=warm_up_requests)
    windows = windows_of(await run(group, replace(it, probe=replace(it.probe, measurement=measurement)), windows=6))
    first = next(index for index, window in enumerate(windows) if not window.warm_up)
    assert windows[first].start_ns - windows[0].start_ns >= warm_up_ns
    assert sum(len(window.columns) for window in windows[:first]) >= warm_up_requests + 2
    for window in windows[first:-2]:
        assert not window.warm_up
        assert window.duration_ns == pytest.approx(100 * MS, rel=patient(0.2))


@pytest.mark.parametrize("distribution", Distribution)
async def test_a_rate_is_shared_as_one_alone_would_send_it(group: WorkerGroup, distribution: Distribution) -> None:
    level = LoadLevel(Mode.REQUEST_RATE, 400.0, "400", distribution, 7)
    windows = windows_of(await run(group, plan(level), windows=3))
    rows = RecordColumns.concatenate([window.columns for window in windows])
    # Less two cold requests, and less those at the end, whose responses may come after it.
    intended = np.sort(rows.intended_ns)[2:]
    intended = intended[intended < windows[-1].start_ns]
    if distribution is Distribution.CONSTANT:
        gaps, missing = np.divmod(np.diff(intended), 2_500_000)
        assert not missing.any()
        # What a machine that paused could not send is counted, and leaves its place in the grid empty.
        assert int((gaps - 1).sum()) <= sum(window.unsent for window in windows)
    else:
        assert len(set(np.diff(intended).tolist())) == len(intended) - 1


async def test_a_schedule_is_sent_once_and_measured_whole(group: WorkerGroup, tmp_path: Path) -> None:
    path = tmp_path / "night.txt"
    path.write_text("".join(f"{moment}\n" for moment in range(0, 300, 4)))
    level = LoadLevel(Mode.SCHEDULE, 75.0, "night", file=str(path), file_digest=read_schedule(str(path)).digest)
    events = await run(group, plan(level), windows=1000)
    windows = windows_of(events)
    assert [window.warm_up for window in windows] == [True, *[False] * (len(windows) - 1)]
    assert len(windows) >= 4
    measured = RecordColumns.concatenate([window.columns for window in windows[1:]])
    assert np.diff(np.sort(measured.intended_ns)).tolist() == [4 * MS] * 74
    assert events[-1] == LevelEnd(Reason.NONE, "", 77)


async def test_a_budget_is_shared(group: WorkerGroup) -> None:
    events = await run(group, replace(plan(concurrency(2)), max_requests=201), windows=100)
    windows_of(events)
    end = events[-1]
    assert isinstance(end, LevelEnd)
    assert end.reason is Reason.REQUEST_BUDGET
    assert re.fullmatch("one of 2 workers: all 10[01] allowed requests were sent", end.text)
    assert 100 < end.sent <= 201, "one sent its part; how far another one was, is the machine's business"


async def test_a_stop_rule_of_the_level_ends_all(group: WorkerGroup) -> None:
    events = await run(group, plan(concurrency(4), "error"))
    end = events[-1]
    assert isinstance(end, LevelEnd)
    assert end.reason is Reason.ERROR_RATIO
    rows = sum(len(event.columns) for event in events if isinstance(event, Window))
    assert end.sent == rows < 100


class RecordingWorker(LocalWorker):
    """Keeps what it reports, before it is merged with what others report."""

    async def run_member(self, plan: LevelPlan) -> AsyncGenerator[MemberEvent, None]:
        self.windows: list[Window] = []
        async for event in super().run_member(plan):
            if isinstance(event, Window):
                self.windows.append(event)
            yield event


BREAKING = [
    ("begins_to_fail", concurrency(16), Reason.ERROR_RATIO),
    ("begins_to_fail", request_rate(1500), Reason.ERROR_RATIO),
    ("gets_slow", concurrency(16), Reason.LATENCY),
    ("gets_slow", request_rate(1500), Reason.LATENCY),
]


async def test_four_members_stop_where_one_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the responses of all: each has a part of the rule, and waits where that is used up."""
    broken = tmp_path / "broken"
    monkeypatch.setenv("TRITON_FAKE_BREAKS", str(broken))
    workers = await asyncio.gather(*(RecordingWorker.spawn(module=FAKE_WORKER) for _ in range(4)))
    members = [worker for worker in workers if isinstance(worker, RecordingWorker)]
    group = WorkerGroup(members)
    async with asyncio.timeout(PATIENCE_SECONDS):
        for kind, level, reason in BREAKING:
            it = plan(level, kind, error_min_requests=20, max_latency_ns=40 * MS, max_in_flight=128)
            end = None
            async for event in group.run_level(it):
                if isinstance(event, Window) and not event.warm_up:
                    broken.touch()
                end = event
            await group.end_sweep()
            broken.unlink()
            assert isinstance(end, LevelEnd)
            assert end.reason is reason
            assert not end.text.startswith("one of 4 workers")
            rows = RecordColumns.concatenate([window.columns for member in members for window in member.windows])
            bad = (rows.outcome != Outcome.OK) | (rows.last_ns - rows.sent_ns > 40 * MS)
            print(f"{kind}, {level.mode} {level.label}: {bad.sum()} bad responses of {len(rows)}: {end.text}")
            assert 20 <= bad.sum() <= 20 + 128, "as many as one worker has, with those in flight"
    await asyncio.gather(*(worker.kill() for worker in workers))


@pytest.mark.parametrize("level", [concurrency(8), request_rate(1000)], ids=["closed", "open"])
async def test_one_member_above_the_ratio_ends_nothing_where_the_level_keeps_it(
    level: LoadLevel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every fifth request of one member fails: 20 % of its part, and 5 % of the level, where 10 % are allowed. It is
    judged late: on a busy machine the others may begin later than this one."""
    workers = list(await asyncio.gather(*(LocalWorker.spawn(module=FAKE_WORKER) for _ in range(3))))
    monkeypatch.setenv("TRITON_FAKE_FIFTH", "yes")
    workers.append(await LocalWorker.spawn(module=FAKE_WORKER))
    async with asyncio.timeout(PATIENCE_SECONDS):
        it = plan(level, "fifth", window_ms=300, error_min_requests=500)
        events = await run(WorkerGroup(workers), it, windows=3)
    windows = [event for event in events if isinstance(event, Window)]
    end = events[-1]
    assert isinstance(end, LevelEnd)
    assert (end.reason, end.text) == (Reason.NONE, "")
    outcomes = np.concatenate([window.columns.outcome for window in windows])
    failed = int((outcomes == Outcome.SERVER_ERROR).sum())
    print(f"{failed} of {len(outcomes)} failed, {sum(window.unsent for window in windows)} unsent")
    assert 0.02 < failed / len(outcomes) < 0.1
    assert failed > 20, "enough to be judged"
    await asyncio.gather(*(worker.kill() for worker in workers))


async def test_too_little_to_share_is_left_to_one(group: WorkerGroup) -> None:
    windows = windows_of(await run(group, plan(concurrency(1)), windows=1))
    assert windows[1].in_flight == 1


async def test_stopped_before_the_others_began(group: WorkerGroup) -> None:
    events = []
    async for event in group.run_level(plan(concurrency(2))):
        events.append(event)
        if isinstance(event, LevelStarted):
            await group.stop_level()
    windows_of(events)


@pytest.mark.parametrize(
    ("kind", "reason", "text"),
    [
        ("broken", Reason.INTERNAL, "KeyError: 'boom'"),
        ("exits", Reason.WORKER_CRASH, "worker ended with exit status 7"),
    ],
)
async def test_a_lost_member_ends_the_level(group: WorkerGroup, kind: str, reason: Reason, text: str) -> None:
    with pytest.raises(WorkerLostError) as caught:
        await run(group, plan(concurrency(2), kind), windows=100)
    assert (caught.value.reason, str(caught.value)) == (reason, text)


async def test_a_member_killed_in_mid_level(group: WorkerGroup, members: list[LocalWorker]) -> None:
    with pytest.raises(WorkerLostError, match="SIGKILL"):  # noqa: PT012
        async for event in group.run_level(plan(concurrency(2))):
            if isinstance(event, Window):
                os.kill(members[1].pid, signal.SIGKILL)
    # The other one is as good as before.
    assert await members[0].preflight(probe()) == make_facts()


@pytest.mark.parametrize("does", ["hangs", "raises"])
async def test_each_member_is_stopped_whatever_another_one_does(
    does: str, group: WorkerGroup, members: list[LocalWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    hung, is_stopped = asyncio.Event(), asyncio.Event()
    stop_other = members[1].stop_level

    async def stop_one() -> None:
        if does == "raises":
            raise WorkerLostError(Reason.WORKER_CRASH, "gone")
        await hung.wait()

    async def stop() -> None:
        is_stopped.set()
        await stop_other()

    monkeypatch.setattr(members[0], "stop_level", stop_one)
    monkeypatch.setattr(members[1], "stop_level", stop)
    running = asyncio.create_task(run(group, plan(concurrency(2)), windows=1000))
    while group.sent < 100:
        await asyncio.sleep(0.01)
    stopping = asyncio.create_task(group.stop_level())
    waiting = asyncio.create_task(is_stopped.wait())
    await asyncio.wait([waiting], timeout=patient(2))
    assert is_stopped.is_set()
    hung.set()
    with pytest.raises(WorkerLostError, match="gone") if does == "raises" else contextlib.nullcontext():
        await stopping
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_input_that_does_not_fit(group: WorkerGroup, members: list[LocalWorker]) -> None:
    with pytest.raises(PreflightError, match="INPUT0: expected 16 elements"):
        await run(group, plan(concurrency(2), "no_fit"))
    assert all(member.alive for member in members)


async def test_a_cancelled_level_ends_on_all(group: WorkerGroup, members: list[LocalWorker]) -> None:
    running = asyncio.create_task(run(group, plan(request_rate(100)), windows=1000))
    await asyncio.sleep(0.2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    for member in members:
        assert await member.preflight(probe()) == make_facts()


async def test_kill_ends_all(group: WorkerGroup, members: list[LocalWorker]) -> None:
    await group.kill()
    assert not any(member.alive for member in members)
