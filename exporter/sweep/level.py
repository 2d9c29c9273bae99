"""One level while it runs: windows come in, a verdict comes out, and at the end a Measurement. Pure: no clock, no IO.

Raw columns are kept for the windows that a verdict can still need; of older ones only their summaries stay, so that
memory is bounded however long a level runs.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np

from exporter.analysis.client import is_client_limited, worst_health
from exporter.analysis.join import FOREIGN_LIMIT_RATIO, breakdown, foreign_ratio, foreign_requests
from exporter.analysis.latency import summarise
from exporter.analysis.windows import (
    ended_sequences,
    first_responses_ns,
    inter_responses_ns,
    latencies_ns,
    outcome_counts,
    response_times_ns,
    send_lags_ns,
    summarise_window,
    throughput,
)
from exporter.model import (
    Measurement,
    ModelFacts,
    ModelStatistics,
    Outcome,
    Reason,
    RecordColumns,
    Window,
    WindowSummary,
)
from exporter.probe import NS, LoadLevel, Mode, Probe
from exporter.server.statistics import difference
from exporter.sweep.stability import Stability, judge


class LevelRun:
    """The state of a running level."""

    def __init__(self, probe: Probe, facts: ModelFacts, level: LoadLevel) -> None:
        self._probe = probe
        self._facts = facts
        self._level = level
        self._has_sequences = facts.sequence or probe.sequences is not None
        # A schedule is run once and is no steady state: all of it is measured, however its windows differ. Its memory
        # is bounded by its file. So it is with periodic concurrency, which sends each request once.
        self._runs_once = level.mode in (Mode.SCHEDULE, Mode.PERIODIC)
        self._kept: deque[Window] = deque(maxlen=None if self._runs_once else probe.measurement.stability_windows)
        self._summaries: list[WindowSummary] = []

    @property
    def windows_run(self) -> int:
        """Measured windows so far, warm-up not counted."""
        return len(self._summaries)

    def add(self, window: Window, ended_unix_s: float) -> Stability:
        """Takes in the next measured window and judges the level with it."""
        self._kept.append(window)
        self._summaries.append(summarise_window(window, self._probe, ended_unix_s - window.duration_ns / NS))
        return self.stability()

    def is_decided(self, verdict: Stability) -> bool:
        """Whether the level needs no more windows; a schedule ends by itself."""
        if self._runs_once:
            return False
        return verdict.stable or self.windows_run >= self._probe.measurement.max_windows

    def stability(self) -> Stability:
        """The verdict on the windows so far."""
        options = self._probe.measurement
        if self._runs_once:
            return Stability(stable=any(summary.throughput > 0 for summary in self._summaries), spread_ratio=None)
        return judge(
            [summary.throughput for summary in self._summaries],
            [_stabilizing_latency_ns(summary, options.stability_percentile) for summary in self._summaries],
            options.stability_ratio,
            options.stability_windows,
        )

    def measurement(self, reason: Reason, reason_text: str) -> Measurement | None:
        """The merged last windows as a measurement; None if there was no window. `reason` says why the level was cut
        short, none if it ran to its verdict."""
        if not self._kept:
            return None
        windows = list(self._kept)
        columns = RecordColumns.concatenate([window.columns for window in windows])
        duration_ns = sum(window.duration_ns for window in windows)
        sent = sum(window.sent for window in windows)
        unsent = sum(window.unsent for window in windows)
        options = self._probe.measurement
        verdict = self.stability()
        if reason is Reason.NONE and not verdict.stable:
            reason, reason_text = Reason.UNSTABLE, self._unstable_text(verdict)
        outcomes = outcome_counts(columns)
        latency = summarise(latencies_ns(columns), options.percentiles)
        open_loop = self._level.mode not in (Mode.CONCURRENCY, Mode.PERIODIC)
        response_time = response_times_ns(columns, options.request_timeout_ns) if open_loop else None
        send_lag = send_lags_ns(columns) if open_loop else None
        send_ns, receive_ns = _client_parts_ns(columns)
        server = difference(windows[0].before, windows[-1].after, self._facts.name)
        foreign = None if server is None else foreign_requests(server, len(columns), max(w.in_flight for w in windows))
        streaming = self._probe.streaming
        # A decoupled model's work goes on between its answers: the server's times do not add up to the client's.
        told = None if self._facts.decoupled else _only_ours(server, foreign)
        parts = breakdown(latency.mean_ns if latency else 0.0, send_ns, receive_ns, told)
        health = worst_health([window.health for window in windows])
        return Measurement(
            level=self._level,
            stable=verdict.stable and reason is Reason.NONE,
            reason=reason,
            reason_text=reason_text,
            windows_run=len(self._summaries),
            windows_merged=len(windows),
            duration_ns=duration_ns,
            throughput=throughput(outcomes.get(Outcome.OK, 0), self._probe.input.batch_size, duration_ns),
            offered=sent * NS / duration_ns if duration_ns else 0.0,
            unsent_ratio=unsent / (sent + unsent) if sent + unsent else 0.0,
            latency=latency,
            response_time=None if response_time is None else summarise(response_time, options.percentiles),
            send_lag=None if send_lag is None else summarise(send_lag, options.percentiles),
            outcomes=outcomes,
            responses=int(columns.responses.sum()),
            spread_ratio=verdict.spread_ratio,
            breakdown_ns=parts.components_ns if latency else {},
            negative_remainder_ns=parts.negative_remainder_ns if latency else 0.0,
            client_send_ns=send_ns,
            client_receive_ns=receive_ns,
            server=server,
            foreign_requests=foreign,
            health=health,
            client_limited=is_client_limited(health, duration_ns),
            window_summaries=self._marked_summaries(len(windows)),
            bytes_out=int(columns.bytes_out.sum()),
            bytes_in=int(columns.bytes_in.sum()),
            sequences=ended_sequences(columns) if self._has_sequences else None,
            first_response=summarise(first_responses_ns(columns), options.percentiles) if streaming else None,
            inter_response=summarise(inter_responses_ns(columns), options.percentiles) if streaming else None,
        )

    def _marked_summaries(self, judged: int) -> tuple[WindowSummary, ...]:
        first_judged = len(self._summaries) - judged
        return tuple(
            replace(summary, judged=position >= first_judged) for position, summary in enumerate(self._summaries)
        )

    def _unstable_text(self, verdict: Stability) -> str:
        options = self._probe.measurement
        if verdict.spread_ratio is None:
            return f"level {self._level.label}: a window without an ok request in the last {options.stability_windows}"
        return (
            f"level {self._level.label}: the last {min(len(self._summaries), options.stability_windows)} of "
            f"{len(self._summaries)} windows differ by {(verdict.spread_ratio - 1) * 100:.0f} %, "
            f"more than the {options.stability_ratio * 100:g} % allowed"
        )


def _stabilizing_latency_ns(summary: WindowSummary, percentile: float | None) -> float:
    if summary.latency is None:
        return 0.0
    return summary.latency.mean_ns if percentile is None else float(summary.latency.at(percentile))


def _only_ours(server: ModelStatistics | None, foreign: int | None) -> ModelStatistics | None:
    """The server's figures, if they are of our own requests and not of somebody else's."""
    if server is None or foreign_ratio(server, foreign or 0) > FOREIGN_LIMIT_RATIO:
        return None
    return server


def _client_parts_ns(columns: RecordColumns) -> tuple[float, float]:
    """Mean time of handing a request to the socket, and from the first byte of its answer to the last; ok ones."""
    ok = columns.outcome == Outcome.OK
    if not np.any(ok):
        return 0.0, 0.0
    send = columns.send_done_ns[ok] - columns.sent_ns[ok]
    receive = columns.last_ns[ok] - columns.first_ns[ok]
    return float(send.mean()), float(receive.mean())
