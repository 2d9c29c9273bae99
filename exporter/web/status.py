"""What the status page and `/api/status` show of a probe: its view, put into words and plain figures.

Pure. It must not know HTML or HTTP.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from exporter.analysis.threshold import meets_slo
from exporter.core.limits import Load
from exporter.core.outcome import SkipReason, SweepStatus
from exporter.core.probe import Probe, Signal
from exporter.core.result import LevelChange, LevelVerdict, Measurement, SignalVerdict, SweepResult
from exporter.core.units import NS
from exporter.metrics.exposition import percentile_text
from exporter.state.day_ring import Conclusion
from exporter.state.probe_state import ProbeView

_LOUD_TIERS = ("page", "warn")


@dataclass(frozen=True, slots=True)
class LevelStatus:
    """A level's figures; percentiles, breakdown parts in seconds, throughput in inferences per second. `regression`
    has what holds, `no_verdict` why something can't be judged, "" where there is nothing of it; `verdicts` is the
    same as plain data, by signal. `bimodal` are both medians of a level that has two, in seconds; `slowest_part` is the
    component that carries most of a regression, `last_change` the latest change point of p50."""

    mode: str
    level: str
    throughput: float
    percentiles: Mapping[str, float]
    stable: bool
    client_limited: bool
    error_ratio: float | None
    breakdown: Mapping[str, float]
    regression: str = ""
    no_verdict: str = ""
    unsent_ratio: float = 0.0
    verdicts: Sequence[Mapping[str, object]] = ()
    bimodal: tuple[float, float] | None = None
    slowest_part: str = ""
    last_change: Mapping[str, float] | None = None
    server_note: str = ""
    """Why a figure of the server's is missing, as where its metrics page cannot be read."""


@dataclass(frozen=True, slots=True)
class ProbeStatus:
    """A probe at one moment.

    `state` is the status of the last sweep (ok, unstable, failed, aborted), or what is wrong with the model that it
    measured well: regressed (a page or a warning holds), objective_missed; before the first one since the start it is
    running, waiting (it ran before the restart) or never. `age_seconds` is since the last sweep ended, None = never.
    `results_age_seconds` is that of the levels shown, which a failed sweep leaves standing until they expire. `load` is
    what its sweeps of the last hour caused; `pause` is why it is paused, "": it is not.
    """

    name: str
    target: str
    model: str
    version: str
    state: str
    reason: str
    reason_text: str
    running: bool
    age_seconds: float | None
    results_age_seconds: float | None
    next_run_unix_s: float | None
    skipped: Mapping[SkipReason, int]
    last_skip: SkipReason | None
    levels: Sequence[LevelStatus]
    load: Load = field(default_factory=Load)
    pause: str = ""

    def to_json(self) -> dict[str, object]:
        """The probe in `/api/status`; skips by reason, those that happened."""
        return {
            "name": self.name,
            "target": self.target,
            "model": self.model,
            "version": self.version,
            "state": self.state,
            "reason": self.reason,
            "reason_text": self.reason_text,
            "running": self.running,
            "paused": bool(self.pause),
            "pause": self.pause,
            "load_last_hour": {"requests": self.load.requests, "seconds": round(self.load.duration_ns / NS, 3)},
            "age_seconds": self.age_seconds,
            "results_age_seconds": self.results_age_seconds,
            "next_run_unix_s": self.next_run_unix_s,
            "skipped": {reason.value: count for reason, count in self.skipped.items() if count},
            "levels": [
                {
                    "mode": level.mode,
                    "level": level.level,
                    "throughput": level.throughput,
                    "percentiles": dict(level.percentiles),
                    "stable": level.stable,
                    "error_ratio": level.error_ratio,
                    "regression": level.regression,
                    "no_verdict": level.no_verdict,
                    "verdicts": [dict(verdict) for verdict in level.verdicts],
                    "bimodal": list(level.bimodal) if level.bimodal else None,
                    "server_note": level.server_note,
                    "last_change": dict(level.last_change) if level.last_change else None,
                }
                for level in self.levels
            ],
        }


def probe_status(
    view: ProbeView,
    now_unix_s: float,
    next_run_unix_s: float | None,
    *,
    pause: str = "",
    load: Load | None = None,
) -> ProbeStatus:
    """What is shown of this view at this moment."""
    result, measured = view.result, view.measured
    return ProbeStatus(
        name=view.probe.name,
        target=view.probe.target.name,
        model=view.probe.model,
        version=version_of(view),
        state=state_of(view),
        reason=result.reason.value if result else "",
        reason_text=result.reason_text if result else "",
        running=view.running_since_unix_s is not None,
        age_seconds=max(0.0, now_unix_s - view.last_run_unix_s) if view.last_run_unix_s else None,
        results_age_seconds=max(0.0, now_unix_s - measured.started_unix_s - measured.duration_ns / NS)
        if measured
        else None,
        next_run_unix_s=next_run_unix_s,
        skipped=view.skipped,
        last_skip=view.last_skip[0] if view.last_skip else None,
        levels=level_statuses(view),
        load=load or Load(),
        pause=pause,
    )


def level_statuses(view: ProbeView) -> list[LevelStatus]:
    """The levels of the last result with figures."""
    verdicts = {verdict.level: verdict for verdict in view.measured.verdicts} if view.measured else {}
    return [_level_status(measurement, verdicts.get(measurement.level)) for measurement in view.measurements]


def version_of(view: ProbeView) -> str:
    """The model's version: the served one, else the configured one."""
    return view.facts.version if view.facts else view.probe.version


def is_failing(status: ProbeStatus) -> bool:
    """Whether the last sweep gave no usable data."""
    return status.state in (SweepStatus.FAILED, SweepStatus.ABORTED)


