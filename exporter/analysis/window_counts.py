"""What a window adds to the cumulative counters. Pure."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.analysis.tokens import first_tokens_ns, has_tokens, keeps_token_limits, per_output_tokens_ns
from exporter.analysis.windows import latencies_ns, outcome_counts
from exporter.core.outcome import Outcome
from exporter.core.probe import LoadLevel, Probe, Slo, at_level
from exporter.core.result import TokenWindowCounts, WindowCounts, duration_buckets
from exporter.core.units import NS
from exporter.core.window import RecordColumns, Window


@functools.cache
def _bounds_ns(per_decade: int) -> npt.NDArray[np.int64]:
    return np.array([round(bound * NS) for bound in duration_buckets(per_decade)], dtype=np.int64)


def good_requests(columns: RecordColumns, level: LoadLevel, slo: Slo) -> int:
    """How many were ok in time, and kept each other limit of the slo: in an open loop from when they were due, as a
    user has it."""
    good = columns.outcome == Outcome.OK
    if slo.latency_ns:
        begun_ns = columns.intended_ns if level.mode.is_open_loop else columns.sent_ns
        good &= columns.last_ns - begun_ns <= slo.latency_ns
    if slo.is_of_tokens:
        good &= keeps_token_limits(columns, slo)
    return int(np.count_nonzero(good))


def count_window(window: Window, level: LoadLevel, probe: Probe) -> WindowCounts:
    """What the window adds to the cumulative counters. A warm-up window adds its outcomes and inferences alone."""
    outcomes = outcome_counts(window.columns)
    latencies = np.empty(0, np.int64) if window.warm_up else latencies_ns(window.columns)
    slo_requests = slo_bad = 0
    if probe.slo is not None and not window.warm_up and level.label in probe.slo.levels:
        slo_requests = len(window.columns) - outcomes.get(Outcome.CANCELLED, 0) + window.unsent
        slo_bad = slo_requests - good_requests(window.columns, level, probe.slo)
    return WindowCounts(
        level=level,
        outcomes=outcomes,
        inferences=outcomes.get(Outcome.OK, 0) * at_level(probe, level).input.batch_size,
        bucket_counts=_buckets(latencies, probe),
        duration_sum_ns=int(latencies.sum()),
        slo_requests=slo_requests,
        slo_bad=slo_bad,
        tokens=_count_tokens(window, probe),
    )


def _buckets(durations_ns: npt.NDArray[Any], probe: Probe) -> tuple[int, ...]:
    # side="left": a bucket's bound belongs to it, as in Prometheus's `le`.
    bounds_ns = _bounds_ns(probe.buckets_per_decade)
    buckets = np.bincount(np.searchsorted(bounds_ns, durations_ns, side="left"), minlength=len(bounds_ns) + 1)
    return tuple(int(count) for count in buckets)


def _count_tokens(window: Window, probe: Probe) -> TokenWindowCounts | None:
    if not probe.target.takes_prompts or not has_tokens(window.columns):
        return None
    columns = RecordColumns.empty() if window.warm_up else window.columns
    first, paces = first_tokens_ns(columns), per_output_tokens_ns(columns)
    prompt, output, cached = (
        int(counts[counts > 0].sum())
        for counts in (window.columns.prompt_tokens, window.columns.output_tokens, window.columns.cached_tokens)
    )
    return TokenWindowCounts(
        prompt=prompt,
        output=output,
        cached=cached,
        first_token_buckets=_buckets(first, probe),
        first_token_sum_ns=int(first.sum()),
        per_output_token_buckets=_buckets(paces, probe),
        per_output_token_sum_ns=round(float(paces.sum())),
    )


def count_lost(requests: int, level: LoadLevel, probe: Probe) -> WindowCounts:
    """So many requests that were sent, and of whose end nothing is known: they count as cancelled."""
    none = (0,) * (len(_bounds_ns(probe.buckets_per_decade)) + 1)
    return WindowCounts(level, {Outcome.CANCELLED: requests}, inferences=0, bucket_counts=none, duration_sum_ns=0)
