"""The `-f` file: headers against perf_analyzer's own, values by its arithmetic, and where the files lie."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.commands.analyze.report.csv import CsvOptions, main_table, write_csv
from exporter.config.levels import matrix
from exporter.core.facts import BatchStat, DurationStat, GpuSource, ModelStatistics
from exporter.core.probe import LoadLevel, MeasurementOptions, Mode
from exporter.core.result import GpuFigures, PercentileValue, ServerMetrics, SweepResult
from tests.builders import concurrency, make_facts, make_probe
from tests.commands.analyze.report.perf_analyzer_output import HEADERS
from tests.metrics.results import make_measurement, make_result, make_summary, rate

ALL = CsvOptions(verbose=True, metrics=True)
OURS = (
    "Max GPU Temperature (celsius)",
    "Avg GPU Clock (hertz)",
    "GPU Energy (joules)",
    "Energy per Inference (joules)",
    "Max Pending Requests",
    "Avg Server CPU Utilization (ratio)",
    "Max Server Memory (bytes)",
    "Foreign Requests (ratio)",
    "Batch Executions",
)
GPU_COLUMNS = ("Avg GPU Utilization", "Avg GPU Power Usage", "Max GPU Memory Usage", "Total GPU Memory")


def server(requests: int = 10, **parts_us: int) -> ModelStatistics:
    stats: dict[str, Any] = {name: DurationStat(requests, requests * us * 1000) for name, us in parts_us.items()}
    return ModelStatistics("delay", "1", requests, requests, **stats)


def result(*levels: LoadLevel, facts: dict[str, Any] | None = None, **changes: Any) -> SweepResult:
    levels = levels or (concurrency(1),)
    probe = make_probe(levels=levels, measurement=changes.pop("measurement", MeasurementOptions()))
    measurements = tuple(make_measurement(level, **changes) for level in levels)
    return make_result(probe, facts=make_facts(**(facts or {})), measurements=measurements)


P95 = MeasurementOptions(stability_percentile=95.0)


@pytest.mark.parametrize(
    ("found", "options", "header"),
    [
        (result(), CsvOptions(), "plain"),
        (result(measurement=P95), CsvOptions(verbose=True), "verbose p95"),
        (result(facts={"response_cache": True}), CsvOptions(verbose=True), "cached"),
        (result(), CsvOptions(metrics=True), "plain"),
        (result(facts={"decoupled": True}), CsvOptions(), "decoupled"),
        (result(rate(20)), CsvOptions(), "rate"),
        (result(LoadLevel(Mode.INTERVALS, 85.7, "iv")), CsvOptions(), "rate"),
    ],
)
def test_headers_are_perf_analyzers(found: SweepResult, options: CsvOptions, header: str) -> None:
    assert main_table(found, options).splitlines()[0] == HEADERS[header]


def test_streams_are_in_a_column_of_their_own() -> None:
    level = LoadLevel(Mode.STREAMS, 64.0, "64", step_interval_ns=300_000_000)
    head, row = main_table(result(level), CsvOptions()).splitlines()
    assert head == HEADERS["plain"].replace("Concurrency", "Streams")
    assert row.startswith("64,")


def test_a_matrix_has_columns_of_what_its_levels_differ_by() -> None:
    levels = matrix([concurrency(8)], [1, 4], [{"a": [1, 320]}])
    head, *rows = main_table(result(*levels), CsvOptions()).splitlines()
    assert head == f"{HEADERS['plain']},Batch Size,Shapes"
    assert [row.rsplit(",", 2)[1:] for row in rows] == [["1", "a:1x320;"], ["4", "a:1x320;"]]


def test_our_columns_come_after_all_of_perf_analyzers() -> None:
    header = main_table(result(), ALL).splitlines()[0]
    assert header == f"{HEADERS['metrics']},{','.join(OURS)}"


def test_header_without_statistics_and_with_a_percentile_of_ones_own() -> None:
    found = result(facts={"has_statistics": False}, measurement=MeasurementOptions(stability_percentile=99.9))
    assert main_table(found, CsvOptions()).splitlines()[0] == (
        "Concurrency,Inferences/Second,Client Send,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency,"
        "p99.9 latency"
    )


def test_values() -> None:
    """The network's part is 250.9 - 37.1 - 0.999 - (26 + 9 + 62 + 21), rounded down once."""
    found = result(
        throughput=85.252249,
        latency=make_summary(0.2, mean_ns=250_900.0),
        client_send_ns=37_100.0,
        client_receive_ns=999.0,
        server=server(success=130, queue=26, compute_input=9, compute_infer=62, compute_output=21),
    )
    [_, row] = main_table(found, CsvOptions(verbose=True)).splitlines()
    assert row == "1,85.2522,37,94,26,9,62,21,0,200,400,600,800,250,37,213"


