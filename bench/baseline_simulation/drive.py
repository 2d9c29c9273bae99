"""One made-up probe through the product's judge, sweep by sweep; and copies of it in which latency steps up."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from bench.baseline_simulation.scenarios import DAY_S, Draw, Floats, Scenario, Series, make_series
from exporter.baseline.judge import judge
from exporter.baseline.state import LoadState
from exporter.core.facts import DurationStat, ModelFacts, ModelStatistics
from exporter.core.outcome import Outcome, Reason, SweepStatus
from exporter.core.probe import LoadLevel, Mode, Probe, Schedule
from exporter.core.result import LatencySummary, LevelVerdict, Measurement, PercentileValue, SweepResult
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.core.window import ClientHealth

TYPICAL_NS = 20e6
SOUGHT = {1.10: ("warn", "slow"), 1.20: ("page", "warn"), 1.50: ("page",)}
"""By how much latency steps up, and which tiers are to find it."""
BEFORE_STEPS_S = 35 * DAY_S
"""No step before that: it is about probes that know their weeks."""
LOOK_S = DAY_S
HELD_S = 6 * 3600.0
"""How long the regression lasts whose end is looked at."""
TIERS = ("page", "warn", "slow")


@dataclass(slots=True)
class Outcomes:
    """Of one probe: years simulated, alarms that began by tier, the part of sweeps without a verdict on p50, and on
    p99; per step the seconds until a tier that is to find it does (inf: not within a day); seconds until a
    page ended."""

    years: float = 0.0
    alarms: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TIERS, 0))
    held: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TIERS, 0.0))
    silent: float = 0.0
    silent_p99: float = 0.0
    delays: dict[float, list[float]] = field(default_factory=dict)
    recovery: list[float] = field(default_factory=list)


class Sweeps:
    """Makes results of a series."""

    def __init__(self, series: Series, interval_s: float) -> None:
        schedule = Schedule(round(interval_s * NS), timezone=series.timezone)
        self.series = series
        target = Target("t", "triton", "http", "127.0.0.1", 8000, group="g")
        level = LoadLevel(Mode.CONCURRENCY, 1.0, "1")
        self.probe = Probe("p", target, "m", "", schedule, (level,))
        self.facts = ModelFacts("m", "1", "", "python", 0, (), ())
        success = DurationStat(series.requests, series.requests * 1000)
        self._measurement = partial(
            Measurement, level=level, reason=Reason.NONE, reason_text="", windows_run=3, windows_merged=3,
            duration_ns=15 * NS, offered=1.0, unsent_ratio=0.0, response_time=None,
            send_lag=None, outcomes={Outcome.OK: series.requests}, responses=series.requests, spread_ratio=1.0,
            breakdown_ns={}, negative_remainder_ns=0.0, client_send_ns=0.0, client_receive_ns=0.0,
            server=ModelStatistics("m", "1", series.requests, series.requests, success),
            foreign_requests=round(series.foreign_ratio * series.requests), health=ClientHealth(),
            client_limited=False, window_summaries=(),
        )  # fmt: skip

    def result(self, index: int, shift: float = 0.0) -> SweepResult | None:
        """The sweep's result with its latency e^shift times as long, None where it has no figures."""
        series = self.series
        if series.missing[index]:
            return None
        log = float(series.logs[index]) + shift
        p50_ns = TYPICAL_NS * math.exp(log)
        p99_ns = p50_ns * math.exp(0.7 + float(series.tail[index]))
        percentiles = (
            PercentileValue(50.0, round(p50_ns), None, None),
            PercentileValue(99.0, round(p99_ns), None, None),
        )
        latency = LatencySummary(series.requests, p50_ns, 0.0, 0, round(p99_ns), percentiles)
        # No tier looks at throughput, so that a sweep without it is judged in the same way, and sooner.
        measurement = self._measurement(latency=latency, stable=not series.unstable[index], throughput=0.0)
        facts = self.facts
        if (version := str(series.versions[index])) != facts.version:
            facts = replace(facts, version=version)
        started_s = float(series.unix_s[index])
        return SweepResult(
            "1", self.probe, SweepStatus.OK, Reason.NONE, "", started_s, 0, facts, measurements=(measurement,)
        )


def probe_years(
    scenario: Scenario, seed: int, *, held_out: bool, days: float, interval_s: float, weekday: int, starts: int
) -> Outcomes:
    """Simulates one probe for so many days, and `starts` regressions of each step in copies of it."""
    draw = Draw(np.random.default_rng([seed, len(scenario.name), sum(map(ord, scenario.name))]), held_out)
    count = round(days * DAY_S / interval_s)
    series = make_series(scenario, draw, count, interval_s, weekday)
    sweeps = Sweeps(series, interval_s)
    forks = set(_fork_points(draw, series, interval_s, starts))
    found, load = Outcomes(years=days / 365), LoadState()
    before: dict[str, bool] = {}
    judged = silent = silent_p99 = 0
    for index in range(count):
        if index in forks and not any(before.values()):
            _forked(found, sweeps, load, index, interval_s)
        if (result := sweeps.result(index)) is None:
            continue
        (verdict,) = judge(load, result)
        judged += 1
        silent += not verdict.signals[0].tiers
        silent_p99 += not verdict.signals[1].tiers
        now = holding(verdict)
        for tier in TIERS:
            found.alarms[tier] += now[tier] and not before.get(tier, False)
            found.held[tier] += now[tier] / count
        before = now
    found.silent, found.silent_p99 = silent / judged, silent_p99 / judged
    return found


def holding(verdict: LevelVerdict) -> dict[str, bool]:
    """Which tiers hold on any signal."""
    return {tier: any(each.tiers.get(tier, False) for each in verdict.signals) for tier in TIERS}


def _fork_points(draw: Draw, series: Series, interval_s: float, starts: int) -> list[int]:
    first, last = BEFORE_STEPS_S / interval_s, len(series.logs) - (LOOK_S + HELD_S) / interval_s - 1
    if last <= first:
        return []
    return [int(each) for each in draw.random.uniform(first, last, starts)]


def _forked(found: Outcomes, sweeps: Sweeps, load: LoadState, index: int, interval_s: float) -> None:
    for step, tiers in SOUGHT.items():
        run = _run(sweeps, deepcopy(load), index, round(LOOK_S / interval_s), math.log(step))
        delays = (after * interval_s for after, now in run if any(now[tier] for tier in tiers))
        found.delays.setdefault(step, []).append(next(delays, math.inf))
    copied = deepcopy(load)
    *_, (_, last) = _run(sweeps, copied, index, round(HELD_S / interval_s), math.log(max(SOUGHT)))
    if last["page"]:
        later = index + round(HELD_S / interval_s)
        over = (after for after, now in _run(sweeps, copied, later, round(LOOK_S / interval_s), 0.0) if not now["page"])
        found.recovery.append(next(over, math.inf) * interval_s)


def _run(
    sweeps: Sweeps, load: LoadState, index: int, count: int, shift: float
) -> Iterator[tuple[int, dict[str, bool]]]:
    """Judges sweeps from `index` on with this shift; yields how many intervals it took, and what holds."""
    now = dict.fromkeys(TIERS, False)
    for after in range(count):
        if (result := sweeps.result(index + after, shift)) is not None:
            (verdict,) = judge(load, result)
            now = holding(verdict)
        yield after + 1, now


def quantile(values: list[float], part: float) -> float:
    """A quantile of what may be infinite."""
    ordered: Floats = np.sort(np.array(values))
    return float(ordered[min(len(ordered) - 1, math.floor(part * len(ordered)))])
