"""From the records of windows to their counts and figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from exporter.analysis.latency import summarise
from exporter.core.outcome import Outcome
from exporter.core.probe import Probe
from exporter.core.result import WindowSummary
from exporter.core.units import NS
from exporter.core.window import RecordColumns, Window


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
    """Sent to last byte of the response, of the ok requests."""
    ok = columns.outcome == Outcome.OK
    durations: npt.NDArray[np.int64] = columns.last_ns[ok] - columns.sent_ns[ok]
    return durations


def response_times_ns(columns: RecordColumns, request_timeout_ns: int, unsent: int = 0) -> npt.NDArray[np.int64]:
    """Intended send time to last byte, of the ok requests and of those that timed out, these at their limit; and of
    those that were given up `unsent`, which a user would have waited for at least as long."""
    late = columns.outcome == Outcome.TIMEOUT
    # In the order of their ends, by which intervals know what is alike.
    ended_ns = np.where(late, columns.sent_ns + request_timeout_ns, columns.last_ns)
    counted = late | (columns.outcome == Outcome.OK)
    times: npt.NDArray[np.int64] = ended_ns[counted] - columns.intended_ns[counted]
    return np.concatenate([times, np.full(unsent, request_timeout_ns, np.int64)]) if unsent else times


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
        backlog_growth=window.backlog_growth,
    )
