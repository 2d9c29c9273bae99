"""Which signals of a probe can never be judged, as far as the configuration shows it, and what would do. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from exporter.config.quantities import format_duration
from exporter.core.kinds import IN_PROCESS, TRITON
from exporter.core.probe import MOST_POOLED_SWEEPS, LoadLevel, Mode, Probe, Signal, WindowMode
from exporter.core.units import MS, NS

_BATCHING_KINDS = (TRITON, IN_PROCESS)
_MOST_NAMED = 5
_PERCENTILES = {Signal.LATENCY_P50: 50.0, Signal.LATENCY_P99: 99.0}


BATCHING_ADVICE = (
    "for verdicts use load.request_rate, some 60 % of the inferences per second that the closed loop reaches, or "
    "load.think_time"
)


def batching_notes(probes: Sequence[Probe]) -> list[str]:
    """On closed loops of several requests: what a model is configured to only its server knows."""
    closed = [
        probe.name
        for probe in probes
        if probe.baseline.enabled
        and probe.target.kind in _BATCHING_KINDS
        and any(level.mode is Mode.CONCURRENCY and level.value > 1 and not level.think_ns for level in probe.levels)
    ]
    if not closed:
        return []
    named = ", ".join(closed[:_MOST_NAMED]) + (f" and {len(closed) - _MOST_NAMED} more" if closed[_MOST_NAMED:] else "")
    many = "s" if len(closed) > 1 else ""
    return [
        f"probe{many} {named}: several requests in a closed loop. Where the model has dynamic batching "
        f"(`check-config --live` reports it) they meet by chance, and figures have two values: {BATCHING_ADVICE}"
    ]


def verdict_warnings(probe: Probe) -> list[str]:
    """What can never be judged, whatever the model."""
    if not probe.baseline.enabled:
        return []
    return [f"probe {probe.name}: {text}" for text in _warnings(probe)]


def verdict_notes(probe: Probe) -> list[str]:
    """On how slow a model p99 can never be judged: in a closed loop the model's speed decides."""
    if not probe.baseline.enabled or not _looks_at_p99(probe):
        return []
    slowest = [(level, _slowest_ns(probe, level)) for level in probe.levels]
    found = [each for each in slowest if 0 < each[1] < probe.measurement.request_timeout_ns]
    if not found:
        return []
    level, slowest_ns = min(found, key=lambda each: each[1])
    return [
        f"probe {probe.name}: latency_p99 at {_name(level)} can never be judged on a model slower than "
        f"{format_duration(round(slowest_ns))}: a sweep has to measure {_needed(probe)} requests, and longer windows do"
    ]


def _looks_at_p99(probe: Probe) -> bool:
    looked_at = {signal for tier in probe.baseline.tiers for signal in tier.signals}
    return Signal.LATENCY_P99 in looked_at and 99.0 in probe.measurement.percentiles


def _name(level: LoadLevel) -> str:
    return f"{level.mode.value.replace('_', ' ')} {level.label}"


def _needed(probe: Probe) -> int:
    """Requests of a sweep, of which enough sweeps have what p99 takes."""
    return math.ceil(probe.baseline.p99_min_requests / MOST_POOLED_SWEEPS)


def _slowest_ns(probe: Probe, level: LoadLevel) -> float:
    """The latency at which a closed loop just measures enough requests; 0 where it does not depend on that."""
    options = probe.measurement
    if level.mode.is_open_loop or _known_requests(probe, level):
        return 0.0
    slowest_ns = options.window_ns * options.stability_windows * max(1.0, level.value) / _needed(probe)
    return math.floor(slowest_ns / MS) * MS


def _known_requests(probe: Probe, level: LoadLevel) -> int:
    """The requests that a sweep measures, 0 where the model's speed decides."""
    options = probe.measurement
    if options.request_count:
        return options.request_count
    if options.window_mode is WindowMode.COUNT:
        return options.window_requests * options.stability_windows
    return round(level.requests_per_second * options.window_ns * options.stability_windows / NS)


def _warnings(probe: Probe) -> Iterator[str]:
    looked_at = {signal for tier in probe.baseline.tiers for signal in tier.signals}
    for signal, percentile in _PERCENTILES.items():
        if signal in looked_at and percentile not in probe.measurement.percentiles:
            yield (
                f"{signal} can never be judged: {percentile:g} is not in measurement.percentiles; add it, or take the "
                "signal out of the tiers of `baseline`"
            )
    if _looks_at_p99(probe):
        yield from filter(None, (_few_requests(probe, level) for level in probe.levels))


def _few_requests(probe: Probe, level: LoadLevel) -> str:
    """Where the requests of a sweep are known, and too few for p99."""
    needed, known, options = _needed(probe), _known_requests(probe, level), probe.measurement
    if not known or known >= needed:
        return ""
    text = f"latency_p99 at {_name(level)} can never be judged: a sweep measures {known} requests, and needs {needed}"
    if options.request_count or options.window_mode is WindowMode.COUNT:
        return f"{text}; measure more of them"
    window_ns = math.ceil(needed / level.requests_per_second / options.stability_windows) * NS
    return f"{text}: its {options.stability_windows} windows would have to last {format_duration(window_ns)} each"
