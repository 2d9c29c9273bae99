"""Pools by purpose: what hangs in one holds up no other."""

from __future__ import annotations

import asyncio
import threading

import pytest

from exporter.core.threads import Threads


async def test_results_and_errors_come_back() -> None:
    threads = Threads("test", 2)
    assert await asyncio.gather(*(threads.run(pow, 2, power) for power in range(9))) == [2**n for n in range(9)]
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 1, 0)


async def test_a_pool_is_bounded_and_its_threads_hold_up_no_exit() -> None:
    threads, go, running = Threads("bounded", 2), threading.Event(), 0
    lock = threading.Lock()

    def work() -> bool:
        nonlocal running
        with lock:
            running += 1
        go.wait()
        return threading.current_thread().daemon

    tasks = [asyncio.create_task(threads.run(work)) for _ in range(5)]
    while running < 2:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert running == 2
    tasks[4].cancel()
    await asyncio.sleep(0)
    go.set()
    assert await asyncio.gather(*tasks[:4]) == [True] * 4
    assert running == 4


async def test_what_hangs_in_one_pool_holds_up_no_other() -> None:
    stuck, other, go = Threads("stuck", 1), Threads("other", 1), threading.Event()
    hanging = [asyncio.create_task(stuck.run(go.wait)) for _ in range(20)]
    async with asyncio.timeout(10):
        assert await other.run(lambda: 1) == 1
    go.set()
    await asyncio.gather(*hanging)
