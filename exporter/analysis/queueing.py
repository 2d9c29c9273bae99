"""What chance does to the queue of an open loop, from its rate and its latency alone. Pure.

By Little's law the mean number in flight is m = rate x latency. Of an M/M/1 queue the utilization is then u = m / (1 +
m), the variance of the number m (1 + m), and its autocorrelation sums up to (1 + u) / (1 - u)^2 service times (Whitt,
Planning queueing simulations, 1989). In heavy traffic both go with the mean of the squared variations of gaps and
service times (Kingman). None of it is estimated from how the latencies follow each other, which could not distinguish
a queue from a server that changed its pace.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from exporter.core.probe import Distribution, LoadLevel
from exporter.core.result import WindowSummary
from exporter.core.units import NS


@dataclass(frozen=True, slots=True)
class Queue:
    """`in_flight` on average; `variation` is 1 for an M/M/1 queue, 0 for one without chance; `alike_seconds` is for how
    long it stays as it is."""

    in_flight: float = 0.0
    variation: float = 0.0
    alike_seconds: float = 0.0

    @property
    def deviation(self) -> float:
        """The standard deviation of the difference of the numbers in flight at two moments, far apart."""
        return math.sqrt(2 * self.variation * self.in_flight * (1 + self.in_flight))

    def alike(self, seconds: float) -> float:
        """The variance of the mean latency over such a time, in variances of single latencies, by an exponential
        autocorrelation: 1 for a time in which the queue hardly moves."""
        ratio = self.alike_seconds / max(seconds, 1e-9)
        if ratio > 100:
            return 1.0
        return 2 * ratio - 2 * ratio * ratio * (1 - math.exp(-1 / ratio)) if ratio > 1e-9 else 2e-9


def queue_of(level: LoadLevel, windows: Iterable[WindowSummary]) -> Queue:
    """Of an open loop with these windows, by the quickest and the calmest of them: what an overloaded server's queue
    has grown to explains nothing."""
    known = [(window, window.latency) for window in windows if window.latency is not None and window.duration_ns > 0]
    if not known:
        return Queue()
    quickest = min(latency.mean_ns for _, latency in known) / NS
    seconds = sum(window.duration_ns for window, _ in known) / NS
    in_flight = sum(latency.count for _, latency in known) / seconds * quickest
    used = in_flight / (1 + in_flight)
    arrivals = 1.0 if level.distribution is Distribution.POISSON else 0.0
    service = min([1.0, *((latency.stddev_ns / max(latency.mean_ns, 1.0)) ** 2 for _, latency in known)])
    variation = (arrivals + service) / 2
    alike_seconds = variation * quickest / (1 + in_flight) * (1 + used) / (1 - used) ** 2
    return Queue(in_flight, variation, alike_seconds)