def test_gpu_cells() -> None:
    gpus = (
        GpuFigures("GPU-b", GpuSource.TRITON, 1.0, 250.123456, 8.0e9, 16.0e9),
        GpuFigures("GPU-a", GpuSource.TRITON, 0.45678912),
    )
    assert cells(result(gpu=gpus), *GPU_COLUMNS) == [
        *("GPU-a:0.456789;GPU-b:1;", "GPU-b:250.123;", "GPU-b:8000000000;", "GPU-b:16000000000;")
    ]
    assert cells(result(), *GPU_COLUMNS) == [""] * 4


def cells(found: SweepResult, *columns: str) -> list[str]:
    """Of the first row."""
    [row] = list(csv.DictReader(io.StringIO(main_table(found, ALL))))[:1]
    return [row[column] for column in columns]


NVML = (
    GpuFigures("GPU-a", GpuSource.NVML, 0.51, 101.0, 1.0, 2.0, 900.0, 61.0, 1.41e9),
    GpuFigures("MIG-c", GpuSource.NVML, memory_used_bytes=5.0, memory_total_bytes=6.0),
)
DCGM = (GpuFigures("GPU-a", GpuSource.DCGM, 0.52, 102.0, 3.0, 4.0, 800.0, 62.0),)
TRITON = (GpuFigures("GPU-a", GpuSource.TRITON, 0.5, 100.0, 7.0, 8.0),)


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        ((*NVML, *DCGM, *TRITON), ("0.5", "100", "7", "8", "62", "1410000000", "800")),
        ((*NVML, *DCGM), ("0.52", "102", "3", "4", "62", "1410000000", "800")),
        ((*TRITON, *NVML), ("0.5", "100", "7", "8", "61", "1410000000", "900")),
        (NVML, ("0.51", "101", "1", "2", "61", "1410000000", "900")),
    ],
)
def test_a_gpu_is_reported_once_whoever_reports_it(gpus: tuple[GpuFigures, ...], expected: tuple[str, ...]) -> None:
    assert cells(result(gpu=gpus), *GPU_COLUMNS, *OURS[:3]) == [f"GPU-a:{value};" for value in expected]


def test_our_cells() -> None:
    page = ServerMetrics(4, 0, True, pending_requests_max=5.0, cpu_utilization_ratio=0.125, cpu_memory_used_bytes=3e10)
    reported = replace(server(success=130), batches=(BatchStat(1, 6, 600), BatchStat(4, 1, 90)))
    found = result(server=reported, foreign_requests=4, server_metrics=page, energy_per_inference_joules=1.25)
    assert cells(found, *OURS[3:]) == ["1.25", "5", "0.125", "30000000000", "0.4", "1:6;4:1;"]
    unknown = result(server=None, foreign_requests=None)
    assert cells(unknown, *OURS) == [""] * 9


def test_what_was_not_measured_is_an_empty_cell() -> None:
    found = result(latency=None, server=None, throughput=0.0)
    assert main_table(found, CsvOptions(verbose=True)).splitlines()[1] == "1,0,125,,,,,,125,,,,,,250,"
    only_p50 = make_summary(percentiles=(PercentileValue(50.0, 1000, None, None),))
    assert main_table(result(latency=only_p50), CsvOptions()).splitlines()[1].endswith(",1,,,")


@pytest.mark.parametrize(
    ("statistics", "cells"),
    [
        (server(success=300), ",,,,"),  # MLServer, TensorFlow Serving
        (server(success=300, queue=40), ",40,,,"),  # TorchServe
        (server(success=300, compute_input=1, compute_infer=200, compute_output=2), "9,,1,200,2"),  # KServe
        (server(success=300, queue=0, compute_input=0, compute_infer=0, compute_output=0), "212,0,0,0,0"),
        (server(success=1, cache_hit=1), "211,0,0,0,0"),  # all from Triton's response cache
        (server(requests=0), "212,0,0,0,0"),
    ],
)
def test_what_a_server_does_not_report_is_an_empty_cell(statistics: ModelStatistics, cells: str) -> None:
    latency = make_summary(0.2, mean_ns=250_900.0)
    found = result(latency=latency, server=statistics, client_send_ns=37_100.0, client_receive_ns=999.0)
    assert main_table(found, CsvOptions()).splitlines()[1].split(",")[3:8] == cells.split(",")


