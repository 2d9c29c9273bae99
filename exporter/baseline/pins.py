"""When a version's sweeps become its baseline, and when a longer one takes the place of a shorter one. Pure.

After a day a provisional pin, after seven days the full one, after 28 days it is refined once. What became worse
meanwhile is no baseline: the longer pin knows more hours, and keeps the level of the one before.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, replace

import numpy as np

from exporter.baseline.baseline import Floats, SignalBaseline, scale, worse_residuals
from exporter.baseline.calendar import WEEKEND, days_and_hours, is_weekend, local_s, local_seconds, weekdays
from exporter.baseline.history import RECENT, SIGNALS, SLOTS, History, Rows, thinned
from exporter.baseline.make import baselines
from exporter.baseline.state import (
    LEAST_FULL,
    LEAST_PROVISIONAL,
    LevelState,
    Pin,
    VersionState,
    kept_s,
)
from exporter.baseline.verdict import Counts, scaled
from exporter.core.probe import BaselineOptions, Probe, Signal
from exporter.core.units import NS

_NOT_SLOWER = 1.0
_TRIES = 7
"""How often in a pin's length it is tried to make the next one."""
_LEAST_PART = 0.25
"""Not without this part of the sweeps that the time could hold: the rest could not be judged."""
_SURE_STEP = 3.5
_LEAST_SCALE = 0.01
_LEAST_HOURS_OF_A_DAY = 3
_DAY_S = 86_400.0


def timezone_of(probe: Probe) -> str:
    """The zone of the hours of the week."""
    return probe.baseline.timezone or probe.schedule.timezone


def counts_of(probe: Probe) -> tuple[tuple[str, Counts], ...]:
    """The counts of each tier at the probe's interval."""
    options = probe.baseline
    return tuple(
        (tier.name, scaled(tier, probe.schedule.interval_ns, options.counts_interval_ns)) for tier in options.tiers
    )


def pin_if_due(level: LevelState, state: VersionState, version: str, probe: Probe, now_unix_s: float) -> str:
    """Pins what is due; returns what was done, "" for nothing."""
    pin = state.pin
    if pin is None:
        return _first_pin(level, state, version, probe, now_unix_s)
    if pin.final or now_unix_s - state.tried_unix_s < probe.baseline.pin_ns / NS / _TRIES:
        return ""
    return _longer_pin(level, state, version, probe, now_unix_s)


def _first_pin(level: LevelState, state: VersionState, version: str, probe: Probe, now_unix_s: float) -> str:
    if not _is_due(state, probe.baseline.provisional_ns, probe, LEAST_PROVISIONAL, now_unix_s):
        return ""
    if _continues(level, state, version, probe.baseline):
        return f"version {version} is as good as the previous one and continues its baseline"
    state.pin = make_pin(state, probe, now_unix_s, provisional=True)
    _accept_if_as_good(level, state, version)
    return "provisionally: pages start with the full baseline"


def _longer_pin(level: LevelState, state: VersionState, version: str, probe: Probe, now_unix_s: float) -> str:
    options, pin = probe.baseline, state.pin
    if pin is None:
        return ""
    span_ns = options.pin_ns if pin.provisional or pin.old_form else options.refine_ns
    if not _is_due(state, span_ns, probe, LEAST_FULL, now_unix_s):
        return ""
    state.tried_unix_s = now_unix_s
    if pin.provisional:
        state.pin, state.note = _full(state, pin, probe, now_unix_s)
    elif not state.holds():
        state.pin, state.note = _refined(state, pin, probe, now_unix_s)
    else:
        return ""
    _accept_if_as_good(level, state, version)
    return state.note or ("as the full baseline" if pin.provisional else "refined, by hour of the week")


def _is_due(state: VersionState, span_ns: int, probe: Probe, least: int, now_unix_s: float) -> bool:
    """Whether its sweeps cover the span, and are enough."""
    count = len(state.history)
    if not count or now_unix_s - _first_unix_s(state) < span_ns / NS:
        return False
    slot_ns = kept_s(probe.baseline) * NS / SLOTS
    possible = min(span_ns / probe.schedule.interval_ns, max(RECENT, span_ns / max(slot_ns, 1)))
    return count >= max(least, _LEAST_PART * possible)


def _first_unix_s(state: VersionState) -> float:
    """The first sweep that a pin may be made of: after an operator pinned the new level, none from before."""
    return max(state.history.first_unix_s, state.pin.began_unix_s if state.pin else 0.0)


