"""Judges a sweep by what is remembered of its probe, and pins what is to be remembered. Pure: time is an argument."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from exporter.analysis.join import FOREIGN_LIMIT_RATIO, foreign_ratio
from exporter.baseline import verdict as baseline_verdict
from exporter.baseline.baseline import SignalBaseline, threshold, worse_by
from exporter.baseline.state import (
    LEAST_FULL,
    LEAST_PROVISIONAL,
    LevelState,
    LoadState,
    Pin,
    Row,
    VersionState,
    level_key,
)
from exporter.core.probe import BaselineOptions, Probe, Signal
from exporter.core.result import LevelVerdict, Measurement, SignalVerdict, SweepResult
from exporter.core.units import NS

_DAY_S = 86_400.0
_VERSION_ROWS = 24
"""Sweeps over which a version without a pin of its own is held against the accepted one: one alone is too noisy."""
_NOT_SLOWER = 1.0
_TRIES = 7
"""How often in a pin's length it is tried to replace a provisional one."""


def judge(load: LoadState, result: SweepResult) -> tuple[LevelVerdict, ...]:
    """The verdicts on the configured levels of a sweep; `load` remembers it from now on."""
    now_unix_s = result.started_unix_s + result.duration_ns / NS
    version = result.facts.version if result.facts else ""
    verdicts = []
    for measurement in result.measurements:
        level = measurement.level
        if level in result.probe.levels:
            state = load.levels.setdefault(level_key(level.mode, level.label), LevelState())
            verdicts.append(_judge_level(state, measurement, result.probe, version, now_unix_s))
    return tuple(verdicts)


def unfit(measurement: Measurement) -> str:
    """Why a level says nothing of its model, "" where it does."""
    if measurement.latency is None:
        return "no request was ok"
    if not measurement.stable:
        return "the level is unstable"
    if measurement.client_limited:
        return "this client, not the server, bounded the level"
    if measurement.server is not None and measurement.foreign_requests is not None:
        part = foreign_ratio(measurement.server, measurement.foreign_requests)
        if part > FOREIGN_LIMIT_RATIO:
            return f"{part:.0%} of the server's requests came from others"
    return ""


@dataclass(frozen=True, slots=True)
class _Case:
    """One level of one sweep: what is remembered of it, and the pin to judge it by."""

    level: LevelState
    state: VersionState
    pin: Pin | None
    probe: Probe
    now_unix_s: float


def _judge_level(
    level: LevelState, measurement: Measurement, probe: Probe, version: str, now_unix_s: float
) -> LevelVerdict:
    options = probe.baseline
    state = level.version(version, now_unix_s)
    why_not = unfit(measurement)
    logs = {} if why_not else _logs(measurement, options)
    if logs:
        state.add(Row(now_unix_s, logs), measurement.breakdown_ns, options)
    case = _Case(level, state, _reference(level, state, version), probe, now_unix_s)
    verdicts = []
    for signal in Signal:
        own_why = why_not or ("" if signal in logs else _missing(signal, measurement, options))
        verdicts.append(_judge_signal(case, signal, logs.get(signal), own_why))
    if logs:
        _pin_if_due(level, state, version, probe, now_unix_s)
    pinned_unix_s = case.pin.pinned_unix_s if case.pin else None
    verdict = LevelVerdict(measurement.level, tuple(verdicts), pinned_unix_s=pinned_unix_s)
    if not verdict.regressed:
        return verdict
    return replace(verdict, components_ns=_changes(case.pin, measurement.breakdown_ns))


def _logs(measurement: Measurement, options: BaselineOptions) -> dict[Signal, float]:
    """The logarithms of what the level says: nanoseconds, inferences a second."""
    latency, found = measurement.latency, {}
    percentiles = {entry.percentile: entry.value_ns for entry in latency.percentiles} if latency else {}
    if percentiles.get(50.0, 0) > 0:
        found[Signal.LATENCY_P50] = math.log(percentiles[50.0])
    if latency and latency.count >= options.p99_min_requests and percentiles.get(99.0, 0) > 0:
        found[Signal.LATENCY_P99] = math.log(percentiles[99.0])
    if measurement.throughput > 0:
        found[Signal.THROUGHPUT] = math.log(measurement.throughput)
    return found


def _missing(signal: Signal, measurement: Measurement, options: BaselineOptions) -> str:
    count = measurement.latency.count if measurement.latency else 0
    if signal is Signal.LATENCY_P99 and count < options.p99_min_requests:
        return f"p99 rests on {count} requests, fewer than {options.p99_min_requests}"
    return "the level has no such figure"


def _reference(level: LevelState, state: VersionState, version: str) -> Pin | None:
    """The pin to judge by: the version's own, else the accepted version's. Where it is another one than before, what
    was judged by that one says nothing any more."""
    against = version if state.pin is not None else level.accepted
    if state.against != against:
        state.tiers.clear()
        state.against = against
    return state.pin or level.accepted_pin


def _judge_signal(case: _Case, signal: Signal, now_log: float | None, why_not: str) -> SignalVerdict:
    options = case.probe.baseline
    baseline = case.pin.signals.get(signal) if case.pin else None
    if baseline is None:
        return SignalVerdict(signal, withheld=why_not or _collecting(case.state, options, case.now_unix_s))
    expected = baseline.at(case.now_unix_s)
    if baseline.noise > options.max_noise:
        why_not = why_not or f"its baseline is too noisy: {baseline.noise:.1%}, above {options.max_noise:.1%}"
    allowance = 1.0 if case.state.pin is case.pin else options.version_ratio
    tiers = {}
    for tier in options.tiers:
        if signal not in tier.signals:
            continue
        bad = None
        if now_log is not None and not why_not:
            bad = _is_bad(signal, now_log, expected, threshold(tier, baseline.noise, allowance), options)
        counts = baseline_verdict.scaled(tier, case.probe.schedule.interval_ns, options.counts_interval_ns)
        holds = baseline_verdict.take(case.state.tier(signal, tier), counts, bad, case.now_unix_s)
        if holds is not None:
            tiers[tier.name] = holds
    return SignalVerdict(
        signal,
        baseline=math.exp(expected),
        ratio=math.exp(now_log - expected) if now_log is not None else None,
        tiers=tiers,
        withheld=why_not,
        version_ratio=_version_ratio(case.level, case.state, signal),
    )


