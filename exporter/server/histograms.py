"""Percentiles of what a server's own histograms counted between two readings of its metrics page. Pure.

A histogram has how many observations were within each bound. By the difference of two readings it is of the time
between them, and of all clients of the model. A percentile is only known to be between two bounds: the value given is
interpolated between them, as if the observations were spread evenly (Prometheus's histogram_quantile), and the bounds
come with it. (Summaries can't be used so: their quantiles are of a sliding window of the server's own.)
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from exporter.core.result import ServerPercentile

PERCENTILES: Final = (50.0, 90.0, 95.0, 99.0)

BUCKETS: Final[Mapping[str, tuple[str, float]]] = {
    "nv_inference_first_response_histogram_ms_bucket": ("first_responses", 1e-3),
    "vllm:request_queue_time_seconds_bucket": ("queue", 1.0),
    "vllm:e2e_request_latency_seconds_bucket": ("request", 1.0),
    "vllm:time_to_first_token_seconds_bucket": ("first_token", 1.0),
    "trtllm_request_queue_time_seconds_bucket": ("queue", 1.0),
    "trtllm_e2e_request_latency_seconds_bucket": ("request", 1.0),
    "trtllm_time_to_first_token_seconds_bucket": ("first_token", 1.0),
    "e2e_request_latency_seconds_bucket": ("request", 1.0),  # NIM's
    "time_to_first_token_seconds_bucket": ("first_token", 1.0),
}
"""By family of a page: our name, and what a second is of its bounds' unit."""
TOKEN_PARTS: Final = frozenset({"queue", "request", "first_token"})
"""Those that servers of language models have; Triton has that of its first response alone."""
_PART_OF: Final = {"first_responses": "first_response"}
_COUNTER: Final = re.compile(r"(\w+)_within_(inf|[0-9.e+-]+)_seconds")


def counter_name(family: str, bound_text: str) -> str:
    """Under what a bucket's count is kept among a reading's counters; "" where it has no bound that can be one."""
    name, scale = BUCKETS[family]
    try:
        bound = float(bound_text) * scale
    except ValueError:
        return ""
    if math.isnan(bound) or bound < 0:
        return ""
    return f"{name}_within_{'inf' if bound == math.inf else format(bound, '.10g')}_seconds"


def percentiles(moved: Mapping[str, float]) -> dict[str, tuple[ServerPercentile, ...]]:
    """By part, from what each counter moved by; none of a histogram that saw nothing or is not whole."""
    found = {}
    for name, counts in _histograms(moved).items():
        bounds = sorted(counts)
        total = counts.get(math.inf, 0.0)
        cumulative = [counts[bound] for bound in bounds]
        if total <= 0 or len(bounds) < 2 or any(after < before for before, after in pairwise(cumulative)):
            continue
        part = _PART_OF.get(name, name)
        found[part] = tuple(_percentile(bounds, cumulative, percentile) for percentile in PERCENTILES)
    return found


def _histograms(moved: Mapping[str, float]) -> dict[str, dict[float, float]]:
    histograms: dict[str, dict[float, float]] = {}
    for name, count in moved.items():
        if (matched := _COUNTER.fullmatch(name)) is not None:
            histograms.setdefault(matched[1], {})[float(matched[2])] = count
    return histograms


def _percentile(bounds: list[float], cumulative: list[float], percentile: float) -> ServerPercentile:
    rank = percentile / 100 * cumulative[-1]
    index = next(position for position, count in enumerate(cumulative) if count >= rank)
    low = bounds[index - 1] if index else 0.0
    high = bounds[index]
    if high == math.inf:
        return ServerPercentile(percentile, None, low, None)
    before = cumulative[index - 1] if index else 0.0
    inside = cumulative[index] - before
    # At the bound itself the sum may be above it, by the last digit.
    seconds = min(high, low + (high - low) * (rank - before) / inside) if inside else high
    return ServerPercentile(percentile, seconds, low, high)
