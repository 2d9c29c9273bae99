"""The last 24 hours of every probe, in figures: what the status page draws, so that no request reads the archive.

It owns the rings and what a sweep leaves in them. It knows neither files nor HTML. Durations here are seconds.
"""

from __future__ import annotations

import enum
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from exporter.core.outcome import SkipReason
from exporter.core.probe import Probe, Signal
from exporter.core.result import LevelVerdict, Measurement, SignalVerdict, SweepResult, WindowCounts
from exporter.core.units import NS
from exporter.core.untrusted_text import clean_text
from exporter.state.state_file import ProbeKey

DAY_SECONDS = 86_400.0
SLOT_SECONDS = 300.0
"""A ring keeps one sweep per slot: the first one, or a later one that ended worse. So its size has a bound, whatever
the interval is."""
MAX_LEVELS = 8
"""Levels kept per probe; a search visits more, and the ones not seen for longest go."""
MAX_PROBES = 10_000
RECENT_SWEEPS = 20
"""Sweeps kept per probe with their reasons, whatever the interval is."""
_TEXT = 160
_FIRST_ROWS = 16


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
_figures = attrgetter(*FIGURES)


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


@dataclass(frozen=True, slots=True)
class Day:
    """The kept sweeps of one probe within 24 hours, oldest first: one entry per sweep in each array, NaN where a level
    lacks a figure. `severity` is an index into CONCLUSIONS. `recent` are the last sweeps, newest first."""

    started_unix_s: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    severity: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    slo_requests: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    slo_bad: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    levels: Mapping[str, Mapping[str, NDArray[np.float32]]] = field(default_factory=dict)
    recent: tuple[SweepPoint, ...] = ()

    def burn_rate(self, now_unix_s: float, seconds: float, objective_ratio: float) -> float | None:
        """How fast the error budget was used in the last `seconds`: 1 uses it up exactly over the objective's period
        (Site Reliability Workbook, chapter 5). None without requests."""
        inside = self.started_unix_s > now_unix_s - seconds
        requests = int(self.slo_requests[inside].sum())
        if not requests or objective_ratio >= 1:
            return None
        return float(self.slo_bad[inside].sum()) / requests / (1 - objective_ratio)


_SWEEP = np.dtype(
    [("started", "f8"), ("requests", "i8"), ("bad", "i8"), ("severity", "u1")],
)


