"""What a person decides about a level: to take what it is now as its baseline, or a version as the accepted one. Pure.

A regression that is to stay is pinned from the sweeps since it began. They are few, and know few hours: the old
baseline's hours are kept, and moved to the new level. Sweeps of a week and more make a baseline of their own.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, replace

import numpy as np

from exporter.analysis.clusters import two_groups
from exporter.baseline.baseline import SignalBaseline, worse_residuals
from exporter.baseline.history import Flags, Rows
from exporter.baseline.make import baselines
from exporter.baseline.pins import counts_of, mean_components, shifted, timezone_of
from exporter.baseline.state import LEAST_PROVISIONAL, LevelState, Pin, VersionState
from exporter.core.probe import Probe, Signal
from exporter.core.units import NS

_LEAST_MOVED = 3
"""Sweeps that are enough to move a baseline to another level; for one of its own it takes LEAST_PROVISIONAL."""
_WHOLE = 0.99
_LEAST_OF_GROUP = 3
_NEARLY_ALL = 0.8
_MOST_WRONG = 0.1


class UndecidedError(ValueError):
    """It can't be done so; the text has the reason, and what would do."""


@dataclass(frozen=True, slots=True)
class Pinning:
    """A pin that is made, or would be: of `version`, from the `sweeps` since a moment, and a remark on
    it. `compared` is (signal, before, after): what the next sweep is compared with, in nanoseconds, or inferences a
    second."""

    version: str
    pin: Pin
    since_unix_s: float
    sweeps: int
    compared: tuple[tuple[Signal, float | None, float], ...]
    warnings: tuple[str, ...]


def latest_version(level: LevelState) -> str:
    """The version that was served last."""
    return max(level.versions, key=lambda name: level.versions[name].seen_unix_s)


def prepare_pin(
    level: LevelState, probe: Probe, now_unix_s: float, since_unix_s: float | None = None, *, force: bool = False
) -> Pinning:
    """The pin of the version that is served now: from the sweeps since a moment, by default since the regression began.
    Changes nothing. Raises UndecidedError where the sweeps are too few, or are from before and after a change."""
    version = latest_version(level) if level.versions else ""
    state = level.versions.get(version)
    if state is None or not len(state.history):
        raise UndecidedError("there is no sweep yet")
    old = state.pin or level.accepted_pin
    since = since_unix_s if since_unix_s is not None else _default_since(state, probe, now_unix_s)
    rows = state.history.since(since)
    least = _LEAST_MOVED if old is not None else LEAST_PROVISIONAL
    if len(rows) < least:
        text = f"{len(rows)} sweeps of version {version or '?'} since {_shown(since)}; at least {least} are needed"
        raise UndecidedError(text)
    warnings = _two_humps(rows, old, force=force)
    pin = _made(state, old, rows, probe, now_unix_s)
    compared = tuple(
        (
            signal,
            math.exp(old.signals[signal].at(now_unix_s)) if old and signal in old.signals else None,
            math.exp(baseline.at(now_unix_s)),
        )
        for signal, baseline in pin.signals.items()
    )
    return Pinning(version, pin, float(rows.unix_s[0]), len(rows), compared, warnings)


def apply_pin(level: LevelState, pinning: Pinning) -> None:
    """Takes it, and accepts the version."""
    state = level.versions[pinning.version]
    state.pin, state.note = pinning.pin, ""
    state.tiers.clear()
    state.lower_unix_s.clear()
    level.accepted = pinning.version


def accept(level: LevelState, probe: Probe, now_unix_s: float) -> tuple[str, str, Pinning | None]:
    """Accepts the version that is served with the pin that it has; without one, pins it first. Returns the version
    accepted before, the one accepted now, and the pin that was made. Raises UndecidedError as `prepare_pin`."""
    before = level.accepted
    version = latest_version(level) if level.versions else ""
    state = level.versions.get(version)
    if state is not None and state.pin is not None and not (state.pin.provisional and version != before):
        level.accepted = version
        return before, version, None
    since = state.history.first_unix_s if state is not None and len(state.history) else 0.0
    pinning = prepare_pin(level, probe, now_unix_s, since, force=True)
    apply_pin(level, pinning)
    return before, version, pinning


# --- which sweeps ----------------------------------------------------------------------------------------------------


def _default_since(state: VersionState, probe: Probe, now_unix_s: float) -> float:
    """When what holds began; where nothing holds, the last day, or as long as the version is there."""
    began = [kept.began_unix_s for kept in state.tiers.values() if kept.holds and kept.began_unix_s]
    if began:
        return min(began)
    if (start := _bad_since(state)) is not None:
        return start
    if state.pin is None:
        return state.history.first_unix_s
    return now_unix_s - probe.baseline.provisional_ns / NS


