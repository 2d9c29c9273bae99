"""When a level's windows agree: perf_analyzer's rule (its inference_profiler.cc, DetermineStability), pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stability:
    """The verdict on the last windows. `spread_ratio` is the larger of max/min of the throughputs and of the latencies;
    None where a window had no usable request, so that there is no ratio."""

    stable: bool
    spread_ratio: float | None


def judge(throughputs: Sequence[float], latencies_ns: Sequence[float], limit_ratio: float, windows: int) -> Stability:
    """Judges the last `windows` windows: stable if none of them is without throughput, and max/min is at most
    1 + `limit_ratio` for throughput and for latency alike. Fewer windows than that are not stable."""
    recent_throughputs, recent_latencies = throughputs[-windows:], latencies_ns[-windows:]
    if not recent_throughputs or min(recent_throughputs) <= 0 or min(recent_latencies) <= 0:
        return Stability(stable=False, spread_ratio=None)
    spread = max(
        max(recent_throughputs) / min(recent_throughputs),
        max(recent_latencies) / min(recent_latencies),
    )
    return Stability(stable=len(recent_throughputs) == windows and spread <= 1 + limit_ratio, spread_ratio=spread)
