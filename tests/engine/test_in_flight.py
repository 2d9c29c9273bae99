"""Which request a call carries next."""

from __future__ import annotations

import asyncio
import time
from itertools import count

import pytest

from exporter.core.probe import SequenceOptions, StopRules
from exporter.engine.abandoned import Abandoned
from exporter.engine.guard import Guard
from exporter.engine.in_flight import InFlight
from exporter.engine.level_setup import make_counted, make_sender
from exporter.engine.sequence_in_flight import SequenceInFlight
from exporter.engine.sequences import Sequences
from exporter.transport.call import Call, EncodedRequest
from tests.engine.fakes import FakePlacer, make_plan, request_rate


def make_requests(name: str, count: int) -> list[EncodedRequest]:
    return [EncodedRequest(name.encode(), b"%d" % step) for step in range(count)]


def make_guard() -> Guard:
    return Guard(StopRules(), 100, 1)


def carried(in_flight: InFlight, slots: list[int]) -> list[tuple[bytes, bytes, int]]:
    found = []
    for slot in slots:
        call = Call(slot)
        request = in_flight.next_request(call)
        assert request is not None
        found.append((request.head, request.body, call.step))
    return found


@pytest.mark.parametrize("places", [1, 2])
async def test_steps_take_turns_and_each_place_has_its_own(places: int) -> None:
    """Calls without a place of their own share one; the steps continue from call to call, whatever its place."""
    by_place = [make_requests(name, 3) for name in "ab"[:places]]
    in_flight = InFlight(make_guard(), by_place, Abandoned(), 10, 1)
    names = [b"ab"[slot % places : slot % places + 1] for slot in (0, 1, 2, 3, 1)]
    steps = [0, 1, 2, 0, 1]
    expected = [(name, b"%d" % step, step) for name, step in zip(names, steps, strict=True)]
    assert carried(in_flight, [0, 1, 2, 3, 1]) == expected


async def test_where_no_sequence_is_ready_nothing_is_sent_or_counted() -> None:
    guard = make_guard()
    sequences = Sequences(SequenceOptions(count=1, serial=True), [range(2)], 1, 0)
    placers = [FakePlacer()]
    in_flight = SequenceInFlight(guard, Abandoned(), 10, 1, sequences=sequences, placers=placers, by_call=False)
    sequences.take(0)  # the only one is under way
    assert not in_flight.offer(Call(0), 1, 1)
    assert (guard.sent, in_flight.count, in_flight.stopped) == (0, 0, None)


class Sent:
    """A channel that takes each request, notes when it was due, and never responds."""

    def __init__(self) -> None:
        self.due_ns: list[int] = []

    def send(self, call: Call, request: EncodedRequest) -> None:
        self.due_ns.append(call.intended_ns)


@pytest.mark.parametrize("counted", [False, True])
async def test_after_a_hold_the_server_does_not_get_all_that_was_due_in_it(counted: bool) -> None:
    guard, sent = Guard(StopRules(), 10**6, 10**12), Sent()
    in_flight = InFlight(guard, [make_requests("a", 1)], Abandoned(), 10**4, 10**10)
    in_flight.calls = tuple(Call(slot) for slot in range(2000))
    for call in in_flight.calls:
        call.channel = sent  # type: ignore[assignment]
    plan = make_plan(request_rate(1000.0))
    sender = (
        make_counted(plan, in_flight, 2000, lambda: None)
        if counted
        else make_sender(plan, in_flight, (number * 1_000_000 for number in count()))
    )
    in_flight.start(sender, time.monotonic_ns())
    in_flight.hold()
    held_ns = time.monotonic_ns()
    while sender.unsent + sender.waiting < 200:
        await asyncio.sleep(0.01)
    assert not sent.due_ns
    waited = sender.waiting
    in_flight.release()
    assert len(sent.due_ns) == waited
    assert all(due_ns <= held_ns + 20_000_000 for due_ns in sent.due_ns), "what was due later is unsent"
    before = sender.unsent
    while len(sent.due_ns) < waited + 50:
        await asyncio.sleep(0.01)
    assert sender.unsent == before, "and then the level continues"
    in_flight.close()
