"""Whether figures form two groups, as those of a model with two modes do. Pure arithmetic on logarithms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exporter.core.result import WindowSummary

_LEAST_DISTANCE = math.log(1.2)
"""Closer groups are one that is wide."""
_LEAST_SEPARATION = 6.0
"""The distance of the groups' medians, in units of the wider group's own scale."""
_LEAST_SCALE = 0.005
_VALLEY = 0.03
"""At most this part of the figures may lie between the groups."""
_MAD_TO_SIGMA = 1.4826
_MEDIAN = 50.0
_LEAST_WINDOWS = 2
"""One differing window proves little; two of each do."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TwoGroups:
    """The medians of the two groups and the larger one's scale, as logarithms, the part of the figures in the upper
    one, and the value that divides them."""

    low: float
    high: float
    high_part: float
    divide: float
    scale: float


def two_groups(values: Floats, least_members: int, least_part: float = 0.05) -> TwoGroups | None:
    """The two groups that these logarithms form, None where they are one group. Each has at least `least_members`, and
    `least_part` of all."""
    count = len(values)
    least = max(least_members, math.ceil(least_part * count))
    if count < 2 * least:
        return None
    ordered = np.sort(values)
    if ordered[-1] - ordered[0] < _LEAST_DISTANCE:
        return None
    sizes = np.arange(1, count)
    sums = np.cumsum(ordered)
    between = (sums[:-1] - sizes * (sums[-1] / count)) ** 2 / (sizes * (count - sizes))
    split = least + int(np.argmax(between[least - 1 : count - least]))
    lower, upper = ordered[:split], ordered[split:]
    low, high = float(np.median(lower)), float(np.median(upper))
    scale = max(_LEAST_SCALE, _scale(lower, low), _scale(upper, high))
    distance = high - low
    if distance < _LEAST_DISTANCE or distance < _LEAST_SEPARATION * scale:
        return None
    valley = (ordered > low + 0.35 * distance) & (ordered < high - 0.35 * distance)
    if np.count_nonzero(valley) > _VALLEY * count:
        return None
    return TwoGroups(low, high, 1 - split / count, (low + high) / 2, scale)


def window_modes_ns(windows: Sequence[WindowSummary]) -> tuple[float, float] | None:
    """Both median latencies of a level whose windows form two groups: its requests meet in one batch, or do not."""
    medians = [
        entry.value_ns
        for window in windows
        if window.latency is not None
        for entry in window.latency.percentiles
        if entry.percentile == _MEDIAN and entry.value_ns > 0
    ]
    groups = two_groups(np.log(np.array(medians, float)), _LEAST_WINDOWS, 0.0) if medians else None
    return None if groups is None else (math.exp(groups.low), math.exp(groups.high))


def _scale(values: Floats, middle: float) -> float:
    return _MAD_TO_SIGMA * float(np.median(np.abs(values - middle)))
