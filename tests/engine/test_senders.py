from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from exporter.core.outcome import Outcome
from exporter.core.probe import OverloadPolicy
from exporter.core.units import MS
from exporter.engine.senders import ClosedLoop, FirstCall, OpenLoop, Periodic
from exporter.transport.call import Call

OK, DOWN, BUSY = Outcome.OK, Outcome.CONNECT_ERROR, Outcome.OVERLOAD


class Pauses:
    """Replaces the loop's timers: keeps how long each pause is, and ends it on request."""

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
    """Takes offers while it has capacity, and keeps them."""

    def __init__(self, space: int = 1_000_000) -> None:
        self.space = space
        self.taken: list[tuple[int, int]] = []
        self.warm = 0

    def offer(self, call: Call, intended_ns: int, now_ns: int) -> bool:
        if len(self.taken) >= self.space:
            return False
        self.taken.append((call.slot, intended_ns))
        return True

    def on_warm(self) -> None:
        self.warm += 1


def end(sender: ClosedLoop | FirstCall | OpenLoop, call: Call, outcome: Outcome, *, at_ns: int = 0) -> None:
    call.outcome, call.last_ns = outcome, at_ns
    sender.ended(call)


@pytest.mark.parametrize(
    ("ends", "pauses_ms"),
    [
        ([OK] * 3, []),
        ([DOWN] * 9, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]),
        ([DOWN, BUSY, Outcome.TLS_ERROR, Outcome.PROTOCOL_ERROR], [10, 20, 40, 80]),
        ([DOWN, DOWN, OK, DOWN], [10, 20, 10]),  # a response ends it
        # These took the server's time, or report the request: the stop rules are there for them.
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


async def test_overload_only_counted(pauses: Pauses) -> None:
    taker, call = Taker(), Call(0)
    sender = ClosedLoop([call], taker.offer, taker.on_warm, OverloadPolicy.COUNT)
    end(sender, call, BUSY)
    end(sender, call, DOWN)
    assert pauses.ms == [10]
    assert len(taker.taken) == 1


def paced(sender: OpenLoop, now_ms: int) -> None:
    """One request of an open loop comes due at this time."""
    sender._due_ns = now_ms * MS
    sender._send_one(now_ms * MS)


@pytest.mark.parametrize(
    ("policy", "responses", "sent_at_ms"),
    [
        # A pause of 10 ms, one of 20 ms after the next refusal, and 10 ms again after a response.
        (OverloadPolicy.BACK_OFF, {0: BUSY, 10: BUSY, 30: OK, 31: BUSY}, [0, 10, 30, 31, *range(41, 45)]),
        (OverloadPolicy.COUNT, {0: BUSY, 10: BUSY}, list(range(45))),
        # One that is gone is spared by either.
        (OverloadPolicy.BACK_OFF, dict.fromkeys(range(45), DOWN), [0, 10, 30]),
        (OverloadPolicy.COUNT, dict.fromkeys(range(45), DOWN), [0, 10, 30]),
        # What took its time, or is about the request, changes nothing.
        (OverloadPolicy.BACK_OFF, dict.fromkeys(range(45), Outcome.SERVER_ERROR), list(range(45))),
    ],
)
async def test_an_open_loop_spares_an_overloaded_server(
    policy: OverloadPolicy, responses: dict[int, Outcome], sent_at_ms: list[int]
) -> None:
    taker, call = Taker(), Call(0)
    sender = OpenLoop([call], taker.offer, taker.on_warm, iter(()), on_finished=taker.on_warm, on_overload=policy)
    for now_ms in range(45):
        paced(sender, now_ms)
        if len(taker.taken) > 0 and taker.taken[-1][1] == now_ms * MS:
            end(sender, call, responses.get(now_ms, OK), at_ns=now_ms * MS)
    assert [intended_ns // MS for _, intended_ns in taker.taken] == sent_at_ms
    assert sender.unsent == 45 - len(sent_at_ms)
    sender.stop()


async def test_what_was_in_flight_when_a_pause_began_does_not_lengthen_it() -> None:
    taker, calls = Taker(), [Call(0), Call(1)]
    sender = OpenLoop(calls, taker.offer, taker.on_warm, iter(()), on_finished=taker.on_warm)
    paced(sender, 0)
    paced(sender, 0)
    end(sender, calls[0], BUSY, at_ns=MS)
    end(sender, calls[1], BUSY, at_ns=2 * MS)
    paced(sender, 10)
    assert (len(taker.taken), sender.unsent) == (2, 1)
    paced(sender, 11)
    assert len(taker.taken) == 3
    sender.stop()


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


async def test_parked_calls_go_when_there_is_space() -> None:
    taker, calls = Taker(space=1), [Call(0), Call(1), Call(2)]
    sender = ClosedLoop(calls, taker.offer, taker.on_warm)
    sender.start(0)
    assert [slot for slot, _ in taker.taken] == [0]
    taker.space = 2
    sender.space()
    assert [slot for slot, _ in taker.taken] == [0, 1]
    sender.stop()
    taker.space = 3
    sender.space()
    assert [slot for slot, _ in taker.taken] == [0, 1]


async def test_nothing_is_sent_after_stop(pauses: Pauses) -> None:
    taker, call = Taker(), Call(0)
    sender = ClosedLoop([call], taker.offer, taker.on_warm)
    end(sender, call, DOWN)
    (pause,) = sender._pauses.values()
    sender.stop()
    assert pause.cancelled()


async def test_the_first_call_is_sent_once() -> None:
    taker, call = Taker(space=0), Call(0)
    sender = FirstCall(call, taker.offer, taker.on_warm)
    sender.start(0)
    taker.space = 9
    sender.space()
    sender.space()
    assert len(taker.taken) == 1
    end(sender, call, OK)
    assert (len(taker.taken), taker.warm) == (1, 1)


class Offers:
    """Takes requests down, and refuses what is beyond `capacity`."""

    def __init__(self, space: int = 1000) -> None:
        self.sent: list[int] = []
        self.space = space
        self.finished = 0

    def offer(self, call: Call, intended_ns: int, now_ns: int) -> bool:
        if len(self.sent) >= self.space:
            return False
        call.response_ns = []
        self.sent.append(call.slot)
        return True

    def finish(self) -> None:
        self.finished += 1


def periodic(calls: int, space: int = 1000) -> tuple[Periodic, list[Call], Offers]:
    offers, those = Offers(space), [Call(slot) for slot in range(calls)]
    sender = Periodic(those, offers.offer, first=2, step=3, period=2, on_finished=offers.finish)
    sender.start(5)
    return sender, those, offers


def respond(call: Call, times: int = 1) -> None:
    for _ in range(times):
        call.response_ns.append(1)
        assert call.on_response is not None
        call.on_response(call)


def test_periodic_steps_come_when_all_of_the_last_have_had_their_responses() -> None:
    sender, calls, offers = periodic(8)
    assert offers.sent == [0, 1]
    respond(calls[0], 5)
    respond(calls[1])
    assert offers.sent == [0, 1]
    respond(calls[1])
    assert offers.sent == [0, 1, 2, 3, 4]
    respond(calls[0], 9)  # of a step before: it counts no more
    for call in calls[2:5]:
        respond(call, 2)
    assert offers.sent == list(range(8))
    for call in calls:
        assert offers.finished == 0
        sender.ended(call)
    assert offers.finished == 1


def test_a_periodic_request_that_ends_early_holds_up_nothing() -> None:
    sender, calls, offers = periodic(5)
    sender.ended(calls[0])
    respond(calls[1], 2)
    assert offers.sent == [0, 1, 2, 3, 4]
    for call in calls[1:]:
        sender.ended(call)
    assert (offers.finished, sender.unsent) == (1, 0)


def test_periodic_requests_without_space_are_unsent() -> None:
    sender, calls, offers = periodic(5, space=0)
    assert (sender.unsent, offers.finished) == (2, 1)
    sender, calls, offers = periodic(5, space=3)
    respond(calls[0], 2)
    respond(calls[1], 2)
    assert (offers.sent, sender.unsent) == ([0, 1, 2], 2)


def test_a_stopped_periodic_load_adds_nothing() -> None:
    sender, calls, offers = periodic(5)
    sender.stop()
    for call in calls[:2]:
        respond(call, 2)
    assert offers.sent == [0, 1]


async def test_a_call_thinks_before_it_is_sent_again(pauses: Pauses) -> None:
    taker, call = Taker(), Call(0)
    loop = ClosedLoop([call], taker.offer, taker.on_warm, think_ns=100 * MS)
    loop.start(0)
    for _ in range(200):
        end(loop, call, OK)
        pauses.end()
    assert len(taker.taken) == 201
    assert (min(pauses.ms) >= 50, max(pauses.ms) <= 150) == (True, True)
    assert (min(pauses.ms) < 60, max(pauses.ms) > 140) == (True, True)  # drawn, or they would stay tied together
    end(loop, call, DOWN)
    assert pauses.ms[-1] == 10  # a server that is down is spared as always
