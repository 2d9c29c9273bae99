"""From a level's judged windows to its measurement: the client's figures joined with the server's. Pure, except for one
log message."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from exporter.analysis.clusters import window_modes_ns
from exporter.analysis.join import (
    FOREIGN_LIMIT_RATIO,
    Breakdown,
    breakdown,
    contradiction,
    foreign_ratio,
    foreign_requests,
    our_share,
)
from exporter.analysis.latency import summarise
from exporter.analysis.streams import stream_figures
from exporter.analysis.threshold import keeps_threshold
from exporter.analysis.tokens import token_figures
from exporter.analysis.window_counts import good_requests
from exporter.analysis.windows import (
    ended_sequences,
    first_responses_ns,
    inter_responses_ns,
    latencies_ns,
    outcome_counts,
    response_times_ns,
    responses_per_request,
    send_lags_ns,
    throughput,
)
from exporter.core.facts import ModelFacts, ModelStatistics
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import LoadLevel, Mode, Probe
from exporter.core.result import LatencySummary, Measurement, Repeat, ServerMetrics, StreamFigures, WindowSummary
from exporter.core.units import NS
from exporter.core.window import ClientHealth, RecordColumns, Window, sum_checked, worst_clock_error_ns
from exporter.logs import fields
from exporter.server.figures import energy_per_inference_joules, gpu_figures, server_metrics
from exporter.server.statistics import SEVERAL_CALLED, ServerDelta, add_deltas, difference
from exporter.sweep.stability import Stability

_log = logging.getLogger(__name__)

CPU_LIMIT_RATIO = 0.95
"""A worker is one event loop and uses at most one core: at this ratio the loop is saturated."""
LAG_LIMIT_NS = 50_000_000
"""A lag this long has another cause than the loop's own work between two requests."""
THROTTLE_LIMIT_RATIO = 0.01
"""The ratio of time in which a cgroup limit throttled the worker."""


@dataclass(frozen=True, slots=True)
class Run:
    """The judged windows of one run of the level, the verdict, and why it is unstable."""

    windows: tuple[Window, ...]
    verdict: Stability
    unstable_text: str


class Judged:
    """The judged windows of all runs of a level, at least one, treated as one run. Requests are pooled; the time
    between runs is in no figure."""

    def __init__(self, probe: Probe, facts: ModelFacts, level: LoadLevel, runs: Sequence[Run]) -> None:
        self.probe = probe
        self.facts = facts
        self.level = level
        self.runs = runs
        self.windows = [window for run in runs for window in run.windows]
        self.columns = RecordColumns.concatenate([window.columns for window in self.windows])
        self.duration_ns = sum(window.duration_ns for window in self.windows)
        deltas = [_server_delta(run.windows, facts) for run in runs]
        self.delta = add_deltas([found for found, _ in deltas])
        """The server's work in these windows."""
        self.foreign = None if self.delta.model is None else _add_known([count for _, count in deltas])
        """How many of the server's requests in these windows came from other clients."""

    def response_times_ns(self) -> npt.NDArray[np.int64]:
        """Response times from each request's due time, window by window."""
        limit_ns = self.probe.measurement.request_timeout_ns
        return np.concatenate([response_times_ns(window.columns, limit_ns, window.unsent) for window in self.windows])

    @property
    def spread_ratio(self) -> float | None:
        """The widest spread of the runs; None if one of them has none."""
        known = [spread for run in self.runs if (spread := run.verdict.spread_ratio) is not None]
        return max(known) if len(known) == len(self.runs) else None

    def summary(self, values_ns: npt.NDArray[np.int64]) -> LatencySummary | None:
        """A summary with the probe's percentiles."""
        return summarise(values_ns, self.probe.measurement.percentiles)


def measure(judged: Judged, summaries: tuple[WindowSummary, ...], reason: Reason, reason_text: str) -> Measurement:
    """The level's measurement. `summaries` are of all its windows; `reason` is why it was cut short or is unstable,
    none if all runs are stable."""
    found = _with_details(judged, _main_figures(judged, summaries, reason, reason_text))
    return replace(found, threshold_met=keeps_threshold(judged.probe, found))


