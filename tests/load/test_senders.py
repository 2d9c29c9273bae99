from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from exporter.load.senders import ClosedLoop, FirstCall
from exporter.model import Outcome
from exporter.services.base import Call
from tests.builders import MS

OK, DOWN, BUSY = Outcome.OK, Outcome.CONNECT_ERROR, Outcome.OVERLOAD


class Pauses:
    """Stands in for the loop's timers: keeps how long each pause is, and ends it when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ms: list[float] = []
        self._waiting: list[Callable[[], None]] = []
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", self._call_later)

    def _call_later(self, delay_s: float, callback: Callable[..., None], *arguments: Any) -> asyncio.TimerHandle:
        self.ms.append(round(delay_s * 1000))
        self._waiting.append(lambda: callback(*arguments))
        return asyncio.TimerHandle(0, lambda: None, (), asyncio.get_running_loop())

    def end(self) -> None:
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback()


@pytest.fixture
async def pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    return Pauses(monkeypatch)


class Taker:
    """Takes offers while it has room, and keeps them."""

    def __init__(self, room: int = 1_000_000) -> None:
        self.room = room
        self.taken: list[tuple[int, int]] = []
        self.warm = 0

    def offer(self, call: Call, intended_ns: int, now_ns: int) -> bool:
        if len(self.taken) >= self.room:
            return False
        self.taken.append((call.slot, intended_ns))
        return True

    def on_warm(self) -> None:
        self.warm += 1


def end(
    sender: ClosedLoop | FirstCall, call: Call, outcome: Outcome, *, at_ns: int = 0, retry_after_ms: int = 0
) -> None:
    call.outcome, call.last_ns, call.retry_after_ns = outcome, at_ns, retry_after_ms * MS
    sender.ended(call)


@pytest.mark.parametrize(
    ("ends", "pauses_ms"),
    [
        ([OK] * 3, []),
        ([DOWN] * 9, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]),
        ([DOWN, BUSY, Outcome.TLS_ERROR, Outcome.PROTOCOL_ERROR], [10, 20, 40, 80]),
        ([DOWN, DOWN, OK, DOWN], [10, 20, 10]),  # an answer ends it
        # These took the server's time, or tell of the request: the stop rules are there for them.
        ([Outcome.TIMEOUT, Outcome.SERVER_ERROR, Outcome.CLIENT_ERROR, Outcome.WRONG_OUTPUT], []),
        ([DOWN, Outcome.TIMEOUT, DOWN], [10, 10]),
    ],
)
async def test_back_off(pauses: Pauses, ends: list[Outcome], pauses_ms: list[int]) -> None:
    taker, call = Taker(), Call(0)
    sender = ClosedLoop([call], taker.offer, taker.on_warm)
    sender.start(0)
    for number, outcome in enumerate(ends, 2):
        end(sender, call, outcome)
        pauses.end()
        assert len(taker.taken) == number
    assert pauses.ms == pauses_ms


@pytest.mark.parametrize(("asked_ms", "pause_ms"), [(0, 10), (5, 10), (300, 300), (5000, 5000), (90_000, 5000)])
async def test_retry_after(pauses: Pauses, asked_ms: int, pause_ms: int) -> None:
    taker, call = Taker(), Call(0)
    sender = ClosedLoop([call], taker.offer, taker.on_warm)
    end(sender, call, BUSY, retry_after_ms=asked_ms)
    assert pauses.ms == [pause_ms]


async def test_the_next_is_meant_for_the_end_of_the_one_before() -> None:
    taker, call = Taker(), Call(0)
    sender = ClosedLoop([call], taker.offer, taker.on_warm)
    sender.start(5)
    end(sender, call, OK, at_ns=70)
    assert taker.taken == [(0, 5), (0, 70)]


async def test_warm_once_each_call_has_ended() -> None:
    taker, calls = Taker(), [Call(0), Call(1)]
    sender = ClosedLoop(calls, taker.offer, taker.on_warm)
    sender.start(0)
    end(sender, calls[0], OK)
    end(sender, calls[0], OK)
    assert taker.warm == 0
    end(sender, calls[1], Outcome.TIMEOUT)
    assert taker.warm == 1
    end(sender, calls[1], OK)
    assert taker.warm == 1


async def test_parked_calls_go_when_there_is_room() -> None:
    taker, calls = Taker(room=1), [Call(0), Call(1), Call(2)]
    sender = ClosedLoop(calls, taker.offer, taker.on_warm)
    sender.start(0)
    assert [slot for slot, _ in taker.taken] == [0]
    taker.room = 2
    sender.room()
    assert [slot for slot, _ in taker.taken] == [0, 1]
    sender.stop()
    taker.room = 3
    sender.room()
    assert [slot for slot, _ in taker.taken] == [0, 1]


async def test_nothing_is_sent_after_stop(pauses: Pauses) -> None:
    taker, call = Taker(), Call(0)
    sender = ClosedLoop([call], taker.offer, taker.on_warm)
    end(sender, call, DOWN)
    (pause,) = sender._pauses.values()
    sender.stop()
    assert pause.cancelled()


async def test_the_first_call_is_sent_once() -> None:
    taker, call = Taker(room=0), Call(0)
    sender = FirstCall(call, taker.offer, taker.on_warm)
    sender.start(0)
    taker.room = 9
    sender.room()
    sender.room()
    assert len(taker.taken) == 1
    end(sender, call, OK)
    assert (len(taker.taken), taker.warm) == (1, 1)
