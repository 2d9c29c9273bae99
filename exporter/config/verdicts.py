"""Which signals of a probe can never be judged, as far as the configuration shows it, and what would do. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from exporter.config.quantities import format_duration
from exporter.core.probe import MOST_POOLED_SWEEPS, LoadLevel, Mode, Probe, Signal, WindowMode
from exporter.core.units import NS

_PERCENTILES = {Signal.LATENCY_P50: 50.0, Signal.LATENCY_P99: 99.0}


def verdict_warnings(probe: Probe) -> list[str]:
    """What can never be judged, or only on fast models."""
    if not probe.baseline.enabled:
        return []
    return [f"probe {probe.name}: {text}" for text in _warnings(probe)]


def _warnings(probe: Probe) -> Iterator[str]:
    looked_at = {signal for tier in probe.baseline.tiers for signal in tier.signals}
    for signal, percentile in _PERCENTILES.items():
        if signal in looked_at and percentile not in probe.measurement.percentiles:
            yield (
                f"{signal} can never be judged: {percentile:g} is not in measurement.percentiles; add it, or take the "
                "signal out of the tiers of `baseline`"
            )
    if Signal.LATENCY_P99 in looked_at and 99.0 in probe.measurement.percentiles:
        for level in probe.levels:
            if text := _few_requests(probe, level):
                yield text


def _few_requests(probe: Probe, level: LoadLevel) -> str:
    """p99 takes enough requests over the sweeps that it is pooled over."""
    needed = math.ceil(probe.baseline.p99_min_requests / MOST_POOLED_SWEEPS)
    name = f"{level.mode.value.replace('_', ' ')} {level.label}"
    options = probe.measurement
    known = options.request_count or (
        options.window_requests * options.stability_windows if options.window_mode is WindowMode.COUNT else 0
    )
    measured_ns = options.window_ns * options.stability_windows
    if not known and level.mode in (Mode.REQUEST_RATE, Mode.INTERVALS):
        known = round(level.value * measured_ns / NS)
    if known:
        if known >= needed:
            return ""
        return (
            f"latency_p99 at {name} can never be judged: a sweep measures some {known} requests, and needs {needed}; "
            + (
                "measure more of them"
                if level.mode not in (Mode.REQUEST_RATE, Mode.INTERVALS) or options.request_count
                else f"its {options.stability_windows} windows would have to last "
                f"{format_duration(math.ceil(needed / level.value / options.stability_windows) * NS)} each"
            )
        )
    if level.mode not in (Mode.CONCURRENCY, Mode.PERIODIC):
        return ""
    slowest_ns = measured_ns * max(1.0, level.value) / needed
    if slowest_ns >= options.request_timeout_ns:
        return ""
    return (
        f"latency_p99 at {name} can never be judged on a model slower than {format_duration(round(slowest_ns, -6))}: a "
        f"sweep has to measure {needed} requests, in windows that last longer for a slower one"
    )
