"""When a level's windows agree. Two rules, both pure:

* `judge_like_perf_analyzer`: max/min of throughput and of latency (its inference_profiler.cc, DetermineStability). It
  mistakes chance for instability: a slow server whose windows have one request more or less, or requests that queue at
  random, may never be stable, and windows that pass were selected for being calm.
* `judge`: windows agree unless they differ by more than the limit *and* by more than chance explains. A latency that
  still drifts from part to part is unstable, however small its change per window. So is a latency that has fallen since
  the level began and has far to go. An open loop's throughput is not judged: the load sets it.

The effect of chance depends on the number of independent requests in a window. In a closed loop, at most all requests
in flight are correlated; for open loops see `analysis.queueing`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from exporter.analysis.latency import percentile_index
from exporter.analysis.queueing import queue_of
from exporter.analysis.windows import latencies_ns
from exporter.core.probe import LoadLevel, MeasurementOptions, Mode
from exporter.core.result import WindowSummary
from exporter.core.units import NS
from exporter.core.window import Window

FALSE_ALARM = 0.01
"""The false alarm rate of each test: how often it may call a level unstable whose load and server do not change."""
TREND_PART = 1 / 3
"""Relative to `stability`: the allowed drift of the latency over the judged windows. An exponential decay of that size
has at most about 10 % left."""
WARM_PART = 1 / 2
"""Relative to `stability`: how far the latency of a warming server may still be above that of a warm one."""
WARM_FALL = 1 / 10
"""Relative to `stability`: a smaller fall over the whole level is ignored."""
TREND_BLOCKS = 12
MIN_TREND_BLOCKS = 6
_MAX_CORRECTION = 10.0
_RARE_Z = NormalDist().inv_cdf(1 - FALSE_ALARM / 2)
_MEDIAN = 50.0
_MEDIAN_ERROR = 1.25
"""The standard error of a median relative to that of a mean."""
_TREND_Z = NormalDist().inv_cdf(0.975)
"""Kendall's test may err more often: chance alone hardly ever makes a latency drift by a relevant amount."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stability:
    """The verdict on the last windows. `spread_ratio` is the larger max/min of the throughputs (not in open loops under
    our own rule) and of the latencies; None if a window had no usable request. `why` explains instability with another
    cause than the spread."""

    stable: bool
    spread_ratio: float | None
    why: str = ""


def judge_like_perf_analyzer(
    throughputs: Sequence[float], latencies_ns: Sequence[float], limit_ratio: float, windows: int
) -> Stability:
    """Judges the last `windows` windows: stable if each has throughput, and max/min is at most 1 + `limit_ratio` for
    both throughput and latency. Fewer windows are unstable."""
    recent_throughputs, recent_latencies = throughputs[-windows:], latencies_ns[-windows:]
    if not recent_throughputs or min(recent_throughputs) <= 0 or min(recent_latencies) <= 0:
        return Stability(stable=False, spread_ratio=None)
    spread = max(
        max(recent_throughputs) / min(recent_throughputs),
        max(recent_latencies) / min(recent_latencies),
    )
    return Stability(stable=len(recent_throughputs) == windows and spread <= 1 + limit_ratio, spread_ratio=spread)


def judge(
    windows: Sequence[Window], run: Sequence[WindowSummary], level: LoadLevel, options: MeasurementOptions
) -> Stability:
    """Judges the last `stability_windows` of these windows; fewer are unstable. `run` has the summaries of all windows
    of the level's run, including these."""
    recent = windows[-options.stability_windows :]
    samples = [latencies_ns(window.columns).astype(np.float64) for window in recent]
    if not samples or not all(len(sample) for sample in samples):
        return Stability(stable=False, spread_ratio=None)
    judged = _Judged(samples, [window.duration_ns / NS for window in recent], run, level, options)
    spread = judged.spread_ratio
    if len(recent) < options.stability_windows or not judged.windows_agree():
        return Stability(stable=False, spread_ratio=spread)
    why = judged.queue_text() or judged.trend_text() or judged.warming_text()
    return Stability(stable=not why, spread_ratio=spread, why=why)


