"""One level while it runs: windows come in, a verdict comes out, and at the end a Measurement. Pure: no clock, no IO.

Raw columns are kept for the windows that a verdict can still need; of older ones only their summaries stay, so that
memory is bounded however long a level runs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from exporter.analysis.client import is_client_limited, worst_health
from exporter.analysis.join import (
    FOREIGN_LIMIT_RATIO,
    breakdown,
    contradiction,
    foreign_ratio,
    foreign_requests,
    our_share,
)
from exporter.analysis.latency import summarise
from exporter.analysis.threshold import keeps_threshold
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
from exporter.facts import ModelFacts, ModelStatistics
from exporter.outcome import Outcome, Reason
from exporter.probe import LoadLevel, Mode, Probe
from exporter.result import Measurement, Repeat, WindowSummary
from exporter.server.figures import energy_per_inference_joules, gpu_figures, server_metrics
from exporter.server.statistics import ServerDelta, add_deltas, difference
from exporter.sweep.stability import Stability, judge
from exporter.units import NS
from exporter.window import RecordColumns, Window, sum_checked


@dataclass(frozen=True, slots=True)
class _Run:
    """The judged windows of one run of the level, what they came to, and why that is not stable."""

    windows: tuple[Window, ...]
    verdict: Stability
    unstable_text: str


class LevelRun:
    """The state of a running level. Where the sweep is repeated, it lives through all of the level's runs: each is
    judged for itself, and the judged windows of all are merged."""

    def __init__(self, probe: Probe, facts: ModelFacts, level: LoadLevel) -> None:
        self._probe = probe
        self._facts = facts
        self._level = level
        self._has_sequences = facts.sequence or probe.sequences is not None
        # A schedule, periodic concurrency or a request count is run once and is no steady state: all of it is measured,
        # however its windows differ. Its memory is bounded by the file, or by the requests that a sweep may send.
        self._runs_once = level.mode in (Mode.SCHEDULE, Mode.PERIODIC) or probe.measurement.request_count > 0
        self._kept: deque[Window] = deque(maxlen=None if self._runs_once else probe.measurement.stability_windows)
        self._summaries: list[WindowSummary] = []
        self._ended: list[_Run] = []
        self._ended_windows = 0
        self._first_index = 0
        self._warm_up_requests = 0

    @property
    def windows_run(self) -> int:
        """Measured windows of the present run so far, warm-up not counted."""
        return len(self._summaries) - self._ended_windows

    def repeat(self) -> None:
        """The next run of the level begins."""
        self._ended.append(self._present_run())
        self._summaries = list(self._marked_summaries(len(self._kept)))
        self._ended_windows = len(self._summaries)
        self._first_index = self._summaries[-1].index + 1 if self._summaries else 0
        self._kept.clear()

    def add_warm_up(self, window: Window) -> None:
        """Takes in a window that is not measured. After the measured ones it holds what came too late for them."""
        if self.windows_run == 0:
            self._warm_up_requests += len(window.columns)

    @property
    def last_summary(self) -> WindowSummary:
        """The last measured window in figures; there must have been one."""
        return self._summaries[-1]

    def add(self, window: Window, ended_unix_s: float) -> Stability:
        """Takes in the next measured window and judges the level with it."""
        self._kept.append(window)
        summary = summarise_window(window, self._probe, ended_unix_s - window.duration_ns / NS)
        self._summaries.append(replace(summary, index=self._first_index + window.index))
        return self.stability()

    def is_decided(self, verdict: Stability) -> bool:
        """Whether the level needs no more windows; a schedule and a request count end by themselves."""
        if self._runs_once:
            return False
        return verdict.stable or self.windows_run >= self._probe.measurement.max_windows or self._is_hopeless()

    def _is_hopeless(self) -> bool:
        """Whether a search need not know more of the level: all of as many windows as are judged were above its
        threshold. (The latency from the actual send; the response time is not below it.)"""
        options = self._probe.measurement
        if self._probe.search is None or self.windows_run < options.stability_windows:
            return False
        return all(
            summary.latency is not None
            and _stabilizing_latency_ns(summary, options.stability_percentile) > options.latency_threshold_ns
            for summary in self._summaries[-options.stability_windows :]
        )

    def stability(self) -> Stability:
        """The verdict on the present run's windows so far."""
        options = self._probe.measurement
        summaries = self._summaries[self._ended_windows :]
        if self._runs_once:
            return Stability(stable=any(summary.throughput > 0 for summary in summaries), spread_ratio=None)
        return judge(
            [summary.throughput for summary in summaries],
            [_stabilizing_latency_ns(summary, options.stability_percentile) for summary in summaries],
            options.stability_ratio,
            options.stability_windows,
        )

    def measurement(self, reason: Reason, reason_text: str) -> Measurement | None:
        """The merged last windows as a measurement; None if there was no window. `reason` says why the level was cut
        short, none if it ran to its verdict."""
        runs = [run for run in (*self._ended, self._present_run()) if run.windows]
        if not runs:
            return None
        windows = [window for run in runs for window in run.windows]
        columns = RecordColumns.concatenate([window.columns for window in windows])
        duration_ns = sum(window.duration_ns for window in windows)
        sent = sum(window.sent for window in windows)
        unsent = sum(window.unsent for window in windows)
        options = self._probe.measurement
        verdict = _joined([run.verdict for run in runs])
        if reason is Reason.NONE and not verdict.stable:
            reason, reason_text = Reason.UNSTABLE, next(run.unstable_text for run in runs if not run.verdict.stable)
        outcomes = outcome_counts(columns)
        latency = summarise(latencies_ns(columns), options.percentiles)
        open_loop = self._level.mode not in (Mode.CONCURRENCY, Mode.PERIODIC)
        response_time = response_times_ns(columns, options.request_timeout_ns) if open_loop else None
        send_lag = send_lags_ns(columns) if open_loop else None
        send_ns, receive_ns = _client_parts_ns(columns)
        streaming = self._probe.streaming
        delta, foreign = self._server_figures(runs)
        # A decoupled model's work goes on between its answers: the server's times do not add up to the client's.
        told = None if self._facts.decoupled else _only_ours(delta.model, foreign)
        composing = delta.composing if self._facts.ensemble else None
        parts = breakdown(latency.mean_ns if latency else 0.0, send_ns, receive_ns, told, composing)
        checked = sum_checked(window.checked for window in windows)
        health = worst_health([window.health for window in windows])
        rate = throughput(outcomes.get(Outcome.OK, 0), self._probe.input.batch_size, duration_ns)
        readings = [reading for window in windows for reading in window.readings]
        measurement = Measurement(
            level=self._level,
            stable=verdict.stable and reason is Reason.NONE,
            reason=reason,
            reason_text=reason_text,
            windows_run=len(self._summaries),
            windows_merged=len(windows),
            duration_ns=duration_ns,
            throughput=rate,
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
            server=delta.model,
            foreign_requests=foreign,
            health=health,
            client_limited=is_client_limited(health, duration_ns),
            window_summaries=self._marked_summaries(len(self._kept)),
            bytes_out=int(columns.bytes_out.sum()),
            bytes_in=int(columns.bytes_in.sum()),
            warm_up_requests=self._warm_up_requests,
            repeats=tuple(self._repeat(run) for run in runs) if len(runs) > 1 else (),
            composing=delta.composing,
            server_note=delta.note,
            server_metrics=server_metrics(readings),
            gpu=gpu_figures(readings),
            energy_per_inference_joules=energy_per_inference_joules(readings, delta.model, duration_ns, rate),
            validated=checked.answers if checked else None,
            output_error=checked.error if checked else None,
            output_difference=checked.difference if checked else "",
            sequences=ended_sequences(columns) if self._has_sequences else None,
            first_response=summarise(first_responses_ns(columns), options.percentiles) if streaming else None,
            inter_response=summarise(inter_responses_ns(columns), options.percentiles) if streaming else None,
        )
        return replace(measurement, threshold_met=keeps_threshold(self._probe, measurement))

    def _server_figures(self, runs: Sequence[_Run]) -> tuple[ServerDelta, int | None]:
        """What the server did in the judged windows, without what lay between the runs, and how many requests in them
        were somebody else's."""
        deltas = [self._server_delta(run.windows) for run in runs]
        delta = add_deltas([found for found, _ in deltas])
        return delta, None if delta.model is None else _add_known([count for _, count in deltas])

    def _present_run(self) -> _Run:
        verdict = self.stability()
        return _Run(tuple(self._kept), verdict, "" if verdict.stable else self._unstable_text(verdict))

    def _repeat(self, run: _Run) -> Repeat:
        columns = RecordColumns.concatenate([window.columns for window in run.windows])
        duration_ns = sum(window.duration_ns for window in run.windows)
        latencies = latencies_ns(columns)
        return Repeat(
            throughput=throughput(len(latencies), self._probe.input.batch_size, duration_ns),
            latency=summarise(latencies, self._probe.measurement.percentiles),
            stable=run.verdict.stable,
        )

    def _server_delta(self, windows: Sequence[Window]) -> tuple[ServerDelta, int | None]:
        """What the server did in the windows of one run, and how many of its requests were not ours. Figures
        that can't be of our requests are left out, and the reason is said."""
        delta = difference([windows[0].before, *(window.after for window in windows)], self._facts)
        share = our_share(RecordColumns.concatenate([window.columns for window in windows]), windows)
        if delta.model is None or share is None:
            return delta, None
        # A decoupled model's requests are counted as the server ends them, which is not when their answers do.
        note = "" if self._facts.decoupled else contradiction(delta.model, share)
        if note:
            return ServerDelta(note=note), None
        return delta, foreign_requests(delta.model, share.requests, share.edge)

    def _marked_summaries(self, judged: int) -> tuple[WindowSummary, ...]:
        """All summaries, those of the present run's last `judged` windows marked so."""
        first_judged = len(self._summaries) - judged
        return tuple(
            replace(summary, judged=summary.judged or position >= first_judged)
            for position, summary in enumerate(self._summaries)
        )

    def _unstable_text(self, verdict: Stability) -> str:
        options = self._probe.measurement
        if verdict.spread_ratio is None:
            return f"level {self._level.label}: a window without an ok request in the last {options.stability_windows}"
        return (
            f"level {self._level.label}: the last {min(self.windows_run, options.stability_windows)} of "
            f"{self.windows_run} windows differ by {(verdict.spread_ratio - 1) * 100:.0f} %, "
            f"more than the {options.stability_ratio * 100:g} % allowed"
        )


def _joined(verdicts: Sequence[Stability]) -> Stability:
    """Stable if all of them are; their widest spread, None where one has none."""
    spreads = [verdict.spread_ratio for verdict in verdicts]
    known = [spread for spread in spreads if spread is not None]
    return Stability(all(v.stable for v in verdicts), max(known) if len(known) == len(spreads) else None)


def _stabilizing_latency_ns(summary: WindowSummary, percentile: float | None) -> float:
    if summary.latency is None:
        return 0.0
    return summary.latency.mean_ns if percentile is None else float(summary.latency.at(percentile))


def _add_known(counts: Sequence[int | None]) -> int | None:
    """The sum; None if one of them is not known."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


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
