"""The lines of the terminal report, in perf_analyzer's layout to the last blank (2.60, as it was seen to print them),
so that what reads its output reads ours.

Lines of our own appear only where something is not as it should be, or under verbose. Pure: no IO.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from exporter.analysis.averages import (
    ServerAverages,
    average_us,
    ensemble_averages,
    has_cache,
    microseconds,
    server_averages,
)
from exporter.analysis.threshold import asked_per_second, is_reached, is_within, judged_times, threshold_of
from exporter.commands.analyze.report.numbers import number, percentile_name, summary_line
from exporter.commands.analyze.report.server_lines import server_percentile_lines
from exporter.commands.analyze.report.stream_lines import stream_lines
from exporter.commands.analyze.report.token_lines import token_lines
from exporter.core.facts import GpuSource, ModelFacts, ModelStatistics
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import LoadLevel, Mode, Probe
from exporter.core.result import GpuFigures, LatencySummary, Measurement, PercentileValue, WindowSummary
from exporter.core.units import MS, NS

PERCENTILES = (50.0, 90.0, 95.0, 99.0)
"""Those that perf_analyzer always reports."""

UNSENT_LIMIT_RATIO = 0.01
"""Above this the report warns: perf_analyzer's limit for requests that it sent too late."""

LATE_RATIO = 1.1
"""Response time over latency above which the report warns that requests left too late."""

_GPU_SOURCES = (GpuSource.TRITON, GpuSource.DCGM, GpuSource.NVML)
"""Triton's own first: its page is what perf_analyzer reads."""
_MIG_PREFIX = "MIG-"
"""Of NVML's uuids of MIG instances, which appear beside the whole GPU."""
MAX_GPUS = 16
"""More are reported in files only."""


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """The settings of a command line that concern the report and not the probe. `asynchronous` only chooses a line: our
    own load is the same either way. `metrics` adds the GPUs' block."""

    verbose: bool = False
    asynchronous: bool = False
    metrics: bool = False


def shown_percentiles(asked: float | None) -> list[float]:
    """The usual four and the one asked for, ascending."""
    return sorted({*PERCENTILES, *(() if asked is None else (asked,))})


def level_rate(level: LoadLevel) -> float:
    """The column and the summary's figure of a level: its concurrency or rate. An interval file's mean rate is rounded
    down as in perf_analyzer; a schedule's is that of all of it, and of streams that of all together."""
    if level.mode is Mode.INTERVALS:
        return float(int(level.value))
    if level.mode is Mode.SCHEDULE:
        return level.value * NS / level.duration_ns if level.duration_ns else level.value
    if level.mode is Mode.STREAMS:
        return level.requests_per_second
    return level.value


def of_matrix(level: LoadLevel) -> str:
    """What a level of a matrix has beside its number, in words; "" for others."""
    parts = [] if level.batch_size is None else [f"batch size: {level.batch_size}"]
    if level.shapes:
        shapes = (f"{name} {'x'.join(map(str, shape))}" for name, shape in level.shapes)
        parts.append(f"shapes: {' '.join(shapes)}")
    return "".join(f", {part}" for part in parts)


def stabilizing_latency_us(measurement: Measurement, percentile: float | None) -> int | None:
    """The latency that stability is judged by; None where no request was ok."""
    if measurement.latency is None:
        return None
    latency = measurement.latency
    return microseconds(latency.mean_ns if percentile is None else latency.at(percentile))


# --- a level ----------------------------------------------------------------------------------------------------------


def level_lines(
    probe: Probe, facts: ModelFacts | None, measurement: Measurement, options: ReportOptions
) -> Iterator[str]:
    """The block of one level."""
    yield from (f"{line}{of_matrix(measurement.level)}" for line in _head_lines(measurement.level))
    if options.verbose:
        yield from _pass_lines(probe, measurement.window_summaries)
    yield "  Client: "
    yield from _client_lines(probe, facts, measurement, options)
    if facts is None or facts.has_statistics:
        yield "  Server: "
        yield from _server_lines(facts, measurement)
    if options.metrics:
        yield "  Server Prometheus Metrics: "
        yield from _gpu_lines(measurement.gpu)
        yield from server_percentile_lines(measurement)
    if measurement.server_note:
        yield f"[WARNING] Server: {measurement.server_note}"
    yield from _warning_lines(measurement)
    yield from _threshold_lines(probe, measurement)


