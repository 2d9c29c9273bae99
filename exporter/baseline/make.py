"""Makes the baseline of a signal from its sweeps. Pure."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from exporter.analysis.clusters import two_groups
from exporter.baseline.baseline import (
    UNSTABLE_FACTOR,
    Floats,
    Modes,
    SignalBaseline,
    locations,
    scale,
    worse_residuals,
)
from exporter.baseline.calendar import local_seconds
from exporter.baseline.history import SIGNALS, Flags, Rows
from exporter.baseline.seasons import hours_of_week
from exporter.baseline.usual import usual_days
from exporter.baseline.verdict import Counts
from exporter.core.probe import Signal

LEAST_UNSTABLE = 20
_MOST_UNSTABLE = 3.0
_LEAST_OF_MODE = 12
_CHANGES_A_DAY, _CHANGING_PART = 6.0, 0.12
"""A daily job changes a signal twice a day; what has two modes changes more often: so often, or at so many of its
sweeps where there are few a day."""
_LONGER = 1.5
"""The upper mode may last so much longer than it ever did in the baseline."""
_DAY_S = 86_400.0


def make_baseline(
    signal: Signal,
    rows: Rows,
    timezone: str,
    counts: Sequence[tuple[str, Counts]] = (),
    recent: Rows | None = None,
    *,
    known_days: bool = True,
) -> SignalBaseline | None:
    """The baseline of these rows, None where none of them has the signal. `counts` are the tiers whose usual worst is
    wanted; without `known_days` there are too few for that. `recent` are the last sweeps, none left out."""
    values = rows.signal(signal)
    known = ~np.isnan(values)
    times, values, unstable = rows.unix_s[known], values[known], rows.unstable[known]
    if not len(values):
        return None
    sign = -1.0 if signal.is_rate else 1.0
    modes, upper = _modes(times, sign * values, rows if recent is None else recent, signal)
    lowered = values - sign * modes.distance * upper if modes else values
    of_week, days = hours_of_week(local_seconds(times, timezone), lowered)
    hours = array("d", of_week.tolist())
    # Medians over few days follow these days: what is left of them is smaller than what later days will show.
    correction = math.sqrt(days / (days - 1)) if days > 1 else 1.0
    rest = (lowered - locations(hours, times, timezone)) * correction
    noise, factor = _noise(rest, unstable)
    found = SignalBaseline(hours, noise, len(values), timezone, {}, factor, modes)
    if not known_days:
        return found
    worse = worse_residuals(signal, found, times, values) * correction
    worse = np.where(unstable & (worse > 0), worse / factor, worse)
    return replace(found, usual=usual_days(local_seconds(times, timezone), worse, counts))


def baselines(
    rows: Rows,
    timezone: str,
    counts: Sequence[tuple[str, Counts]],
    least: int,
    recent: Rows | None = None,
    *,
    known_days: bool,
) -> dict[Signal, SignalBaseline]:
    """The baselines of all signals that enough of the rows have."""
    found = {}
    for signal in SIGNALS:
        if np.count_nonzero(~np.isnan(rows.signal(signal))) >= min(least, len(rows)):
            made = make_baseline(signal, rows, timezone, counts, recent, known_days=known_days)
            if made is not None:
                found[signal] = made
    return found


def _noise(rest: Floats, unstable: Flags) -> tuple[float, float]:
    """The noise of stable sweeps, and how much wider the unstable ones scatter."""
    stable, shaky = rest[~unstable], rest[unstable]
    if len(stable) < LEAST_UNSTABLE:
        return scale(rest), 1.0  # it is never stable: its unstable sweeps are its usual ones
    noise = scale(stable)
    if len(shaky) < LEAST_UNSTABLE:
        return noise, UNSTABLE_FACTOR
    return noise, min(_MOST_UNSTABLE, max(1.0, scale(shaky) / noise if noise > 0 else 1.0))


def _modes(times: Floats, values: Floats, recent: Rows, signal: Signal) -> tuple[Modes | None, Flags]:
    """The two modes, None for one; and which values are in the upper mode."""
    none = np.zeros(len(values), bool)
    groups = two_groups(values, _LEAST_OF_MODE)
    if groups is None:
        return None, none
    upper = values > groups.divide
    days = max(1.0, float(times[-1] - times[0]) / _DAY_S)
    if np.count_nonzero(upper[1:] != upper[:-1]) < min(_CHANGES_A_DAY * days, _CHANGING_PART * len(values)):
        return None, none
    distance = groups.high - groups.low
    tolerance = min(0.45 * distance, max(0.05, 3.5 * groups.scale))
    sign = -1.0 if signal.is_rate else 1.0
    in_lower = recent.unix_s[sign * recent.signal(signal) <= groups.divide]
    longest_s = float(np.max(np.diff(in_lower))) if len(in_lower) > 1 else 0.0
    return Modes(distance, tolerance, groups.high_part, _LONGER * longest_s), upper
