"""The report's first block: what is going to be measured, in perf_analyzer's lines. Pure: no IO."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.commands.analyze.report.lines import ReportOptions
from exporter.commands.analyze.report.numbers import number, percentile_name
from exporter.core.facts import ModelFacts
from exporter.core.probe import Distribution, Mode, Probe, SearchKind, WindowMode, at_level
from exporter.core.units import MS

"""Nanoseconds in a millisecond, perf_analyzer's unit for limits and windows."""


def settings_lines(probe: Probe, facts: ModelFacts | None, options: ReportOptions) -> Iterator[str]:
    """The block, its title and the empty line after it included. Without facts, what only the server reports the
    model is left out."""
    yield "*** Measurement Settings ***"
    sizes = dict.fromkeys(str(at_level(probe, level).input.batch_size) for level in probe.levels)
    yield f"  Batch size: {','.join(sizes)}"
    yield f"  Service Kind: {'TRITON_C_API' if probe.target.in_process else probe.target.kind.upper()}"
    yield from _window_lines(probe)
    yield from _range_lines(probe)
    if probe.levels[0].mode is Mode.REQUEST_RATE:
        poisson = probe.levels[0].distribution is Distribution.POISSON
        yield f"  Using {'poisson' if poisson else 'uniform'} distribution on request generation"
    if probe.search is not None and probe.search.kind is SearchKind.BINARY:
        yield "  Using Binary Search algorithm"
    yield f"  Using {'asynchronous' if options.asynchronous else 'synchronous'} calls for inference"
    if facts is not None and facts.decoupled:
        yield "  Detected decoupled model, using the last response for measuring latency"
    yield ""


def _window_lines(probe: Probe) -> Iterator[str]:
    measurement = probe.measurement
    if measurement.warm_up_requests:
        yield f"  Sending {_requests(measurement.warm_up_requests, 'warmup')}"
    if measurement.request_count:
        yield f"  Sending {_requests(measurement.request_count, 'benchmark')}"
        return
    counts = measurement.window_mode is WindowMode.COUNT
    yield f'  Using "{"count" if counts else "time"}_windows" mode for stabilization'
    percentile = measurement.stability_percentile
    # The missing space is perf_analyzer's own.
    judged = "average " if percentile is None else percentile_name(percentile)
    yield f"  Stabilizing using {judged}latency and throughput"
    if counts:
        yield f"  Minimum number of samples in each window: {measurement.window_requests}"
    else:
        yield f"  Measurement window: {number(measurement.window_ns / MS)} msec"


def _range_lines(probe: Probe) -> Iterator[str]:
    """Only of a range: the threshold, and where the range ends unless it is open."""
    mode = probe.levels[0].mode
    values = [level.value for level in probe.levels]
    if probe.search is not None:
        values = [probe.search.start, probe.search.end]
    if mode not in (Mode.CONCURRENCY, Mode.REQUEST_RATE, Mode.STREAMS) or len(values) == 1:
        return
    yield f"  Latency limit: {number(probe.measurement.latency_threshold_ns / MS)} msec"
    if values[-1] == 0:
        return
    if mode is Mode.CONCURRENCY:
        yield f"  Concurrency limit: {number(max(values))} concurrent requests"
    elif mode is Mode.STREAMS:
        yield f"  Streams limit: {number(max(values))} streams"
    else:
        yield f"  Request Rate limit: {number(max(values))} requests per seconds"


def _requests(count: int, kind: str) -> str:
    return f"{count} {kind} request{'s' if count > 1 else ''}"
