"""Which turn of which session goes next, and when: the state alone, then the loop that sends by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.outcome import Outcome
from exporter.core.probe import OverloadPolicy
from exporter.core.units import MS, NS
from exporter.engine.session_sender import SessionLoop
from exporter.engine.sessions import Sessions, SessionTurn
from exporter.transport.call import Call

OK, DOWN = Outcome.OK, Outcome.CONNECT_ERROR


def test_a_slot_sends_its_session_and_then_the_next() -> None:
    sessions = Sessions([[0, 1], [2], [3, 4]], [7, 8, 9, 10, 11], 1)
    taken, pauses = [], []
    while sessions.has_turn(0):
        taken.append(sessions.take(0))
        pauses.append(sessions.ended(0, is_ok=True))
    assert taken == [SessionTurn(step, step in (0, 2, 3)) for step in range(5)]
    # The pause of a session's last turn has nothing after it.
    assert pauses == [7, 0, 0, 10, 0]


def test_a_failed_turn_ends_its_session_and_no_other() -> None:
    sessions = Sessions([[0, 1, 2], [3, 4]], [5] * 5, 1)
    assert sessions.take(0).step == 0
    assert sessions.ended(0, is_ok=False) == 0
    assert sessions.unsent == 2
    assert sessions.take(0) == SessionTurn(3, is_first=True)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.integers(1, 5), st.randoms())
def test_every_turn_is_sent_once_in_order_or_counted(lengths: list[int], slots: int, chance: Any) -> None:
    streams, begin = [], 0
    for length in lengths:
        streams.append(list(range(begin, begin + length)))
        begin += length
    sessions = Sessions(streams, [0] * begin, slots)
    under_way: dict[int, int] = {}
    sent: list[int] = []
    while True:
        ready = [slot for slot in range(slots) if slot not in under_way and sessions.has_turn(slot)]
        if not ready and not under_way:
            break
        if ready and (not under_way or chance.random() < 0.5):
            slot = chance.choice(ready)
            turn = sessions.take(slot)
            before = next(stream for stream in streams if turn.step in stream)
            assert turn.is_first == (turn.step == before[0])
            assert turn.is_first or turn.step - 1 in sent
            under_way[slot] = turn.step
        else:
            slot = chance.choice(list(under_way))
            sent.append(under_way.pop(slot))
            sessions.ended(slot, is_ok=chance.random() < 0.8)
    assert len(sent) == len(set(sent)) == begin - sessions.unsent


class Timers:
    """Replaces the loop's timers: what is to happen, and when."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.due: list[tuple[float, Callable[[], None]]] = []
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "call_at", self._call_at)
        monkeypatch.setattr(loop, "call_later", self._call_at)

    def _call_at(self, when: float, callback: Callable[..., None], *arguments: Any) -> asyncio.TimerHandle:
        self.due.append((when, lambda: callback(*arguments)))
        return asyncio.TimerHandle(0, lambda: None, (), asyncio.get_running_loop())


async def test_the_pause_begins_with_the_end_of_the_response(monkeypatch: pytest.MonkeyPatch) -> None:
    timers, sent, finished = Timers(monkeypatch), [], []
    sessions = Sessions([[0, 1], [2]], [250 * MS, 0, 0], 3)
    calls = [Call(slot) for slot in range(3)]

    def offer(call: Call, intended_ns: int, now_ns: int) -> bool:
        sent.append((sessions.take(call.slot).step, intended_ns))
        return True

    def end(call: Call, at_ns: int, outcome: Outcome = OK) -> None:
        call.outcome, call.last_ns = outcome, at_ns
        loop.ended(call)

    loop = SessionLoop(calls, offer, sessions, lambda: finished.append(True), OverloadPolicy.BACK_OFF)
    loop.start(NS)
    assert sent == [(0, NS), (2, NS)]  # the third call has no session
    end(calls[1], 2 * NS)
    end(calls[0], 3 * NS)
    ((due_s, resume),) = timers.due
    assert due_s == 3.25
    assert not finished
    resume()
    assert sent[2:] == [(1, 3 * NS + 250 * MS)]
    end(calls[0], 4 * NS)
    assert (finished, loop.unsent) == ([True], 0)


async def test_a_server_that_is_down_is_spared_before_the_next_session(monkeypatch: pytest.MonkeyPatch) -> None:
    timers, sent = Timers(monkeypatch), []
    sessions = Sessions([[0, 1, 2], [3]], [0] * 4, 1)
    call = Call(0)

    def offer(call: Call, intended_ns: int, now_ns: int) -> bool:
        sent.append(sessions.take(call.slot).step)
        return True

    loop = SessionLoop([call], offer, sessions, lambda: None, OverloadPolicy.BACK_OFF)
    loop.start(0)
    call.outcome = DOWN
    loop.ended(call)
    assert (sent, loop.unsent) == ([0], 2)
    ((pause_s, resume),) = timers.due
    assert pause_s == 0.01
    resume()
    assert sent == [0, 3]
