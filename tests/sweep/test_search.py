"""Which levels a search visits: perf_analyzer's own visits as a table, and what must hold for any server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.probe import MAX_REQUEST_RATE, MAX_SEARCH_LEVELS, Mode, Search, SearchKind
from exporter.sweep.search import most_visits, visits

LINEAR, BINARY = SearchKind.LINEAR, SearchKind.BINARY


def visited(
    kind: SearchKind,
    span: tuple[float, float, float],
    keeps: Callable[[float], bool],
    *,
    mode: Mode = Mode.CONCURRENCY,
) -> list[float]:
    search = visits(Search(kind, mode, *span), max_in_flight=256)
    values = [next(search)]
    while True:
        try:
            values.append(search.send(keeps(values[-1])))
        except StopIteration:
            return values


@pytest.mark.parametrize(
    ("kind", "span", "highest", "expected"),
    [
        (LINEAR, (1, 8, 2), 100, [1, 3, 5, 7]),
        (LINEAR, (1, 8, 1), 3, [1, 2, 3, 4]),
        (LINEAR, (2, 8, 1), 1, [2]),
        (LINEAR, (4, 4, 1), 9, [4]),
        (LINEAR, (1, 0, 100), 1000, [1, 101, 201]),  # open: up to what may be in flight, 256
        (BINARY, (1, 8, 1), 100, [1, 8]),
        (BINARY, (2, 8, 1), 1, [2]),
        (BINARY, (4, 4, 1), 9, [4]),
        (BINARY, (4, 4, 1), 3, [4]),
        (BINARY, (1, 8, 1), 5, [1, 8, 4, 6, 5]),
        (BINARY, (1, 8, 2), 5, [1, 8, 4, 6]),
        (BINARY, (1, 64, 8), 20, [1, 64, 32, 16, 24]),
    ],
)
def test_concurrencies(
    kind: SearchKind, span: tuple[float, float, float], highest: float, expected: list[float]
) -> None:
    assert visited(kind, span, lambda value: value <= highest) == expected


@pytest.mark.parametrize(
    ("kind", "span", "highest", "expected"),
    [
        (LINEAR, (0.1, 0.5, 0.1), 9, [0.1, 0.2, 0.3, 0.4, 0.5]),
        (BINARY, (10, 50, 5), 33, [10, 50, 30, 40, 35]),
        (BINARY, (0.5, 2, 0.25), 1.5, [0.5, 2, 1.25, 1.625, 1.4375]),
    ],
)
def test_request_rates(
    kind: SearchKind, span: tuple[float, float, float], highest: float, expected: list[float]
) -> None:
    assert visited(kind, span, lambda value: value <= highest, mode=Mode.REQUEST_RATE) == expected


def test_an_open_end_does_not_continue_for_ever() -> None:
    assert visited(LINEAR, (1, 0, 1), lambda _: True) == [float(value) for value in range(1, MAX_SEARCH_LEVELS + 1)]
    rates = visited(LINEAR, (1, 0, 300_000), lambda _: True, mode=Mode.REQUEST_RATE)
    assert rates == [1, 300_001, 600_001, 900_001]
    assert max(rates) <= MAX_REQUEST_RATE


SPANS = st.tuples(st.integers(1, 5000), st.integers(0, 5000), st.integers(1, 700)).map(
    lambda drawn: (drawn[0], drawn[0] + drawn[1], drawn[2])
)
MODES = st.sampled_from([Mode.CONCURRENCY, Mode.REQUEST_RATE])


@given(SPANS, st.integers(0, 12_000), MODES)
def test_a_binary_search_finds_the_edge_in_few_visits(span: tuple[int, int, int], edge: int, mode: Mode) -> None:
    start, end, step = span
    values = visited(BINARY, span, lambda value: value <= edge, mode=mode)
    kept, failed = [v for v in values if v <= edge], [v for v in values if v > edge]
    assert all(start <= value <= end for value in values)
    assert len(values) <= most_visits(Search(BINARY, mode, *span))
    assert bool(kept) == (start <= edge)
    assert bool(failed) == (edge < end)
    if kept and failed:
        assert min(failed) - max(kept) <= step


@given(SPANS, st.integers(0, 12_000), MODES)
def test_a_linear_search_stops_at_the_first_that_fails(span: tuple[int, int, int], edge: int, mode: Mode) -> None:
    start, end, step = span
    values = visited(LINEAR, span, lambda value: value <= edge, mode=mode)
    assert values == [start + step * index for index in range(len(values))]
    assert len(values) <= most_visits(Search(LINEAR, mode, *span))
    assert all(value <= edge for value in values[:-1])
    assert values[-1] > edge or values[-1] + step > end


@given(st.sampled_from(SearchKind), SPANS, MODES, st.lists(st.booleans(), min_size=70, max_size=70))
def test_no_level_is_visited_twice_whatever_the_verdicts(
    kind: SearchKind, span: tuple[int, int, int], mode: Mode, verdicts: list[bool]
) -> None:
    responses = iter(verdicts)
    values = visited(kind, span, lambda _: next(responses, False), mode=mode)
    assert len(set(values)) == len(values)