def _main_figures(
    judged: Judged, summaries: tuple[WindowSummary, ...], reason: Reason, reason_text: str
) -> Measurement:
    """The figures of every level: load, latency, and the latency's breakdown."""
    columns, duration_ns = judged.columns, judged.duration_ns
    sent = sum(window.sent for window in judged.windows)
    due = max(sent, sum(window.due for window in judged.windows))
    outcomes = outcome_counts(columns)
    latency = judged.summary(latencies_ns(columns))
    is_open_loop = judged.level.mode.is_open_loop
    send_ns, receive_ns = _client_parts_ns(columns)
    parts = _breakdown(judged, latency, send_ns, receive_ns)
    health = worst_health([window.health for window in judged.windows])
    return Measurement(
        level=judged.level,
        stable=reason is Reason.NONE,
        reason=reason,
        reason_text=reason_text,
        windows_run=len(summaries),
        windows_merged=len(judged.windows),
        duration_ns=duration_ns,
        throughput=throughput(outcomes.get(Outcome.OK, 0), judged.probe.input.batch_size, duration_ns),
        offered=sent * NS / duration_ns if duration_ns else 0.0,
        unsent_ratio=1 - sent / due if due else 0.0,
        latency=latency,
        response_time=judged.summary(judged.response_times_ns()) if is_open_loop else None,
        send_lag=judged.summary(send_lags_ns(columns)) if is_open_loop else None,
        outcomes=outcomes,
        responses=int(columns.responses.sum()),
        spread_ratio=judged.spread_ratio,
        breakdown_ns=parts.components_ns if latency else {},
        negative_remainder_ns=parts.negative_remainder_ns if latency else 0.0,
        client_send_ns=send_ns,
        client_receive_ns=receive_ns,
        server=judged.delta.model,
        foreign_requests=judged.foreign,
        health=health,
        client_limited=is_client_limited(health, duration_ns),
        clock_uncertain=any(window.health.is_clock_uncertain(window.duration_ns) for window in judged.windows),
        window_summaries=summaries,
        bytes_out=int(columns.bytes_out.sum()),
        bytes_in=int(columns.bytes_in.sum()),
        modes_ns=window_modes_ns(summaries),
    )


def _with_details(judged: Judged, found: Measurement) -> Measurement:
    """Adds the figures that only some levels have: repeats, checked responses, sequences, streams, and the server's
    metrics page."""
    columns, delta, probe = judged.columns, judged.delta, judged.probe
    checked = sum_checked(window.checked for window in judged.windows)
    readings = [reading for window in judged.windows for reading in window.readings]
    metrics = server_metrics(readings)
    of_tokens = probe.target.takes_prompts
    streamed = probe.streaming and not of_tokens
    has_sequences = judged.facts.sequence or probe.sequences is not None
    return replace(
        found,
        repeats=tuple(_repeat(run, probe) for run in judged.runs) if len(judged.runs) > 1 else (),
        composing=delta.composing,
        server_note="; ".join(filter(None, (delta.note, _page_note(metrics, probe.target.metrics_url)))),
        server_metrics=metrics,
        gpu=gpu_figures(readings),
        energy_per_inference_joules=energy_per_inference_joules(
            readings, delta.model, judged.duration_ns, found.throughput
        ),
        validated=checked.responses if checked else None,
        unchecked=checked.unchecked if checked else 0,
        output_error=checked.error if checked else None,
        output_difference=checked.difference if checked else "",
        sequences=ended_sequences(columns) if has_sequences else None,
        first_response=judged.summary(first_responses_ns(columns)) if streamed else None,
        inter_response=judged.summary(inter_responses_ns(columns)) if streamed else None,
        responses_per_request=responses_per_request(columns),
        tokens=token_figures(columns, judged.duration_ns, probe.measurement.percentiles) if of_tokens else None,
        streams=_streams(judged),
        slo_good=_slo_good(judged),
    )


def _page_note(metrics: ServerMetrics | None, url: str) -> str:
    """Why figures of the server's page are missing; "" if none are."""
    if metrics is None or not metrics.failed:
        return ""
    if metrics.failed == metrics.readings:
        return f"the metrics page {url} cannot be read: {metrics.error}"
    return f"{metrics.failed} of {metrics.readings} readings of the metrics page {url} failed: {metrics.error}"


