"""From the readings of the judged windows to figures. Pure. Aggregation is perf_analyzer's (its inference_profiler.cc,
1831-1879): utilization and power are means, used memory is the largest, total memory the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from exporter.core.facts import GpuReading, GpuSource, ModelStatistics, ServerReading
from exporter.core.result import GpuFigures, ServerMetrics
from exporter.core.units import NS
from exporter.server import MAX_GPUS, token_pages
from exporter.server.histograms import percentiles

_AS_FIELDS = (
    token_pages.RUNNING,
    token_pages.KV_CACHE,
    "pending_requests",
    "cpu_utilization_ratio",
    "cpu_memory_used_bytes",
    "pinned_memory_used_bytes",
)
_ENERGY_SOURCES = (GpuSource.NVML, GpuSource.DCGM, GpuSource.TRITON)
"""The hardware's counter first; Triton's is summed up from power readings."""


def server_metrics(readings: Sequence[ServerReading]) -> ServerMetrics | None:
    """The metrics page's figures; None where none is read. Readings at the edge of two windows come twice."""
    pages = _once(reading for reading in readings if reading.from_page)
    if not pages:
        return None
    good = [page for page in pages if not page.error]
    moved = _moved(good)
    lookups = moved.get("cache_hits", 0.0) + moved.get("cache_misses", 0.0)
    names = dict.fromkeys(name for page in good for name in page.gauges)
    return ServerMetrics(
        readings=len(pages),
        failed=len(pages) - len(good),
        up=not pages[-1].error,
        error=next((page.error for page in reversed(pages) if page.error), ""),
        pending_requests_max=_largest(_gauge(good, "pending_requests")),
        running_requests_max=_largest(_gauge(good, token_pages.RUNNING)),
        kv_cache_usage_ratio_max=_largest(_gauge(good, token_pages.KV_CACHE)),
        cpu_utilization_ratio=_mean(_gauge(good, "cpu_utilization_ratio")),
        cpu_memory_used_bytes=_largest(_gauge(good, "cpu_memory_used_bytes")),
        pinned_memory_used_bytes=_largest(_gauge(good, "pinned_memory_used_bytes")),
        cache_hit_ratio=moved.get("cache_hits", 0.0) / lookups if lookups > 0 else None,
        rates=_rates(good, moved),
        gauges={name: _gauge(good, name)[-1] for name in names if name not in _AS_FIELDS},
        percentiles=percentiles(moved),
    )


def gpu_figures(readings: Sequence[ServerReading]) -> tuple[GpuFigures, ...]:
    """Each GPU by each source that reports it, in the order in which they were first reported; at most MAX_GPUS."""
    found: dict[tuple[GpuSource, str], list[GpuReading]] = {}
    for reading in _once(readings):
        for gpu in reading.gpus:
            found.setdefault((gpu.source, gpu.uuid), []).append(gpu)
    kept = list(dict.fromkeys(uuid for _, uuid in found))[:MAX_GPUS]
    return tuple(
        GpuFigures(
            uuid=uuid,
            source=source,
            utilization_ratio=_mean(_reported(gpus, "utilization_ratio")),
            power_watts=_mean(_reported(gpus, "power_watts")),
            memory_used_bytes=_largest(_reported(gpus, "memory_used_bytes")),
            memory_total_bytes=next(iter(_reported(gpus, "memory_total_bytes")), None),
            # A counter that is stuck has not been renewed: nothing takes 0 joules.
            energy_joules=_growth(_reported(gpus, "energy_joules")) or None,
            temperature_celsius=_largest(_reported(gpus, "temperature_celsius")),
            clock_hertz=_mean(_reported(gpus, "clock_hertz")),
            throttled=_throttled(gpus),
        )
        for (source, uuid), gpus in found.items()
        if uuid in kept
    )


