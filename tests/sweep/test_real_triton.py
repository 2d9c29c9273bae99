"""Whole sweeps of a real Triton: what counts requests, and a search whose response is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from exporter.archive.rows import level_rows
from exporter.config.levels import matrix
from exporter.core.outcome import Outcome, Reason, SweepStatus
from exporter.core.probe import InputOptions, LoadLevel, MeasurementOptions, Mode, Probe, Search, SearchKind, WindowMode
from exporter.core.result import Measurement, SweepResult
from exporter.core.units import MS, NS
from exporter.demo.triton import EmbeddedTriton
from exporter.sweep.conductor import Sweep
from exporter.worker.pool import WorkerPool
from tests.builders import concurrency
from tests.engine.fakes import request_rate
from tests.engine.test_real_triton import probe_of
from tests.waiting import patient

NOISY = 1.0
"""Other work may run on the tests' machine: windows may differ by so much and are stable still."""


def probe(
    triton: EmbeddedTriton, model: str, *levels: LoadLevel, search: Search | None = None, **options: Any
) -> Probe:
    base = probe_of(triton, "grpc", model)
    values = {"window_ns": 200 * MS, "stability_ratio": NOISY, "max_windows": 6} | options
    return Probe(base.name, base.target, model, "", base.schedule, levels, MeasurementOptions(**values), search=search)


async def sweep(pool: WorkerPool, it: Probe) -> SweepResult:
    return await Sweep(it, []).run(lambda: pool.lend(it.workers))


def only(result: SweepResult) -> Measurement:
    assert result.reason is Reason.NONE, result.reason_text
    (measurement,) = result.measurements
    return measurement


async def test_count_windows(triton: EmbeddedTriton, pool: WorkerPool) -> None:
    it = probe(triton, "addsub", concurrency(2), window_mode=WindowMode.COUNT, window_requests=100, window_ns=5000 * MS)
    measurement = only(await sweep(pool, it))
    for window in measurement.window_summaries:
        assert window.latency is not None
        assert window.latency.count >= 100
        assert window.duration_ns < patient(5000) * MS


@pytest.mark.parametrize("level", [concurrency(1), concurrency(4), request_rate(200)])
async def test_a_request_count_is_what_the_server_counted_too(
    triton: EmbeddedTriton, pool: WorkerPool, level: LoadLevel
) -> None:
    result = await sweep(pool, probe(triton, "delay", level, request_count=30, warm_up_requests=5))
    measurement = only(result)
    assert (measurement.outcomes, measurement.warm_up_requests) == ({Outcome.OK: 30}, 6)
    assert result.outcomes == {Outcome.OK: 36}
    assert measurement.server is not None
    # Triton counts a request a moment after its response is gone.
    assert abs(measurement.server.success.count - 30) <= 4
    assert measurement.foreign_requests == 0
    assert (measurement.windows_run, measurement.stable) == (1, True)
    # The time is theirs alone: no idle end in it, as there is in perf_analyzer's.
    assert measurement.latency is not None
    in_flight = measurement.latency.mean_ns * 30 / measurement.duration_ns
    assert in_flight > 0.7 * (level.value if level.mode is Mode.CONCURRENCY else 1)


async def test_a_binary_search_finds_a_known_edge(triton: EmbeddedTriton, pool: WorkerPool) -> None:
    """The model takes 10 ms for one batch at a time, and a request is a full batch: a concurrency of n takes n times
    10 ms at least, and on a slow machine not half as much again."""
    search = Search(SearchKind.BINARY, Mode.CONCURRENCY, 1, 8, 1)
    it = probe(triton, "delay", concurrency(1), concurrency(8), search=search, latency_threshold_ns=29 * MS)
    result = await sweep(pool, replace(it, input=InputOptions(batch_size=8)))
    assert (result.status, result.reason_text) == (SweepStatus.OK, "level 2 is the highest that kept the threshold")
    assert [(m.level.label, m.threshold_met) for m in result.measurements] == [
        ("1", True),
        ("8", False),
        ("4", False),
        ("2", True),
        ("3", False),
    ]
    assert result.best is not None
    assert result.best.level.label == "2"


async def test_a_matrix_of_batch_sizes_and_shapes(triton: EmbeddedTriton, pool: WorkerPool) -> None:
    """Each level has its own requests: as many inferences in each as the server counted, of its own length."""
    small, large = {"INPUT0": [16]}, {"INPUT0": [2048]}
    levels = matrix([concurrency(1), concurrency(2)], [1, 4], [small, large])
    result = await sweep(pool, probe(triton, "identity", *levels, request_count=20))
    assert [each.level.label for each in result.measurements] == [
        *("1@b1@16", "2@b1@16", "1@b4@16", "2@b4@16"),
        *("1@b1@2048", "2@b1@2048", "1@b4@2048", "2@b4@2048"),
    ]
    for each in result.measurements:
        batch, (elements,) = each.level.batch_size, each.level.shapes[0][1]
        assert batch is not None
        assert each.outcomes == {Outcome.OK: 20}
        assert each.throughput * each.duration_ns / NS == pytest.approx(20 * batch)
        assert 4 * elements * batch <= each.bytes_out / 20 <= 4 * elements * batch + 500
        assert each.server is not None
        assert each.server.inference_count == each.server.success.count * batch
    assert [row["batch_size"] for row in level_rows(result)] == [1, 1, 4, 4] * 2
