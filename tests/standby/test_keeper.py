"""The keeper: takes, renews, loses and gives up, with a store that fails in every way. Its clock is the test's."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from exporter.core.units import NS
from exporter.standby.keeper import LeaseKeeper, holder_name
from exporter.standby.lease import LeaseRecord
from exporter.storage.directory_lock import LockHeldError
from tests.standby.fakes import MemoryStore
from tests.waiting import PATIENCE_SECONDS

DURATION_NS = 10 * NS


class Clock:
    """A thousand times as fast as the real one, and it can be set forward."""

    def __init__(self) -> None:
        self.ahead_ns = 1000 * NS

    def __call__(self) -> int:
        return self.ahead_ns


def keeper(store: MemoryStore, clock: Clock, holder: str = "a") -> LeaseKeeper:
    found = LeaseKeeper(store, DURATION_NS, holder=holder, clock=clock)
    # The waits of the loop are real time; what they wait for is the test's clock.
    found.pause = _soon
    return found


def _holds(keeper: LeaseKeeper) -> bool:
    return keeper.is_held


async def _soon(_seconds: float) -> None:
    await asyncio.sleep(0.001)


async def test_a_free_lease_is_taken_and_then_others_wait() -> None:
    store, clock = MemoryStore(), Clock()
    ours, theirs = keeper(store, clock), keeper(store, clock, "b")
    await ours.acquire()
    assert ours.is_held
    waiting = asyncio.create_task(theirs.acquire())
    while theirs.other != "a":
        await asyncio.sleep(0.001)
    clock.ahead_ns += DURATION_NS - 1
    await asyncio.sleep(0.02)
    assert not waiting.done()
    assert not _holds(ours), "the margin: it stops before another may begin"
    clock.ahead_ns += 1
    await waiting
    assert theirs.is_held


async def test_a_lease_that_was_given_up_is_taken_at_once() -> None:
    store, clock = MemoryStore(), Clock()
    ours, theirs = keeper(store, clock), keeper(store, clock, "b")
    await ours.acquire()
    await ours.release()
    assert not ours.is_held
    await theirs.acquire()
    assert theirs.is_held


async def test_a_lease_that_another_has_by_now_is_not_given_up() -> None:
    store, clock = MemoryStore(), Clock()
    ours, theirs = keeper(store, clock), keeper(store, clock, "b")
    await ours.acquire()
    taking = asyncio.create_task(theirs.acquire())
    while theirs.other != "a":
        await asyncio.sleep(0.001)
    clock.ahead_ns += DURATION_NS
    await taking
    await ours.release()
    assert store.record is not None
    assert store.record.holder == "b"
    assert theirs.is_held


async def test_a_standby_that_never_asked_ends_without_the_store() -> None:
    store = MemoryStore()
    store.down = True
    waiting = keeper(store, Clock())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(waiting.acquire(), 0.05)
    store.read = lambda: pytest.fail("the store was asked")  # type: ignore[method-assign]
    await waiting.release()


async def test_it_is_renewed_while_the_store_fails_now_and_then() -> None:
    store, clock = MemoryStore(), Clock()
    ours = keeper(store, clock)
    await ours.acquire()
    keeping = asyncio.create_task(ours.keep())
    for _ in range(8):
        for store.down in (True, False):
            clock.ahead_ns += 2 * NS
            before = ours.errors if store.down else store.writes
            while (ours.errors if store.down else store.writes) == before:
                assert not keeping.done()
                await asyncio.sleep(0.001)
    assert ours.is_held
    assert ours.errors >= 8
    keeping.cancel()


async def test_a_store_that_stays_away_ends_it_in_time() -> None:
    store, clock = MemoryStore(), Clock()
    ours = keeper(store, clock)
    await ours.acquire()
    until_ns = ours.until_ns
    store.down = True
    keeping = asyncio.create_task(ours.keep())
    clock.ahead_ns += 6 * NS
    await asyncio.sleep(0.02)
    assert not keeping.done()
    clock.ahead_ns = until_ns
    assert "the share does not respond" in await keeping
    assert not ours.is_held
    with pytest.raises(LockHeldError, match="no daemon has the lease"):
        ours.claim.acquire()


async def test_a_response_that_was_lost_is_no_lost_lease() -> None:
    store, clock = MemoryStore(), Clock()
    ours = keeper(store, clock)
    await ours.acquire()
    keeping = asyncio.create_task(ours.keep())
    store.loses = True
    while not ours.errors:
        await asyncio.sleep(0.001)
    store.loses = False
    writes = store.writes
    while store.writes < writes + 3:
        assert not keeping.done()
        await asyncio.sleep(0.001)
    assert ours.is_held
    keeping.cancel()


async def test_another_holder_ends_it_at_once() -> None:
    store, clock = MemoryStore(), Clock()
    ours = keeper(store, clock)
    await ours.acquire()
    store.record = LeaseRecord("b", DURATION_NS, "77")
    assert await ours.keep() == "another daemon has it"
    assert not ours.is_held


async def test_a_store_that_hangs_holds_up_nothing() -> None:
    store, clock = MemoryStore(), Clock()
    hangs, goes_on = threading.Event(), threading.Event()
    ours = keeper(store, clock)
    await ours.acquire()
    replace = store.replace

    def hang(*arguments: object) -> LeaseRecord | None:
        hangs.set()
        goes_on.wait()
        return replace(*arguments)  # type: ignore[arg-type]

    store.replace = hang  # type: ignore[method-assign,assignment]
    keeping = asyncio.create_task(ours.keep())
    await asyncio.to_thread(hangs.wait)
    clock.ahead_ns = ours.until_ns
    assert "in time" in await keeping
    goes_on.set()
    await asyncio.sleep(0.02)
    assert not ours.is_held, "what comes of it comes too late"


async def test_it_is_renewed_while_all_threads_of_the_loop_hang() -> None:
    """As slow files, or names that are not resolved, can make them."""
    store, clock, ends = MemoryStore(), Clock(), threading.Event()
    with ThreadPoolExecutor(1) as threads:
        asyncio.get_running_loop().set_default_executor(threads)
        hanging = asyncio.get_running_loop().run_in_executor(None, ends.wait)
        try:
            ours = keeper(store, clock)
            await asyncio.wait_for(ours.acquire(), PATIENCE_SECONDS)
            keeping = asyncio.create_task(ours.keep())
            for _ in range(5):
                clock.ahead_ns += 2 * NS
                writes = store.writes
                while store.writes == writes:
                    assert not keeping.done()
                    await asyncio.sleep(0.001)
            assert ours.is_held
            keeping.cancel()
            await ours.release()
            assert store.record is not None
            assert store.record.holder == ""
        finally:
            ends.set()
            await hanging


async def test_a_renewal_in_flight_at_the_end_is_given_up_too() -> None:
    """The store grants what is awaited no more: the next daemon need not wait for it to run out."""
    store, clock = MemoryStore(), Clock()
    hangs, continues = threading.Event(), threading.Event()
    ours = keeper(store, clock)
    await ours.acquire()
    replace = store.replace

    def hang(*arguments: object) -> LeaseRecord | None:
        hangs.set()
        continues.wait()
        return replace(*arguments)  # type: ignore[arg-type]

    store.replace = hang  # type: ignore[method-assign,assignment]
    keeping = asyncio.create_task(ours.keep())
    await asyncio.to_thread(hangs.wait)
    keeping.cancel()
    releasing = asyncio.create_task(ours.release())
    await asyncio.sleep(0.02)
    continues.set()
    await releasing
    assert store.record is not None
    assert store.record.holder == ""
    assert not ours.is_held


async def test_its_thread_ends_with_it() -> None:
    before = set(threading.enumerate())
    ours = keeper(MemoryStore(), Clock())
    await ours.acquire()
    (own,) = set(threading.enumerate()) - before
    assert own.name.startswith("blocking"), "one that hangs must not hold up the exit: exporter/daemon/exit.py"
    await ours.release()
    await asyncio.to_thread(own.join, PATIENCE_SECONDS)
    assert not own.is_alive()


async def test_the_claim_is_taken_once_for_each_time_that_the_lease_is_ours() -> None:
    store, clock = MemoryStore(), Clock()
    ours = keeper(store, clock)
    with pytest.raises(LockHeldError):
        ours.claim.acquire()
    assert "standby" in ours.claim.refusal
    await ours.acquire()
    assert (ours.claim.acquire(), ours.claim.acquire(), ours.claim.refusal) == (True, False, "")


def test_no_two_processes_have_one_name() -> None:
    assert len({holder_name() for _ in range(1000)}) == 1000
