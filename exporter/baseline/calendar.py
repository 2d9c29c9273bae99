"""Moments as hours of a time zone's week. Pure."""

from __future__ import annotations

import datetime as dt
import functools
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

HOURS_OF_DAY = 24
HOURS_OF_WEEK = 168
WEEKEND = 5
"""The first day of the weekend; 0 is Monday."""
_HOUR_S, _DAY_S = 3_600, 86_400
_EPOCH_WEEKDAY = 3
"""1 January 1970 was a Thursday."""

Floats = npt.NDArray[np.float64]


@functools.lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo | None:
    """The time zone, None for UTC. Names are checked where they enter."""
    return None if name in ("", "UTC") else ZoneInfo(name)


def local_s(unix_s: float, timezone: str) -> float:
    """The wall clock of the zone as seconds."""
    where = zone(timezone)
    if where is None:
        return unix_s
    offset = dt.datetime.fromtimestamp(unix_s, where).utcoffset()
    return unix_s + (offset.total_seconds() if offset else 0.0)


def local_seconds(unix_s: Floats, timezone: str) -> Floats:
    """`local_s` of many moments; an offset changes on full hours of UTC at most."""
    if zone(timezone) is None:
        return unix_s
    hours, index = np.unique(unix_s // _HOUR_S, return_inverse=True)
    offsets = np.array([local_s(hour * _HOUR_S, timezone) - hour * _HOUR_S for hour in hours.tolist()])
    result: Floats = unix_s + offsets[index]
    return result


def week_position(local: float) -> float:
    """Hours since Monday, 0:00, of a local moment."""
    return ((local / _DAY_S + _EPOCH_WEEKDAY) % 7) * HOURS_OF_DAY


def week_positions(local: Floats) -> Floats:
    """`week_position` of many moments."""
    result: Floats = ((local / _DAY_S + _EPOCH_WEEKDAY) % 7) * HOURS_OF_DAY
    return result


def days_and_hours(local: Floats) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Days since 1970 and the hour of the day."""
    return (local // _DAY_S).astype(np.int64), (local % _DAY_S // _HOUR_S).astype(np.int64)


def weekdays(days: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """0 is Monday."""
    return (days + _EPOCH_WEEKDAY) % 7


def is_weekend(local: float) -> bool:
    """Whether a local moment is on a Saturday or Sunday."""
    return (local // _DAY_S + _EPOCH_WEEKDAY) % 7 >= WEEKEND