def _head_lines(level: LoadLevel) -> Iterator[str]:
    """Interval and schedule files have no line, as there is only one level."""
    if level.mode is Mode.CONCURRENCY:
        yield f"Request concurrency: {number(level.value)}"
    elif level.mode is Mode.REQUEST_RATE:
        yield f"Request Rate: {number(level.value)} inference requests per second"
    elif level.mode is Mode.PERIODIC:
        yield f"Periodic concurrency: {level.label}"
    elif level.mode is Mode.STREAMS:
        yield f"Streams: {number(level.value)}, a step every {number(level.step_interval_ns / MS)} msec"
    elif level.mode is Mode.SESSIONS:
        yield f"Session concurrency: {level.label}"


def _pass_lines(probe: Probe, windows: Iterable[WindowSummary]) -> Iterator[str]:
    percentile = probe.measurement.stability_percentile
    for position, window in enumerate(windows, 1):
        head = f"  Pass [{position}] throughput: {number(window.throughput)} infer/sec. "
        if window.latency is None:
            yield f"{head}No request was ok."
        elif percentile is None:
            mean_us, stddev_us = microseconds(window.latency.mean_ns), microseconds(window.latency.stddev_ns)
            yield f"{head}Avg latency: {mean_us} usec (std {stddev_us} usec). "
        else:
            yield f"{head}{percentile_name(percentile)} latency: {microseconds(window.latency.at(percentile))} usec"


def _client_lines(
    probe: Probe, facts: ModelFacts | None, measurement: Measurement, options: ReportOptions
) -> Iterator[str]:
    decoupled = facts is not None and facts.decoupled
    yield f"    Request count: {measurement.latency.count if measurement.latency else 0}"
    yield from _trouble_lines(measurement)
    if measurement.sequences is not None:
        per_second = measurement.sequences * NS / measurement.duration_ns if measurement.duration_ns else 0.0
        yield f"    Sequence count: {measurement.sequences} ({number(per_second)} seq/sec)"
    yield f"    Throughput: {number(measurement.throughput)} infer/sec"
    if probe.unit is not None:
        yield f"    Throughput: {number(measurement.throughput * probe.unit.per_inference)} {probe.unit.name}/sec"
    if decoupled and measurement.duration_ns:
        rate = measurement.responses * NS / measurement.duration_ns
        yield f"    Response Throughput: {number(rate)} infer/sec"
    if options.verbose and probe.streaming and measurement.responses_per_request is not None:
        yield f"    Responses per request: {number(measurement.responses_per_request)}"
    if options.verbose:
        yield f"    Avg client overhead: {measurement.health.cpu_ratio * 100:.2f}%"
    if measurement.latency is None:
        return
    yield from _latency_lines(probe, measurement.latency, options)
    if options.verbose:
        for name, summary in {
            "Response time, from the moment meant": measurement.response_time,
            "First response, from the moment sent": measurement.first_response,
            "From one response to the next": measurement.inter_response,
        }.items():
            if summary is not None:
                yield summary_line(name, summary)
    yield from token_lines(measurement, verbose=options.verbose)
    yield from stream_lines(measurement, verbose=options.verbose)
    if not probe.target.in_process:
        yield "    " if decoupled else _library_line(probe, measurement, measurement.latency, options)


def _trouble_lines(measurement: Measurement) -> Iterator[str]:
    """What perf_analyzer has no place for: it ends at the first request that fails."""
    failed = {outcome: count for outcome, count in measurement.outcomes.items() if outcome is not Outcome.OK and count}
    if failed:
        parts = ", ".join(f"{count} {outcome.label}" for outcome, count in failed.items())
        yield f"    Failed request count: {sum(failed.values())} ({parts})"
    if measurement.unsent_ratio > UNSENT_LIMIT_RATIO:
        yield f"    Avg send request rate: {measurement.offered:.2f} infer/sec"
        yield (
            "    [WARNING] Not able to keep up with the desired request rate. "
            f"{measurement.unsent_ratio * 100:.2f}% of the requests that were due were not sent: all places in flight "
            "were taken, or the server was spared. "
        )


def _latency_lines(probe: Probe, latency: LatencySummary, options: ReportOptions) -> Iterator[str]:
    asked = probe.measurement.stability_percentile
    if asked is None:
        mean_us, stddev_us = microseconds(latency.mean_ns), microseconds(latency.stddev_ns)
        yield f"    Avg latency: {mean_us} usec (standard deviation {stddev_us} usec)"
    usual = shown_percentiles(asked)
    for entry in sorted(latency.percentiles, key=lambda entry: entry.percentile):
        if options.verbose:
            yield f"    {_percentile_text(entry)} ({_interval_text(entry)})"
        elif entry.percentile in usual:
            yield f"    {_percentile_text(entry)}"
    if options.verbose:
        yield f"    Min latency: {microseconds(latency.min_ns)} usec, max {microseconds(latency.max_ns)} usec"


def _percentile_text(entry: PercentileValue) -> str:
    return f"{percentile_name(entry.percentile)} latency: {microseconds(entry.value_ns)} usec"