class Ring:
    """One probe's day. Grows with what it holds: rows older than 24 hours make place before it does."""

    def __init__(self) -> None:
        self._sweeps = np.zeros(_FIRST_ROWS, _SWEEP)
        self._levels: dict[str, NDArray[np.float32]] = {}
        self._rows = 0
        self._last: SweepPoint | None = None
        self.recent: deque[SweepPoint] = deque(maxlen=RECENT_SWEEPS)

    @property
    def newest_unix_s(self) -> float:
        return self._last.started_unix_s if self._last else 0.0

    @property
    def bytes(self) -> int:
        """Of its arrays."""
        return self._sweeps.nbytes + sum(column.nbytes for column in self._levels.values())

    def keeps(self, point: SweepPoint) -> bool:
        """Whether the point gets a row: it is the first of its slot, or worse than the one that has it."""
        last = self._last
        if last is None or _slot(last.started_unix_s) != _slot(point.started_unix_s):
            return True
        return point.conclusion.severity > last.conclusion.severity

    def add(self, point: SweepPoint) -> None:
        """Takes one that it `keeps`."""
        last = self._last
        if last is not None and _slot(last.started_unix_s) == _slot(point.started_unix_s):
            self._rows -= 1
            requests, bad = point.slo_requests + last.slo_requests, point.slo_bad + last.slo_bad
            point = replace(point, slo_requests=requests, slo_bad=bad)
        elif self._rows == len(self._sweeps):
            self._make_place(point.started_unix_s)
        row = self._rows
        self._sweeps[row] = (point.started_unix_s, point.slo_requests, point.slo_bad, point.conclusion.severity)
        levels = point.levels[:MAX_LEVELS]
        for name in self._levels.keys() - {level.level for level in levels}:
            self._levels[name][row] = math.nan
        for level in levels:
            self._column(level.level)[row] = _figures(level)
        self._rows += 1
        self._last = point

    def day(self, now_unix_s: float) -> Day:
        """A copy of what lies within 24 hours."""
        sweeps = self._sweeps[: self._rows]
        inside = np.flatnonzero((sweeps["started"] > now_unix_s - DAY_SECONDS) & (sweeps["started"] <= now_unix_s + 60))
        order = inside[np.argsort(sweeps["started"][inside], kind="stable")]  # a clock may have been set back
        sweeps = sweeps[order]
        return Day(
            started_unix_s=sweeps["started"],
            severity=sweeps["severity"],
            slo_requests=sweeps["requests"],
            slo_bad=sweeps["bad"],
            levels={
                level: dict(zip(FIGURES, figures[order].T, strict=True)) for level, figures in self._levels.items()
            },
            recent=tuple(reversed(self.recent)),
        )

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
        kept = np.flatnonzero(np.abs(now_unix_s - self._sweeps["started"]) <= DAY_SECONDS)
        # Of a clock that runs to and fro there could be more rows than slots.
        kept = kept[-int(DAY_SECONDS / SLOT_SECONDS) :]
        rows = len(self._sweeps) * (2 if 4 * len(kept) > 3 * len(self._sweeps) else 1)
        rows = min(rows, int(DAY_SECONDS / SLOT_SECONDS) + _FIRST_ROWS)
        sweeps = np.zeros(rows, _SWEEP)
        sweeps[: len(kept)] = self._sweeps[kept]
        levels = {}
        for level, figures in self._levels.items():
            if not np.isnan(figures[kept]).all():
                levels[level] = np.full((rows, len(FIGURES)), math.nan, np.float32)
                levels[level][: len(kept)] = figures[kept]
        self._sweeps, self._levels, self._rows = sweeps, levels, len(kept)


def _slot(unix_s: float) -> int:
    return math.floor(unix_s / SLOT_SECONDS)


