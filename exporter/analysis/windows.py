"""From the records of windows to their counts and figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from exporter.analysis.latency import summarise
from exporter.core.outcome import Outcome
from exporter.core.probe import LoadLevel, Probe
from exporter.core.result import DURATION_BUCKETS_SECONDS, WindowCounts, WindowSummary
from exporter.core.units import NS
from exporter.core.window import RecordColumns, Window

_BOUNDS_NS = np.array([round(bound * NS) for bound in DURATION_BUCKETS_SECONDS], dtype=np.int64)


def outcome_counts(columns: RecordColumns) -> dict[Outcome, int]:
    """How many requests ended how; only outcomes that occurred."""
    counts = np.bincount(columns.outcome, minlength=len(Outcome))
    return {outcome: int(counts[outcome]) for outcome in Outcome if counts[outcome]}


def add_outcomes(parts: Iterable[Mapping[Outcome, int]]) -> dict[Outcome, int]:
    """The sum of several counts."""
    total: dict[Outcome, int] = {}
    for part in parts:
        for outcome, count in part.items():
            total[outcome] = total.get(outcome, 0) + count
    return total


def latencies_ns(columns: RecordColumns) -> npt.NDArray[np.int64]:
    """Sent to last byte of the answer, of the ok requests."""
    ok = columns.outcome == Outcome.OK
    durations: npt.NDArray[np.int64] = columns.last_ns[ok] - columns.sent_ns[ok]
    return durations


def response_times_ns(columns: RecordColumns, request_timeout_ns: int) -> npt.NDArray[np.int64]:
    """Intended send time to last byte, of the ok requests and of those that timed out, these at their limit."""
    ok = columns.outcome == Outcome.OK
    late = columns.outcome == Outcome.TIMEOUT
    waited = columns.sent_ns[late] - columns.intended_ns[late]
    return np.concatenate([columns.last_ns[ok] - columns.intended_ns[ok], waited + request_timeout_ns])


def send_lags_ns(columns: RecordColumns) -> npt.NDArray[np.int64]:
    """Intended to actually sent, of all that was sent."""
    sent = columns.sent_ns > 0
    lags: npt.NDArray[np.int64] = columns.sent_ns[sent] - columns.intended_ns[sent]
    return lags


def ended_sequences(columns: RecordColumns) -> int:
    """How many sequences ended: last requests that were ok."""
    return int(np.count_nonzero(columns.sequence_end[columns.outcome == Outcome.OK]))


def responses_per_request(columns: RecordColumns) -> float | None:
    """The mean number of responses of the ok requests; None if there was none."""
    responses = columns.responses[columns.outcome == Outcome.OK]
    return float(responses.mean()) if len(responses) else None


def first_responses_ns(columns: RecordColumns) -> npt.NDArray[np.int64]:
    """Sent to the first response, of the ok requests that had any."""
    chosen = (columns.outcome == Outcome.OK) & (columns.responses > 0)
    durations: npt.NDArray[np.int64] = columns.first_ns[chosen] - columns.sent_ns[chosen]
    return durations


def inter_responses_ns(columns: RecordColumns) -> npt.NDArray[np.int64]:
    """From each response to the next of the same request, of the ok requests."""
    row = np.repeat(np.arange(len(columns)), columns.responses)
    if len(row) != len(columns.response_ns):  # no stream: nothing is known of single responses
        return np.empty(0, np.int64)
    chosen = (row[1:] == row[:-1]) & (columns.outcome[row[1:]] == Outcome.OK)
    gaps: npt.NDArray[np.int64] = np.diff(columns.response_ns)[chosen]
    return gaps


def throughput(ok_requests: int, batch_size: int, duration_ns: int) -> float:
    """Inferences per second: requests x batch over the time (perf_analyzer's "Throughput")."""
    return ok_requests * batch_size * NS / duration_ns if duration_ns > 0 else 0.0


def summarise_window(window: Window, probe: Probe, start_unix_s: float) -> WindowSummary:
    """One window in figures."""
    outcomes = outcome_counts(window.columns)
    return WindowSummary(
        index=window.index,
        start_unix_s=start_unix_s,
        duration_ns=window.duration_ns,
        sent=window.sent,
        unsent=window.unsent,
        outcomes=outcomes,
        throughput=throughput(outcomes.get(Outcome.OK, 0), probe.input.batch_size, window.duration_ns),
        latency=summarise(latencies_ns(window.columns), probe.measurement.percentiles),
        judged=False,
        health=window.health,
    )


def count_window(window: Window, level: LoadLevel, probe: Probe) -> WindowCounts:
    """What the window adds to the cumulative counters. A warm-up window adds its outcomes and inferences alone."""
    outcomes = outcome_counts(window.columns)
    latencies = np.empty(0, np.int64) if window.warm_up else latencies_ns(window.columns)
    slo_requests = slo_bad = 0
    if probe.slo is not None and not window.warm_up and level.label in probe.slo.levels:
        slo_requests = len(window.columns) - outcomes.get(Outcome.CANCELLED, 0)
        slo_bad = slo_requests - int(np.count_nonzero(latencies <= probe.slo.latency_ns))
    # side="left": a bucket's bound belongs to it, as in Prometheus's `le`.
    buckets = np.bincount(np.searchsorted(_BOUNDS_NS, latencies, side="left"), minlength=len(_BOUNDS_NS) + 1)
    return WindowCounts(
        level=level,
        outcomes=outcomes,
        inferences=outcomes.get(Outcome.OK, 0) * probe.input.batch_size,
        bucket_counts=tuple(int(count) for count in buckets),
        duration_sum_ns=int(latencies.sum()),
        slo_requests=slo_requests,
        slo_bad=slo_bad,
    )


def count_lost(requests: int, level: LoadLevel) -> WindowCounts:
    """So many requests that were sent, and of whose end nothing is known: they count as cancelled."""
    none = (0,) * (len(_BOUNDS_NS) + 1)
    return WindowCounts(level, {Outcome.CANCELLED: requests}, inferences=0, bucket_counts=none, duration_sum_ns=0)
