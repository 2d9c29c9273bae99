"""Which levels a search visits, given the verdicts on earlier ones. Pure: the verdicts are sent in.

Both searches are perf_analyzer's (its inference_profiler.h, Profile). They count in integer units, so rounding never
repeats a level: the unit is 1 for concurrency, and 10^-6 requests per second for request rates.
"""

from __future__ import annotations

import math
from collections.abc import Generator

from exporter.core.probe import MAX_REQUEST_RATE, MAX_SEARCH_LEVELS, Mode, Search, SearchKind

_RATE_UNITS = 1_000_000

Visits = Generator[float, bool, None]
"""Yields the next level's value, and receives whether that level met the threshold."""


def visits(search: Search, max_in_flight: int) -> Visits:
    """The values to visit. An open end is `max_in_flight` or the highest rate, with at most MAX_SEARCH_LEVELS
    levels."""
    is_rate = search.mode is Mode.REQUEST_RATE
    units = _RATE_UNITS if is_rate else 1
    highest = search.end or (MAX_REQUEST_RATE if is_rate else max_in_flight)
    start, end, step = (round(value * units) for value in (search.start, highest, search.step))
    chosen = _linear if search.kind is SearchKind.LINEAR else _binary
    values = chosen(start, end, step)
    value = next(values, None)
    visited = 0
    while value is not None and (search.end or visited < MAX_SEARCH_LEVELS):
        visited += 1
        kept = yield value / units
        try:
            value = values.send(kept)
        except StopIteration:
            return


def most_visits(search: Search) -> int:
    """The most levels that `visits` can yield."""
    if not search.end:
        return MAX_SEARCH_LEVELS
    steps = (search.end - search.start) / search.step
    if search.kind is SearchKind.LINEAR:
        return int(steps + 1e-9) + 1
    return (2 if steps else 1) + math.ceil(math.log2(max(steps, 1)))


def _linear(start: int, end: int, step: int) -> Generator[int, bool, None]:
    """Upwards to the first level that fails."""
    value = start
    while value <= end and (yield value):
        value += step


def _binary(start: int, end: int, step: int) -> Generator[int, bool, None]:
    """First the start, which must meet the threshold, and the end, which must not; otherwise the search is over. Then
    bisects until a passing and a failing level are at most a step apart."""
    if not (yield start) or start == end or (yield end):
        return
    low, high = start, end
    while high - low > step:
        middle = (low + high) // 2
        if (yield middle):
            low = middle
        else:
            high = middle
