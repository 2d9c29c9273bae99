"""From readings to figures: aggregation by hand, counters that restarted, energy."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.core.facts import GpuReading, GpuSource, ModelStatistics, ServerReading
from exporter.core.result import GpuFigures, ServerMetrics
from exporter.core.units import NS
from exporter.server.figures import energy_per_inference_joules, gpu_figures, server_metrics

TRITON, NVML = GpuSource.TRITON, GpuSource.NVML


def page(at_s: float, gpus: tuple[GpuReading, ...] = (), **gauges: float) -> ServerReading:
    return ServerReading(round(at_s * NS), True, gauges=gauges, gpus=gpus)


def counted(at_s: float, **counters: float) -> ServerReading:
    return ServerReading(round(at_s * NS), True, counters=counters)


def driver(at_s: float, *gpus: GpuReading) -> ServerReading:
    return ServerReading(round(at_s * NS), False, gpus=gpus)


def test_nothing_is_read() -> None:
    assert server_metrics([]) is None
    assert server_metrics([driver(1.0)]) is None
    assert gpu_figures([]) == ()


def test_gauges_over_the_windows() -> None:
    first = page(1, pending_requests=2, cpu_utilization_ratio=0.25, cpu_memory_used_bytes=10, response_cache_entries=1)
    edge = page(2, pending_requests=7, cpu_utilization_ratio=0.5, cpu_memory_used_bytes=30, response_cache_entries=4)
    last = page(3, cpu_utilization_ratio=0.75, cpu_memory_used_bytes=20, pinned_memory_used_bytes=5)
    # The reading between two windows belongs to both.
    found = server_metrics([first, edge, edge, last])
    assert found == ServerMetrics(
        readings=3,
        failed=0,
        up=True,
        pending_requests_max=7.0,
        cpu_utilization_ratio=0.5,
        cpu_memory_used_bytes=30.0,
        pinned_memory_used_bytes=5.0,
        gauges={"response_cache_entries": 4.0},
    )


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ([""], {"failed": 0, "up": True, "error": ""}),
        (["", "responded 500"], {"failed": 1, "up": False, "error": "responded 500"}),
        (["gone", "late", ""], {"failed": 2, "up": True, "error": "late"}),
        (["gone"], {"failed": 1, "up": False, "error": "gone"}),
    ],
)
def test_readings_that_failed(failures: list[str], expected: dict[str, Any]) -> None:
    readings = [ServerReading(index, True, error=error) for index, error in enumerate(failures)]
    found = server_metrics(readings)
    assert found is not None
    assert {name: getattr(found, name) for name in expected} == expected
    assert found.readings == len(failures)
    assert found.rates == found.gauges == {}


def test_counters_as_rates_between_their_own_moments() -> None:
    found = server_metrics(
        [
            counted(1.0, inferences=100, queue_seconds=1.0, cache_hits=10, cache_misses=10),
            counted(2.1, inferences=300, queue_seconds=1.5, cache_hits=15, cache_misses=12),
            counted(3.5, inferences=600, queue_seconds=6.0, cache_hits=40, cache_misses=20),
        ]
    )
    assert found is not None
    assert found.rates == {"inferences": 200.0, "queue_seconds": 2.0, "cache_hits": 12.0, "cache_misses": 4.0}
    assert found.cache_hit_ratio == 0.75


@pytest.mark.parametrize("values", [(100.0, 20.0, 300.0), (5.0,)])
def test_a_counter_that_restarted_or_has_one_reading_has_no_rate(values: tuple[float, ...]) -> None:
    found = server_metrics([counted(float(at), inferences=value) for at, value in enumerate(values)])
    assert found is not None
    assert found.rates == {}


def test_gpus_by_perf_analyzers_aggregation() -> None:
    readings = [
        page(1, (GpuReading("a", TRITON, 0.5, 100.0, 10.0, 80.0, 1000.0), GpuReading("b", TRITON, 0.0))),
        page(2, (GpuReading("a", TRITON, 1.0, 300.0, 30.0, 81.0, 1200.0), GpuReading("b", TRITON, 0.5))),
        page(3, (GpuReading("a", TRITON, 0.0, 200.0, 20.0, 82.0, 1500.0),)),
        driver(2, GpuReading("a", NVML, temperature_celsius=60.0, clock_hertz=1e9, throttle_reasons=())),
        driver(3, GpuReading("a", NVML, temperature_celsius=50.0, clock_hertz=2e9, throttle_reasons=("hw_slowdown",))),
    ]
    assert gpu_figures(readings) == (
        GpuFigures("a", TRITON, 0.5, 200.0, 30.0, 80.0, 500.0),
        GpuFigures("b", TRITON, 0.25),
        GpuFigures("a", NVML, temperature_celsius=60.0, clock_hertz=1.5e9, throttled={"hw_slowdown": 0.5}),
    )


def test_at_most_16_gpus_however_many_pages_name_others() -> None:
    readings = [page(at, (GpuReading(f"gpu-{at}", TRITON, 0.5),)) for at in range(40)]
    assert len(gpu_figures(readings)) == 16


def energy(source: GpuSource, **joules: tuple[float, float]) -> list[ServerReading]:
    """Readings every second of counters that are renewed every two: at first to the first figure, then to the last."""

    def at(index: int) -> tuple[GpuReading, ...]:
        steps = {uuid: (first - 1, first, first, last, last) for uuid, (first, last) in joules.items()}
        return tuple(GpuReading(uuid, source, energy_joules=values[index]) for uuid, values in steps.items())

    return [ServerReading((1 + index) * NS, source is not NVML, gpus=at(index)) for index in range(5)]


SERVED = ModelStatistics("m", "1", inference_count=300)


@pytest.mark.parametrize(
    ("readings", "server", "expected"),
    [
        pytest.param(energy(TRITON, a=(0, 600), b=(5, 605)), SERVED, 6.0, id="600 W by 100 inferences a second"),
        pytest.param(energy(TRITON, a=(0, 600)), None, 6.0, id="by our own 50 a second without statistics"),
        pytest.param(energy(TRITON, a=(600, 0)), SERVED, None, id="a counter that restarted"),
        pytest.param(energy(TRITON, a=(0, 600), b=(9, 3)), SERVED, None, id="one of two restarted"),
        pytest.param([page(1)], SERVED, None, id="no page reports"),
        pytest.param(energy(TRITON, a=(0, 600))[:1], SERVED, None, id="reported once"),
        pytest.param(
            energy(TRITON, a=(0, 600)) + energy(NVML, a=(0, 500), other=(0, 900)),
            SERVED,
            2.5,
            id="the driver's counter, of the GPUs that the server uses",
        ),
        pytest.param(energy(NVML, a=(0, 500), other=(0, 900)), SERVED, 7.0, id="the driver's alone: all GPUs"),
    ],
)
def test_energy_per_inference(
    readings: list[ServerReading], server: ModelStatistics | None, expected: float | None
) -> None:
    assert energy_per_inference_joules(readings, server, 3 * NS, 50.0) == expected


@pytest.mark.parametrize(
    ("joules", "watts"),
    [
        pytest.param([700.0] * 9, None, id="constant: not renewed at all"),
        pytest.param([700.0] * 4 + [1000.0] * 5, None, id="one step: of an unknown time"),
        pytest.param([100.0, 100.0, 700.0, 700.0, 1300.0, 1300.0, 1900.0, 1900.0], 300.0, id="a step every 2 s"),
        pytest.param([100.0, 700.0, 700.0, 1300.0, 1300.0, 1300.0, 1300.0], 300.0, id="it ends long after the last"),
        pytest.param([100.0, 300.0, 600.0, 1000.0], 350.0, id="a step at each reading"),
        pytest.param([700.0, 100.0, 400.0, 700.0], None, id="it fell at the first step"),
    ],
)
def test_energy_of_a_counter_that_lags(joules: list[float], watts: float | None) -> None:
    """One reading a second, one inference a second."""
    readings = [page(at, (GpuReading("a", TRITON, energy_joules=value),)) for at, value in enumerate(joules)]
    assert energy_per_inference_joules(readings, None, 0, 1.0) == watts


def test_energy_that_was_not_reported_again_is_not_0() -> None:
    readings = [page(at, (GpuReading("a", TRITON, energy_joules=700.0),)) for at in range(4)]
    assert gpu_figures(readings) == (GpuFigures("a", TRITON),)


def test_no_inference_no_energy_by_it() -> None:
    assert energy_per_inference_joules(energy(TRITON, a=(0, 600)), None, 3 * NS, 0.0) is None