def energy_per_inference_joules(
    readings: Sequence[ServerReading], server: ModelStatistics | None, duration_ns: int, inferences_per_second: float
) -> float | None:
    """Joules of all GPUs over the inferences that the server made of the model in the same time: by its own count where
    it has statistics, else by ours. Where Triton reports which GPUs it uses, only these. None where it is not
    reported."""
    if server is not None and duration_ns > 0 and server.inference_count:
        inferences_per_second = server.inference_count * NS / duration_ns
    if inferences_per_second <= 0:
        return None
    once = _once(readings)
    used = {gpu.uuid for reading in once for gpu in reading.gpus if gpu.source is GpuSource.TRITON}
    for source in _ENERGY_SOURCES:
        watts = _mean_watts(once, source, used)
        if watts is not None:
            return watts / inferences_per_second
    return None


def _mean_watts(readings: Sequence[ServerReading], source: GpuSource, used: set[str]) -> float | None:
    """Of the source's energy counters; None where one is missing, fell or was not renewed often enough."""
    counters: dict[str, list[tuple[int, float]]] = {}
    for reading in readings:
        for gpu in reading.gpus:
            if gpu.source is source and gpu.energy_joules is not None and (not used or gpu.uuid in used):
                counters.setdefault(gpu.uuid, []).append((reading.at_ns, gpu.energy_joules))
    watts = [_watts(points) for points in counters.values()]
    known = [each for each in watts if each is not None]
    return sum(known) if known and len(known) == len(watts) else None


def _watts(points: Sequence[tuple[int, float]]) -> float | None:
    """From the first change of the counter to the last. Triton renews its counters every 2 s, a DCGM exporter every
    30 s as shipped: nothing can be reported about the time from a reading to the change that follows."""
    renewed = [point for before, point in pairwise(points) if point[1] != before[1]]
    if _growth([joules for _, joules in points]) is None or len(renewed) < 2:
        return None
    (begin_ns, first), (end_ns, last) = renewed[0], renewed[-1]
    return (last - first) * NS / (end_ns - begin_ns)


def _once(readings: Iterable[ServerReading]) -> list[ServerReading]:
    """Each reading once, in order of time."""
    unique = {(reading.at_ns, reading.from_page): reading for reading in readings}
    return [unique[key] for key in sorted(unique)]


def _gauge(pages: Sequence[ServerReading], name: str) -> list[float]:
    return [page.gauges[name] for page in pages if name in page.gauges]


def _reported(gpus: Sequence[GpuReading], name: str) -> list[float]:
    return [value for gpu in gpus if (value := getattr(gpu, name)) is not None]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _largest(values: Sequence[float]) -> float | None:
    return max(values, default=None)


def _growth(values: Sequence[float]) -> float | None:
    """How much a counter grew; None where it was reported less than twice, or fell: then it restarted in between."""
    if len(values) < 2 or any(after < before for before, after in pairwise(values)):
        return None
    return values[-1] - values[0]


def _moved(pages: Sequence[ServerReading]) -> dict[str, float]:
    """What each counter moved by, those that restarted left out."""
    names = dict.fromkeys(name for page in pages for name in page.counters)
    growths = {name: _growth([page.counters[name] for page in pages if name in page.counters]) for name in names}
    return {name: growth for name, growth in growths.items() if growth is not None}


def _rates(pages: Sequence[ServerReading], moved: Mapping[str, float]) -> dict[str, float]:
    """Between the readings' own stamps: the page lags behind the responses, at the first as at the last."""
    elapsed_ns = pages[-1].at_ns - pages[0].at_ns if pages else 0
    return {name: growth * NS / elapsed_ns for name, growth in moved.items()} if elapsed_ns > 0 else {}


def _throttled(gpus: Sequence[GpuReading]) -> dict[str, float] | None:
    """The part of the readings in which each reason held, of those that held at all."""
    reported = [gpu.throttle_reasons for gpu in gpus if gpu.throttle_reasons is not None]
    if not reported:
        return None
    counts = Counter(reason for reasons in reported for reason in reasons)
    return {reason: count / len(reported) for reason, count in sorted(counts.items())}
