"""When a series of sweeps changed its level: a second opinion beside the verdicts, over all sweeps at once. Pure.

What the hours of the week explain is taken out first; what is left is summed up by hour and cut into levels. The cuts
are the best ones for any number of them at once: optimal partitioning (Jackson et al. 2005) with the pruning of PELT
(Killick et al. 2012).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

import numpy as np

from exporter.analysis.clusters import two_groups
from exporter.baseline.baseline import Floats, locations, scale
from exporter.baseline.calendar import local_seconds
from exporter.baseline.seasons import hours_of_week
from exporter.core.result import LevelChange

LEAST_RATIO = 1.05
"""Smaller changes are not reported, unless they are asked for."""
_HOUR_S, _DAY_S, _WEEK_S = 3_600.0, 86_400.0, 7 * 86_400.0
_LEAST_HOURS = 3
"""A change that lasts for less is an incident, and its own end."""
_CLIP = 4.0
"""An hour further off than so many times the noise counts as that far: heavy tails make no change."""
_LEAST_POINTS = 12
_LEAST_OF_MODE, _MODE_CHANGES_A_DAY = 20, 6.0


def find_changes(
    unix_s: Sequence[float] | Floats, values: Sequence[float] | Floats, least_ratio: float, timezone: str
) -> list[LevelChange]:
    """The changes of at least `least_ratio` (1.05: by 5 %, up or down) in a series in the order of its time; the values
    are above 0."""
    times, logs = np.asarray(unix_s, float), np.log(np.asarray(values, float))
    if len(times) < _LEAST_POINTS:
        return []
    rest = _without_hours(times, _in_one_mode(times, logs), timezone)
    hours, medians = _by_hour(times, rest)
    if len(medians) < _LEAST_POINTS:
        hours, medians = times, rest
    noise = max(1e-3, scale(np.diff(medians)) / math.sqrt(2))
    points = np.clip(medians - np.median(medians), -_reach(medians, noise), _reach(medians, noise))
    penalty = 2 * math.log(len(points)) * _variance(points, noise)
    edges = [0, *cuts(points, penalty, _LEAST_HOURS), len(points)]
    changes = []
    for index in range(1, len(edges) - 1):
        before = slice(edges[index - 1], edges[index])
        after = slice(edges[index], edges[index + 1])
        ratio = math.exp(float(np.median(medians[after]) - np.median(medians[before])))
        if max(ratio, 1 / ratio) >= least_ratio:
            moment = float(hours[edges[index]])
            until = hours[edges[index + 1]] if edges[index + 1] < len(hours) else math.inf
            earlier = (times >= hours[edges[index - 1]]) & (times < moment)
            later = (times >= moment) & (times < until)
            middle = math.exp(float(np.median(logs[earlier]))), math.exp(float(np.median(logs[later])))
            changes.append(LevelChange(moment, *middle, ratio))
    return changes


def cuts(points: Floats, penalty: float, least: int) -> list[int]:
    """Where to cut the points into levels: the sum of their squared distances from their level's mean, and of `penalty`
    for each cut, is the least that there is. Each level has at least so many points."""
    count = len(points)
    sums, squares = np.concatenate([[0.0], np.cumsum(points)]), np.concatenate([[0.0], np.cumsum(points**2)])
    best, before = np.full(count + 1, math.inf), np.zeros(count + 1, int)
    best[0] = -penalty
    starts, until = np.zeros(1, int), np.full(count + 1, count + 1)
    for end in range(least, count + 1):
        lengths = end - starts
        costs = best[starts] + squares[end] - squares[starts] - (sums[end] - sums[starts]) ** 2 / lengths
        chosen = int(np.argmin(costs))
        best[end], before[end] = costs[chosen] + penalty, starts[chosen]
        # A start that is worse now by more than a cut costs stays worse than a cut here, once one is allowed.
        worse = starts[costs > best[end]]
        until[worse] = np.minimum(until[worse], end + least)
        starts = starts[until[starts] > end + 1]
        if end + 1 >= 2 * least:
            starts = np.append(starts, end - least + 1)
    found: list[int] = []
    end = count if count >= least else 0
    while (end := int(before[end])) > 0:
        found.insert(0, end)
    return found


def _in_one_mode(times: Floats, logs: Floats) -> Floats:
    """Sweeps in the upper one of two modes between which the level alternates, moved to the lower one."""
    groups = two_groups(logs, _LEAST_OF_MODE)
    if groups is None:
        return logs
    upper = logs > groups.divide
    days = max(1.0, float(times[-1] - times[0]) / _DAY_S)
    if np.count_nonzero(upper[1:] != upper[:-1]) < _MODE_CHANGES_A_DAY * days:
        return logs
    return np.where(upper, logs - (groups.high - groups.low), logs)


def _without_hours(times: Floats, logs: Floats, timezone: str) -> Floats:
    """What the hours of the week do not explain, from a week on."""
    if times[-1] - times[0] < _WEEK_S:
        return logs
    # The hours are learnt from what is left after a running level, so that a change is not taken for a pattern.
    of_week, _ = hours_of_week(local_seconds(times, timezone), logs - _running_level(times, logs))
    seasonal = locations(array("d", of_week.tolist()), times, timezone)
    rest: Floats = logs - seasonal
    return rest


def _running_level(times: Floats, logs: Floats) -> Floats:
    """The median of each week round a sweep, by day."""
    days = np.floor(times / _DAY_S)
    result = np.empty_like(logs)
    for day in np.unique(days):
        near = (days >= day - 3) & (days <= day + 3)
        result[days == day] = np.median(logs[near])
    return result


def _by_hour(times: Floats, values: Floats) -> tuple[Floats, Floats]:
    """The first moment of each hour that there is, and the hour's median."""
    begins = np.concatenate([[True], np.diff(np.floor(times / _HOUR_S)) > 0])
    starts = np.flatnonzero(begins)
    # All hours at once: sorted within each, the two in the middle (of an odd number twice the same) make the median.
    ordered = values[np.lexsort((values, np.cumsum(begins)))]
    sizes = np.diff(np.append(starts, len(values)))
    medians = (ordered[starts + (sizes - 1) // 2] + ordered[starts + sizes // 2]) / 2
    return times[starts], medians


def _reach(medians: Floats, noise: float) -> float:
    return max(_CLIP * noise, float(np.quantile(np.abs(medians - np.median(medians)), 0.9)) + noise)


def _variance(points: Floats, noise: float) -> float:
    """Of the noise round a level, widened by its memory: slow noise looks like steps."""
    differences = [scale(points[lag:] - points[:-lag]) / math.sqrt(2) for lag in (1, 3, 6) if len(points) > 2 * lag]
    return max([noise, *differences]) ** 2 * 2
