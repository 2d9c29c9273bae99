"""Levels over the workers of a real Dask scheduler: what they measure, and what ends them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import replace

import pytest

from exporter.core.errors import PreflightError, WorkerLostError
from exporter.core.outcome import Outcome, Reason
from exporter.core.units import NS
from exporter.core.window import LevelEnd, Window
from exporter.engine.plan import LevelPlan, LevelStarted, MemberEvent, Worker
from exporter.engine.tally import Allowance
from exporter.storage.account import boottime_ns
from exporter.worker.ipc import Failure
from exporter.worker.remote import pool
from exporter.worker.remote.host import LEASE_SECONDS, Pulse, Variables, WorkerHost
from exporter.worker.remote.member import RemoteWorker
from exporter.worker.remote.pool import lend_remote
from exporter.worker.remote.schema import schema
from tests.builders import concurrency, make_facts, make_target
from tests.engine.fakes import make_plan
from tests.waiting import patient
from tests.worker.remote.cluster import Cluster
from tests.worker.test_local import FAKE_WORKER, probe

LEASE_NS = round(LEASE_SECONDS * NS)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """For all tests of this file; the last one that uses it kills a worker."""
    with Cluster(tmp_path_factory.mktemp("cluster"), 3) as cluster:
        yield cluster


@pytest.fixture
async def host() -> AsyncIterator[WorkerHost]:
    """The actor, in this process."""
    it = WorkerHost(schema(), FAKE_WORKER)
    yield it
    await it.kill()


def plan(window_ms: float = 200, kind: str = "fake") -> LevelPlan:
    it = make_plan(concurrency(6), window_ms=window_ms)
    return replace(it, probe=replace(it.probe, target=make_target(kind=kind)))


async def test_three_members_measure_as_one(cluster: Cluster) -> None:
    async with lend_remote(cluster.address, 3, module=FAKE_WORKER) as worker:
        assert await worker.preflight(probe()) == make_facts()
        windows, ended = [], None
        async for event in worker.run_level(replace(plan(), max_windows=3)):
            if isinstance(event, Window):
                windows.append(event)
            elif isinstance(event, LevelEnd):
                ended = event
            else:
                assert isinstance(event, LevelStarted)
        assert ended is not None
        await worker.silence()
        assert worker.sent == ended.sent == sum(window.sent for window in windows)
        await worker.end_sweep()
    measured = [window for window in windows if not window.warm_up]
    assert len(measured) >= 3
    assert all(window.in_flight == 6 for window in measured[:2])
    assert sum(len(window.columns) for window in windows) == ended.sent
    now_ns = time.monotonic_ns()
    for window in measured:
        assert (window.columns.outcome == Outcome.OK).all()
        assert 0 < window.start_ns < window.end_ns < now_ns
        assert (window.columns.last_ns > window.columns.sent_ns).all()


async def test_shared_memory_is_refused_with_its_reason(cluster: Cluster) -> None:
    shared = replace(probe(), input=replace(probe().input, shared_memory="system"))
    async with lend_remote(cluster.address, 1, module=FAKE_WORKER) as worker:
        with pytest.raises(PreflightError, match="the server's own machine"):
            await worker.preflight(shared)


async def test_the_error_rules_are_of_the_level(cluster: Cluster) -> None:
    async with lend_remote(cluster.address, 3, module=FAKE_WORKER) as worker:
        events = [event async for event in worker.run_level(plan(kind="error"))]
        end = events[-1]
        assert isinstance(end, LevelEnd)
        assert end.reason is Reason.ERROR_RATIO
        assert "requests failed" in end.text
        assert "one of 3 workers" not in end.text
        assert end.sent < 100


async def test_a_lost_worker_ends_the_level_and_the_others_are_silent(cluster: Cluster) -> None:
    async with lend_remote(cluster.address, 3, module=FAKE_WORKER) as worker:
        await worker.preflight(probe())
        with pytest.raises(WorkerLostError, match="worker tcp://"):
            await _kill_after_two_windows(worker, cluster)
        await worker.silence()
        sent = worker.sent
        await asyncio.sleep(1)
        assert worker.sent == sent


async def _kill_after_two_windows(worker: Worker, cluster: Cluster) -> None:
    seen = 0
    async for event in worker.run_level(plan()):
        seen += isinstance(event, Window)
        if seen == 2:
            cluster.workers[1].kill()


async def test_no_scheduler_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "CONNECT_SECONDS", 1.0)
    with pytest.raises(WorkerLostError, match=r"the Dask scheduler at tcp://127\.0\.0\.1:1 cannot be used"):
        async with lend_remote("tcp://127.0.0.1:1", 1):
            pass


async def test_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="install the same"):
        WorkerHost(schema() + "x")


async def test_a_client_that_is_gone_leaves_silence_within_the_lease(host: WorkerHost) -> None:
    """The client stops to beat."""
    assert isinstance(await host.start(), Pulse)
    assert await host.preflight(probe(), Variables({})) == make_facts()
    await host.begin(plan(), Variables({}))
    while not any(isinstance(event, Window) for event in await host.events()):
        await host.beat(_soon())
    await host.beat(_soon())
    last_s = time.monotonic()
    reader = asyncio.create_task(_read(host))
    sent, changed_s = 0, last_s
    while time.monotonic() < last_s + LEASE_SECONDS + 2:
        assert host._worker is not None
        if host._worker.sent != sent:
            sent, changed_s = host._worker.sent, time.monotonic()
        await asyncio.sleep(0.02)
    assert sent
    assert changed_s - last_s < LEASE_SECONDS + patient(0.5)
    reader.cancel()


def _soon() -> int:
    return boottime_ns() + LEASE_NS


async def _read(host: WorkerHost) -> None:
    while True:
        await host.events()


async def test_a_beat_that_comes_late_allows_nothing_more(host: WorkerHost) -> None:
    """What a client sent before it was gone may lie in a network for a while."""
    far, began_ns = DeadHost(), boottime_ns()
    member = RemoteWorker(far, "far")
    await member.start()
    while not far.beats:
        await asyncio.sleep(0.01)
    (until_ns,) = far.beats[0]
    assert began_ns < until_ns - LEASE_NS <= boottime_ns(), "its own moment, by the far clock, and the lease"
    await member.kill()
    await host.start()
    await host.beat(until_ns)
    assert host._until_ns == until_ns
    await host.beat(boottime_ns() + 3600 * NS)
    assert host._until_ns <= boottime_ns() + LEASE_NS, "nor does a client's own error"


class DeadHost:
    """Once it is dead, whatever is asked of it gets no response."""

    is_dead = False

    def __init__(self) -> None:
        self.beats: list[tuple[int, ...]] = []

    def __getattr__(self, name: str) -> object:
        async def respond(*arguments: int) -> object:
            if self.is_dead:
                await asyncio.Event().wait()
            if name == "beat":
                self.beats.append(arguments)
            return Pulse(0, 0, 0, boottime_ns(), 0) if name in ("start", "beat") else None

        return respond


async def test_a_host_that_does_not_respond_is_lost_and_known_to_be_silent() -> None:
    host = DeadHost()
    member = RemoteWorker(host, "far")
    await member.start()
    host.is_dead = True
    with pytest.raises(WorkerLostError, match="far: no response"):
        await member.preflight(probe())
    began_s = time.monotonic()
    await member.silence()
    assert time.monotonic() - began_s < LEASE_SECONDS + patient(1)
    await member.kill()


class RefusingHost(DeadHost):
    """Its connection is broken for what a member does not wait for."""

    async def proceed(self, at_ns: int) -> None:
        raise OSError("in proceed")

    async def resume(self, allowed: Allowance) -> None:
        raise OSError("in resume")


@pytest.mark.parametrize(
    ("notify", "why"),
    [
        (lambda member: member.proceed_level(1), "in proceed"),
        (lambda member: member.resume_level(Allowance(1.0, 1, 1)), "in resume"),
    ],
    ids=["proceed", "resume"],
)
async def test_a_member_that_was_not_notified_is_lost(notify: Callable[[RemoteWorker], None], why: str) -> None:
    """Or the level would be measured with a member that sends nothing."""
    member = RemoteWorker(RefusingHost(), "far")
    await member.start()
    notify(member)
    await asyncio.wait(member._notices)
    assert not member.alive
    with pytest.raises(WorkerLostError, match=f"worker far: OSError: {why}"):
        await member.stop_level()
    await member.kill()


class LateBeatHost(DeadHost):
    """The response of its first beat is late; a second one gets none."""

    def __init__(self) -> None:
        super().__init__()
        self.released = asyncio.Event()
        self.first, self.second = asyncio.Event(), asyncio.Event()

    async def beat(self, until_ns: int) -> Pulse:
        if self.first.is_set():
            self.second.set()
            await asyncio.Event().wait()
        pulse = Pulse(5, 0, 0, boottime_ns(), 0)
        self.first.set()
        await self.released.wait()
        return pulse

    async def silence(self) -> Pulse:
        return Pulse(9, 0, 0, boottime_ns(), 0)


async def test_the_last_word_is_not_replaced_by_a_beat_before_it() -> None:
    host = LateBeatHost()
    member = RemoteWorker(host, "far")
    await member.start()
    await host.first.wait()
    await member.silence()
    host.released.set()
    await host.second.wait()
    assert member.sent == 9, "what the hourly budgets are charged"
    await member.kill()


async def test_an_error_that_none_expects_ends_the_level(host: WorkerHost, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(plan: LevelPlan) -> AsyncGenerator[MemberEvent, None]:
        for event in list[MemberEvent]():
            yield event
        raise OverflowError

    await host.start()
    monkeypatch.setattr(host._worker, "run_member", broken)
    await host.begin(plan(), Variables({}))
    assert await host.events() == [Failure(False, Reason.INTERNAL, "OverflowError")]
