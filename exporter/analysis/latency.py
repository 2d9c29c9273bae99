"""Exact latency figures over a raw sample, with the confidence that the sample supports.

Percentiles follow perf_analyzer, so that both tools give the same figure on the same sample: the value at index
`trunc(p/100 * (n - 1) + 0.5)` of the ascending sample, no interpolation (its inference_profiler.cc, SummarizeLatency).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from exporter.analysis.intervals import independent_count
from exporter.core.result import LatencySummary, PercentileValue

_Z95 = 1.959963984540054
_EXACT_BELOW = 100.0
"""Variance n·q·(1-q) under which the binomial is summed exactly; above it the normal approximation is off by less than
one rank."""


def summarise(durations_ns: npt.NDArray[np.int64], percentiles: Iterable[float]) -> LatencySummary | None:
    """The figures of a sample of durations in nanoseconds, in the order of time; None for an empty one.

    The standard deviation is that of the sample (n - 1), 0 for a single value.
    """
    count = len(durations_ns)
    if count == 0:
        return None
    ordered = np.sort(durations_ns)
    return LatencySummary(
        count=count,
        mean_ns=float(ordered.mean()),
        stddev_ns=float(ordered.std(ddof=1)) if count > 1 else 0.0,
        min_ns=int(ordered[0]),
        max_ns=int(ordered[-1]),
        percentiles=tuple(_percentile(durations_ns, ordered, percentile) for percentile in percentiles),
    )


def percentile_index(percentile: float, count: int) -> int:
    """Where the percentile (0..100) is in an ascending sample of `count` values."""
    return int(percentile / 100.0 * (count - 1) + 0.5)


def _percentile(
    durations_ns: npt.NDArray[np.int64], ordered: npt.NDArray[np.int64], percentile: float
) -> PercentileValue:
    count = len(ordered)
    value_ns = int(ordered[percentile_index(percentile, count)])
    low, high = correlated_ranks(percentile / 100.0, count, independent_count(durations_ns <= value_ns))
    return PercentileValue(
        percentile=percentile,
        value_ns=value_ns,
        low_ns=int(ordered[low - 1]) if low >= 1 else None,
        high_ns=int(ordered[high - 1]) if high <= count else None,
    )


def correlated_ranks(quantile: float, count: int, independent: int) -> tuple[int, int]:
    """As `interval_ranks`, of a sample of `count` values that is worth so many independent ones (`analysis.intervals`):
    the ranks that those would have, as parts of the whole."""
    if independent >= count:
        return interval_ranks(quantile, count)
    low, high = interval_ranks(quantile, independent)
    return (
        math.floor(low / independent * count),
        count + 1 if high > independent else math.ceil(high / independent * count),
    )


def interval_ranks(quantile: float, count: int) -> tuple[int, int]:
    """Ranks (1-based) of the two order statistics that enclose the quantile with 95 % confidence.

    The number of values below the true quantile is binomial(count, quantile), whatever the distribution (Conover,
    Practical Nonparametric Statistics, 3.2). A rank of 0, or of count + 1, means that the sample gives no such bound.
    """
    variance = count * quantile * (1.0 - quantile)
    if variance >= _EXACT_BELOW:
        mean, spread = count * quantile, _Z95 * math.sqrt(variance)
        return math.floor(mean - spread), math.ceil(mean + spread) + 1
    return _exact_ranks(quantile, count)


def _exact_ranks(quantile: float, count: int) -> tuple[int, int]:
    """The largest `low` with P(X < low) <= 2.5 % and the smallest `high` with P(X >= high) <= 2.5 %, X binomial."""
    if quantile <= 0.0 or quantile >= 1.0:
        return (0, 1) if quantile <= 0.0 else (count, count + 1)
    # All of the probability that matters lies within 12 standard deviations and a few ranks of the mean.
    reach = 12.0 * math.sqrt(count * quantile * (1.0 - quantile)) + 10.0
    first = max(0, math.floor(count * quantile - reach))
    last = min(count, math.ceil(count * quantile + reach))
    log_q, log_p = math.log(quantile), math.log1p(-quantile)
    total = math.lgamma(count + 1)
    cumulative = 0.0  # P(X <= k) so far
    low, high = 0, count + 1
    for k in range(first, last + 1):
        if cumulative <= 0.025:
            low = k
        log_mass = total - math.lgamma(k + 1) - math.lgamma(count - k + 1) + k * log_q + (count - k) * log_p
        cumulative += math.exp(log_mass)
        if cumulative >= 0.975:
            high = k + 1
            break
    return low, high