def _slo_good(judged: Judged) -> int | None:
    slo = judged.probe.slo
    if slo is None or judged.level.label not in slo.levels:
        return None
    return good_requests(judged.columns, judged.level, slo)


def _streams(judged: Judged) -> StreamFigures | None:
    if judged.level.mode is not Mode.STREAMS:
        return None
    return stream_figures(judged.columns, judged.level, judged.probe.measurement.percentiles)


def _breakdown(judged: Judged, latency: LatencySummary | None, send_ns: float, receive_ns: float) -> Breakdown:
    # A decoupled model works between its responses: the server's times do not add up to the client's.
    reported = None if judged.facts.decoupled else _only_ours(judged.delta.model, judged.foreign)
    if reported is not None and judged.probe.target.takes_prompts:
        receive_ns = 0.0  # the server decodes while it streams: this time is the server's
    composing = judged.delta.composing if judged.facts.ensemble else None
    return breakdown(latency.mean_ns if latency else 0.0, send_ns, receive_ns, reported, composing)


def _repeat(run: Run, probe: Probe) -> Repeat:
    columns = RecordColumns.concatenate([window.columns for window in run.windows])
    duration_ns = sum(window.duration_ns for window in run.windows)
    latencies = latencies_ns(columns)
    return Repeat(
        throughput=throughput(len(latencies), probe.input.batch_size, duration_ns),
        latency=summarise(latencies, probe.measurement.percentiles),
        stable=run.verdict.stable,
    )


def _server_delta(windows: Sequence[Window], facts: ModelFacts) -> tuple[ServerDelta, int | None]:
    """The server's work in the windows of one run, and how many of its requests were not ours. Figures that cannot be
    of our requests are omitted, with the reason in `note`."""
    delta = difference([windows[0].before, *(window.after for window in windows)], facts)
    share = our_share(RecordColumns.concatenate([window.columns for window in windows]), windows)
    if delta.model is None or share is None:
        return delta, None
    if note := contradiction(delta.model, share):
        return ServerDelta(note=SEVERAL_CALLED if delta.other_versions else note), None
    if delta.other_versions:
        others = ", ".join(delta.other_versions)
        reported = fields(model=facts.name, version=delta.model.version, others=others)
        _log.warning("several versions of the model were called: figures are of the highest", extra=reported)
    return delta, foreign_requests(delta.model, share.requests, share.edge)


def _add_known(counts: Sequence[int | None]) -> int | None:
    """The sum; None if one of them is unknown."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _only_ours(server: ModelStatistics | None, foreign: int | None) -> ModelStatistics | None:
    """The server's figures, unless too many of its requests came from other clients."""
    if server is None or foreign_ratio(server, foreign or 0) > FOREIGN_LIMIT_RATIO:
        return None
    return server


def _client_parts_ns(columns: RecordColumns) -> tuple[float, float]:
    """Mean nanoseconds to write a request to the socket, and from the first to the last byte of its response; ok
    requests only."""
    ok = columns.outcome == Outcome.OK
    if not np.any(ok):
        return 0.0, 0.0
    send = columns.send_done_ns[ok] - columns.sent_ns[ok]
    receive = columns.last_ns[ok] - columns.first_ns[ok]
    return float(send.mean()), float(receive.mean())


def worst_health(parts: Sequence[ClientHealth]) -> ClientHealth:
    """Combines several windows: the largest lag, the largest cpu ratio, the total throttling, the largest
    error of the clocks."""
    return ClientHealth(
        loop_lag_ns=max((part.loop_lag_ns for part in parts), default=0),
        cpu_ratio=max((part.cpu_ratio for part in parts), default=0.0),
        throttled_ns=sum(part.throttled_ns for part in parts),
        clock_error_ns=worst_clock_error_ns(parts),
    )


def is_client_limited(health: ClientHealth, duration_ns: int) -> bool:
    """Whether this client, not the server, limited the figures: no cpu left, a lagging loop, or a throttling cgroup."""
    return (
        health.cpu_ratio >= CPU_LIMIT_RATIO
        or health.loop_lag_ns >= LAG_LIMIT_NS
        or health.throttled_ns > THROTTLE_LIMIT_RATIO * duration_ns
    )
