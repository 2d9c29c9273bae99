"""Judges a sweep by what is remembered of its probe. Pure: time is an argument.

A sweep is judged whenever the client's percentiles mean something: what only spoils the breakdown withholds no verdict,
noise widens the limits, and an unstable level is judged on a wider scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from exporter.baseline import verdict as baseline_verdict
from exporter.baseline.baseline import SignalBaseline
from exporter.baseline.pins import has_seen, pin_if_due, reference, worse_than
from exporter.baseline.state import (
    LEAST_PROVISIONAL,
    LevelState,
    LoadState,
    Pin,
    VersionState,
    level_key,
)
from exporter.core.probe import MOST_POOLED_SWEEPS, BaselineOptions, Probe, Signal, Tier, signals_of
from exporter.core.result import (
    LatencySummary,
    LevelVerdict,
    Measurement,
    SignalVerdict,
    SweepResult,
    TokenFigures,
    VerdictChange,
    VerdictEvent,
    Withheld,
)
from exporter.core.units import NS

_VERSION_ROWS = 24
"""Sweeps over which a version without a pin of its own is compared with the accepted one: one alone is too noisy."""
_PAGE = "page"
_PROVISIONAL = math.log(1.1)
"""How much more a provisional baseline allows: it knows one day."""
_UNSEEN_HOUR = math.log(1.5)
"""And at an hour that it has not seen on this class of days: on a working day's morning, from a weekend."""


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


@dataclass(frozen=True, slots=True)
class _Why:
    """Why there is no verdict."""

    reason: Withheld
    text: str


@dataclass(slots=True)
class _Case:
    """One level of one sweep: what is remembered of it, and the pin to judge it by."""

    level: LevelState
    state: VersionState
    pin: Pin | None
    probe: Probe
    now_unix_s: float
    unstable: bool
    events: list[VerdictEvent]


def _unfit(measurement: Measurement) -> _Why | None:
    """Why a level's figures cannot be judged, None where they can."""
    if measurement.latency is None:
        return _Why(Withheld.NO_REQUESTS, "no request was ok")
    if measurement.client_limited:
        return _Why(Withheld.CLIENT_LIMITED, "this client, not the server, limited the level")
    return None


def _judge_level(
    level: LevelState, measurement: Measurement, probe: Probe, version: str, now_unix_s: float
) -> LevelVerdict:
    options = probe.baseline
    state = level.version(version, now_unix_s)
    why_not = _unfit(measurement)
    logs = {} if why_not else _logs(measurement, state, options, now_unix_s)
    if logs:
        unstable = not measurement.stable
        state.add(now_unix_s, logs, measurement.breakdown_ns, options, unstable=unstable)
    case = _Case(level, state, _pin(level, state, version), probe, now_unix_s, not measurement.stable, [])
    verdicts = []
    for signal in signals_of(probe.target):
        own_why = why_not or (None if signal in logs else _missing(signal, measurement, options))
        verdicts.append(_judge_signal(case, signal, logs.get(signal), own_why))
    if logs and (done := pin_if_due(level, state, version, probe, now_unix_s)):
        case.events.append(VerdictEvent(VerdictChange.PINNED, done))
    verdict = LevelVerdict(
        measurement.level,
        tuple(verdicts),
        pinned_unix_s=case.pin.pinned_unix_s if case.pin else None,
        provisional=case.pin is not None and case.pin.provisional,
        events=tuple(case.events),
    )
    if not verdict.regressed:
        return verdict
    return replace(verdict, components_ns=_changes(case.pin, measurement.breakdown_ns))


# --- the figures -----------------------------------------------------------------------------------------------------


def _logs(
    measurement: Measurement, state: VersionState, options: BaselineOptions, now_unix_s: float
) -> dict[Signal, float]:
    """The logarithms of the level's figures: nanoseconds, inferences a second."""
    latency, found = measurement.latency, {}
    if latency is not None:
        percentiles = {entry.percentile: entry.value_ns for entry in latency.percentiles}
        if percentiles.get(50.0, 0) > 0:
            found[Signal.LATENCY_P50] = math.log(percentiles[50.0])
        if percentiles.get(99.0, 0) > 0:
            p99 = _pooled(state.tail, math.log(percentiles[99.0]), latency.count, options, now_unix_s)
            if p99 is not None:
                found[Signal.LATENCY_P99] = p99
    if measurement.throughput > 0:
        found[Signal.THROUGHPUT] = math.log(measurement.throughput)
    if measurement.tokens is not None:
        found |= _token_logs(measurement.tokens, state, options, now_unix_s)
    return found


