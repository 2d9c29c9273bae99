"""One probe's last 24 hours in figures: a row per kept sweep, in arrays of bounded size.

It owns the ring and what a reader gets of it. It knows neither sweeps' results nor files. Durations here are seconds.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

DAY_SECONDS = 86_400.0
SLOT_SECONDS = 300.0
"""A ring keeps one sweep per slot: the first one, or a later one that ended worse. So its size has a bound, whatever
the interval is."""
MAX_LEVELS = 8
"""Levels kept per probe; a search visits more, and the ones not seen for longest go."""
RECENT_SWEEPS = 20
"""Sweeps kept per probe with their reasons, whatever the interval is."""
_FIRST_ROWS = 16
_SLOTS = int(DAY_SECONDS / SLOT_SECONDS)
_AHEAD_SECONDS = 60.0


class Conclusion(enum.StrEnum):
    """What a sweep showed, from good to bad. Closed: it is kept in files."""

    OK = "ok"
    UNSTABLE = "unstable"
    OBJECTIVE_MISSED = "objective_missed"
    REGRESSED = "regressed"
    ABORTED = "aborted"
    FAILED = "failed"

    @property
    def severity(self) -> int:
        return _SEVERITY[self]


CONCLUSIONS = tuple(Conclusion)
_SEVERITY = {conclusion: number for number, conclusion in enumerate(CONCLUSIONS)}


@dataclass(frozen=True, slots=True)
class LevelPoint:
    """One level of one sweep. Latencies and baselines in seconds, throughput in inferences a second; a limit is the
    ratio to the baseline above which the sweep is bad for the most sensitive tier. NaN: there is no such figure."""

    level: str
    p50: float = math.nan
    p95: float = math.nan
    p99: float = math.nan
    throughput: float = math.nan
    error_ratio: float = math.nan
    baseline_p50: float = math.nan
    baseline_p99: float = math.nan
    limit_p50: float = math.nan
    limit_p99: float = math.nan


FIGURES = LevelPoint.__slots__[1:]
"""The names of a level's figures, in the order of a ring's columns."""
figures_of = attrgetter(*FIGURES)


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One sweep. The slo counts are of all requests since the point before."""

    started_unix_s: float
    duration_s: float
    conclusion: Conclusion
    reason: str = ""
    text: str = ""
    slo_requests: int = 0
    slo_bad: int = 0
    levels: tuple[LevelPoint, ...] = ()


SWEEP_ROW = np.dtype([("started", "f8"), ("requests", "i8"), ("bad", "i8"), ("severity", "u1")])


@dataclass(frozen=True, slots=True)
class Rows:
    """Sweeps in the order in which they were kept: `sweeps` are SWEEP_ROWs, a level has a row of FIGURES for each."""

    sweeps: NDArray[Any]
    levels: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Day:
    """The kept sweeps of one probe within 24 hours, oldest first: one entry per sweep in each array, NaN where a level
    lacks a figure. `severity` is an index into CONCLUSIONS. `recent` are the last sweeps, newest first. The arrays
    are the ring's own, and never change: look, don't write."""

    started_unix_s: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    severity: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    slo_requests: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    slo_bad: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    levels: Mapping[str, Mapping[str, NDArray[np.float32]]] = field(default_factory=dict)
    recent: tuple[SweepPoint, ...] = ()

    def burn_rate(self, now_unix_s: float, seconds: float, objective_ratio: float) -> float | None:
        """How fast the error budget was used in the last `seconds`: 1 uses it up exactly over the objective's period
        (Site Reliability Workbook, chapter 5). None without requests."""
        first = int(np.searchsorted(self.started_unix_s, now_unix_s - seconds, side="right"))
        requests = int(self.slo_requests[first:].sum())
        if not requests or objective_ratio >= 1:
            return None
        return float(self.slo_bad[first:].sum()) / requests / (1 - objective_ratio)


