"""K bad sweeps of the last M: when a regression begins to hold, and when it is over. Pure."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from exporter.core.probe import Tier
from exporter.core.units import NS

_LEAST_BAD, _LEAST_OF = 3, 4
"""However long the interval: a single sweep decides nothing."""
_MISSING = "-"
_LEAST_KNOWN = 2 / 3
_GAP = 2
"""Sweeps that are older than so many times the tier's span do not count any more."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of a tier for one interval; `span_s` is the time that `of` sweeps take."""

    bad: int
    of: int
    clear: int
    span_s: float


@dataclass(slots=True)
class TierState:
    """What is remembered of one signal and tier: the last sweeps, oldest first, "1" for a bad one and "-" for
    one that is missing; whether the
    regression holds; sweeps in a row that could not be judged; the moment of the last that was; and, while the
    regression holds, when the first of its bad sweeps ended."""

    sweeps: str = ""
    holds: bool = False
    unjudged: int = 0
    judged_unix_s: float = 0.0
    began_unix_s: float = 0.0


def scaled(tier: Tier, interval_ns: int, meant_for_ns: int = 300 * NS) -> Counts:
    """The tier's counts at another interval than they are meant for, such that the times stay as they are as far as
    whole sweeps allow."""
    return _scaled(tier.bad, tier.of, tier.clear, interval_ns, meant_for_ns)


@functools.lru_cache(maxsize=4096)
def _scaled(bad: int, of: int, clear: int, interval_ns: int, meant_for_ns: int) -> Counts:
    scaled_of = max(_LEAST_OF, round(of * (meant_for_ns / interval_ns)))
    scaled_bad = min(scaled_of, max(_LEAST_BAD, math.ceil(bad / of * scaled_of - 1e-9)))
    if scaled_of == _LEAST_OF and of > bad:
        scaled_bad = _LEAST_BAD  # so few sweeps must not all be bad
    scaled_clear = min(scaled_bad - 1, max(1, math.floor(clear / of * scaled_of + 1e-9)))
    return Counts(scaled_bad, scaled_of, scaled_clear, scaled_of * interval_ns / NS)


def take(state: TierState, counts: Counts, bad: bool | None, unix_s: float) -> bool | None:
    """Takes one more sweep in, None for one that can't be judged; returns whether the regression holds now, None where
    there is no verdict.

    What can't be judged has not ended a regression either: one that holds continues to, for the tier's span.
    """
    if unix_s - state.judged_unix_s > _GAP * counts.span_s:
        state.sweeps = ""
    if bad is None:
        state.unjudged += 1
        if state.unjudged >= counts.of:
            state.sweeps, state.holds = "", False
        return True if state.holds else None
    missing = round((unix_s - state.judged_unix_s) / counts.span_s * counts.of) - 1 if state.sweeps else 0
    state.unjudged, state.judged_unix_s = 0, unix_s
    state.sweeps = (state.sweeps + _MISSING * min(missing, counts.of) + "01"[bad])[-2 * counts.of :]
    last = judged(state, counts)
    if last.count("1") >= counts.bad or (_MISSING in state.sweeps and _as_long(state.sweeps[-counts.of :], counts)):
        if not state.holds:
            sweeps_ago = len(state.sweeps) - 1 - state.sweeps.index("1", -counts.of)
            state.began_unix_s = unix_s - sweeps_ago * counts.span_s / counts.of
        state.holds = True
    elif last.count("0") >= counts.of - counts.clear:
        state.holds = False
    return state.holds


def take_over_longer(state: TierState, counts: Counts, recent: Counts, bad: bool | None, unix_s: float) -> bool | None:
    """The same over a longer time; but only while the last sweeps, as many as `recent` looks at, are still bad."""
    holds = take(state, counts, bad, unix_s)
    if bad is not None and judged(state, recent).count("0") >= recent.of - recent.clear:
        state.holds = holds = False
    return holds


def judged(state: TierState, counts: Counts) -> str:
    """The last sweeps that were judged, as many as the tier looks at."""
    sweeps = state.sweeps.replace(_MISSING, "") if _MISSING in state.sweeps else state.sweeps
    return sweeps[-counts.of :]


def _as_long(window: str, counts: Counts) -> bool:
    """Whether the part of the sweeps is bad that it takes, of those that there are in the tier's time: where some are
    missing, a regression is as long as one of which none is."""
    bad, missing = window.count("1"), window.count(_MISSING)
    known = len(window) - missing
    if len(window) < counts.of or known < _LEAST_KNOWN * counts.of or bad < _LEAST_BAD:
        return False
    return bad + missing >= counts.bad and bad * counts.of >= counts.bad * known
