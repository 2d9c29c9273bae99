"""Makes the reports of `/api/v1` and of the pages from what the daemon knows: views, history, schedule, pauses.

Pure but for the callables of its sources. It must not know HTML or HTTP.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from exporter.analysis.threshold import is_within, slo_threshold
from exporter.core.probe import Probe
from exporter.core.result import SweepResult
from exporter.core.units import NS
from exporter.state.day_ring import CONCLUSIONS, FIGURES, Conclusion, Day
from exporter.state.probe_state import ProbeView
from exporter.web import report as r
from exporter.web.effective import effective
from exporter.web.moment import Moment, ProbeMoment, ReportSources
from exporter.web.selection import counts_of
from exporter.web.status import LevelStatus, level_statuses, state_of, version_of

_HOUR_S, _DAY_S = 3600.0, 86_400.0
_BOARD = "triton-canary-model"

_RUNBOOKS = {
    Conclusion.FAILED: "TritonCanaryProbeFailing",
    Conclusion.ABORTED: "TritonCanaryProbeFailing",
    Conclusion.UNSTABLE: "TritonCanaryUnstable",
    Conclusion.OBJECTIVE_MISSED: "TritonCanarySloMissed",
}
_TIER_RUNBOOKS = {"page": "TritonCanaryRegressionPage", "warn": "TritonCanaryRegressionWarn"}


def overview_of(moment: Moment, probes: Sequence[r.ProbeReport], shown: Sequence[r.ProbeReport]) -> r.OverviewReport:
    """The overview that shows some of the moment's probes, and counts all."""
    return r.OverviewReport(moment.version, moment.ready, moment.now_unix_s, moment.notices, counts_of(probes), shown)


class ProbeReports:
    """Makes reports of probes. What only a new sweep changes is made once per sweep: of 1000 probes few have a new one
    since the last refresh. For any threads."""

    def __init__(self, sources: ReportSources) -> None:
        self._sources = sources
        self._made: Mapping[str, _SweepParts] = {}

    def all(self, moment: Moment) -> list[r.ProbeReport]:
        """Of all probes of the moment, in its order."""
        made: dict[str, _SweepParts] = {}
        reports = []
        for each in moment.probes:
            parts = made[each.view.probe.name] = self._parts(each.view)
            reports.append(self._report(each, parts, self._sources.day(each.view.probe), moment.now_unix_s))
        self._made = made  # those of probes that are gone are forgotten
        return reports

    def one(self, each: ProbeMoment, day: Day, now_unix_s: float) -> r.ProbeReport:
        """Of one of them."""
        return self._report(each, self._parts(each.view), day, now_unix_s)

    def _parts(self, view: ProbeView) -> _SweepParts:
        made = self._made.get(view.probe.name)
        if made is None or made.measured is not view.measured or made.probe is not view.probe:
            made = _SweepParts(view.probe, view.measured, [_level(level) for level in level_statuses(view)])
        return made

    def _report(self, each: ProbeMoment, parts: _SweepParts, day: Day, now_unix_s: float) -> r.ProbeReport:
        return probe_report(each, parts.levels, day, now_unix_s, self._sources.grafana_url)


@dataclass(frozen=True, slots=True)
class _SweepParts:
    """What a measured result makes of a probe's report."""

    probe: Probe
    measured: SweepResult | None
    levels: Sequence[r.LevelReport]


def probe_report(
    each: ProbeMoment, levels: Sequence[r.LevelReport], day: Day, now_unix_s: float, grafana_url: str
) -> r.ProbeReport:
    """One probe at one moment."""
    view, probe, result, measured = each.view, each.view.probe, each.view.result, each.view.measured
    slo, state = _slo(view, day, now_unix_s), state_of(view)
    main = _main_level(levels, slo)
    return r.ProbeReport(
        name=probe.name,
        target=probe.target.name,
        model=probe.model,
        place=probe.place,
        version=version_of(view),
        state=state,
        reason=result.reason.value if result else "",
        reason_text=result.reason_text if result else "",
        running=view.running_since_unix_s is not None,
        pause=each.pause,
        last_run_unix_s=view.last_run_unix_s or None,
        results_unix_s=measured.started_unix_s + measured.duration_ns / NS if measured else None,
        next_run_unix_s=each.next_run_unix_s or None,
        interval_seconds=probe.schedule.interval_ns / NS,
        skipped={reason.value: count for reason, count in view.skipped.items() if count},
        last_skip=view.last_skip[0].value if view.last_skip else None,
        load_last_hour=r.LoadReport(each.load.requests, each.load.duration_ns / NS),
        slo=slo,
        main_level=main.key if main else None,
        levels=levels,
        links=_links(probe, state, main, grafana_url),
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


def _links(probe: Probe, state: str, main: r.LevelReport | None, grafana_url: str) -> r.LinksReport:
    name = quote(probe.name, safe="")
    board = ""
    if grafana_url:
        chosen = {"var-target": probe.target.name, "var-model": probe.model, "var-probe": probe.name}
        if main:
            chosen["var-level"] = main.level
        board = f"{grafana_url.rstrip('/')}/d/{_BOARD}?{urlencode(chosen)}"
    runbook = _runbook(state, main)
    return r.LinksReport(
        page=f"probes/{name}",
        history=f"api/v1/probes/{name}/history",
        runbook=f"runbooks/{runbook}" if runbook else "",
        board=board,
    )


def _runbook(state: str, main: r.LevelReport | None) -> str:
    if state == Conclusion.REGRESSED and main is not None:
        holding = [verdict.holding for verdict in main.verdicts]
        return next((runbook for tier, runbook in _TIER_RUNBOOKS.items() if tier in holding), "")
    if state in _RUNBOOKS:
        return _RUNBOOKS[Conclusion(state)]
    return "TritonCanaryNotJudged" if main is not None and main.no_verdict else ""