def _rows(state: VersionState, probe: Probe) -> Rows:
    rows = state.history.all(kept_s(probe.baseline))
    return rows.of(rows.unix_s >= _first_unix_s(state))


def make_pin(state: VersionState, probe: Probe, now_unix_s: float, *, provisional: bool) -> Pin:
    """A pin of all sweeps that are kept. A signal that too few of them have is left out."""
    rows = _rows(state, probe)
    signals = baselines(
        rows, timezone_of(probe), counts_of(probe), LEAST_PROVISIONAL, state.history.recent, known_days=not provisional
    )
    return Pin(now_unix_s, provisional, signals, mean_components(state), float(rows.unix_s[0]))


def mean_components(state: VersionState, since_unix_s: float = 0.0) -> dict[str, float]:
    """The usual mean of each component in nanoseconds."""
    kept = [parts for at, parts in state.components if at >= since_unix_s]
    names = {name for parts in kept for name in parts}
    return {name: float(np.median([parts[name] for parts in kept if name in parts])) for name in names}


# --- the longer one --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Step:
    """The moment from which the level is worse, and by how much (a logarithm)."""

    unix_s: float
    by: float


def _full(state: VersionState, old: Pin, probe: Probe, now_unix_s: float) -> tuple[Pin, str]:
    """The week's pin. A step within one class of days was a regression: it is taken out."""
    rows = _rows(state, probe)
    notes = []
    logs = rows.logs.copy()
    for signal, baseline in old.signals.items():
        step = _step(signal, rows, baseline, old, probe.baseline)
        if step is not None:
            sign = -1.0 if signal.is_rate else 1.0
            logs[rows.unix_s >= step.unix_s, SIGNALS.index(signal)] -= sign * step.by
            notes.append(f"{signal} became {math.expm1(step.by):.1%} worse")
    rows = Rows(rows.unix_s, logs, rows.unstable)
    signals = baselines(
        rows, timezone_of(probe), counts_of(probe), LEAST_PROVISIONAL, state.history.recent, known_days=True
    )
    pin = Pin(now_unix_s, False, signals, mean_components(state), float(rows.unix_s[0]))
    return pin, _kept_note(notes)


def _kept_note(notes: list[str]) -> str:
    if not notes:
        return ""
    return (
        f"{', '.join(notes)} before the baseline was complete, and is not part of it; `baseline pin` includes it anyway"
    )


def _step(signal: Signal, rows: Rows, baseline: SignalBaseline, old: Pin, options: BaselineOptions) -> _Step | None:
    """Where the signal stepped up, compared on the classes of days and the hours that the provisional pin has seen."""
    days, worse, starts = _by_day(signal, rows, baseline, old)
    if len(days) < 2:
        return None
    best = min(range(1, len(worse)), key=lambda split: _left_over(worse, split))
    step = float(np.median(worse[best:]) - np.median(worse[:best]))
    rest = np.concatenate([worse[:best] - np.median(worse[:best]), worse[best:] - np.median(worse[best:])])
    chance = max(_LEAST_SCALE, scale(rest), 0.5 * baseline.noise)
    if step <= math.log(options.replace_ratio) or step < _SURE_STEP * chance:
        return None
    return _Step(float(starts[best]), step)


def _by_day(signal: Signal, rows: Rows, baseline: SignalBaseline, old: Pin) -> tuple[list[int], Floats, list[float]]:
    """Days, the median of how much worse each is than the provisional pin, and each day's first moment."""
    values = rows.signal(signal)
    known = ~np.isnan(values)
    times = rows.unix_s[known]
    day, hour = days_and_hours(local_seconds(times, baseline.timezone))
    kind = (weekdays(day) >= WEEKEND) * 24 + hour
    seen = np.unique(kind[(times >= old.began_unix_s) & (times <= old.pinned_unix_s)])
    worse = worse_residuals(signal, baseline, times, values[known])
    alike = np.isin(kind, seen)
    days, medians, starts = [], [], []
    for each in np.unique(day[alike]).tolist():
        chosen = alike & (day == each)
        if len(np.unique(hour[chosen])) >= _LEAST_HOURS_OF_A_DAY:
            days.append(each)
            medians.append(float(np.median(worse[chosen])))
            starts.append(float(times[chosen][0]))
    return days, np.array(medians), starts


