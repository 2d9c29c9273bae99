"""A baseline of one signal, and what is worse than it. Pure arithmetic on logarithms: a ratio is a difference.

The location is by hour of the week, in the probe's time zone (see `seasons`). Where the hours beside each other are
alike it is interpolated; a steep hour stands for itself. Its noise is 1.4826 x the median absolute deviation of what is
left (for a normal distribution that is its standard deviation). Rolling baselines are none: they take a regression in
and end its alert.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from exporter.baseline.calendar import HOURS_OF_WEEK, local_s, local_seconds, week_position, week_positions
from exporter.core.probe import Signal, Tier

STEEP = math.log(1.10)
"""Hours that differ by more from the one beside are not interpolated."""
MAD_TO_SIGMA = 1.4826
_BEYOND = 0.1
"""A limit this much above the worst of all days is far enough, however much the days differ."""
_MARGIN = 0.25
"""And it is never less than this part of the tier's own ratio above what days were seen to come to."""
UNSTABLE_FACTOR = 1.5
"""How much wider unstable sweeps scatter, until there were enough of them to know."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Modes:
    """A signal that is either at its baseline or, in a part of the sweeps, `distance` (a logarithm) above it.
    Sweeps within `tolerance` of the upper mode are compared with that one, as long as the lower one was seen within
    `longest_s`: a signal that is in the upper mode alone has become worse."""

    distance: float
    tolerance: float
    upper_part: float
    longest_s: float


@dataclass(frozen=True, slots=True)
class Usual:
    """The worst that a tier's statistic gets to in each of the baseline's days, as logarithms: the days' middle, the
    spread above it, the highest but for one of many days, and the highest of all."""

    middle: float
    spread: float
    high: float
    highest: float

    def limit(self, tier: Tier) -> float:
        """What an ordinary day does not come to."""
        by_spread = min(self.middle + tier.noise_factor * self.spread, self.highest + _BEYOND)
        return max(by_spread, self.high + _MARGIN * math.log(tier.ratio))


@dataclass(frozen=True, slots=True)
class SignalBaseline:
    """`hours` holds the natural logarithm of the signal for each hour of the week, Monday's first, at its middle;
    `noise` is in the same unit: 0.03 is about 3 %. `samples` are the sweeps that it was made of. `usual` is what a
    tier's statistic gets to in ordinary days, by the tier's name. Unstable sweeps scatter
    `unstable_factor` times as much. `modes` are those of a bimodal signal."""

    hours: array[float]
    noise: float
    samples: int
    timezone: str = "UTC"
    usual: Mapping[str, Usual] = field(default_factory=dict)
    unstable_factor: float = UNSTABLE_FACTOR
    modes: Modes | None = None

    def at(self, unix_s: float) -> float:
        """The logarithm at this moment of the week."""
        position = week_position(local_s(unix_s, self.timezone))
        middle = math.floor(position - 0.5)
        before, after = self.hours[middle % HOURS_OF_WEEK], self.hours[(middle + 1) % HOURS_OF_WEEK]
        if abs(after - before) > STEEP:
            return self.hours[int(position) % HOURS_OF_WEEK]
        part = position - 0.5 - middle
        return before * (1 - part) + after * part

    def values(self, unit: float) -> list[float]:
        """The signal by hour of the week, times `unit`."""
        return [math.exp(hour) * unit for hour in self.hours]

    def over(self, other: SignalBaseline) -> float:
        """The ratio of this baseline to another: the median over the week."""
        return math.exp(float(np.median(np.subtract(self.hours, other.hours))))

    def limit(self, tier: Tier, *, unstable: bool = False, over: str = "") -> float:
        """The logarithm above which a sweep is bad: the tier's ratio, or more where ordinary days come to more; for an
        unstable one so many times that as unstable sweeps scatter more. `over` names the tier whose time is looked at,
        where it is not its own."""
        usual = self.usual.get(over or tier.name)
        by_noise = usual.limit(tier) if usual is not None else tier.noise_factor * self.noise
        return max(math.log(tier.ratio), by_noise * (self.unstable_factor if unstable else 1.0))


def worse_residuals(signal: Signal, baseline: SignalBaseline, unix_s: Floats, logs: Floats) -> Floats:
    """`SignalBaseline.residual` of many stable sweeps; nan stays nan."""
    differences = logs - locations(baseline.hours, unix_s, baseline.timezone)
    worse = -differences if signal.is_rate else differences
    if (modes := baseline.modes) is not None:
        worse = np.where(worse > modes.distance - modes.tolerance, worse - modes.distance, worse)
    return worse


def locations(hours: array[float] | Floats, unix_s: Floats, timezone: str) -> Floats:
    """`SignalBaseline.at` for many moments."""
    of_week = np.asarray(hours, float)
    position = week_positions(local_seconds(unix_s, timezone))
    middle = np.floor(position - 0.5).astype(int)
    before, after = of_week[middle % HOURS_OF_WEEK], of_week[(middle + 1) % HOURS_OF_WEEK]
    part = position - 0.5 - middle
    own = of_week[position.astype(int) % HOURS_OF_WEEK]
    result: Floats = np.where(np.abs(after - before) > STEEP, own, before * (1 - part) + after * part)
    return result


def scale(values: Floats) -> float:
    """A robust standard deviation; 0 of nothing."""
    return MAD_TO_SIGMA * float(np.median(np.abs(values - np.median(values)))) if len(values) else 0.0
