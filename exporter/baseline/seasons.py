"""The location of a signal by hour of the week, from the sweeps of one day or of several weeks. Pure.

Layers are added one to the other, and each only as far as the sweeps show it: the hour of the day; the class of the day
(Monday to Friday, or the weekend); the hours of that class; once there are three weeks, each hour of the week. An hour
of a layer that differs by more than chance allows stays as it is, unsmoothed: a nightly job is steep. The others are
smoothed over their neighbours, which takes chance out of them.
"""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from exporter.baseline.baseline import MAD_TO_SIGMA, Floats
from exporter.baseline.calendar import HOURS_OF_DAY, WEEKEND, days_and_hours, weekdays

_SMOOTHING = {-2: 1.0, -1: 2.0, 0: 3.0, 1: 2.0, 2: 1.0}
_SURE = 2.5
"""So many standard errors from its neighbours an hour stays as it is."""
_SURE_OF_WEEK = 3.5
"""There are 168 hours of the week, and few weeks: more of them would be chance."""
_LEAST_WEEKS = 3
_MEDIAN_ERROR = 1.25
"""The standard error of a median, over that of a mean."""

Integers = npt.NDArray[np.int64]


def hours_of_week(local: Floats, values: Floats) -> tuple[Floats, float]:
    """The location for each of the 168 hours, and how many days each hour of the day had. There must be a value."""
    days, table = _table(local, values)
    first = np.full(HOURS_OF_DAY, np.nanmedian(table))
    of_day = first + _layer(table - first, spread=None)
    rest = table - of_day
    weekend = weekdays(days) >= WEEKEND
    by_class = np.zeros((2, HOURS_OF_DAY))
    for index, chosen in enumerate((~weekend, weekend)):
        part = rest[chosen]
        if np.count_nonzero(~np.isnan(part)) < HOURS_OF_DAY // 2 or chosen.all() or not chosen.any():
            continue
        offset = float(np.nanmedian(part))
        by_class[index] = offset + _layer(part - offset, spread=_spread(rest - offset))
    rest -= by_class[weekend.astype(int)]
    result = np.concatenate([of_day + by_class[int(day >= WEEKEND)] for day in range(7)])
    result += _by_weekday(days, rest).ravel()
    counts = np.count_nonzero(~np.isnan(table), axis=0)
    return result, float(np.median(counts[counts > 0]))


def _table(local: Floats, values: Floats) -> tuple[Integers, Floats]:
    """The days that there are, and the median of each of their hours: nan where nothing is."""
    day, hour = days_and_hours(local)
    days, row = np.unique(day, return_inverse=True)
    cell = row * HOURS_OF_DAY + hour
    order = np.argsort(cell, kind="stable")
    cell, ordered = cell[order], values[order]
    starts = np.flatnonzero(np.concatenate([[True], cell[1:] != cell[:-1]]))
    within = np.arange(len(cell)) - np.repeat(starts, np.diff(np.append(starts, len(cell))))
    padded = np.full((len(starts), int(within.max()) + 1), np.nan)
    padded[np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(cell)))), within] = ordered
    table = np.full(len(days) * HOURS_OF_DAY, np.nan)
    table[cell[starts]] = np.nanmedian(padded, axis=1)
    return days, table.reshape(len(days), HOURS_OF_DAY)


def _median(table: Floats) -> Floats:
    """Of each column, nan where it is empty."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        result: Floats = np.nanmedian(table, axis=0)
    return result


def _spread(table: Floats) -> float:
    """How much an hour differs from day to day."""
    rest = (table - _median(table)).ravel()
    rest = rest[~np.isnan(rest)]
    count = max(1.0, len(table) - 1.0)
    correction = float(np.sqrt(len(table) / count))
    return MAD_TO_SIGMA * float(np.median(np.abs(rest))) * correction if len(rest) else 0.0


def _layer(table: Floats, spread: float | None, sure: float = _SURE) -> Floats:
    """The medians of the columns: as they are where they surely differ from their smoothed neighbourhood, else that.
    Without a `spread` it is that of the table, or of a single day that of its hours."""
    medians = _median(table)
    known = ~np.isnan(medians)
    smoothed = _smoothed(np.where(known, medians, 0.0), known)
    if spread is None:
        spread = _spread(table) if len(table) > 2 else _scale_of(medians[known] - smoothed[known])
    counts = np.maximum(1, np.count_nonzero(~np.isnan(table), axis=0))
    error = _MEDIAN_ERROR * spread / np.sqrt(counts)
    stays = known & (np.abs(medians - smoothed) > sure * error)
    # The neighbours of a steep hour are smoothed without it.
    calm = known & ~stays
    result: Floats = np.where(stays, medians, _smoothed(np.where(calm, medians, 0.0), calm))
    return result


def _scale_of(values: Floats) -> float:
    return 2 * MAD_TO_SIGMA * float(np.median(np.abs(values))) if len(values) else 0.0


def _smoothed(values: Floats, known: npt.NDArray[np.bool_]) -> Floats:
    """Each with those round it that are known; far from all of them, the median of all."""
    total = sum(weight * np.roll(values * known, shift) for shift, weight in _SMOOTHING.items())
    weights = sum(weight * np.roll(known.astype(float), shift) for shift, weight in _SMOOTHING.items())
    fallback = float(np.median(values[known])) if known.any() else 0.0
    result: Floats = np.where(weights > 0, total / np.maximum(weights, 1.0), fallback)
    return result


def _by_weekday(days: Integers, rest: Floats) -> Floats:
    """What each weekday's hours add, where there are weeks enough: only what is surely not chance."""
    added = np.zeros((7, HOURS_OF_DAY))
    spread = _spread(rest)
    for day in range(7):
        part = rest[weekdays(days) == day]
        weeks = np.count_nonzero(~np.isnan(part), axis=0)
        medians = np.where(weeks >= _LEAST_WEEKS, _median(part) if len(part) else 0.0, 0.0)
        error = _MEDIAN_ERROR * spread / np.sqrt(np.maximum(weeks, 1))
        agree = np.all(np.isnan(part) | (np.sign(part) == np.sign(medians)), axis=0) if len(part) else False
        added[day] = np.where((np.abs(medians) > _SURE_OF_WEEK * error) & agree, medians, 0.0)
    return added
