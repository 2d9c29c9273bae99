"""The last 24 hours of every probe, in figures: what the status page draws, so that no request reads the archive.

It owns the rings by probe, and what a sweep leaves in them. It knows neither files nor HTML.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence

from exporter.core.outcome import SkipReason
from exporter.core.probe import Probe, Signal
from exporter.core.result import LevelVerdict, Measurement, SignalVerdict, SweepResult, WindowCounts
from exporter.core.units import NS
from exporter.core.untrusted_text import clean_text
from exporter.state.day_ring import DAY_SECONDS, MAX_LEVELS, Conclusion, Day, LevelPoint, Ring, Rows, SweepPoint
from exporter.state.state_file import ProbeKey

MAX_PROBES = 10_000
_TEXT = 160


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

    def add(self, key: ProbeKey, point: SweepPoint) -> bool:
        """Takes in the latest sweep; whether it got a row."""
        with self._lock:
            ring = self._ring(key)
            ring.recent.append(point)
            kept = ring.keeps(point)
            if kept:
                ring.add(point)
        return kept

    def restore(self, key: ProbeKey, rows: Rows, recent: Sequence[SweepPoint]) -> None:
        """Takes in what was kept before a restart. What came since then stays behind it."""
        ring = Ring()
        ring.extend(rows)
        ring.recent.extend(recent)
        with self._lock:
            if (since := self._rings.get(key)) is not None:
                ring.extend(since.rows)
                ring.recent.extend(since.recent)
            elif len(self._rings) >= MAX_PROBES:
                return
            self._rings[key] = ring

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
        if self.add(key, point):
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
