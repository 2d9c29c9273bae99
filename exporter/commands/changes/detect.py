"""When a series of sweeps changed its level: a second opinion beside the verdicts, over all sweeps at once.

What the hours of the week explain is taken out first; what is left is summed up by hour and searched for change points
by `ruptures` (the optional extra `changes`): PELT, which finds the best places for any number of changes at once.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from exporter.analysis.clusters import two_groups
from exporter.baseline.baseline import Floats, locations, scale
from exporter.baseline.calendar import local_seconds
from exporter.baseline.seasons import hours_of_week
from exporter.core.errors import ConfigError

_HOUR_S, _DAY_S, _WEEK_S = 3_600.0, 86_400.0, 7 * 86_400.0
_LEAST_HOURS = 3
"""A change that lasts for less is an incident, and its own end."""
_CLIP = 4.0
"""An hour further off than so many times the noise counts as that far: heavy tails make no change."""
_LEAST_POINTS = 12
_LEAST_OF_MODE, _MODE_CHANGES_A_DAY = 20, 6.0


@dataclass(frozen=True, slots=True)
class Change:
    """At `unix_s` the level went from `before` to `after` (nanoseconds), each the median up to the change beside it.
    `ratio` is after over before, without what the hours of the week explain."""

    unix_s: float
    before: float
    after: float
    ratio: float


def require_ruptures() -> None:
    """Raises ConfigError where the extra is not installed."""
    try:
        import ruptures  # noqa: F401 - only whether it is there
    except ImportError as error:
        text = "change points need ruptures, which is not installed: pip install 'triton-canary[changes]'"
        raise ConfigError([text]) from error


def find_changes(unix_s: Sequence[float], values: Sequence[float], least_ratio: float, timezone: str) -> list[Change]:
    """The changes of at least `least_ratio` (1.05: by 5 %, up or down) in a series in the order of its time; the values
    are above 0. Needs `require_ruptures`."""
    import ruptures

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
    search = ruptures.KernelCPD(kernel="linear", min_size=_LEAST_HOURS).fit(points.reshape(-1, 1))
    found = search.predict(pen=penalty)
    edges = [0, *found]
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
            changes.append(Change(moment, *middle, ratio))
    return changes


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
    starts = np.flatnonzero(np.concatenate([[True], np.diff(np.floor(times / _HOUR_S)) > 0]))
    medians = np.array([float(np.median(part)) for part in np.split(values, starts[1:])])
    return times[starts], medians


def _reach(medians: Floats, noise: float) -> float:
    return max(_CLIP * noise, float(np.quantile(np.abs(medians - np.median(medians)), 0.9)) + noise)


def _variance(points: Floats, noise: float) -> float:
    """Of the noise round a level, widened by its memory: slow noise looks like steps."""
    differences = [scale(points[lag:] - points[:-lag]) / math.sqrt(2) for lag in (1, 3, 6) if len(points) > 2 * lag]
    return max([noise, *differences]) ** 2 * 2