class Ring:
    """One probe's day. Grows with what it holds: rows older than 24 hours make place before it does. A row that a
    reader may have got is never written again."""

    def __init__(self) -> None:
        self._sweeps = np.zeros(_FIRST_ROWS, SWEEP_ROW)
        self._levels: dict[str, NDArray[np.float32]] = {}
        self._rows = 0
        self._in_order = True  # not so once the clock was set back
        self._read = False
        self.recent: deque[SweepPoint] = deque(maxlen=RECENT_SWEEPS)

    @property
    def newest_unix_s(self) -> float:
        return float(self._sweeps["started"][self._rows - 1]) if self._rows else 0.0

    @property
    def bytes(self) -> int:
        """Of its arrays."""
        return self._sweeps.nbytes + sum(column.nbytes for column in self._levels.values())

    @property
    def rows(self) -> Rows:
        """All that it holds."""
        held = slice(self._rows)
        return Rows(self._sweeps[held], {level: figures[held] for level, figures in self._levels.items()})

    def keeps(self, point: SweepPoint) -> bool:
        """Whether the point gets a row: it is the first of its slot, or worse than the one that has it."""
        if not self._is_of_last_slot(point):
            return True
        return point.conclusion.severity > int(self._sweeps["severity"][self._rows - 1])

    def add(self, point: SweepPoint) -> None:
        """Takes one that it `keeps`."""
        requests, bad = point.slo_requests, point.slo_bad
        if self._is_of_last_slot(point):
            if self._read:
                self._copy()
            self._rows -= 1
            requests += int(self._sweeps["requests"][self._rows])
            bad += int(self._sweeps["bad"][self._rows])
        elif self._rows == len(self._sweeps):
            self._make_place(point.started_unix_s)
        row = self._rows
        self._in_order = self._in_order and (not row or point.started_unix_s >= self._sweeps["started"][row - 1])
        self._sweeps[row] = (point.started_unix_s, requests, bad, point.conclusion.severity)
        levels = point.levels[:MAX_LEVELS]
        for name in self._levels.keys() - {level.level for level in levels}:
            self._levels[name][row] = math.nan
        for level in levels:
            self._column(level.level)[row] = figures_of(level)
        self._rows += 1

    def extend(self, rows: Rows) -> None:
        """The same for many at once, in the order in which they were kept."""
        have, more = self._rows, len(rows.sweeps)
        if not more:
            return
        sweeps = np.concatenate([self._sweeps[:have], rows.sweeps])
        names = [*(name for name in self._levels if name not in rows.levels), *rows.levels][-MAX_LEVELS:]
        levels = {
            name: np.concatenate([_figures(self._levels, name, have), _figures(rows.levels, name, more)])
            for name in names
        }
        kept = _worst_of_each_slot(sweeps)
        self._take(sweeps, levels, kept[_not_old(sweeps["started"][kept], float(sweeps["started"][-1]))])

    def day(self, now_unix_s: float) -> Day:
        """What lies within 24 hours."""
        self._read = True
        sweeps, started = self._sweeps[: self._rows], self._sweeps["started"][: self._rows]
        inside: slice | NDArray[np.intp]
        if self._in_order:
            first = np.searchsorted(started, now_unix_s - DAY_SECONDS, side="right")
            inside = slice(int(first), int(np.searchsorted(started, now_unix_s + _AHEAD_SECONDS, side="right")))
        else:
            there = np.flatnonzero((started > now_unix_s - DAY_SECONDS) & (started <= now_unix_s + _AHEAD_SECONDS))
            inside = there[np.argsort(started[there], kind="stable")]
        sweeps = sweeps[inside]
        return Day(
            started_unix_s=sweeps["started"],
            severity=sweeps["severity"],
            slo_requests=sweeps["requests"],
            slo_bad=sweeps["bad"],
            levels={
                level: dict(zip(FIGURES, figures[: self._rows][inside].T, strict=True))
                for level, figures in self._levels.items()
            },
            recent=tuple(reversed(self.recent)),
        )

    def _is_of_last_slot(self, point: SweepPoint) -> bool:
        return self._rows > 0 and _slot(self.newest_unix_s) == _slot(point.started_unix_s)

    def _column(self, level: str) -> NDArray[np.float32]:
        # The last one seen is last.
        figures = self._levels.pop(level, None)
        if figures is None:
            if len(self._levels) >= MAX_LEVELS:
                del self._levels[next(iter(self._levels))]
            figures = np.full((len(self._sweeps), len(FIGURES)), math.nan, np.float32)
        self._levels[level] = figures
        return figures

    def _make_place(self, now_unix_s: float) -> None:
        self._take(self._sweeps, self._levels, _not_old(self._sweeps["started"], now_unix_s))

    def _copy(self) -> None:
        self._sweeps, self._read = self._sweeps.copy(), False
        self._levels = {level: figures.copy() for level, figures in self._levels.items()}

    def _take(
        self, sweeps: NDArray[Any], levels: Mapping[str, NDArray[np.float32]], kept: NDArray[np.integer[Any]]
    ) -> None:
        """New arrays with the rows that are kept, and some place behind them."""
        size = _FIRST_ROWS
        while size < len(kept) * 4 / 3:
            size *= 2
        size = min(size, _SLOTS + _FIRST_ROWS)
        self._sweeps, self._levels, self._rows = np.zeros(size, SWEEP_ROW), {}, len(kept)
        self._sweeps[: len(kept)] = sweeps[kept]
        self._in_order = bool(np.all(np.diff(self._sweeps["started"][: len(kept)]) >= 0))
        self._read = False
        for level, figures in levels.items():
            if not np.isnan(figures[kept]).all():
                self._levels[level] = np.full((size, len(FIGURES)), math.nan, np.float32)
                self._levels[level][: len(kept)] = figures[kept]


def _slot(unix_s: float) -> int:
    return math.floor(unix_s / SLOT_SECONDS)


def _figures(levels: Mapping[str, NDArray[np.float32]], name: str, rows: int) -> NDArray[np.float32]:
    found = levels.get(name)
    return np.full((rows, len(FIGURES)), math.nan, np.float32) if found is None else found[:rows]


def _not_old(started: NDArray[np.float64], now_unix_s: float) -> NDArray[np.intp]:
    kept = np.flatnonzero(np.abs(now_unix_s - started) <= DAY_SECONDS)
    # Of a clock that runs to and fro there could be more rows than slots.
    return kept[-_SLOTS:]


def _worst_of_each_slot(sweeps: NDArray[Any]) -> NDArray[np.intp]:
    """Of neighbours in one slot the index of the first of the worst, which gets the requests of all."""
    slots = np.floor(sweeps["started"] / SLOT_SECONDS)
    begins = np.flatnonzero(np.concatenate([[True], slots[1:] != slots[:-1]]))
    if len(begins) == len(sweeps):
        return begins
    number = np.cumsum(np.concatenate([[False], slots[1:] != slots[:-1]]))
    kept = np.lexsort((-sweeps["severity"].astype(np.int16), number))[begins]
    for name in ("requests", "bad"):
        sweeps[name][kept] = np.add.reduceat(sweeps[name], begins)
    return kept