def _interval_text(entry: PercentileValue) -> str:
    if entry.low_ns is not None and entry.high_ns is not None:
        return f"95% confidence: {microseconds(entry.low_ns)} to {microseconds(entry.high_ns)} usec"
    if entry.low_ns is not None:
        return f"95% confidence: at least {microseconds(entry.low_ns)} usec"
    if entry.high_ns is not None:
        return f"95% confidence: at most {microseconds(entry.high_ns)} usec"
    return "too few requests for a confidence interval"


def _library_line(probe: Probe, measurement: Measurement, latency: LatencySummary, options: ReportOptions) -> str:
    """perf_analyzer has these of its client library's own timers; ours are the same figures at the socket."""
    send_us, receive_us = microseconds(measurement.client_send_ns), microseconds(measurement.client_receive_ns)
    total_us = microseconds(latency.mean_ns)
    wait_us = max(0, total_us - send_us - receive_us)
    if probe.target.is_grpc:
        name, send, receive, both = "gRPC", "marshal", "unmarshal", "(un)marshal request/response"
    else:
        name, send, receive, both = "HTTP", "send", "receive", "send/recv"
    if options.verbose:
        parts = f"{send} {send_us} usec + response wait {wait_us} usec + {receive} {receive_us} usec"
    else:
        parts = f"{both} {send_us + receive_us} usec + response wait {wait_us} usec"
    return f"    Avg {name} time: {total_us} usec ({parts})"


# --- the server's block -----------------------------------------------------------------------------------------------


def _server_lines(facts: ModelFacts | None, measurement: Measurement) -> Iterator[str]:
    server = measurement.server
    composing = sorted(measurement.composing, key=lambda model: (model.name, model.version))
    if server is None:
        yield "    No statistics of these windows"
    else:
        own_cache = facts is not None and facts.response_cache
        yield from _model_lines(server, composing, "  ", cache=has_cache(facts, composing), own_cache=own_cache)
    if measurement.foreign_requests:
        yield f"    [WARNING] {measurement.foreign_requests} requests that the server counted were not ours"


def _model_lines(
    server: ModelStatistics, composing: Sequence[ModelStatistics], indent: str, *, cache: bool, own_cache: bool
) -> Iterator[str]:
    if server.success.count == 0:
        yield f"{indent}  Request count: 0"
        return
    if server.inference_count is not None:
        yield f"{indent}  Inference count: {server.inference_count}"
    if server.execution_count is not None:
        yield f"{indent}  Execution count: {server.execution_count}"
    if cache:
        yield f"{indent}  Cache hit count: {server.cache_hit.count}"
        yield f"{indent}  Cache miss count: {server.cache_miss.count}"
    yield f"{indent}  Successful request count: {server.success.count}"
    head = f"{indent}  Avg request latency: {average_us(server.success)} usec"
    if composing:
        averages = ensemble_averages(server, composing, cache=cache)
        # With a cache before the whole ensemble, the sums over its models contain no information about a request.
        yield head if own_cache else f"{head} ({_ensemble_parts(averages, cache=cache)})"
        if cache:
            yield f"{indent * 2}  Average Cache Hit Latency: {averages.cache_hit} usec"
            yield f"{indent * 2}  Average Cache Miss Latency: {averages.cache_miss + averages.compute} usec "
        yield ""
        yield f"{indent}Composing models: "
        for model in composing:
            yield f"{indent}{model.name}, version: {model.version}"
            yield from _model_lines(model, (), indent * 2, cache=cache, own_cache=cache)
        return
    averages = server_averages(server, cache=cache)
    if not server.reports_compute:
        yield f"{head} (queue {averages.queue} usec)" if server.queue.count else head
        return
    compute = (
        f"compute input {averages.compute_input} usec + compute infer {averages.compute_infer} usec + "
        f"compute output {averages.compute_output} usec"
    )
    front = f"{head} (overhead {averages.overhead} usec + queue {averages.queue} usec + "
    if cache:
        yield f"{front}cache hit/miss {averages.combined} usec)"
        yield f"{indent * 2}  Average Cache Hit Latency: {averages.cache_hit} usec"
        yield (
            f"{indent * 2}  Average Cache Miss Latency: {averages.cache_miss + averages.compute} usec "
            f"(cache lookup/insertion {averages.cache_miss} usec + {compute})"
        )
    else:
        yield f"{front}{compute})"


def _ensemble_parts(averages: ServerAverages, *, cache: bool) -> str:
    last = f"cache hit/miss {averages.combined}" if cache else f"compute {averages.compute}"
    return f"overhead {averages.overhead} usec + queue {averages.queue} usec + {last} usec"