def test_rows_are_by_ascending_throughput_and_unstable_ones_only_if_asked_for() -> None:
    found = result(concurrency(1), concurrency(2), concurrency(4))
    rates = (300.0, 100.0, 200.0)
    measurements = tuple(replace(m, throughput=r) for m, r in zip(found.measurements, rates, strict=True))
    found = replace(found, measurements=(*measurements[:2], replace(measurements[2], stable=False)))

    def levels(options: CsvOptions) -> list[str]:
        return [line.split(",")[0] for line in main_table(found, options).splitlines()[1:]]

    assert levels(CsvOptions()) == ["2", "1"]
    assert levels(CsvOptions(include_unstable=True)) == ["2", "4", "1"]


def test_composing_models_have_files_of_their_own_beside_it(tmp_path: Path) -> None:
    """300 us of the server's own, less what its parts account for, and calls for each request of the parent."""
    parent = server(requests=10, success=605)
    addsub = replace(
        server(requests=30, success=300, queue=27, compute_input=18, compute_infer=213, compute_output=40),
        name="addsub",
    )
    identity = replace(server(requests=10, success=305), name="identity", version="3")
    found = result(throughput=1080.8, server=parent, composing=(addsub, identity), facts={"ensemble": True})
    folder = tmp_path / "reports"
    folder.mkdir()
    paths = write_csv(folder / "perf.csv", found, CsvOptions(verbose=True))
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "reports/perf.csv",
        "reports/addsub_v1.perf.csv",
        "reports/identity_v3.perf.csv",
    ]
    assert paths[1].read_text() == f"{HEADERS['composing']}\n1,3242.4,0,2,27,18,213,40,0\n"
    assert paths[2].read_text().splitlines()[1] == "1,1080.8,0,305,0,0,0,0,0"
    assert (folder / "perf.csv").read_text().startswith("Concurrency,Inferences/Second,")


def test_each_composing_model_of_any_level_has_a_file(tmp_path: Path) -> None:
    """The row of lowest throughput may be the one that lacks it."""
    addsub, identity = (replace(server(requests=10, success=300), name=name) for name in ("addsub", "identity"))
    found = result(concurrency(1), concurrency(2), concurrency(4), server=server(requests=10, success=600))
    measurements = tuple(
        replace(measurement, throughput=rate_, composing=composing)
        for measurement, rate_, composing in zip(
            found.measurements, (100.0, 200.0, 300.0), ((), (addsub,), (addsub, identity)), strict=True
        )
    )
    paths = write_csv(tmp_path / "x.csv", replace(found, measurements=measurements), CsvOptions())
    assert [path.name for path in paths] == ["x.csv", "addsub_v1.x.csv", "identity_v1.x.csv"]
    assert [row.split(",")[:2] for row in paths[1].read_text().splitlines()[1:]] == [
        *(["1", ""], ["2", "200"], ["4", "300"])
    ]
    assert [row.split(",")[:2] for row in paths[2].read_text().splitlines()[1:]] == [
        *(["1", ""], ["2", ""], ["4", "300"])
    ]


def test_composing_models_of_a_cached_one_and_of_a_level_that_lacks_them(tmp_path: Path) -> None:
    cached = replace(server(requests=4, success=37, cache_hit=5, cache_miss=58), name="addsub")
    found = result(concurrency(1), concurrency(2), server=server(requests=4, success=600), composing=(cached,))
    found = replace(found, measurements=(found.measurements[0], replace(found.measurements[1], composing=())))
    path = write_csv(tmp_path / "x.csv", found, CsvOptions())[1]
    header, *rows = path.read_text().splitlines()
    assert header.endswith("Server Compute Output,Server Cache Hit,Server Cache Miss,Client Recv")
    assert rows == ["1,333.25,0,0,0,0,0,0,5,58,0", "2,,0,,,,,,,,0"]


def test_nothing_is_written_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "perf.csv"
    assert write_csv(path, result(stable=False), CsvOptions()) == []
    assert not path.exists()
    assert write_csv(path, result(stable=False), CsvOptions(include_unstable=True)) == [path]