def _bad_since(state: VersionState) -> float | None:
    """When the sweeps began to be bad that are not yet enough for a regression: the last ones of a tier, nearly all."""
    rows = state.history.recent
    starts = []
    for kept in state.tiers.values():
        run = kept.sweeps[kept.sweeps.rfind("00") + 2 :] if "00" in kept.sweeps else kept.sweeps
        run = run.lstrip("0")
        if len(run) >= _LEAST_MOVED and run.count("1") >= _NEARLY_ALL * len(run) and len(rows) >= len(run):
            starts.append(float(rows.unix_s[len(rows) - len(run)]))
    return min(starts, default=None)


def _two_humps(rows: Rows, old: Pin | None, *, force: bool) -> tuple[str, ...]:
    """Warns of sweeps that alternate between two values. Raises UndecidedError where one follows the other: then a
    change lies among them."""
    logs = rows.signal(Signal.LATENCY_P50)
    known = ~np.isnan(logs)
    times, logs = rows.unix_s[known], logs[known]
    baseline = old.signals.get(Signal.LATENCY_P50) if old else None
    if baseline is not None:
        # Of a steep day the hours make two groups: what is left after them does not.
        residuals = worse_residuals(Signal.LATENCY_P50, replace(baseline, modes=None), times, logs)
        logs = residuals + float(np.median(logs - residuals))
    groups = two_groups(logs, _LEAST_OF_GROUP)
    if groups is None:
        return ()
    values = f"{_ms(groups.low)} and {_ms(groups.high)}"
    changed = _changed_at(logs > groups.divide)
    if changed is None:
        return (f"the sweeps alternate between {values} (p50): each is compared with its own",)
    text = f"the sweeps changed between {values} (p50) at {_shown(float(times[changed]))}"
    if not force:
        raise UndecidedError(f"{text}: give --since with a time after it, or --force to use both")
    return (text,)


def _changed_at(upper: Flags) -> int | None:
    """Where one group follows the other; None where they alternate."""
    flips = np.flatnonzero(upper[1:] != upper[:-1]) + 1
    best, wrong = None, len(upper)
    for flip in flips.tolist():
        before, after = upper[:flip], upper[flip:]
        errors = min(
            int(np.count_nonzero(before) + np.count_nonzero(~after)),
            int(np.count_nonzero(~before) + np.count_nonzero(after)),
        )
        if errors < wrong:
            best, wrong = flip, errors
    smaller = min(int(np.count_nonzero(upper)), int(np.count_nonzero(~upper)))
    return best if wrong <= _MOST_WRONG * len(upper) and wrong < smaller / 2 else None


# --- the pin ---------------------------------------------------------------------------------------------------------


def _made(state: VersionState, old: Pin | None, rows: Rows, probe: Probe, now_unix_s: float) -> Pin:
    options = probe.baseline
    spans_week = rows.unix_s[-1] - rows.unix_s[0] >= _WHOLE * options.pin_ns / NS
    components_ns = mean_components(state, float(rows.unix_s[0])) or (dict(old.components_ns) if old else {})
    began = float(rows.unix_s[0])
    if old is None or spans_week:
        signals = baselines(
            rows,
            timezone_of(probe),
            counts_of(probe),
            min(LEAST_PROVISIONAL, len(rows)),
            state.history.recent,
            known_days=spans_week,
        )
        return Pin(now_unix_s, False, signals, components_ns, began)
    signals = {}
    for signal, baseline in old.signals.items():
        moved = _moved(signal, baseline, rows)
        if moved is not None:
            signals[signal] = moved
    return replace(
        old,
        pinned_unix_s=now_unix_s,
        provisional=False,
        signals=signals,
        components_ns=components_ns,
        began_unix_s=began,
    )


def _moved(signal: Signal, baseline: SignalBaseline, rows: Rows) -> SignalBaseline | None:
    """The baseline at the level of these rows; None where they do not have the signal."""
    logs = rows.signal(signal)
    known = ~np.isnan(logs)
    if not known.any():
        return None
    worse = worse_residuals(signal, replace(baseline, modes=None), rows.unix_s[known], logs[known])
    if baseline.modes is not None:
        groups = two_groups(worse, _LEAST_OF_GROUP)
        level = groups.low if groups is not None else float(np.median(worse))
    else:
        level = float(np.median(worse))
    moved = shifted(baseline, -level if signal.is_rate else level)
    # Without the second group the signal has one mode now, and what was usual has the other in it.
    return moved if baseline.modes is None or groups is not None else replace(moved, modes=None)


def _ms(log: float) -> str:
    return f"{math.exp(log) / 1e6:.4g} ms"


def _shown(unix_s: float) -> str:
    return dt.datetime.fromtimestamp(unix_s, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
