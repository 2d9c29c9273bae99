"""perf_analyzer's own averages, by its own arithmetic: integer division at every step, nothing below 0.

Sources are its inference_profiler.cc (the report on the terminal) and report_writer.cc (the `-f` file). Our own
breakdown, whose parts add up, is in `join`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from exporter.core.facts import DurationStat, ModelFacts, ModelStatistics
from exporter.core.result import Measurement


def average_ns(stat: DurationStat) -> int:
    """Nanoseconds over their own count, rounded down; 0 where the count is 0."""
    return stat.ns // stat.count if stat.count > 0 else 0


def microseconds(ns: float) -> int:
    """Whole microseconds, rounded down twice: to the nanosecond first."""
    return int(ns) // 1000


def average_us(stat: DurationStat) -> int:
    """The same as `average_ns`, in microseconds (AverageDurationInUs)."""
    return microseconds(average_ns(stat))


def part_us(server: ModelStatistics, part: str) -> int | None:
    """The average of what is named after a field of the statistics, `queue` or one that begins with `compute_`. None
    where the server reports its requests but not that: other kinds than Triton report their requests' time alone,
    or also the queue's."""
    stat: DurationStat = getattr(server, part)
    reports_queue = bool(server.queue.count or server.queue.ns or server.cache_hit.count)
    reported = reports_queue if part == "queue" else server.reports_compute
    return average_us(stat) if reported or server.success.count == 0 else None


def has_cache(facts: ModelFacts | None, composing: Sequence[ModelStatistics]) -> bool:
    """Whether the model, or one that it is made of, has a response cache. Of those only their counts are known here."""
    if facts is not None and facts.response_cache:
        return True
    return any(model.cache_hit.count + model.cache_miss.count for model in composing)


@dataclass(frozen=True, slots=True)
class ServerAverages:
    """The report's figures of one model, in microseconds. `combined` is the mean of what was computed and of what
    came from the response cache; `overhead` is what the request's own time leaves after queue and compute, or, with a
    cache, after queue and `combined`."""

    request: int
    queue: int
    compute_input: int
    compute_infer: int
    compute_output: int
    compute: int
    cache_hit: int
    cache_miss: int
    combined: int
    overhead: int


def server_averages(server: ModelStatistics, *, cache: bool) -> ServerAverages:
    """The averages of a single model (ReportServerSideStats)."""
    computed = _computed(server)
    request, queue, compute = average_us(server.success), average_us(server.queue), average_us(computed)
    combined = _combined_us(server)
    return ServerAverages(
        request=request,
        queue=queue,
        compute_input=average_us(server.compute_input),
        compute_infer=average_us(server.compute_infer),
        compute_output=average_us(server.compute_output),
        compute=compute,
        cache_hit=average_us(server.cache_hit),
        cache_miss=average_us(server.cache_miss),
        combined=combined,
        overhead=max(0, request - queue - (combined if cache else compute)),
    )


def ensemble_averages(server: ModelStatistics, composing: Sequence[ModelStatistics], *, cache: bool) -> ServerAverages:
    """The averages of an ensemble (GetTotalEnsembleDurations): each part is the sum of its composing models' averages,
    each per call of that model. The compute parts by themselves are not reported: 0."""
    parts = [server_averages(model, cache=cache) for model in composing]
    request = average_us(server.success)
    queue, compute = sum(part.queue for part in parts), sum(part.compute for part in parts)
    combined = sum(part.combined for part in parts)
    return ServerAverages(
        request=request,
        queue=queue,
        compute_input=0,
        compute_infer=0,
        compute_output=0,
        compute=compute,
        cache_hit=average_us(server.cache_hit) + sum(part.cache_hit for part in parts),
        cache_miss=average_us(server.cache_miss) + sum(part.cache_miss for part in parts),
        combined=combined,
        overhead=max(0, request - queue - (combined if cache else compute)),
    )


def network_us(measurement: Measurement) -> int | None:
    """`Network+Server Send/Recv` of the `-f` file: what is left of the mean latency after the client's and the server's
    own parts (report_writer.cc, 178-189). None without latency or server figures, or where the server does not report
    its computing, which would count as the network's."""
    server = measurement.server
    if server is None or measurement.latency is None or part_us(server, "compute_infer") is None:
        return None
    wait_ns = int(measurement.latency.mean_ns) - int(measurement.client_send_ns) - int(measurement.client_receive_ns)
    return microseconds(max(0, wait_ns - _accounted_ns(server)))


def server_rest_us(server: ModelStatistics) -> int:
    """The same column of a composing model's file, where no client is: what is left of the model's own mean request
    time (report_writer.cc, 242-361)."""
    return microseconds(max(0, average_ns(server.success) - _accounted_ns(server)))


def _computed(server: ModelStatistics) -> DurationStat:
    """All compute parts over one count: Triton's three counts are always the same."""
    total_ns = server.compute_input.ns + server.compute_infer.ns + server.compute_output.ns
    return DurationStat(server.compute_infer.count, total_ns)


def _combined_us(server: ModelStatistics) -> int:
    computed = _computed(server)
    return average_us(
        DurationStat(computed.count + server.cache_hit.count, computed.ns + server.cache_hit.ns + server.cache_miss.ns)
    )


def _accounted_ns(server: ModelStatistics) -> int:
    """The averages of cache hits and misses are simply added, not weighted."""
    return (
        average_ns(server.queue)
        + average_ns(_computed(server))
        + average_ns(server.cache_hit)
        + average_ns(server.cache_miss)
    )
