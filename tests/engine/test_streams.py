"""Each stream's steps go at the deadlines of its own grid, whatever the responses do."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from exporter.core.units import MS
from exporter.engine.streams import Due, StreamClock, starts_ns

INTERVAL = 100
NEVER_LEFT = 1_000_000


@given(
    streams=st.integers(1, 80),
    interval_ns=st.integers(1, 400) | st.integers(MS, 60_000 * MS),
    ramp_ns=st.integers(0, 100_000 * MS),
    seed=st.integers(0, 2**64),
)
def test_starts_are_spread_over_the_ramp_and_over_an_interval(
    streams: int, interval_ns: int, ramp_ns: int, seed: int
) -> None:
    found = starts_ns(streams, interval_ns, ramp_ns, seed)
    phases = [start - number * ramp_ns // streams for number, start in enumerate(found)]
    # Each n-th part of an interval has one stream: its number by rank is its place.
    assert all(
        rank * interval_ns // streams <= phase <= -(-(rank + 1) * interval_ns // streams)
        for rank, phase in enumerate(sorted(phases))
    )
    assert found == starts_ns(streams, interval_ns, ramp_ns, seed)


def test_another_seed_gives_other_starts() -> None:
    assert starts_ns(64, 300 * MS, 0, 1) != starts_ns(64, 300 * MS, 0, 2)


def ticks(clock: StreamClock, now_ns: int) -> list[Due]:
    return list(clock.tick(now_ns))


def test_a_late_response_makes_the_next_step_late_and_moves_no_deadline() -> None:
    clock = StreamClock([7], INTERVAL)
    assert ticks(clock, 6) == []
    assert ticks(clock, 7) == [Due(0, 7)]
    # Two more deadlines pass without a response: both steps wait.
    assert ticks(clock, 250) == []
    assert clock.waiting(lambda _: NEVER_LEFT) == 2
    assert clock.waiting(lambda _: 1) == 1
    assert clock.ended(0, sequence_over=False) == Due(0, 107)
    assert clock.ended(0, sequence_over=False) == Due(0, 207)
    assert clock.ended(0, sequence_over=False) is None
    assert clock.next_ns == 307
    assert ticks(clock, 307) == [Due(0, 307)]
    assert clock.unsent == 0


def test_a_new_sequence_begins_at_the_next_deadline() -> None:
    clock = StreamClock([0], INTERVAL)
    ticks(clock, 0)
    ticks(clock, 250)
    assert clock.ended(0, sequence_over=True) is None
    assert clock.waiting(lambda _: NEVER_LEFT) == 0
    assert ticks(clock, 300) == [Due(0, 300)]
    assert clock.unsent == 0


def test_a_failure_costs_the_deadlines_up_to_the_end_of_the_pause() -> None:
    clock = StreamClock([0], INTERVAL)
    ticks(clock, 0)
    ticks(clock, 250)
    clock.failed(0, 450)
    assert clock.unsent == 2
    assert ticks(clock, 400) == []
    assert clock.unsent == 4
    assert ticks(clock, 500) == [Due(0, 500)]
    assert clock.unsent == 4


def test_what_was_held_back_goes_once_and_not_in_a_burst() -> None:
    clock = StreamClock([0], INTERVAL)
    (due,) = clock.tick(0)
    clock.held_back(due)
    assert ticks(clock, 320) == []
    assert clock.waiting(lambda _: NEVER_LEFT) == 4
    assert list(clock.retry()) == [Due(0, 300)]
    assert clock.unsent == 3
    assert clock.ended(0, sequence_over=False) is None
    assert list(clock.retry()) == []


@given(
    starts=st.lists(st.integers(0, 300), min_size=1, max_size=5),
    seed=st.integers(0, 2**32),
    steps=st.integers(1, 120),
)
def test_whatever_happens_each_deadline_is_kept_waited_for_or_counted(starts: list[int], seed: int, steps: int) -> None:
    """Random events at random moments. No step goes before its deadline, no stream has two in flight, deadlines only
    rise, and each that has passed was sent, waits, was given up, or belonged to no sequence."""
    chance = random.Random(seed)
    clock = StreamClock(starts, INTERVAL)
    now = 0
    in_flight: dict[int, Due] = {}
    last_deadline = dict.fromkeys(range(len(starts)), -1)
    sent = idle = 0
    last_next = clock.next_ns

    def took(due: Due) -> None:
        nonlocal sent
        assert due.stream not in in_flight
        assert last_deadline[due.stream] < due.deadline_ns <= now
        assert (due.deadline_ns - starts[due.stream]) % INTERVAL == 0
        if chance.random() < 0.1:
            clock.held_back(due)
            return
        last_deadline[due.stream] = due.deadline_ns
        in_flight[due.stream] = due
        sent += 1

    for _ in range(steps):
        now += chance.randrange(0, 80)
        for due in clock.tick(now):
            took(due)
        assert clock.next_ns > now
        assert clock.next_ns >= last_next
        last_next = clock.next_ns
        action = chance.randrange(5)
        if action == 0:
            for due in clock.retry():
                took(due)
        elif in_flight:
            stream = chance.choice(list(in_flight))
            del in_flight[stream]
            if action == 1:
                clock.failed(stream, now + chance.choice([0, 30, 400]))
            else:
                before = clock.waiting(lambda _: NEVER_LEFT)
                over = action == 2
                following = clock.ended(stream, sequence_over=over)
                if over:
                    assert following is None
                    idle += before - clock.waiting(lambda _: NEVER_LEFT)
                elif following is not None:
                    took(following)
        passed = sum((now - start) // INTERVAL + 1 for start in starts if start <= now)
        assert passed == sent + clock.waiting(lambda _: NEVER_LEFT) + clock.unsent + idle
