"""How bad an ordinary day gets for a tier. Pure.

A tier asks whether `bad` of the last `of` sweeps are above its limit: so the largest limit that it still reaches is an
order statistic of these sweeps. Its largest value in each day of the baseline shows what limit would have raised an
alarm that day. From the days' middle and spread follows a limit that seldom does, whatever the noise: white or slow,
the same all day or not, heavy-tailed or with bursts in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from exporter.baseline.baseline import Floats, Usual
from exporter.baseline.verdict import Counts

_DAY_S = 86_400
_LEAST_DAYS = 5
_LEAST_PART = 0.5
"""A day with fewer of its sweeps is no measure of its worst."""
_UPPER = 0.85
_ENOUGH_DAYS = 14
"""Of so many days one may have been out of the ordinary."""
_FAR_OUT, _FAR = 1.5, 0.1


def usual_days(local: Floats, worse: Floats, counts: Sequence[tuple[str, Counts]]) -> dict[str, Usual]:
    """What ordinary days come to, by tier; empty where there are too few days. `worse` are residuals of
    sweeps, or of what is left of them after thinning, in order."""
    if len(local) < _LEAST_DAYS:
        return {}
    step_s = float(np.median(np.diff(local)))
    day = (local // _DAY_S).astype(np.int64)
    found = {}
    for name, count in counts:
        worst = _worst_by_day(day, worse, count, step_s)
        if len(worst) >= _LEAST_DAYS:
            middle, upper = np.quantile(worst, (0.5, _UPPER))
            found[name] = Usual(float(middle), float(upper - middle), _highest(worst), float(worst.max()))
    return found


def _worst_by_day(day: npt.NDArray[np.int64], worse: Floats, count: Counts, step_s: float) -> Floats:
    of = max(3, min(count.of, round(count.span_s / step_s)))
    if len(worse) < of:
        return np.zeros(0)
    rank = math.floor((1 - count.bad / count.of) * of + 1e-9)
    statistic = np.partition(sliding_window_view(worse, of), rank, axis=1)[:, rank]
    of_day = day[of - 1 :]
    days, starts, sizes = np.unique(of_day, return_index=True, return_counts=True)
    worst: Floats = np.maximum.reduceat(statistic, starts)
    return worst[sizes >= _LEAST_PART * np.median(sizes)] if len(days) else worst


def _highest(worst: Floats) -> float:
    """The worst of the days, but for a single one that was far out of the ordinary."""
    ordered = np.sort(worst)
    second, first = float(ordered[-2]), float(ordered[-1])
    return second if len(worst) >= _ENOUGH_DAYS and first > _FAR_OUT * max(second, 0.0) + _FAR else first
