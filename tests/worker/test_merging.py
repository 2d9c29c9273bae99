from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.facts import ServerReading
from exporter.core.units import MS
from exporter.core.window import ClientHealth, Window
from exporter.worker.merging import Merger
from tests.builders import make_columns, make_snapshot

GRID = 1_000_000 * MS
WINDOW = 100 * MS
SNAPSHOT = make_snapshot(requests=1, request_ms=1, queue_ms=0, infer_ms=1)


def window(start: float, end: float, rows: int = 1, *, warm_up: bool = False, asks: bool = False) -> Window:
    """From grid edge `start` to `end`."""
    return Window(
        index=7,
        start_ns=GRID + round(start * WINDOW),
        end_ns=GRID + round(end * WINDOW),
        columns=make_columns([1.0] * rows),
        sent=rows,
        unsent=1,
        in_flight=3,
        before=SNAPSHOT if asks else None,
        after=SNAPSHOT if asks else None,
        warm_up=warm_up,
        readings=(ServerReading(GRID + round(end * WINDOW), True),) if asks else (),
    )


def started(members: int = 2) -> Merger:
    merger = Merger(members, WINDOW)
    for member in range(members):
        merger.add(member, window(-5, 0, warm_up=True))
    merger.start_grid(GRID)
    return merger


def spans(windows: list[Window]) -> list[tuple[float, float, int, bool]]:
    return [((w.start_ns - GRID) / WINDOW, (w.end_ns - GRID) / WINDOW, len(w.columns), w.warm_up) for w in windows]


def test_windows_of_all_become_one() -> None:
    merger = started()
    (warm_up,) = merger.merged()
    assert (warm_up.warm_up, warm_up.index, warm_up.sent) == (True, 0, 2)
    merger.add(0, window(0, 1.001, 5, asks=True))
    assert list(merger.merged()) == []
    merger.add(1, window(0.01, 1.02, 2))
    (merged,) = merger.merged()
    assert (merged.index, merged.sent, merged.unsent, merged.in_flight, len(merged.columns)) == (1, 7, 2, 6, 7)
    assert (merged.start_ns, merged.end_ns) == (warm_up.end_ns, GRID + round(1.02 * WINDOW))
    assert (merged.before, merged.after, merged.warm_up) == (SNAPSHOT, SNAPSHOT, False)
    assert [reading.at_ns for reading in merged.readings] == [GRID + round(1.001 * WINDOW)]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        # The second left an edge out: the first's two windows go with its one.
        ([(0, 1), (1, 2), (2, 3)], [(0, 1), (1, 3)], [(0, 1, 2, False), (1, 3, 3, False)]),
        # The first's rows were full in the middle of a window.
        ([(0, 1), (1, 1.5), (1.5, 2)], [(0, 1), (1, 2)], [(0, 1, 2, False), (1, 2, 3, False)]),
        # Cut a little before the edge that was meant.
        ([(0, 0.99), (0.99, 2)], [(0, 1), (1, 2)], [(0, 1, 2, False), (1, 2, 2, False)]),
    ],
)
def test_members_that_are_not_in_step(
    first: list[tuple[float, float]], second: list[tuple[float, float]], expected: list[tuple[float, float, int, bool]]
) -> None:
    merger = started()
    list(merger.merged())
    for member, parts in enumerate([first, second]):
        for start, end in parts:
            merger.add(member, window(start, end))
    assert spans(list(merger.merged())) == expected


@given(st.integers(1, 3), st.integers(1, 6), st.integers(0, 2**32))
def test_every_request_is_in_the_one_window_in_which_it_ended(members: int, edges: int, seed: int) -> None:
    """Members leave edges out, and cut in between where their rows are full; only the last edge is everyone's."""
    rng = random.Random(seed)
    merger = Merger(members, WINDOW)
    merger.start_grid(GRID)
    sent = 0
    for member in range(members):
        met = [0, *(edge for edge in range(1, edges) if rng.random() < 0.7)]
        cuts = sorted([*met, rng.choice(met) + 0.5, edges])
        for start, end in pairwise(cuts):
            rows = rng.randrange(4)
            part = window(start, end, rows)
            part.columns.last_ns[:] = [rng.randint(part.start_ns, part.end_ns) for _ in range(rows)]
            merger.add(member, part)
            sent += rows
    merged = list(merger.merged())
    assert sum(len(each.columns) for each in merged) == sent
    assert merged[-1].end_ns == GRID + edges * WINDOW
    begin_ns = GRID
    for each in merged:
        assert each.start_ns == begin_ns
        assert all(each.start_ns <= last_ns <= each.end_ns for last_ns in each.columns.last_ns.tolist())
        begin_ns = each.end_ns


@pytest.mark.parametrize("measured", [True, False])
def test_a_member_that_ended_is_not_waited_for(measured: bool) -> None:
    merger = started()
    list(merger.merged())
    merger.add(0, window(0, 0.5))
    merger.ended(0)
    assert list(merger.merged()) == []
    merger.add(1, window(0, 1))
    merger.add(1, window(1, 1.5, 4))
    assert spans(list(merger.merged())) == [(0, 1, 2, False)]
    merger.ended(1)
    assert list(merger.merged()) == []
    assert spans(list(merger.rest(measured=measured))) == [(1, 1.5, 4, not measured)]


def test_nothing_is_merged_before_the_grid_is_known() -> None:
    merger = Merger(1, WINDOW)
    assert list(merger.rest(measured=False)) == []
    merger.add(0, window(-5, -4, warm_up=True))
    assert list(merger.merged()) == []
    merger.ended(0)
    assert spans(list(merger.rest(measured=False))) == [(-5, -4, 1, True)]


def test_measuring_begins_a_grid_of_its_own() -> None:
    merger = Merger(2, WINDOW)
    merger.start_grid(GRID)
    for member in range(2):
        for start in range(3):
            merger.add(member, window(start, start + 1, warm_up=True))
    assert [w.warm_up for w in merger.merged()] == [True] * 3
    for member in range(2):
        merger.add(member, window(3, 3.4, warm_up=True))
    assert list(merger.merged()) == []
    merger.start_grid(GRID + round(3.4 * WINDOW))
    assert spans(list(merger.merged())) == [(3, 3.4, 2, True)]
    for member in range(2):
        merger.add(member, window(3.4, 4.4))
    assert spans(list(merger.merged())) == [(3.4, 4.4, 2, False)]


def test_the_worst_health_counts() -> None:
    merger = Merger(2, WINDOW)
    for member, health in enumerate([ClientHealth(5, 0.2, 9, 70), ClientHealth(1, 0.9, 9, 80)]):
        part = window(0, 1)
        object.__setattr__(part, "health", health)
        merger.add(member, part)
    merger.start_grid(GRID)
    (merged,) = merger.merged()
    assert merged.health == ClientHealth(5, 0.9, 9, 80)
