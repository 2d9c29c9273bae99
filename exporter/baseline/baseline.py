"""A baseline of one signal, and what is worse than it. Pure arithmetic on logarithms: a ratio is a difference.

The location of the baseline is the median by hour of the day (UTC), smoothed over the neighbouring hours; its noise is
1.4826 x the median absolute deviation of what is left after it (for a normal distribution that is its standard
deviation). Rolling baselines are none: they take a regression in and end its alert.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exporter.core.probe import Signal, Tier

HOURS = 24
_DAY_S = 86_400
_HOUR_S = 3_600
_SMOOTHING = {-2: 1.0, -1: 2.0, 0: 3.0, 1: 2.0, 2: 1.0}
"""Weights of the hours round an hour: a baseline of seven days has some 84 sweeps for each hour of the day, which
alone follow the noise of their days."""
_MAD_TO_SIGMA = 1.4826

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SignalBaseline:
    """`hours` holds the natural logarithm of the signal for each hour of the day, at its middle; `noise` is in the
    same unit: 0.03 is about 3 %. `samples` are the sweeps that it was made of."""

    hours: tuple[float, ...]
    noise: float
    samples: int

    def at(self, unix_s: float) -> float:
        """The logarithm at this moment of the day, on a straight line between the middles of the hours."""
        position = (unix_s % _DAY_S) / _HOUR_S - 0.5
        before = math.floor(position)
        part = position - before
        return self.hours[before % HOURS] * (1 - part) + self.hours[(before + 1) % HOURS] * part

    def values(self, unit: float) -> list[float]:
        """The signal by hour of the day, times `unit`."""
        return [math.exp(hour) * unit for hour in self.hours]

    def over(self, other: SignalBaseline) -> float:
        """The ratio of this baseline to another: the median over the day."""
        return math.exp(float(np.median(np.subtract(self.hours, other.hours))))


def make_baseline(unix_s: Sequence[float] | Floats, logs: Sequence[float] | Floats) -> SignalBaseline:
    """The baseline of these moments and logarithms; there must be at least one."""
    times, values = np.asarray(unix_s, float), np.asarray(logs, float)
    hours = _smoothed_hours(times, values)
    residuals = values - locations(hours, times)
    noise = _MAD_TO_SIGMA * float(np.median(np.abs(residuals - np.median(residuals))))
    return SignalBaseline(tuple(hours.tolist()), noise, len(values))


def locations(hours: Sequence[float] | Floats, unix_s: Floats) -> Floats:
    """`SignalBaseline.at` for many moments."""
    of_day = np.asarray(hours, float)
    position = (unix_s % _DAY_S) / _HOUR_S - 0.5
    before = np.floor(position).astype(int)
    part = position - before
    result: Floats = of_day[before % HOURS] * (1 - part) + of_day[(before + 1) % HOURS] * part
    return result


def _smoothed_hours(times: Floats, values: Floats) -> Floats:
    """Medians by hour, each smoothed with those round it that there are; far from all of them, the median of all."""
    hour = ((times % _DAY_S) / _HOUR_S).astype(int)
    medians, known = np.zeros(HOURS), np.zeros(HOURS)
    for each in np.unique(hour):
        medians[each], known[each] = np.median(values[hour == each]), 1.0
    total = sum(weight * np.roll(medians * known, shift) for shift, weight in _SMOOTHING.items())
    weights = sum(weight * np.roll(known, shift) for shift, weight in _SMOOTHING.items())
    return np.where(weights > 0, total / np.maximum(weights, 1.0), np.median(values))


def threshold(tier: Tier, noise: float, allowance: float = 1.0) -> float:
    """The ratio above which a sweep is bad: max(tier's ratio, e^(k * noise)), times what a new version is allowed."""
    return max(tier.ratio, math.exp(tier.noise_factor * noise)) * allowance


def worse_by(signal: Signal, now_log: float, baseline_log: float) -> float:
    """How many times worse the signal is than its baseline, above 1 where it is worse."""
    difference = now_log - baseline_log
    return math.exp(-difference if signal is Signal.THROUGHPUT else difference)