def gpus_of_one_source(gpus: Sequence[GpuFigures]) -> list[GpuFigures]:
    """Those of the first source that reports any, by uuid; of the driver's without the parts of GPUs."""
    whole = [gpu for gpu in gpus if not gpu.uuid.startswith(_MIG_PREFIX)]
    chosen = next((source for source in _GPU_SOURCES if any(gpu.source is source for gpu in whole)), None)
    return sorted((gpu for gpu in whole if gpu.source is chosen), key=lambda gpu: gpu.uuid)


def _gpu_lines(gpus: Sequence[GpuFigures]) -> Iterator[str]:
    ordered = gpus_of_one_source(gpus)
    if len(ordered) > MAX_GPUS:
        yield (
            "Too many GPUs on system to print out individual Prometheus metrics, "
            "use the CSV output feature to see metrics."
        )
        return
    yield "    Avg GPU Utilization:"
    yield from (
        f"      {g.uuid} : {number(g.utilization_ratio * 100)}%" for g in ordered if g.utilization_ratio is not None
    )
    yield "    Avg GPU Power Usage:"
    yield from (f"      {g.uuid} : {number(g.power_watts)} watts" for g in ordered if g.power_watts is not None)
    yield "    Max GPU Memory Usage:"
    yield from (f"      {g.uuid} : {g.memory_used_bytes:.0f} bytes" for g in ordered if g.memory_used_bytes is not None)
    yield "    Total GPU Memory:"
    yield from (
        f"      {g.uuid} : {g.memory_total_bytes:.0f} bytes" for g in ordered if g.memory_total_bytes is not None
    )


def _warning_lines(measurement: Measurement) -> Iterator[str]:
    latency, response_time = measurement.latency, measurement.response_time
    if latency and response_time and response_time.mean_ns > LATE_RATIO * latency.mean_ns:
        yield (
            "[WARNING] Requests left later than they were meant to: from the moment meant, the mean is "
            f"{microseconds(response_time.mean_ns)} usec, the slowest {microseconds(response_time.max_ns)} usec."
        )
    if measurement.client_limited:
        yield (
            "[WARNING] This client is not able to keep up with the desired load. The results may not be accurate. "
            f"(loop lag {microseconds(measurement.health.loop_lag_ns)} usec, "
            f"cpu {measurement.health.cpu_ratio * 100:.0f}%)"
        )
    if measurement.clock_uncertain:
        yield (
            "[WARNING] The workers' clocks are not known well enough for these windows: an edge may be "
            f"{microseconds(measurement.health.clock_error_ns or 0)} usec elsewhere, more than 1% of a window."
        )
    if measurement.modes_ns is not None:
        lower, upper = (f"{value_ns / MS:.4g} ms" for value_ns in measurement.modes_ns)
        yield f"[WARNING] Bimodal: windows have a median of {lower} or of {upper}; a request rate may have one"
    if measurement.reason is Reason.SHUTDOWN:
        yield f"[WARNING] {measurement.reason_text[:1].upper()}{measurement.reason_text[1:]}"
    elif not measurement.stable:
        yield f"[WARNING] Not stable: {measurement.reason_text or 'the last windows do not agree'}"


def _threshold_lines(probe: Probe, measurement: Measurement) -> Iterator[str]:
    """Why the level did not keep the threshold, and in any case whether its rate was not reached."""
    threshold, times = threshold_of(probe), judged_times(measurement)
    closed = measurement.level.mode is Mode.CONCURRENCY
    if threshold is None:
        if measurement.level.mode.is_open_loop:
            yield from _reached_lines(probe, measurement)
        return
    if measurement.threshold_met is not False:
        return
    if times is not None and not is_within(threshold, measurement, times):
        figure = "mean" if threshold.percentile is None else percentile_name(threshold.percentile)
        value_ns = times.mean_ns if threshold.percentile is None else times.at(threshold.percentile)
        name = "latency" if closed else "response time"
        yield f"[WARNING] Above the latency limit: {name} {figure} {microseconds(value_ns)} usec"
    yield from _reached_lines(probe, measurement)


def _reached_lines(probe: Probe, measurement: Measurement) -> Iterator[str]:
    if is_reached(measurement, probe.measurement.min_reached_ratio):
        return
    ok = measurement.outcomes.get(Outcome.OK, 0)
    if measurement.level.mode is Mode.CONCURRENCY:
        yield f"[WARNING] Asked load not reached: {(measurement.error_ratio or 0.0) * 100:.3g}% of the requests failed"
    else:
        per_second = ok * NS / measurement.duration_ns if measurement.duration_ns else 0.0
        yield f"[WARNING] Asked rate not reached: {number(per_second)} of {number(asked_per_second(measurement))}/s"
