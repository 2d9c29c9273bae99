"""Offsets and their error bound, and windows that are moved from one clock to another."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.facts import ServerReading, ServerSnapshot
from exporter.core.outcome import Reason
from exporter.core.window import LevelEnd, RecordColumns, Window
from exporter.engine.plan import LevelWaiting
from exporter.worker.remote.clock import (
    LevelClock,
    Offset,
    Sample,
    event_here,
    offset_of,
    plan_there,
)
from tests.builders import concurrency
from tests.engine.fakes import make_plan

HOUR_NS = 3600 * 10**9


@given(
    st.integers(-HOUR_NS * 10**4, HOUR_NS * 10**4),
    st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, 10**8)), min_size=1, max_size=30),
)
def test_the_true_offset_is_within_the_error(true_ns: int, trips: list[tuple[int, int]]) -> None:
    """Each trip has a way there and a way back, which may differ as they like."""
    samples, now_ns = [], 5 * HOUR_NS
    for there_ns, back_ns in trips:
        samples.append(Sample(now_ns, now_ns + there_ns + back_ns, now_ns + there_ns + true_ns))
        now_ns += there_ns + back_ns + 1000
    found = offset_of(samples)
    assert abs(found.ns - true_ns) <= found.error_ns
    shortest_ns = min(there + back for there, back in trips)
    assert found.error_ns == shortest_ns - shortest_ns // 2


def window() -> Window:
    columns = RecordColumns.empty(3)
    times = {
        name: np.array([0, 10**9 + 5, 2 * 10**9])
        for name in ("intended_ns", "sent_ns", "send_done_ns", "first_ns", "last_ns")
    }
    return Window(
        index=4,
        start_ns=10**9,
        end_ns=3 * 10**9,
        columns=replace(columns, **times, response_ns=np.array([10**9 + 7])),
        sent=3,
        before=ServerSnapshot(10**9, 10**9 + 2, ()),
        readings=(ServerReading(10**9 + 3, True),),
    )


@pytest.mark.parametrize("offset_ns", [-7 * HOUR_NS, 0, 1, 10**15])
def test_a_window_moves_whole_and_no_figure_changes(offset_ns: int) -> None:
    theirs = window()
    ours = event_here(theirs, Offset(offset_ns, 10))
    assert isinstance(ours, Window)
    assert (ours.start_ns, ours.end_ns) == (10**9 - offset_ns, 3 * 10**9 - offset_ns)
    assert ours.before is not None
    assert ours.before.received_ns - ours.before.asked_ns == 2
    assert ours.readings[0].at_ns == 10**9 + 3 - offset_ns
    assert ours.health.clock_error_ns == 10
    for field in fields(RecordColumns):
        before, after = getattr(theirs.columns, field.name), getattr(ours.columns, field.name)
        assert len(before) == len(after)
        moves = field.name in ("intended_ns", "sent_ns", "send_done_ns", "first_ns", "last_ns", "response_ns")
        expected = [value - offset_ns if value and moves else value for value in before.tolist()]
        assert after.tolist() == expected, field.name


def test_what_has_no_moment_stays_and_an_end_moves() -> None:
    offset = Offset(100, 1)
    assert event_here(LevelWaiting(), offset) == LevelWaiting()
    end = LevelEnd(Reason.NONE, "", 5, 2, (1000, 2000), 0)
    assert event_here(end, offset) == replace(end, abandoned_until_ns=(900, 1900))
    assert event_here(replace(end, spared_until_ns=700), offset) == replace(
        end, abandoned_until_ns=(900, 1900), spared_until_ns=600
    )


def test_a_plan_goes_there_by_their_clock() -> None:
    plan = replace(make_plan(concurrency(1)), abandoned_until_ns=(1000,), spared_until_ns=0)
    there = plan_there(plan, Offset(100, 1))
    assert (there.abandoned_until_ns, there.spared_until_ns) == ((1100,), 0)
    assert plan_there(replace(plan, spared_until_ns=5), Offset(100, 1)).spared_until_ns == 105


@given(
    st.integers(-(10**15), 10**15),
    st.floats(-1e-3, 1e-3),
    st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**7)), min_size=1, max_size=30),
)
def test_the_offset_of_a_level_is_within_its_error_though_the_clocks_drift(
    true_ns: int, drift: float, trips: list[tuple[int, int]]
) -> None:
    """Theirs runs fast or slow by up to a millisecond per second; a beat each half second."""
    clock = LevelClock([Sample(0, 1000, true_ns + 500)])
    for number, (there_ns, back_ns) in enumerate(trips, 1):
        asked_ns = number * 500_000_000
        read_ns = asked_ns + there_ns
        clock.add(Sample(asked_ns, read_ns + back_ns, read_ns + true_ns + round(drift * read_ns)))
        now_ns = read_ns + back_ns + 400_000_000
        now = clock.offset_at(now_ns)
        assert abs(now.ns - true_ns - drift * now_ns) <= now.error_ns + 2
        assert now.ns == true_ns, "it stays"


@pytest.mark.parametrize("back", [False, True])
def test_a_correction_is_within_the_error_from_the_next_question_on(back: bool) -> None:
    """Theirs is slewed by 50 ms in 0.6 s (chronyd does), and then stays or, 2 s later, is slewed back."""
    ms, trip_ns = 10**6, 200_000

    def apart_ns(at_ns: int) -> int:
        there = min(max(at_ns - 1200 * ms, 0) // 12, 50 * ms)
        return there - (min(max(at_ns - 3800 * ms, 0) // 12, 50 * ms) if back else 0)

    clock = LevelClock([Sample(0, trip_ns, trip_ns // 2)])
    for number in range(1, 25):
        asked_ns = number * 500 * ms
        read_ns = asked_ns + trip_ns // 2
        clock.add(Sample(asked_ns, asked_ns + trip_ns, read_ns + apart_ns(read_ns)))
        now_ns = asked_ns + trip_ns
        error_ns = clock.offset_at(now_ns).error_ns
        assert error_ns >= abs(apart_ns(now_ns)) - trip_ns // 10, f"at {now_ns / ms} ms"
        assert error_ns <= abs(apart_ns(now_ns)) + trip_ns, "nor is more reported than was found"


def test_a_clock_that_runs_away_is_seen_in_the_error() -> None:
    clock = LevelClock([Sample(0, 2000, 1000)])
    assert clock.offset_at(0) == Offset(0, 1000)
    assert clock.offset_at(10**9) == Offset(0, 1000 + 10**6), "nothing is known for a second"
    for second in range(1, 12):
        asked_ns = second * 10**9
        clock.add(Sample(asked_ns, asked_ns + 2000, asked_ns + 1000 + second * 500_000))
    # After 11 s they are 5.5 ms apart.
    assert clock.offset_at(11 * 10**9) == Offset(0, 5_501_000)
