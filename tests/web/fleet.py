"""Probes as a platform team has them, with a day of sweeps behind them: some failing, regressed, unstable, paused.

Made up, the same at every run: for tests of the pages, and for the pictures in docs/.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from exporter.core.limits import Load
from exporter.core.outcome import Outcome, Reason, SkipReason, SweepStatus
from exporter.core.probe import Probe, Schedule, Signal, Slo
from exporter.core.result import LevelVerdict, Measurement, SignalVerdict, SweepResult, Withheld
from exporter.core.units import MS, NS
from exporter.metrics.exporter_metrics import ExporterFacts
from exporter.metrics.page import MetricsPage
from exporter.state.day_ring import Conclusion, SweepPoint
from exporter.state.history import History, key_of, point_of
from exporter.state.probe_state import Board
from exporter.web.app import WebSources
from exporter.web.status import conclude
from tests.builders import concurrency, make_facts, make_probe, make_target
from tests.metrics.results import Clock, make_exporter_facts, make_measurement, make_result, make_summary

NOW = 1_700_000_100.0 + 17
INTERVAL_S = 300
NAMES = ("resnet50", "asr-streaming", "tts-german", "bert-qa", "ocr-invoice", "ranker", "whisper-large")
WELL, FAILING, REGRESSED, MISSED, UNSTABLE, NEW = "well", "failing", "regressed", "missed", "unstable", "new"
_FIRST = (WELL, REGRESSED, FAILING, UNSTABLE, WELL, MISSED, WELL)
_REFUSED = "http://{}:8000/v2/health/ready: connection refused (10.0.3.17)"


@dataclass
class Fleet:
    """The board and the history over `count` probes; the first seven have something of everything,
    the first 14 a sweep every five minutes."""

    count: int = 7
    days: bool = True
    clock: Clock = field(default_factory=lambda: Clock(NOW))

    def __post_init__(self) -> None:
        self.board = Board(None, self.clock, monotonic=Clock(0.0))
        self.history = History(conclude, now=self.clock)
        self.probes = [_probe(number) for number in range(self.count)]
        self.board.configure(self.probes)
        for number, probe in enumerate(self.probes):
            self._run(number, probe)

    def _run(self, number: int, probe: Probe) -> None:
        kind, chance = _kind(number), random.Random(number)
        if kind == NEW:
            return
        last = NOW - 17 - 20 * (number % 11)
        for ago in range(287 if self.days else 0, 0, -1 if number < 14 else -4):
            at_s = last - INTERVAL_S * ago
            self.history.add(key_of(probe), _point(probe, kind, at_s, ago, chance))
        result = _result(probe, kind, last, 0, chance)
        if kind == FAILING:  # figures of an earlier sweep stay until they expire
            self.board.sweep_ended(_result(probe, WELL, last - INTERVAL_S, 100, chance))
        self.board.sweep_ended(result)
        self.history.add(key_of(probe), point_of(result, conclude(result), 4000, 90 if kind == MISSED else 3))
        if number % 17 == 3:
            self.board.sweep_skipped(probe, SkipReason.OVERLAP)
        if number % 9 == 4:
            self.board.sweep_started(probe, NOW - 3)

    def facts(self) -> ExporterFacts:
        paused = {probe.name for number, probe in enumerate(self.probes) if number % 12 == 6}
        return make_exporter_facts(
            next_run=lambda probe: NOW + 20 + len(probe.name) * 7,
            load=lambda probe: Load(12 * 4000 + 37 * len(probe.name), 12 * 31 * NS),
            pause=lambda probe: "paused by hand since 2023-11-14 21:40 UTC" if probe.name in paused else "",
        )

    def sources(self, ready: Callable[[], bool] = lambda: True) -> WebSources:
        facts = self.facts()
        return WebSources(
            board=self.board,
            metrics=MetricsPage(self.board, facts, max_series=100_000),
            facts=facts,
            healthy=lambda: True,
            ready=ready,
            now=self.clock,
            day=self.history.day,
            grafana_url="https://grafana.example",
        )


def _kind(number: int) -> str:
    if number < len(_FIRST):
        return _FIRST[number]
    chosen = random.Random(1000 + number).random()
    shares = ((FAILING, 0.04), (REGRESSED, 0.08), (MISSED, 0.1), (UNSTABLE, 0.15), (NEW, 0.18))
    return next((kind for kind, upto in shares if chosen < upto), WELL)


def _probe(number: int) -> Probe:
    name = NAMES[number % len(NAMES)]
    place = f"-{'abcdefgh'[number // 7 % 8]}{number // 56}" if number >= len(NAMES) else ""
    target = f"triton-{'abcd'[number % 4]}"
    return make_probe(
        name=name + place,
        model=name.replace("-", "_"),
        target=make_target(name=target, host=f"{target}.ml.svc", group=target),
        levels=(concurrency(1), concurrency(4), concurrency(16)),
        schedule=Schedule(interval_ns=INTERVAL_S * NS),
        slo=Slo("interactive", 60 * MS, 99.0, ("4",), 0.99) if number % 3 != 1 else None,
    )


def _base_ms(probe: Probe) -> float:
    return 2.0 + sum(map(ord, probe.name[:4])) % 9


def _latency_ms(probe: Probe, kind: str, level: int, ago: int, chance: random.Random) -> float:
    """The median: some day and night, some noise, and what is wrong."""
    base = _base_ms(probe) * (1 + 0.35 * math.log2(level)) * (1 + 0.04 * math.sin(ago / 46))
    slower = 1.42 if kind == REGRESSED and ago < 70 else 1.0
    noise = chance.lognormvariate(0, 0.22 if kind == UNSTABLE and ago < 40 else 0.02)
    return base * slower * noise


def _measurement(probe: Probe, kind: str, level: int, ago: int, chance: random.Random) -> Measurement:
    p50_ms = _latency_ms(probe, kind, level, ago, chance)
    tail = 1.9 + 0.3 * chance.random() + (6 if kind == MISSED and ago < 30 else 0)
    factors = ((50.0, 1.0), (90.0, 1.25), (95.0, 1.45), (99.0, tail))
    summary = make_summary()
    percentiles = tuple(
        replace(entry, percentile=p, value_ns=round(p50_ms * factor * MS))
        for entry, (p, factor) in zip(summary.percentiles, factors, strict=False)
    )
    mean = 1.08 * p50_ms * MS
    shares = {"client_send": 0.02, "network": 0.07, "server_overhead": 0.03, "queue": 0.05 * level**0.5}
    rest = 1 - sum(shares.values())
    shares |= {"compute_input": 0.08 * rest, "compute_infer": 0.85 * rest, "compute_output": 0.07 * rest}
    return make_measurement(
        concurrency(level),
        throughput=1000 * level / (1.08 * p50_ms),
        stable=not (kind == UNSTABLE and ago < 40),
        latency=replace(summary, percentiles=percentiles, mean_ns=mean),
        breakdown_ns={name: share * mean for name, share in shares.items()},
        outcomes={Outcome.OK: 4000, Outcome.TIMEOUT: 6 if kind == MISSED else 0},
    )


def _verdict(probe: Probe, kind: str, measurement: Measurement, ago: int) -> LevelVerdict:
    level = int(measurement.level.value)
    base = _base_ms(probe) * (1 + 0.35 * math.log2(level)) * MS
    if kind == UNSTABLE and ago < 40:
        why = "the last windows differ by 31 %, so that no verdict can be given before the probe is stable again"
        signals = tuple(SignalVerdict(signal, withheld=why, reason=Withheld.NOISY) for signal in Signal)
        return LevelVerdict(measurement.level, signals, pinned_unix_s=NOW - 9 * 86_400)
    assert measurement.latency is not None
    holds = kind == REGRESSED
    p50 = SignalVerdict(
        Signal.LATENCY_P50,
        base,
        measurement.latency.at(50.0) / base,
        tiers={"page": holds, "warn": holds},
        limits={"page": 1.25, "warn": 1.1},
        counts={"page": (16 if holds else 0, 18, 14), "warn": (22 if holds else 1, 24, 20)},
        began_unix_s=NOW - 20_000 if holds else None,
    )
    p99 = SignalVerdict(
        Signal.LATENCY_P99,
        2.05 * base,
        measurement.latency.at(99.0) / (2.05 * base),
        tiers={"warn": holds},
        limits={"warn": 1.2},
        counts={"warn": (21 if holds else 2, 24, 20)},
    )
    throughput = SignalVerdict(Signal.THROUGHPUT, 1000 * level / (1.08 * base / MS), 1 / max(0.1, p50.ratio or 1))
    components = {"compute_infer": 0.8 * 0.42 * base, "queue": 0.2 * 0.42 * base} if holds else {}
    return LevelVerdict(measurement.level, (p50, p99, throughput), components, pinned_unix_s=NOW - 9 * 86_400)


def _result(probe: Probe, kind: str, at_s: float, ago: int, chance: random.Random) -> SweepResult:
    if kind == FAILING and ago < 9:
        return make_result(
            probe,
            SweepStatus.FAILED,
            reason=Reason.UNREACHABLE,
            reason_text=_REFUSED.format(probe.target.host),
            started_unix_s=at_s - 1,
            duration_ns=NS,
        )
    measurements = tuple(_measurement(probe, kind, int(level.value), ago, chance) for level in probe.levels)
    unstable = kind == UNSTABLE and ago < 40
    return make_result(
        probe,
        SweepStatus.UNSTABLE if unstable else SweepStatus.OK,
        reason=Reason.UNSTABLE if unstable else Reason.NONE,
        reason_text="concurrency 4: the p99 of the last 3 windows differs by 31 %" if unstable else "",
        facts=make_facts(version="3", name=probe.model),
        measurements=measurements,
        verdicts=tuple(_verdict(probe, kind, measurement, ago) for measurement in measurements),
        started_unix_s=at_s - 31,
        duration_ns=31 * NS,
    )


def _point(probe: Probe, kind: str, at_s: float, ago: int, chance: random.Random) -> SweepPoint:
    if ago == 120 and probe.name.startswith("bert"):
        return SweepPoint(at_s - 10, 10.0, Conclusion.ABORTED, "latency", "20 more requests took over 5 s than did not")
    result = _result(probe, kind, at_s, ago, chance)
    missed = kind == MISSED and ago < 30
    conclusion = conclude(result)
    if kind == REGRESSED and ago > 50:
        conclusion = Conclusion.OK
    return point_of(result, conclusion, 4000, 90 if missed else chance.randrange(8))
