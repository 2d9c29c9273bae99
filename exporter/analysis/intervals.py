"""How many independent values a sequence of durations is worth: what confidence intervals of percentiles need.

Requests that queue behind each other, or meet the same slow minute, are alike. n of them support an interval no better
than n / f independent ones, and f is 70 behind a queue at 80 % utilization. It is estimated from the sequence itself:
how far the means of consecutive parts differ (batch means; Law, Simulation Modeling and Analysis, 9.5), of the
indicator "is at most the percentile". Two corrections for parts that are still alike are taken, the larger counts:
Richardson's, from parts of two lengths, and that of a first-order autoregression, whose coefficient is raised by its
known bias, (1 + 4 r) / parts (Marriott and Pope, Biometrika 41, 1954). `bench/interval_coverage.py` shows what the
intervals cover.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from exporter.analysis.student import t_quantile

PARTS = 30
MIN_PARTS = 10
"""A sequence too short for so many parts of two values is taken for independent: it supports hardly any interval."""
_Z95 = 1.959963984540054
_MAX_CORRELATION = 0.9
_RICHARDSON_DEGREES = 12.0

Flags = npt.NDArray[np.bool_]


def independent_count(indicator: Flags) -> int:
    """How many independent values the indicator's sequence, in the order of time, is worth; at least 1."""
    count = len(indicator)
    mean = float(indicator.mean()) if count else 0.0
    parts = min(PARTS, count // 2)
    if parts < MIN_PARTS or mean in (0.0, 1.0):
        return count
    parts -= parts % 2
    independent = mean * (1.0 - mean) / count
    means = _part_means(indicator, parts)
    inflation = max(_by_two_lengths(means), _by_autoregression(means)) / independent
    return count if inflation <= 1.0 else max(1, int(count / inflation))


def _part_means(indicator: Flags, parts: int) -> npt.NDArray[np.float64]:
    """The means of parts of equal length; up to `parts` - 1 values at the start are left out."""
    length = len(indicator) // parts
    means: npt.NDArray[np.float64] = indicator[len(indicator) - length * parts :].reshape(parts, length).mean(axis=1)
    return means


def _by_two_lengths(means: npt.NDArray[np.float64]) -> float:
    """The variance of the mean of all, extrapolated to long parts; widened for its own few degrees of freedom."""
    short = float(means.var(ddof=1)) / len(means)
    long = float(means.reshape(-1, 2).mean(axis=1).var(ddof=1)) / (len(means) // 2)
    return max(2 * long - short, long, short) * _widening(_RICHARDSON_DEGREES * len(means) / PARTS)


def _by_autoregression(means: npt.NDArray[np.float64]) -> float:
    """The same, with the parts taken for a first-order autoregression."""
    parts = len(means)
    around = means - means.mean()
    squares = float((around * around).sum())
    if squares == 0.0:
        return 0.0
    correlation = float((around[1:] * around[:-1]).sum()) / squares
    correlation = min(_MAX_CORRELATION, correlation + (1.0 + 4.0 * correlation) / parts)
    factor = max(1.0, (1.0 + correlation) / (1.0 - correlation))
    return squares / (parts - 1) / parts * factor * _widening(max(2.0, (parts - 1) / factor))


def _widening(degrees: float) -> float:
    return (_t95(round(degrees, 1)) / _Z95) ** 2


@functools.lru_cache(maxsize=1024)
def _t95(degrees: float) -> float:
    return t_quantile(0.975, degrees)
