"""Sweeps for the archive's tests: one with every figure set, and the plain ones."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from exporter.core.facts import DurationStat, ModelStatistics
from exporter.core.outcome import Outcome, Reason, SweepStatus
from exporter.core.probe import InputOptions
from exporter.core.result import LatencySummary, Measurement, PercentileValue, SweepResult, WindowSummary
from exporter.core.window import ClientHealth, ConnectionTimes, OutputError
from tests.builders import concurrency, make_facts, make_probe

NOON = 1_700_049_600.25
"""2023-11-15 12:00:00.250 UTC."""
DAY = 86_400


def make_summary(scale: int = 1, percentiles: tuple[float, ...] = (50.0, 90.0, 95.0, 99.0, 99.9)) -> LatencySummary:
    """Percentile p is p milliseconds times the scale, between p-1 and p+1."""
    return LatencySummary(
        count=300 * scale,
        mean_ns=41_234_567.125 * scale,
        stddev_ns=1_234_567.5 * scale,
        min_ns=40_000_001 * scale,
        max_ns=99_999_999 * scale,
        percentiles=tuple(
            PercentileValue(p, round(p * 1e6) * scale, round((p - 1) * 1e6) * scale, round((p + 1) * 1e6) * scale)
            for p in percentiles
        ),
    )


def make_statistics() -> ModelStatistics:
    return ModelStatistics(
        name="addsub",
        version="1",
        inference_count=1200,
        execution_count=150,
        success=DurationStat(300, 300 * 40_000_000),
        fail=DurationStat(2, 2_000_000),
        queue=DurationStat(300, 300 * 1_000_999),
        compute_input=DurationStat(150, 150 * 26_000),
        compute_infer=DurationStat(150, 150 * 30_000_000),
        compute_output=DurationStat(150, 150 * 21_500),
        cache_hit=DurationStat(150, 150 * 7_000),
        cache_miss=DurationStat(150, 150 * 5_000),
    )


def make_window_summary(index: int = 0, **changes: Any) -> WindowSummary:
    values: dict[str, Any] = {
        "index": index,
        "start_unix_s": NOON + index,
        "duration_ns": 1_000_000_500,
        "sent": 101,
        "unsent": 3,
        "outcomes": {Outcome.OK: 100, Outcome.TIMEOUT: 1},
        "throughput": 400.125,
        "latency": make_summary(),
        "judged": index > 0,
        "health": ClientHealth(loop_lag_ns=1_500_000, cpu_ratio=0.25, throttled_ns=2_000_000),
    }
    return WindowSummary(**(values | changes))


def make_measurement(**changes: Any) -> Measurement:
    """Concurrency 4 with every figure set."""
    values: dict[str, Any] = {
        "level": concurrency(4),
        "stable": True,
        "reason": Reason.NONE,
        "reason_text": "",
        "windows_run": 4,
        "windows_merged": 3,
        "duration_ns": 3_000_000_000,
        "throughput": 400.123456789,
        "offered": 100.5,
        "unsent_ratio": 0.01,
        "latency": make_summary(),
        "response_time": make_summary(2),
        "send_lag": make_summary(3),
        "outcomes": {outcome: 300 - int(outcome) for outcome in Outcome},
        "responses": 1200,
        "responses_per_request": 3.25,
        "spread_ratio": 1.05,
        "breakdown_ns": {
            "client_send": 37_000.0,
            "client_receive": 12_000.0,
            "network": 93_000.0,
            "server_overhead": 1_000.0,
            "queue": 1_000_999.0,
            "compute_input": 13_000.0,
            "compute_infer": 15_000_000.0,
            "compute_output": 10_750.0,
            "cache_hit": 3_500.0,
            "cache_miss": 2_500.0,
            "composing": 500.0,
        },
        "negative_remainder_ns": 250.0,
        "client_send_ns": 37_999.5,
        "client_receive_ns": 12_345.0,
        "server": make_statistics(),
        "foreign_requests": 7,
        "health": ClientHealth(loop_lag_ns=2_500_000, cpu_ratio=0.5, throttled_ns=1_000_000),
        "client_limited": True,
        "window_summaries": (make_window_summary(0), make_window_summary(1)),
        "bytes_out": 64_000,
        "bytes_in": 32_000,
        "threshold_met": True,
        "warm_up_requests": 5,
        "validated": 290,
        "output_error": OutputError(absolute=0.5, relative=0.25, signal=1000.0, noise=1.0),
        "output_difference": "tensor 'Y', index [0]: expected 1.0, got 1.5",
        "sequences": 60,
        "first_response": make_summary(2),
        "inter_response": make_summary(3),
    }
    return Measurement(**(values | changes))


def make_sweep(**changes: Any) -> SweepResult:
    """An ok sweep of one level, started at noon."""
    values: dict[str, Any] = {
        "id": "0123abcd",
        "probe": make_probe(config_hash="p0be", input=InputOptions(batch_size=4)),
        "status": SweepStatus.OK,
        "reason": Reason.NONE,
        "reason_text": "",
        "started_unix_s": NOON,
        "duration_ns": 4_500_000_000,
        "facts": make_facts(version="3", config_hash="c0de", response_cache=True, decoupled=True),
        "measurements": (make_measurement(),),
        "connection": ConnectionTimes(connect_ns=1_000_000, tls_ns=2_000_000, cold_first_request_ns=50_000_000),
    }
    return SweepResult(**(values | changes))


def make_failed_sweep(**changes: Any) -> SweepResult:
    values: dict[str, Any] = {
        "status": SweepStatus.FAILED,
        "reason": Reason.UNREACHABLE,
        "reason_text": "connection refused",
        "facts": None,
        "measurements": (),
        "connection": ConnectionTimes(),
    }
    return make_sweep(**(values | changes))


def read_rows(path: Path) -> list[dict[str, str]]:
    """The file's rows, unescaped; fails unless each of its lines is one whole row."""
    data = path.read_bytes()
    assert data.endswith(b"\n")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, strict=True))
    assert len(rows) == data.count(b"\n") - 1
    for row in rows:
        assert None not in row
        assert None not in row.values()
    return [dict(_unescaped(row)) for row in rows]


def _unescaped(row: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, cell in row.items():
        yield name, re.sub(r"\\(?:u([0-9a-f]{4})|(.))", _unescape, cell)


def _unescape(found: re.Match[str]) -> str:
    return chr(int(found[1], 16)) if found[1] else {"n": "\n", "r": "\r", "t": "\t"}.get(found[2], found[2])
