"""Many who ask at once share a result, and none gets one from before the question."""

from __future__ import annotations

import asyncio

import pytest

from exporter.web.shared import Shared, SharedBy


async def test_thirty_at_once_cost_two() -> None:
    made = 0

    async def make() -> int:
        nonlocal made
        made += 1
        await asyncio.sleep(0.01)
        return made

    shared = Shared(make)
    first = asyncio.create_task(shared.get())
    await asyncio.sleep(0)
    assert await asyncio.gather(*(shared.get() for _ in range(30))) == [2] * 30
    assert await first == 1
    assert await shared.get() == 3


async def test_an_error_is_that_of_all_and_the_next_is_made_again() -> None:
    fail = True

    async def make() -> str:
        await asyncio.sleep(0)
        if fail:
            raise OSError("no")
        return "yes"

    shared = Shared(make)
    results = await asyncio.gather(*(shared.get() for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [OSError] * 3
    fail = False
    assert await shared.get() == "yes"


async def test_who_gives_up_takes_it_from_no_other() -> None:
    gate = asyncio.Event()

    async def make() -> str:
        await gate.wait()
        return "made"

    shared = Shared(make)
    first, second = asyncio.create_task(shared.get()), asyncio.create_task(shared.get())
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.set()
    assert await second == "made"


async def test_each_question_is_shared_by_itself_and_the_oldest_are_forgotten() -> None:
    asked: list[int] = []

    async def make(number: int) -> int:
        asked.append(number)
        await asyncio.sleep(0)
        return 10 * number

    shared = SharedBy(make)
    assert await asyncio.gather(*(shared.get(number) for number in (1, 2, 1, 1, 2))) == [10, 20, 10, 10, 20]
    assert sorted(asked) == [1, 1, 2, 2]
    for number in range(1000):
        assert await shared.get(number) == 10 * number
    assert len(shared._shared) == 64