REGRESSED, OBJECTIVE_MISSED = Conclusion.REGRESSED.value, Conclusion.OBJECTIVE_MISSED.value


def conclude(result: SweepResult) -> Conclusion:
    """What a sweep showed: how it ended, or what is wrong with a model that it measured well."""
    return _conclusion(result.probe, result, result)


def state_of(view: ProbeView) -> str:
    """See ProbeStatus."""
    if view.result is not None:
        return _conclusion(view.probe, view.result, view.measured).value
    if view.running_since_unix_s is not None:
        return "running"
    return "waiting" if view.last_run_unix_s else "never"


def _conclusion(probe: Probe, result: SweepResult, measured: SweepResult | None) -> Conclusion:
    if measured is not None and result.status in (SweepStatus.OK, SweepStatus.UNSTABLE):
        signals = [signal for verdict in measured.verdicts for signal in verdict.signals]
        if any(signal.tiers.get(name) for signal in signals for name in _LOUD_TIERS):
            return Conclusion.REGRESSED
        if result.status is SweepStatus.OK and _misses_objective(probe, measured):
            return Conclusion.OBJECTIVE_MISSED
    return Conclusion(result.status.value)


def _misses_objective(probe: Probe, measured: SweepResult) -> bool:
    slo = probe.slo
    if slo is None:
        return False
    levels = [m for m in measured.measurements if m.level in probe.levels and m.level.label in slo.levels]
    return not all(meets_slo(slo, m, m.latency) for m in levels)


def _verdict_data(verdict: LevelVerdict, each: SignalVerdict) -> dict[str, object]:
    """A signal's verdict as plain data, in base units."""
    unit = 1.0 if each.signal.is_rate else 1.0 / NS
    return {
        "signal": each.signal.value,
        "baseline": each.baseline * unit if each.baseline is not None else None,
        "ratio": each.ratio,
        "tiers": {
            name: {
                "holds": holds,
                "limit_ratio": each.limits.get(name),
                **dict(zip(("bad", "of", "needed"), each.counts.get(name, ()), strict=False)),
            }
            for name, holds in each.tiers.items()
        },
        "began_unix_s": each.began_unix_s,
        "withheld": each.reason.value if each.reason else None,
        "withheld_text": each.withheld,
        "version_ratio": each.version_ratio,
        "modes": [value * unit for value in each.modes] if each.modes else None,
        "pinned_unix_s": verdict.pinned_unix_s,
        "provisional": verdict.provisional,
    }


def regression_text(verdict: LevelVerdict) -> str:
    """What holds: the loudest tier of each signal, and the component that carries the most of it."""
    parts = []
    for each in verdict.signals:
        if (tier := next((name for name, holds in each.tiers.items() if holds), None)) is not None:
            now = f", now {each.ratio:.2f} of its baseline" if each.ratio is not None else ""
            parts.append(f"{tier}: {each.signal.replace('_', ' ')} regressed{now}")
        if each.version_ratio is not None and each.signal is Signal.LATENCY_P50 and each.version_ratio > 1:
            parts.append(f"new version: {each.version_ratio:.2f} of the accepted one")
    if part := _slowest_part(verdict):
        parts.append(f"mostly {part}")
    return "; ".join(parts)


def _slowest_part(verdict: LevelVerdict) -> str:
    changes = verdict.components_ns
    return max(changes, key=lambda name: changes[name]).replace("_", " ") if changes else ""


def _no_verdict_text(verdict: LevelVerdict) -> str:
    """Why there is none, on latency; throughput is judged by no tier of the defaults."""
    latencies = [each for each in verdict.signals if not each.signal.is_rate]
    return "; ".join(dict.fromkeys(each.withheld for each in latencies if each.withheld))


def _level_status(measurement: Measurement, verdict: LevelVerdict | None) -> LevelStatus:
    entries = measurement.latency.percentiles if measurement.latency else ()
    return LevelStatus(
        mode=measurement.level.mode.value,
        level=measurement.level.label,
        throughput=measurement.throughput if math.isfinite(measurement.throughput) else 0.0,
        percentiles={percentile_text(entry.percentile): entry.value_ns / NS for entry in entries},
        stable=measurement.stable,
        server_note=measurement.server_note,
        client_limited=measurement.client_limited,
        unsent_ratio=measurement.unsent_ratio,
        error_ratio=measurement.error_ratio,
        breakdown={name: ns / NS for name, ns in measurement.breakdown_ns.items() if math.isfinite(ns)},
        regression=regression_text(verdict) if verdict else "",
        no_verdict=_no_verdict_text(verdict) if verdict else "",
        verdicts=[_verdict_data(verdict, each) for each in verdict.signals] if verdict else (),
        bimodal=_bimodal(measurement, verdict),
        slowest_part=_slowest_part(verdict) if verdict else "",
        last_change=_change_data(verdict.last_change) if verdict and verdict.last_change else None,
    )


def _change_data(change: LevelChange) -> dict[str, float]:
    """The latest change point of p50 as plain data; latencies in seconds."""
    before_s, after_s = change.before / NS, change.after / NS
    return {"unix_s": change.unix_s, "ratio": change.ratio, "before_seconds": before_s, "after_seconds": after_s}


def _bimodal(measurement: Measurement, verdict: LevelVerdict | None) -> tuple[float, float] | None:
    found = measurement.modes_ns
    for each in verdict.signals if verdict else ():
        if each.signal is Signal.LATENCY_P50 and each.modes is not None:
            found = found or each.modes
    return (found[0] / NS, found[1] / NS) if found else None
