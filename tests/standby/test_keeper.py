"""The keeper: takes, renews, loses and gives up, with a store that fails in every way. Its clock is the test's."""

from __future__ import annotations

import asyncio
import threading

import pytest

from exporter.core.units import NS
from exporter.standby.keeper import LeaseKeeper, holder_name
from exporter.standby.lease import LeaseRecord
from exporter.storage.directory_lock import LockHeldError
from tests.standby.fakes import MemoryStore

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
    assert store.record is not None
    await ours.release()  # it is not ours to give up
    assert store.record.holder == "b"


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