class History:
    """Implements `exporter.core.result.Sink`. Sweeps come in one thread, `day` may be asked in any. `conclude` judges a
    result; `keep` gets each point that a restart must find again, and returns at once."""

    def __init__(
        self,
        conclude: Callable[[SweepResult], Conclusion],
        keep: Callable[[ProbeKey, SweepPoint], None] = lambda _key, _point: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._conclude = conclude
        self._keep = keep
        self._now = now
        self._lock = threading.Lock()
        self._rings: dict[ProbeKey, Ring] = {}
        self._slo: dict[ProbeKey, tuple[int, int]] = {}

    def restore(self, key: ProbeKey, point: SweepPoint) -> None:
        """Takes in what was kept before a restart."""
        with self._lock:
            ring = self._ring(key)
            ring.recent.append(point)
            if ring.keeps(point):
                ring.add(point)

    def day(self, probe: Probe) -> Day:
        """The probe's last 24 hours; without any sweep an empty one."""
        with self._lock:
            ring = self._rings.get(key_of(probe))
            return ring.day(self._now()) if ring else Day()

    @property
    def bytes(self) -> int:
        """Of all rings' arrays."""
        with self._lock:
            return sum(ring.bytes for ring in self._rings.values())

    def sweep_started(self, probe: Probe, started_unix_s: float) -> None:
        """Nothing is known yet."""

    def window_ended(self, probe: Probe, counts: WindowCounts) -> None:
        if counts.slo_requests:
            requests, bad = self._slo.get(key_of(probe), (0, 0))
            self._slo[key_of(probe)] = (requests + counts.slo_requests, bad + counts.slo_bad)

    def sweep_ended(self, result: SweepResult) -> None:
        key = key_of(result.probe)
        requests, bad = self._slo.get(key, (0, 0))
        point = point_of(result, self._conclude(result), requests, bad)
        with self._lock:
            ring = self._ring(key)
            ring.recent.append(point)
            kept = ring.keeps(point)
            if kept:
                ring.add(point)
        if kept:
            self._slo.pop(key, None)
            self._keep(key, point)

    def sweep_skipped(self, probe: Probe, reason: SkipReason) -> None:
        """Nothing was measured."""

    def _ring(self, key: ProbeKey) -> Ring:
        ring = self._rings.get(key)
        if ring is None:
            self._forget()
            ring = self._rings[key] = Ring()
        return ring

    def _forget(self) -> None:
        """Rings without a sweep for a day, and beyond MAX_PROBES the oldest."""
        oldest_s = self._now() - DAY_SECONDS
        if len(self._rings) >= MAX_PROBES:
            oldest_s = max(oldest_s, min(ring.newest_unix_s for ring in self._rings.values()))
        for key in [key for key, ring in self._rings.items() if ring.newest_unix_s <= oldest_s]:
            del self._rings[key]
            self._slo.pop(key, None)


def key_of(probe: Probe) -> ProbeKey:
    """By what a probe is found again after a restart."""
    return ProbeKey(probe.name, probe.target.name, probe.model)


def point_of(result: SweepResult, conclusion: Conclusion, slo_requests: int = 0, slo_bad: int = 0) -> SweepPoint:
    """What the history keeps of a sweep."""
    verdicts = {verdict.level: verdict for verdict in result.verdicts}
    return SweepPoint(
        started_unix_s=result.started_unix_s,
        duration_s=result.duration_ns / NS,
        conclusion=conclusion,
        reason=result.reason.value,
        text=clean_text(result.reason_text or _regression(result), _TEXT),
        slo_requests=slo_requests,
        slo_bad=slo_bad,
        levels=tuple(_level_point(each, verdicts.get(each.level)) for each in result.measurements[-MAX_LEVELS:]),
    )


def _regression(result: SweepResult) -> str:
    """The first signal of which a tier holds, as "concurrency 4: latency p50 +46 %"; empty for none."""
    for verdict in result.verdicts:
        for signal in verdict.signals:
            if any(signal.tiers.values()) and signal.ratio is not None:
                level = f"{verdict.level.mode.value} {verdict.level.label}".replace("_", " ")
                return f"{level}: {signal.signal.value.replace('_', ' ')} {100 * (signal.ratio - 1):+.0f} %"
    return ""


def _level_point(measurement: Measurement, verdict: LevelVerdict | None) -> LevelPoint:
    found = (
        {entry.percentile: entry.value_ns / NS for entry in measurement.latency.percentiles}
        if (measurement.latency)
        else {}
    )
    signals = {each.signal: each for each in verdict.signals} if verdict else {}
    baseline_p50, limit_p50 = _baseline(signals.get(Signal.LATENCY_P50))
    baseline_p99, limit_p99 = _baseline(signals.get(Signal.LATENCY_P99))
    errors = measurement.error_ratio
    return LevelPoint(
        level=f"{measurement.level.mode.value} {measurement.level.label}",
        p50=found.get(50.0, math.nan),
        p95=found.get(95.0, math.nan),
        p99=found.get(99.0, math.nan),
        throughput=measurement.throughput,
        error_ratio=math.nan if errors is None else errors,
        baseline_p50=baseline_p50,
        baseline_p99=baseline_p99,
        limit_p50=limit_p50,
        limit_p99=limit_p99,
    )


def _baseline(signal: SignalVerdict | None) -> tuple[float, float]:
    if signal is None or signal.baseline is None:
        return math.nan, math.nan
    return signal.baseline / NS, min(signal.limits.values(), default=math.nan)