def _is_bad(signal: Signal, now_log: float, expected: float, limit: float, options: BaselineOptions) -> bool:
    floor_ns = {Signal.LATENCY_P50: options.p50_floor_ns, Signal.LATENCY_P99: options.p99_floor_ns}.get(signal)
    if floor_ns is not None and math.exp(now_log) - math.exp(expected) <= floor_ns:
        return False
    return worse_by(signal, now_log, expected) > limit


def _collecting(state: VersionState, options: BaselineOptions, now_unix_s: float) -> str:
    since_s = now_unix_s - state.rows[0].unix_s if state.rows else 0.0
    return (
        f"there is no baseline yet: {since_s / 3600:.1f} h of the first {options.provisional_ns / NS / 3600:.1f} h, "
        f"{len(state.rows)} sweeps of at least {LEAST_PROVISIONAL}"
    )


def _version_ratio(level: LevelState, state: VersionState, signal: Signal) -> float | None:
    """The served version over the accepted one: their pins, or as long as it has none its last sweeps."""
    accepted = level.accepted_pin
    if accepted is None or level.versions.get(level.accepted) is state or signal not in accepted.signals:
        return None
    reference = accepted.signals[signal]
    if state.pin is not None and signal in state.pin.signals:
        return state.pin.signals[signal].over(reference)
    last = list(islice((row for row in reversed(state.rows) if signal in row.logs), _VERSION_ROWS))
    if not last:
        return None
    return math.exp(float(np.median([row.logs[signal] - reference.at(row.unix_s) for row in last])))


def _changes(pin: Pin | None, now_ns: Mapping[str, float]) -> dict[str, float]:
    """How much more each component takes than when the baseline was pinned."""
    then_ns = pin.components_ns if pin else {}
    return {name: now_ns[name] - then for name, then in then_ns.items() if name in now_ns}


# --- pins ------------------------------------------------------------------------------------------------------------


def _pin_if_due(level: LevelState, state: VersionState, version: str, probe: Probe, now_unix_s: float) -> None:
    options, interval_ns = probe.baseline, probe.schedule.interval_ns
    pin, pin_ns = state.pin, options.pin_ns
    if pin is None:
        if state.is_due(now_unix_s, options.provisional_ns, interval_ns, LEAST_PROVISIONAL, options):
            state.pin = state.make_pin(now_unix_s, provisional=True)
            _accept_if_as_good(level, state, version)
        return
    was_tried = now_unix_s - state.tried_unix_s < pin_ns / NS / _TRIES
    if pin.provisional and not was_tried and state.is_due(now_unix_s, pin_ns, interval_ns, LEAST_FULL, options):
        state.tried_unix_s = now_unix_s
        _replace_provisional(state, pin, now_unix_s, options)
        _accept_if_as_good(level, state, version)


def _replace_provisional(state: VersionState, old: Pin, now_unix_s: float, options: BaselineOptions) -> None:
    """The longer pin is the better one, unless the model became slower meanwhile: that is no baseline."""
    new = state.make_pin(now_unix_s, provisional=False)
    for signal in new.signals.keys() & old.signals.keys():
        worse = worse_than(signal, new.signals[signal], old.signals[signal])
        # What no verdict is given on for its noise can't keep the others from their better pin.
        if worse > options.replace_ratio and old.signals[signal].noise <= options.max_noise:
            state.note = (
                f"the provisional baseline stays: {signal} of the longer one is {worse - 1:.1%} worse; "
                "`baseline pin` takes it nevertheless"
            )
            return
    state.pin, state.note = new, ""


def _accept_if_as_good(level: LevelState, state: VersionState, version: str) -> None:
    """The first version is accepted as it is, and one that is no slower than the accepted one takes its place. One
    that is slower by little may stay, but the next is held against the old one: many small steps are a large one."""
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
    return 1 / ratio if signal is Signal.THROUGHPUT else ratio


# --- what a person decides -------------------------------------------------------------------------------------------


def latest_version(level: LevelState) -> str:
    """The version that was served last."""
    return max(level.versions, key=lambda name: level.versions[name].seen_unix_s)


def pin_now(level: LevelState, now_unix_s: float) -> str:
    """Pins the version that is served by the sweeps there are, and accepts it. Returns the version. Raises ValueError
    where they are too few."""
    version = latest_version(level) if level.versions else ""
    state = level.versions.get(version)
    count = len(state.rows) if state else 0
    if state is None or count < LEAST_PROVISIONAL:
        raise ValueError(f"{count} judged sweeps of version {version or '?'}; at least {LEAST_PROVISIONAL} are needed")
    state.pin, state.note = state.make_pin(now_unix_s, provisional=False), ""
    state.tiers.clear()
    level.accepted = version
    return version


def accept(level: LevelState, now_unix_s: float) -> str:
    """Accepts the version that is served with the pin that it has; without one, pins it first. Returns the version.
    Raises ValueError as `pin_now`."""
    version = latest_version(level) if level.versions else ""
    state = level.versions.get(version)
    if state is None or state.pin is None:
        return pin_now(level, now_unix_s)
    level.accepted = version
    return version
