"""What a configuration will cost, before it runs: series in Prometheus, and time of sweeps against their intervals.

Pure. The series are upper bounds (`metrics/series.py` explains of what), the times are not.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

from exporter.commands.check_config.guards import guard_warnings
from exporter.commands.check_config.verdicts import batching_notes, verdict_notes, verdict_warnings
from exporter.config.cron import gaps, parse_cron
from exporter.config.probes import build_probes
from exporter.config.quantities import format_duration
from exporter.config.settings import Settings
from exporter.core.probe import COUNT_WINDOW_LIMIT, LoadLevel, Probe, WindowMode
from exporter.core.units import NS
from exporter.metrics.series import most_probe_series, most_target_series
from exporter.sweep.search import most_visits

_PREFLIGHT_NS = NS
"""Preflight, connections and the first requests, generously."""


@dataclass(frozen=True, slots=True)
class ProbeEstimate:
    """One probe. `interval_ns` is the shortest time between two starts; `typical_ns` the time of a sweep whose levels
    settle at once, `worst_ns` of one whose levels never do. `levels` are the most that a search may visit."""

    name: str
    group: str
    levels: int
    series: int
    typical_ns: int
    worst_ns: int
    interval_ns: int

    @property
    def utilisation(self) -> float:
        """The part of the time that its sweeps typically take, at its busiest."""
        return self.typical_ns / self.interval_ns


@dataclass(frozen=True, slots=True)
class Estimate:
    """The whole configuration. `utilisation` is of all concurrent sweeps that the limits allow, 1.0 for always."""

    probes: tuple[ProbeEstimate, ...]
    series: int
    group_utilisation: dict[str, float]
    utilisation: float
    warnings: tuple[str, ...]
    notes: tuple[str, ...] = ()
    batching_notes: tuple[str, ...] = ()
    """Those on what `--live` asks the servers."""


def estimate(settings: Settings) -> Estimate:
    """Series and time that the configuration will take, and what in it can't work as written."""
    probes = build_probes(settings)
    estimates = tuple(estimate_probe(probe) for probe in probes)
    groups: defaultdict[str, float] = defaultdict(float)
    for entry in estimates:
        groups[entry.group] += entry.utilisation
    targets = {probe.target.name: probe.target for probe in probes}
    series = sum(entry.series for entry in estimates) + sum(map(most_target_series, targets.values()))
    utilisation = sum(groups.values()) / settings.limits.concurrent_sweeps
    warnings = [
        warning for probe, entry in zip(probes, estimates, strict=True) for warning in _probe_warnings(probe, entry)
    ]
    warnings += [warning for probe in probes for warning in verdict_warnings(probe)]
    warnings += guard_warnings(settings, probes)
    warnings += [
        f"group {group}: its sweeps typically take {part:.0%} of the time; some will be skipped"
        for group, part in groups.items()
        if part > 1
    ]
    duty = settings.limits.group_duty_ratio
    warnings += [
        f"group {group}: its sweeps typically take {part:.0%} of the time, above limits.group_duty, {duty:.0%}: skips"
        for group, part in groups.items()
        if duty < part <= 1
    ]
    if utilisation > 1:
        allowed = f"limits.concurrent_sweeps, {settings.limits.concurrent_sweeps}"
        warnings.append(f"all sweeps together typically take {utilisation:.0%} of the time that {allowed}, allows")
    if series > settings.limits.max_series:
        warnings.append(f"about {series} series are above limits.max_series, {settings.limits.max_series}")
    if not probes:
        warnings.append("there are no probes: nothing will be measured")
    notes = [*_idle_targets(settings), *(note for probe in probes for note in verdict_notes(probe))]
    return Estimate(
        estimates,
        series,
        dict(groups),
        utilisation,
        tuple(warnings),
        tuple(notes),
        batching_notes=tuple(batching_notes(probes)),
    )


def _idle_targets(settings: Settings) -> list[str]:
    """Targets that no probe names: they take no part in the estimate."""
    used = {probe.target for probe in settings.probes}
    idle = [target.name for target in settings.targets if target.name not in used]
    return [f"no probe uses {', '.join(idle)}: nothing is measured there"] if idle and settings.probes else []


def estimate_probe(probe: Probe) -> ProbeEstimate:
    """What one probe takes."""
    options = probe.measurement
    interval_ns = probe.schedule.interval_ns
    if probe.schedule.cron:
        interval_ns = gaps(parse_cron(probe.schedule.cron), probe.schedule.timezone).shortest_ns
    return ProbeEstimate(
        name=probe.name,
        group=probe.target.group,
        levels=_levels_run(probe),
        series=most_probe_series(probe),
        typical_ns=_typical_ns(probe),
        worst_ns=min(probe.stop.max_duration_ns, _sweep_ns(probe, options.max_windows, worst=True)),
        interval_ns=interval_ns,
    )


def _typical_ns(probe: Probe) -> int:
    """An open search is taken to end within the time that it has: its last level is not known."""
    typical_ns = _sweep_ns(probe, probe.measurement.stability_windows, worst=False)
    is_open = probe.search is not None and not probe.search.end
    return min(typical_ns, probe.stop.max_duration_ns) if is_open else typical_ns


def _levels_run(probe: Probe) -> int:
    """How many levels a sweep runs, at most."""
    search = probe.search
    return len(probe.levels) if search is None else most_visits(search)


def _sweep_ns(probe: Probe, windows: int, *, worst: bool) -> int:
    """The time of a sweep whose levels take so many windows; a schedule takes its own time."""
    levels = [_level_ns(probe, level, windows, worst=worst) for level in probe.levels]
    if probe.search is not None:
        # Those between the declared ones are taken to last as long as these do.
        return _PREFLIGHT_NS + max(levels) * _levels_run(probe)
    return _PREFLIGHT_NS + sum(levels) * probe.measurement.repeats


def _level_ns(probe: Probe, level: LoadLevel, windows: int, *, worst: bool) -> int:
    options = probe.measurement
    warm_up_ns = level.ramp_ns + max(options.warm_up_ns, _requests_ns(level, options.warm_up_requests))
    if options.request_count:
        # In a closed loop it is not known how fast the server will respond.
        return warm_up_ns + (_requests_ns(level, options.request_count) or options.window_ns)
    if options.window_mode is WindowMode.COUNT and not level.duration_ns:
        limit_ns = COUNT_WINDOW_LIMIT * options.window_ns
        counted_ns = limit_ns if worst else _requests_ns(level, options.window_requests) or options.window_ns
        return warm_up_ns + windows * min(counted_ns, limit_ns)
    return warm_up_ns + (level.duration_ns or windows * options.window_ns)


def _requests_ns(level: LoadLevel, requests: int) -> int:
    """How long an open loop takes for so many requests; 0 in a closed one."""
    per_second = level.requests_per_second
    return math.ceil(requests * NS / per_second) if per_second else 0


def _probe_warnings(probe: Probe, entry: ProbeEstimate) -> list[str]:
    typical = f"probe {probe.name}: a sweep typically takes {format_duration(entry.typical_ns)}"
    interval, limit_ns = format_duration(entry.interval_ns), probe.stop.max_duration_ns
    warnings = []
    if entry.typical_ns > limit_ns:
        warnings.append(f"{typical}; stop.max_duration ends it after {format_duration(limit_ns)}")
    if entry.typical_ns > entry.interval_ns:
        warnings.append(f"{typical}, but is due every {interval}")
    elif entry.worst_ns > entry.interval_ns:
        worst = format_duration(entry.worst_ns)
        warnings.append(f"probe {probe.name}: a sweep takes {worst} at worst, but is due every {interval}")
    return warnings
