from __future__ import annotations

import asyncio
from typing import cast

import pytest

from exporter.core.errors import WorkerLostError
from exporter.core.outcome import Reason
from exporter.core.units import NS
from exporter.engine.level import DRAIN_LIMIT_NS
from exporter.engine.plan import Worker
from exporter.services.triton.shared_memory import RELEASE_LIMIT_NS
from exporter.worker.group import WorkerGroup
from exporter.worker.local import LocalWorker
from exporter.worker.pool import CLOSE_LIMIT_SECONDS, WorkerPool
from exporter.worker.session import UNSHARE_LIMIT_NS


class FakeWorker:
    def __init__(self) -> None:
        self.alive = True
        self.was_killed = False
        self.sweeps = 0
        self.ended = False
        self.is_asked = False
        self.is_stuck = False
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    async def end_sweep(self) -> None:
        assert self.alive
        self.sweeps += 1

    async def kill(self) -> None:
        self.was_killed = self.was_killed or self.alive
        self.alive = False
        self.ended = True


class Factory:
    def __init__(self) -> None:
        self.made: list[FakeWorker] = []
        self.error: WorkerLostError | None = None

    async def __call__(self) -> LocalWorker:
        if self.error is not None:
            raise self.error
        self.made.append(FakeWorker())
        return cast(LocalWorker, self.made[-1])


def fake(worker: Worker) -> FakeWorker:
    return cast(FakeWorker, worker)


@pytest.fixture
def factory() -> Factory:
    return Factory()


async def test_a_worker_is_used_again(factory: Factory) -> None:
    pool = WorkerPool(2, spawn=factory)
    async with pool.lend() as first:
        pass
    async with pool.lend() as again, pool.lend() as second:
        assert again is first
        assert second is not first
    assert pool.alive == len(factory.made) == 2
    assert pool.restarts == {"crash": 0, "deadline": 0, "worn": 0}


async def test_waits_for_a_place(factory: Factory) -> None:
    pool = WorkerPool(1, spawn=factory)

    async def take() -> Worker:
        async with pool.lend() as worker:
            return worker

    async with pool.lend() as first:
        second = asyncio.create_task(take())
        await asyncio.sleep(0)
        assert not second.done()
    assert await second is first


@pytest.mark.parametrize("reason", ["crash", "deadline", "worn"])
async def test_a_worker_is_replaced(factory: Factory, reason: str) -> None:
    pool = WorkerPool(1, spawn=factory, max_sweeps=3)
    async with pool.lend() as worker:
        if reason == "crash":
            fake(worker).alive = False
        elif reason == "deadline":
            await worker.kill()
        else:
            fake(worker).sweeps = 3
    assert fake(worker).ended
    assert pool.restarts == {"crash": 0, "deadline": 0, "worn": 0, reason: 1}
    assert pool.alive == 0
    async with pool.lend() as other:
        assert other is not worker
        assert pool.alive == 1


async def test_one_that_died_while_idle_is_not_handed_out(factory: Factory) -> None:
    pool = WorkerPool(1, spawn=factory)
    async with pool.lend() as worker:
        pass
    fake(worker).alive = False
    async with pool.lend() as other:
        assert other is not worker
    assert pool.restarts["crash"] == 1


class SlowFactory(Factory):
    """Its workers start once they may."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = 0
        self.may_start = asyncio.Event()

    async def __call__(self) -> LocalWorker:
        self.begun += 1
        await self.may_start.wait()
        return await super().__call__()


async def wait_too_short(pool: WorkerPool) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), pool.lend():
            pass


async def test_a_worker_without_a_waiting_sweep_serves_the_next_one() -> None:
    """Else sweeps on demand with less time than that would each start one, and never have it."""
    factory = SlowFactory()
    pool = WorkerPool(1, spawn=factory)
    for _ in range(3):
        await wait_too_short(pool)
    assert factory.begun == 1
    factory.may_start.set()
    async with pool.lend() as worker:
        assert fake(worker) is factory.made[0]
    late = SlowFactory()
    slow_pool = WorkerPool(1, spawn=late)
    await wait_too_short(slow_pool)
    late.may_start.set()
    await asyncio.sleep(0.01)
    assert slow_pool.alive == 1, "it came up without a waiting sweep"
    late.may_start.clear()
    late.error = WorkerLostError(Reason.WORKER_CRASH, "no memory")
    late.made[0].alive = False
    await wait_too_short(slow_pool)
    late.may_start.set()
    await asyncio.sleep(0.01)
    assert slow_pool.restarts["crash"] == 2


async def test_closing_ends_one_that_starts() -> None:
    factory = SlowFactory()
    pool = WorkerPool(1, spawn=factory)
    await wait_too_short(pool)
    await pool.close()
    factory.may_start.set()
    await asyncio.sleep(0.01)
    assert factory.made == []
    assert pool.alive == 0


async def test_a_failed_start_takes_no_place(factory: Factory) -> None:
    pool = WorkerPool(1, spawn=factory)
    factory.error = WorkerLostError(Reason.WORKER_CRASH, "worker ended with exit status 1")
    with pytest.raises(WorkerLostError, match="exit status 1"):
        async with pool.lend():
            pass
    factory.error = None
    async with pool.lend():
        assert pool.alive == 1


async def test_a_group_takes_one_place(factory: Factory) -> None:
    """However small the pool, two groups can't wait for each other's workers."""
    pool = WorkerPool(1, spawn=factory)
    async with pool.lend(3) as group:
        assert isinstance(group, WorkerGroup)
        assert pool.alive == 3
    async with pool.lend(2) as group:
        assert isinstance(group, WorkerGroup)
    assert len(factory.made) == 3


async def test_a_group_that_does_not_come_up_whole_gives_back_what_it_has(factory: Factory) -> None:
    pool = WorkerPool(1, spawn=factory)
    async with pool.lend():
        pass
    factory.error = WorkerLostError(Reason.WORKER_CRASH, "no more")
    with pytest.raises(WorkerLostError, match="no more"):
        async with pool.lend(2):
            pass
    assert pool.alive == 1
    async with pool.lend():
        assert len(factory.made) == 1


def test_close_waits_as_long_as_a_level_may_take_to_end() -> None:
    """Its requests, then its sequences, then its shared memory: a region of inputs, and one of outputs."""
    assert CLOSE_LIMIT_SECONDS * NS >= 2 * DRAIN_LIMIT_NS + UNSHARE_LIMIT_NS + 2 * RELEASE_LIMIT_NS


async def test_close_ends_all_and_counts_none(factory: Factory) -> None:
    pool = WorkerPool(2, spawn=factory)
    async with pool.lend() as busy:
        async with pool.lend() as idle:
            pass
        await pool.close()
        assert fake(idle).ended
        assert fake(busy).ended
    assert pool.alive == 0
    assert sum(pool.restarts.values()) == 0


async def test_a_worker_that_is_stuck_is_not_waited_for_at_the_end_nor_lent(factory: Factory) -> None:
    pool = WorkerPool(2, spawn=factory)
    async with pool.lend() as first:
        pass
    fake(first).is_stuck = True
    async with pool.lend() as second:
        assert second is not first
    assert pool.restarts["deadline"] == 1

    async def hang() -> None:
        fake(second).is_stuck = True
        await asyncio.Event().wait()

    fake(second).end_sweep = hang  # type: ignore[method-assign]
    async with asyncio.timeout(5):
        await pool.close()
    assert fake(second).ended