def _left_over(values: Floats, split: int) -> float:
    before, after = values[:split], values[split:]
    return float(np.abs(before - np.median(before)).sum() + np.abs(after - np.median(after)).sum())


def _refined(state: VersionState, old: Pin, probe: Probe, now_unix_s: float) -> tuple[Pin, str]:
    """The pin of four weeks, at the level of the week's where it is worse by more than a little."""
    new = make_pin(state, probe, now_unix_s, provisional=False)
    signals, notes = dict(new.signals), []
    for signal in new.signals.keys() & old.signals.keys():
        worse = worse_than(signal, new.signals[signal], old.signals[signal])
        if worse > probe.baseline.replace_ratio:
            sign = -1.0 if signal.is_rate else 1.0
            signals[signal] = shifted(new.signals[signal], -sign * math.log(worse))
            notes.append(f"{signal} became {worse - 1:.1%} worse")
    return replace(new, signals=signals, final=not old.old_form), _kept_note(notes)


def shifted(baseline: SignalBaseline, by: float) -> SignalBaseline:
    """The baseline at another level: all hours moved by this logarithm."""
    return replace(baseline, hours=array("d", [hour + by for hour in baseline.hours]))


def has_seen(pin: Pin, timezone: str, unix_s: float) -> bool:
    """Whether the pin is of sweeps at this hour of this class of days: of working days, or of weekends."""
    now, last = local_s(unix_s, timezone), local_s(pin.pinned_unix_s, timezone)
    then = last - (last - now) % _DAY_S
    while then >= last - (pin.pinned_unix_s - pin.began_unix_s):
        if is_weekend(then) == is_weekend(now):
            return True
        then -= _DAY_S
    return False


# --- versions --------------------------------------------------------------------------------------------------------


def _continues(level: LevelState, state: VersionState, version: str, options: BaselineOptions) -> bool:
    """Whether a version is as good as the accepted one, whose baseline is not complete: then its sweeps continue where
    those of the accepted one ended. With a deploy each week no version would ever have a baseline of its own."""
    before = level.versions.get(level.accepted)
    if before is None or before is state or before.pin is None or before.pin.final:
        return False
    baseline = before.pin.signals.get(Signal.LATENCY_P50)
    rows = state.history.recent
    if baseline is None or before.history.last_unix_s >= rows.unix_s[0]:
        return False
    worse = worse_residuals(Signal.LATENCY_P50, baseline, rows.unix_s, rows.signal(Signal.LATENCY_P50))
    allowed = options.version_ratio if before.pin.provisional else options.replace_ratio
    if not float(np.nanmedian(worse)) <= math.log(allowed):
        return False
    older = (
        before.history.since(0.0).plus(state.history.older) if len(state.history.older) else before.history.since(0.0)
    )
    state.history = History.of(thinned(older, kept_s(options) / SLOTS), rows)
    state.components = [*before.components, *state.components]
    state.pin, level.accepted = before.pin, version
    return True


def _accept_if_as_good(level: LevelState, state: VersionState, version: str) -> None:
    """The first version is accepted as it is, and one that is no slower than the accepted one takes its place. One
    that is slower by little may stay, but the next is compared with the old one: many small steps are a large one."""
    accepted = level.accepted_pin
    if accepted is None:
        level.accepted = version
    elif state.pin is not None and not state.pin.provisional and level.accepted != version:
        latencies = (Signal.LATENCY_P50, Signal.LATENCY_P99)
        both = [s for s in latencies if s in state.pin.signals and s in accepted.signals]
        if both and all(worse_than(s, state.pin.signals[s], accepted.signals[s]) <= _NOT_SLOWER for s in both):
            level.accepted = version


def worse_than(signal: Signal, one: SignalBaseline, other: SignalBaseline) -> float:
    """How many times worse one baseline is than another."""
    ratio = one.over(other)
    return 1 / ratio if signal.is_rate else ratio


def reference(level: LevelState, state: VersionState, version: str) -> tuple[Pin | None, str]:
    """The pin to judge by, and whose it is: the version's own full one, else the accepted version's, which a version
    is compared with until it has a full one."""
    accepted = level.accepted_pin
    own = state.pin
    if own is not None and (not own.provisional or accepted is None or accepted.provisional):
        return own, version
    return (accepted, level.accepted) if accepted is not None else (own, version)