class _Judged:
    """The latencies of the judged windows, in order of time, and the effect of chance on them."""

    def __init__(
        self,
        samples: Sequence[Floats],
        seconds: Sequence[float],
        run: Sequence[WindowSummary],
        level: LoadLevel,
        options: MeasurementOptions,
    ) -> None:
        self._samples = samples
        self._seconds = seconds
        self._run = run
        self._limit = options.stability_ratio
        self._unreached = 1 - options.min_reached_ratio
        self._percentile = options.stability_percentile
        self._places = level.value if level.mode is Mode.CONCURRENCY else 0.0
        self._chance = queue_of(level, run)
        pairs = len(samples) * (len(samples) - 1)
        self._z = NormalDist().inv_cdf(1 - FALSE_ALARM / max(pairs, 2)) / math.sqrt(2)
        """Half-width of confidence intervals in standard errors: by chance, two of a level's intervals are disjoint in
        one of 1 / FALSE_ALARM levels."""

    @property
    def spread_ratio(self) -> float:
        values = [self._value(sample) for sample in self._samples]
        spread = max(values) / max(min(values), 1.0)
        if not self._places:
            return spread
        rates = [len(sample) / seconds for sample, seconds in zip(self._samples, self._seconds, strict=True)]
        return max(spread, max(rates) / min(rates))

    def windows_agree(self) -> bool:
        """Whether latencies, and in a closed loop throughputs, differ by no more than the limit and chance explain."""
        bounds = [self._bounds(sample, seconds) for sample, seconds in zip(self._samples, self._seconds, strict=True)]
        if max(low for low, _ in bounds) > (1 + self._limit) * min(high for _, high in bounds):
            return False
        return not self._places or self._throughputs_agree()

    def _throughputs_agree(self) -> bool:
        """Per place, a window's edges add or remove one request. Beyond that, its count varies with its latencies,
        which vary by chance."""
        deviation = self._deviation(self._samples)
        lows, highs = [], []
        for sample, seconds in zip(self._samples, self._seconds, strict=True):
            independent = self._independent(len(sample), seconds)
            by_chance = self._z * deviation / float(sample.mean()) / math.sqrt(independent)
            lows.append((len(sample) * (1 - by_chance) - self._places) / seconds)
            highs.append(len(sample) * (1 + by_chance) / seconds)
        return max(lows) <= (1 + self._limit) * min(highs)

    def queue_text(self) -> str:
        """For an open loop: whether requests piled up since the first measured window, by more than the allowed ratio
        of the judged requests and by more than chance explains for a queue of this length."""
        if self._places:
            return ""
        piled_up = sum(window.sent + window.backlog_growth - sum(window.outcomes.values()) for window in self._run)
        allowed = self._unreached * sum(map(len, self._samples))
        if piled_up <= max(allowed, 1 + _RARE_Z * self._chance.deviation):
            return ""
        return f"{piled_up} requests more were due than ended: the server does not keep up"

    def trend_text(self) -> str:
        """Whether the latency drifts over all windows, by more than the limit and chance explain: Theil's slope and
        Kendall's test over block medians, which are robust to a burst."""
        logarithms = np.log(np.maximum(np.concatenate(self._samples), 1.0))
        blocks = min(TREND_BLOCKS, len(logarithms))
        if blocks < MIN_TREND_BLOCKS:
            return ""
        medians = np.array([np.median(block) for block in np.array_split(logarithms, blocks)])
        first, second = np.triu_indices(blocks, 1)
        rises = medians[second] - medians[first]
        change = float(np.median(rises / (second - first))) * blocks
        kendall = float(np.sign(rises).sum()) / math.sqrt(blocks * (blocks - 1) * (2 * blocks + 5) / 18)
        if self._places:
            line = np.linspace(-change / 2, change / 2, len(logarithms))
            deviation = float((logarithms - line).std())
        else:
            deviation = self._deviation([np.log(np.maximum(sample, 1.0)) for sample in self._samples])
        independent = self._independent(len(logarithms), sum(self._seconds))
        by_chance = (_TREND_Z if self._places else _RARE_Z) * deviation * math.sqrt(12 / independent)
        if abs(kendall) < _TREND_Z or abs(change) <= max(self._limit * TREND_PART, by_chance):
            return ""
        percent = abs(math.expm1(change)) * 100
        return f"the latency {'rose' if change > 0 else 'fell'} by {percent:.0f} % over the last windows, part by part"

    def warming_text(self) -> str:
        """Whether the latency has fallen since the level began, and has far to go. Takes the medians of three equal
        parts of all windows, and extrapolates the limit of a decelerating fall (Aitken). A server that takes minutes to
        warm drifts little within 15 s; over the whole level it shows."""
        windows = [window for window in self._run if window.latency is not None and window.latency.count]
        size = len(windows) // 3
        if not size:
            return ""
        parts = [windows[-3 * size :][start : start + size] for start in (0, size, 2 * size)]
        first, second, last = (float(np.mean([math.log(_middle_ns(window)) for window in part])) for part in parts)
        independent = min(
            self._independent(
                sum(window.latency.count for window in part if window.latency),
                sum(window.duration_ns for window in part) / NS,
            )
            for part in parts
        )
        deviation = self._deviation([np.log(np.maximum(sample, 1.0)) for sample in self._samples])
        by_chance = _RARE_Z * _MEDIAN_ERROR * deviation * math.sqrt(2 / independent)
        before, now = first - second, second - last
        if min(before, now) <= by_chance / 2 or before + now <= max(by_chance, self._limit * WARM_FALL):
            return ""
        # A lower bound of the deceleration: unless the fall clearly ends soon, assume that it does not.
        slower = before - now - by_chance
        left = now**2 / slower if slower > 0 else math.inf
        recent = windows[-len(self._samples) :]
        above = float(np.mean([math.log(_middle_ns(window)) for window in recent])) - (last - left)
        if above <= self._limit * WARM_PART:
            return ""
        percent = math.expm1(before + now) * 100
        return f"the latency has been falling since the level began, by {percent:.0f} %, and is still falling"

    # --- chance -------------------------------------------------------------------------------------------------------

    def _independent(self, count: int, seconds: float) -> float:
        """The effective number of independent requests among `count` within `seconds`; at least 1."""
        if self._places:
            return max(1.0, count / self._places)
        return max(1.0, min(count, 1 / self._chance.alike(seconds)))

    def _deviation(self, samples: Sequence[Floats]) -> float:
        """The standard deviation of single values, estimated within windows, because differences between windows are
        under test. Corrected for queues that hardly move within a window."""
        degrees = max(1, sum(map(len, samples)) - len(samples))
        within = sum(float(((sample - sample.mean()) ** 2).sum()) for sample in samples) / degrees
        if self._places:
            return math.sqrt(within)
        alike = self._chance.alike(sum(self._seconds) / len(self._seconds))
        return math.sqrt(within * min(_MAX_CORRECTION, 1 / max(1 - alike, 1e-9)))

    def _value(self, sample: Floats) -> float:
        if self._percentile is None:
            return float(sample.mean())
        return float(np.sort(sample)[percentile_index(self._percentile, len(sample))])

    def _bounds(self, sample: Floats, seconds: float) -> tuple[float, float]:
        """The confidence interval of a window's latency."""
        independent = self._independent(len(sample), seconds)
        if self._percentile is None:
            reach = self._z * self._deviation(self._samples) / math.sqrt(independent)
            return float(sample.mean()) - reach, float(sample.mean()) + reach
        quantile = self._percentile / 100
        reach = self._z * math.sqrt(quantile * (1 - quantile) / independent)
        ordered, count = np.sort(sample), len(sample)
        low, high = math.floor((quantile - reach) * count), math.ceil((quantile + reach) * count)
        return (
            float(ordered[low]) if low >= 0 else 0.0,
            float(ordered[high]) if high < count else math.inf,
        )


def _middle_ns(window: WindowSummary) -> float:
    """A window's median latency, or its mean if the median is not among the measured percentiles."""
    if window.latency is None:
        return 1.0
    middle = next((entry.value_ns for entry in window.latency.percentiles if entry.percentile == _MEDIAN), None)
    return max(1.0, window.latency.mean_ns if middle is None else float(middle))
