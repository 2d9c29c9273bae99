"""Makes the reports of `/api/v1` and of the pages from what the daemon knows: views, history, schedule, pauses.

Pure but for the callables of its sources. It must not know HTML or HTTP.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from exporter.analysis.threshold import is_within, slo_threshold
from exporter.core.outcome import SkipReason
from exporter.core.probe import Probe
from exporter.core.units import NS
from exporter.metrics.exporter_metrics import ExporterFacts
from exporter.state.history import CONCLUSIONS, FIGURES, Conclusion, Day
from exporter.state.probe_state import ProbeView
from exporter.web import report as r
from exporter.web.effective import effective
from exporter.web.status import LevelStatus, ProbeStatus, probe_status

_HOUR_S, _DAY_S = 3600.0, 86_400.0
_BOARD = "triton-canary-model"

_RUNBOOKS = {
    Conclusion.FAILED: "TritonCanaryProbeFailing",
    Conclusion.ABORTED: "TritonCanaryProbeFailing",
    Conclusion.UNSTABLE: "TritonCanaryUnstable",
    Conclusion.OBJECTIVE_MISSED: "TritonCanarySloMissed",
}
_TIER_RUNBOOKS = {"page": "TritonCanaryRegressionPage", "warn": "TritonCanaryRegressionWarn"}


@dataclass(frozen=True, slots=True)
class ReportSources:
    """Where reports come from. All callables return at once; `day` may be asked in any thread."""

    views: Callable[[], Sequence[ProbeView]]
    facts: ExporterFacts
    ready: Callable[[], bool]
    now: Callable[[], float]
    day: Callable[[Probe], Day] = lambda _probe: Day()
    grafana_url: str = ""


@dataclass(frozen=True, slots=True)
class Moment:
    """What the event loop's thread knows at one moment: taken there at once, made into reports in another thread."""

    now_unix_s: float
    version: str
    ready: bool
    notices: Sequence[str]
    views: Sequence[tuple[ProbeView, ProbeStatus]] = field(default_factory=tuple)


def take_moment(sources: ReportSources) -> Moment:
    """For the event loop's thread."""
    facts, now_unix_s = sources.facts, sources.now()
    return Moment(
        now_unix_s,
        facts.version,
        sources.ready(),
        _notices(facts),
        [(view, _status(facts, view, now_unix_s)) for view in sources.views()],
    )


def _status(facts: ExporterFacts, view: ProbeView, now_unix_s: float) -> ProbeStatus:
    return probe_status(
        view, now_unix_s, facts.next_run(view.probe), pause=facts.pause(view.probe), load=facts.load(view.probe)
    )


def _notices(facts: ExporterFacts) -> list[str]:
    archive, data = facts.archive_error(), facts.data_error()
    return [
        *facts.config_notices(),
        *([f"State, pauses and baselines are not kept: {data}"] if data else []),
        *([f"The archive is not written: {archive}"] if archive else []),
    ]


def probe_report(view: ProbeView, status: ProbeStatus, day: Day, now_unix_s: float, grafana_url: str) -> r.ProbeReport:
    """One probe at one moment."""
    levels = [_level(level) for level in status.levels]
    slo = _slo(view, day, now_unix_s)
    main = _main_level(levels, slo)
    measured = view.measured
    return r.ProbeReport(
        name=status.name,
        target=status.target,
        model=status.model,
        version=status.version,
        state=status.state,
        reason=status.reason,
        reason_text=status.reason_text,
        running=status.running,
        pause=status.pause,
        last_run_unix_s=view.last_run_unix_s or None,
        results_unix_s=measured.started_unix_s + measured.duration_ns / NS if measured else None,
        next_run_unix_s=status.next_run_unix_s or None,
        interval_seconds=view.probe.schedule.interval_ns / NS,
        skipped={reason.value: count for reason, count in status.skipped.items() if count},
        last_skip=_value(status.last_skip),
        load_last_hour=r.LoadReport(status.load.requests, status.load.duration_ns / NS),
        slo=slo,
        main_level=main.key if main else None,
        levels=levels,
        links=_links(view.probe, status, main, grafana_url),
    )


def probe_detail(probe: Probe, report: r.ProbeReport, day: Day) -> r.ProbeDetail:
    """The same with what its own page has."""
    recent = [
        r.SweepReport(each.started_unix_s, each.duration_s, each.conclusion.value, each.reason, each.text)
        for each in day.recent
    ]
    return r.ProbeDetail(report, recent, effective(probe))