def _token_logs(
    tokens: TokenFigures, state: VersionState, options: BaselineOptions, now_unix_s: float
) -> dict[Signal, float]:
    found = {}
    first, per_token = _percentiles(tokens.first_token), _percentiles(tokens.per_output_token)
    if tokens.first_token is not None and first.get(99.0, 0) > 0:
        count = tokens.first_token.count
        p99 = _pooled(state.first_token_tail, math.log(first[99.0]), count, options, now_unix_s)
        if p99 is not None:
            found[Signal.FIRST_TOKEN_P99] = p99
    figures = {
        Signal.FIRST_TOKEN_P50: first.get(50.0, 0),
        Signal.PER_OUTPUT_TOKEN_P50: per_token.get(50.0, 0),
        Signal.OUTPUT_TOKENS: tokens.output_tokens_per_second or 0,
    }
    return found | {signal: math.log(value) for signal, value in figures.items() if value > 0}


def _percentiles(summary: LatencySummary | None) -> dict[float, int]:
    return {entry.percentile: entry.value_ns for entry in summary.percentiles} if summary else {}


def _pooled(
    tail: list[tuple[float, float, int]], log: float, requests: int, options: BaselineOptions, now_unix_s: float
) -> float | None:
    """The 99th percentile over as many of the last sweeps as rest on enough requests together: their median. None
    while there are too few of them."""
    if requests >= options.p99_min_requests:
        tail.clear()
        return log
    tail.append((now_unix_s, log, requests))
    needed = math.ceil(options.p99_min_requests / max(1, requests))
    if needed > MOST_POOLED_SWEEPS:
        del tail[:-MOST_POOLED_SWEEPS]
        return None
    del tail[:-needed]
    if sum(count for _, _, count in tail) < 0.9 * options.p99_min_requests:
        return None
    ordered = sorted(each for _, each, _ in tail)
    return ordered[len(ordered) // 2]


def _missing(signal: Signal, measurement: Measurement, options: BaselineOptions) -> _Why:
    count = measurement.latency.count if measurement.latency else 0
    if signal not in (Signal.LATENCY_P99, Signal.FIRST_TOKEN_P99) or count >= options.p99_min_requests:
        return _Why(Withheld.NO_FIGURE, "the level does not have this figure")
    if count * MOST_POOLED_SWEEPS < options.p99_min_requests:
        text = (
            f"p99 has only {count} requests, too few even over {MOST_POOLED_SWEEPS} sweeps ({options.p99_min_requests})"
        )
    else:
        text = f"p99 has only {count} requests; it is pooled over sweeps until there are {options.p99_min_requests}"
    return _Why(Withheld.FEW_REQUESTS, text)


# --- verdicts --------------------------------------------------------------------------------------------------------


def _pin(level: LevelState, state: VersionState, version: str) -> Pin | None:
    """The pin to judge by. Where it is of another version than before, what was judged by that one no longer
    counts."""
    pin, against = reference(level, state, version)
    if state.against != against:
        state.tiers.clear()
        state.against = against
    return pin


_NOT_IN_THE_PIN = (
    "the pinned baseline lacks it: too few of its sweeps had a figure; the next baseline has it, or `baseline pin` now"
)


def _judge_signal(case: _Case, signal: Signal, now_log: float | None, why_not: _Why | None) -> SignalVerdict:
    options = case.probe.baseline
    baseline = case.pin.signals.get(signal) if case.pin else None
    if case.pin is None or baseline is None:
        text = _NOT_IN_THE_PIN if case.pin else _collecting(case.state, options, case.now_unix_s)
        why_not = why_not or _Why(Withheld.NO_BASELINE, text)
        return SignalVerdict(signal, withheld=why_not.text, reason=why_not.reason)
    if options.max_noise is not None and baseline.noise > options.max_noise and why_not is None:
        text = f"its baseline is too noisy: {baseline.noise:.1%}, above {options.max_noise:.1%}"
        why_not = _Why(Withheld.NOISY, text)
    expected = baseline.at(case.now_unix_s)
    worse = None if now_log is None or why_not else _worse(case, signal, baseline, now_log - expected)
    if worse is not None and _within_floor(signal, now_log or 0.0, expected, options):
        worse = -math.inf
    allowance = _allowance(case, signal, baseline)
    found = _Found({}, {}, {}, [])
    for tier in options.tiers:
        if signal in tier.signals and not (tier.name == _PAGE and case.pin.provisional):
            _judge_tier(case, tier, _Compared(signal, baseline, worse, allowance), found)
    return SignalVerdict(
        signal,
        baseline=math.exp(expected),
        ratio=math.exp(now_log - expected) if now_log is not None else None,
        tiers=found.tiers,
        withheld=why_not.text if why_not else "",
        version_ratio=_version_ratio(case.level, case.state, signal),
        reason=why_not.reason if why_not else None,
        limits=found.limits,
        counts=found.counts,
        began_unix_s=min(found.began, default=None),
        modes=(math.exp(expected), math.exp(expected + baseline.modes.distance)) if baseline.modes else None,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """What a signal's tiers come to, by name, and when what holds began."""

    tiers: dict[str, bool]
    limits: dict[str, float]
    counts: dict[str, tuple[int, int, int]]
    began: list[float]


@dataclass(frozen=True, slots=True)
class _Compared:
    """A signal beside its baseline: by how much it is worse (None: no verdict), and what is allowed on top of the
    limits; logarithms."""

    signal: Signal
    baseline: SignalBaseline
    worse: float | None
    allowance: float


def _judge_tier(case: _Case, tier: Tier, compared: _Compared, found: _Found) -> None:
    """Takes the sweep into a tier: over its own time, and over the longer one of another."""
    signal, baseline, worse, allowance = compared.signal, compared.baseline, compared.worse, compared.allowance
    options, interval_ns = case.probe.baseline, case.probe.schedule.interval_ns
    limit = baseline.limit(tier, unstable=case.unstable) + allowance
    count = baseline_verdict.scaled(tier, interval_ns, options.counts_interval_ns)
    spans = [(case.state.tier(signal, tier.name), count, limit)]
    if (longer := _longer(tier, signal, baseline, options)) is not None:
        limit = baseline.limit(tier, unstable=case.unstable, over=longer.name) + allowance
        long_count = baseline_verdict.scaled(longer, interval_ns, options.counts_interval_ns)
        spans.append((case.state.tier(signal, f"{tier.name}/{longer.name}"), long_count, limit))
    before = any(state.holds for state, _, _ in spans)
    held = []
    for state, of, each in spans:
        own_before, bad = state.holds, None if worse is None else worse > each
        if of is count:
            held.append(baseline_verdict.take(state, of, bad, case.now_unix_s))
        else:
            held.append(baseline_verdict.take_over_longer(state, of, count, bad, case.now_unix_s))
        if state.holds and not own_before:
            # By the sweeps as they were: the interval is only what they were meant to be apart.
            last = baseline_verdict.judged(state, of)
            state.began_unix_s = case.state.history.moment(len(last) - last.index("1"))
    # What is shown is what holds, and its own time before the longer one.
    shown = next((index for index, holds in enumerate(held) if holds), 0)
    state, of, limit = spans[shown]
    if state.holds != before:
        case.events.append(_event(signal, tier, worse, limit, began=state.holds))
    if held[shown] is not None:
        found.tiers[tier.name], found.limits[tier.name] = bool(held[shown]), math.exp(limit)
        last = baseline_verdict.judged(state, of)
        found.counts[tier.name] = last.count("1"), len(last), of.bad
    found.began.extend(state.began_unix_s for state, _, _ in spans if state.holds)


def _longer(tier: Tier, signal: Signal, baseline: SignalBaseline, options: BaselineOptions) -> Tier | None:
    """The tier over whose time this one is looked for, too: where it is known what ordinary days come to in it."""
    for other in options.tiers:
        if other.name == tier.also_over and signal in other.signals and other.name in baseline.usual:
            return other
    return None


def _allowance(case: _Case, signal: Signal, baseline: SignalBaseline) -> float:
    """What comes on top of the limits: for a version of which there is no baseline yet, and for a provisional one."""
    pin, own = case.pin, case.state.pin
    if pin is None:
        return 0.0
    allowance = 0.0
    if own is not pin:
        allowance = math.log(case.probe.baseline.version_ratio)
        if own is not None and signal in own.signals:
            # After its first day it is known how much slower it is: it may be that, and no more.
            allowance = min(allowance, max(0.0, math.log(worse_than(signal, own.signals[signal], baseline))))
    if pin.provisional:
        seen = has_seen(pin, baseline.timezone, case.now_unix_s)
        allowance += _PROVISIONAL if seen else _UNSEEN_HOUR
    return allowance


def _worse(case: _Case, signal: Signal, baseline: SignalBaseline, difference: float) -> float:
    """How much worse the signal is than the mode that it is in, as a logarithm above 0 where it is worse."""
    worse = -difference if signal.is_rate else difference
    if (modes := baseline.modes) is not None:
        if worse < modes.distance / 2:
            case.state.lower_unix_s[signal] = case.now_unix_s
        lower_s = case.state.lower_unix_s.setdefault(signal, case.now_unix_s)
        if worse > modes.distance - modes.tolerance and case.now_unix_s - lower_s <= modes.longest_s:
            worse -= modes.distance
    return worse


def _event(signal: Signal, tier: Tier, worse: float | None, limit: float, *, began: bool) -> VerdictEvent:
    change = VerdictChange.BEGAN if began else VerdictChange.ENDED
    now = "" if worse is None or math.isinf(worse) else f"{math.exp(worse):.2f} of its baseline, "
    return VerdictEvent(change, f"{now}limit {math.exp(limit):.2f}", signal, tier.name)


def _within_floor(signal: Signal, now_log: float, expected: float, options: BaselineOptions) -> bool:
    floor_ns = {
        Signal.LATENCY_P50: options.p50_floor_ns,
        Signal.LATENCY_P99: options.p99_floor_ns,
        Signal.FIRST_TOKEN_P50: options.p50_floor_ns,
        Signal.FIRST_TOKEN_P99: options.p99_floor_ns,
    }.get(signal)
    return floor_ns is not None and math.exp(now_log) - math.exp(expected) <= floor_ns


def _collecting(state: VersionState, options: BaselineOptions, now_unix_s: float) -> str:
    since_s = now_unix_s - state.history.first_unix_s if len(state.history) else 0.0
    first_s = options.provisional_ns / NS
    unit, unit_s = ("h", 3600.0) if first_s >= 7200 else ("min", 60.0)
    return (
        f"there is no baseline yet: {since_s / unit_s:.1f} {unit} of the first {first_s / unit_s:.1f} {unit}, "
        f"{len(state.history)} sweeps; it needs at least {LEAST_PROVISIONAL}"
    )


def _version_ratio(level: LevelState, state: VersionState, signal: Signal) -> float | None:
    """The served version over the accepted one: their pins, or as long as it has no full one its last sweeps."""
    accepted = level.accepted_pin
    if accepted is None or level.versions.get(level.accepted) is state or signal not in accepted.signals:
        return None
    against = accepted.signals[signal]
    if state.pin is not None and not state.pin.provisional and signal in state.pin.signals:
        return state.pin.signals[signal].over(against)
    rows = state.history.recent
    logs = rows.signal(signal)
    last = np.flatnonzero(~np.isnan(logs))[-_VERSION_ROWS:]
    if not len(last):
        return None
    return math.exp(float(np.median([logs[each] - against.at(float(rows.unix_s[each])) for each in last])))


def _changes(pin: Pin | None, now_ns: Mapping[str, float]) -> dict[str, float]:
    """How much more each component takes than when the baseline was pinned."""
    then_ns = pin.components_ns if pin else {}
    return {name: now_ns[name] - then for name, then in then_ns.items() if name in now_ns}
