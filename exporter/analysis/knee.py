"""The knee of a load curve: beyond it, more load buys latency rather than throughput. Pure."""

from __future__ import annotations

from collections.abc import Sequence

MIN_POINTS = 3
"""Two points are a line: it has no knee."""


def knee(throughputs: Sequence[float], latencies_ns: Sequence[float]) -> int | None:
    """The index of the level with the greatest power, throughput over latency (Kleinrock, ICC 1979); the first of
    equals. None for fewer than three levels, or where the greatest is at either end: then the knee was not visited."""
    if len(throughputs) < MIN_POINTS:
        return None
    powers = [throughput / latency for throughput, latency in zip(throughputs, latencies_ns, strict=True)]
    found = powers.index(max(powers))
    return found if 0 < found < len(powers) - 1 else None
