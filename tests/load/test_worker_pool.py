from __future__ import annotations

import asyncio
from typing import cast

import pytest

from exporter.errors import WorkerLostError
from exporter.load.local_worker import LocalWorker
from exporter.load.worker_pool import WorkerPool
from exporter.model import Reason


class FakeWorker:
    def __init__(self) -> None:
        self.alive = True
        self.was_killed = False
        self.sweeps = 0
        self.ended = False

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


def fake(worker: LocalWorker) -> FakeWorker:
    return cast(FakeWorker, worker)


@pytest.fixture
def factory() -> Factory:
    return Factory()


async def test_a_worker_is_used_again(factory: Factory) -> None:
    pool = WorkerPool(2, spawn=factory)
    first = await pool.acquire()
    await pool.release(first)
    assert await pool.acquire() is first
    second = await pool.acquire()
    assert second is not first
    assert pool.alive == len(factory.made) == 2
    assert pool.restarts == {"crash": 0, "deadline": 0, "worn": 0}


async def test_waits_for_a_place(factory: Factory) -> None:
    pool = WorkerPool(1, spawn=factory)
    first = await pool.acquire()
    second = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    assert not second.done()
    await pool.release(first)
    assert await second is first


@pytest.mark.parametrize("reason", ["crash", "deadline", "worn"])
async def test_a_worker_is_replaced(factory: Factory, reason: str) -> None:
    pool = WorkerPool(1, spawn=factory, max_sweeps=3)
    worker = await pool.acquire()
    if reason == "crash":
        fake(worker).alive = False
    elif reason == "deadline":
        await worker.kill()
    else:
        fake(worker).sweeps = 3
    await pool.release(worker)
    assert fake(worker).ended
    assert pool.restarts == {"crash": 0, "deadline": 0, "worn": 0, reason: 1}
    assert pool.alive == 0
    assert await pool.acquire() is not worker
    assert pool.alive == 1


async def test_one_that_died_while_idle_is_not_handed_out(factory: Factory) -> None:
    pool = WorkerPool(1, spawn=factory)
    worker = await pool.acquire()
    await pool.release(worker)
    fake(worker).alive = False
    assert await pool.acquire() is not worker
    assert pool.restarts["crash"] == 1


async def test_a_failed_start_takes_no_place(factory: Factory) -> None:
    pool = WorkerPool(1, spawn=factory)
    factory.error = WorkerLostError(Reason.WORKER_CRASH, "worker ended with exit status 1")
    with pytest.raises(WorkerLostError, match="exit status 1"):
        await pool.acquire()
    factory.error = None
    await pool.acquire()
    assert pool.alive == 1


async def test_close_ends_all_and_counts_none(factory: Factory) -> None:
    pool = WorkerPool(2, spawn=factory)
    idle, busy = await pool.acquire(), await pool.acquire()
    await pool.release(idle)
    await pool.close()
    assert fake(idle).ended
    assert fake(busy).ended
    assert pool.alive == 0
    await pool.release(busy)
    assert sum(pool.restarts.values()) == 0