def history_report(probe: Probe, day: Day) -> r.HistoryReport:
    """The ring as plain figures."""
    return r.HistoryReport(
        probe=probe.name,
        started_unix_s=day.started_unix_s.tolist(),
        state=[CONCLUSIONS[code].value for code in day.severity.tolist()],
        slo_requests=day.slo_requests.tolist(),
        slo_bad=day.slo_bad.tolist(),
        levels={
            level: r.LevelHistory(**{name: _plain(figures[name].tolist()) for name in FIGURES})
            for level, figures in day.levels.items()
        },
    )


def _plain(values: Sequence[float]) -> list[float | None]:
    # A ring keeps 32 bits: more than seven digits of them mean nothing.
    return [float(f"{value:.7g}") if math.isfinite(value) else None for value in values]


def _value(reason: SkipReason | None) -> str | None:
    return reason.value if reason else None


def _level(level: LevelStatus) -> r.LevelReport:
    return r.LevelReport(
        mode=level.mode,
        level=level.level,
        throughput=level.throughput,
        percentiles=level.percentiles,
        error_ratio=level.error_ratio,
        unsent_ratio=level.unsent_ratio,
        stable=level.stable,
        client_limited=level.client_limited,
        breakdown=level.breakdown,
        bimodal=level.bimodal,
        regression=level.regression,
        slowest_part=level.slowest_part,
        no_verdict=level.no_verdict,
        verdicts=[_verdict(verdict) for verdict in level.verdicts],
        server_note=level.server_note,
    )


def _verdict(verdict: Mapping[str, Any]) -> r.VerdictReport:
    tiers = {name: r.TierReport(**tier) for name, tier in verdict["tiers"].items()}
    return r.VerdictReport(**{**verdict, "tiers": tiers})


def _slo(view: ProbeView, day: Day, now_unix_s: float) -> r.SloReport | None:
    slo = view.probe.slo
    if slo is None:
        return None
    threshold = slo_threshold(slo)
    kept = [is_within(threshold, m, m.latency) for m in view.measurements if m.level.label in slo.levels]
    known = [each for each in kept if each is not None]
    return r.SloReport(
        name=slo.name,
        latency_seconds=slo.latency_ns / NS,
        percentile=slo.percentile,
        objective_ratio=slo.objective_ratio,
        levels=slo.levels,
        met=all(known) if known else None,
        burn_rate_1h=day.burn_rate(now_unix_s, _HOUR_S, slo.objective_ratio),
        burn_rate_24h=day.burn_rate(now_unix_s, _DAY_S, slo.objective_ratio),
    )


def _main_level(levels: Sequence[r.LevelReport], slo: r.SloReport | None) -> r.LevelReport | None:
    regressed = [level for level in levels if any(verdict.holding for verdict in level.verdicts)]
    of_slo = [level for level in levels if slo is not None and level.level in slo.levels]
    return next(iter([*regressed, *of_slo, *reversed(levels)]), None)


def _links(probe: Probe, status: ProbeStatus, main: r.LevelReport | None, grafana_url: str) -> r.LinksReport:
    name = quote(probe.name, safe="")
    board = ""
    if grafana_url:
        chosen = {"var-target": probe.target.name, "var-model": probe.model, "var-probe": probe.name}
        if main:
            chosen["var-level"] = main.level
        board = f"{grafana_url.rstrip('/')}/d/{_BOARD}?{urlencode(chosen)}"
    runbook = _runbook(status, main)
    return r.LinksReport(
        page=f"probes/{name}",
        history=f"api/v1/probes/{name}/history",
        runbook=f"runbooks/{runbook}" if runbook else "",
        board=board,
    )


def _runbook(status: ProbeStatus, main: r.LevelReport | None) -> str:
    if status.state == Conclusion.REGRESSED and main is not None:
        holding = [verdict.holding for verdict in main.verdicts]
        return next((runbook for tier, runbook in _TIER_RUNBOOKS.items() if tier in holding), "")
    if status.state in _RUNBOOKS:
        return _RUNBOOKS[Conclusion(status.state)]
    return "TritonCanaryNotJudged" if main is not None and main.no_verdict else ""
