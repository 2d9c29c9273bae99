"""Builders of finished results with real-looking figures, the same at every run."""

from __future__ import annotations

from typing import Any

from exporter.core.facts import DurationStat, ModelStatistics
from exporter.core.lease_state import LeaseState
from exporter.core.outcome import Outcome, Reason, SweepStatus
from exporter.core.probe import LoadLevel, Mode, Probe
from exporter.core.result import (
    LatencySummary,
    Measurement,
    PercentileValue,
    StreamFigures,
    SweepResult,
    TokenFigures,
    TokenSource,
    TokenWindowCounts,
    WindowCounts,
)
from exporter.core.rollout import GateVerdict, LastGate
from exporter.core.units import MS, NS
from exporter.core.window import ClientHealth
from exporter.metrics.exporter_metrics import ExporterFacts
from tests.builders import concurrency, make_facts, make_probe


def rate(value: int) -> LoadLevel:
    return LoadLevel(Mode.REQUEST_RATE, float(value), str(value))


def make_summary(p50_ms: float = 4.0, count: int = 1000, **changes: Any) -> LatencySummary:
    """Percentiles at 1, 2, 3, 4 and 8 times the median for 50, 90, 95, 99 and 99.9."""
    factors = {50.0: 1, 90.0: 2, 95.0: 3, 99.0: 4, 99.9: 8}
    percentiles = tuple(PercentileValue(p, round(p50_ms * k * MS), None, None) for p, k in factors.items())
    values: dict[str, Any] = {
        "count": count,
        "mean_ns": 1.25 * p50_ms * MS,
        "stddev_ns": 0.5 * p50_ms * MS,
        "min_ns": round(0.5 * p50_ms * MS),
        "max_ns": round(10 * p50_ms * MS),
        "percentiles": percentiles,
    }
    return LatencySummary(**(values | changes))


def make_statistics(requests: int = 1100, **changes: Any) -> ModelStatistics:
    values: dict[str, Any] = {
        "name": "addsub",
        "version": "1",
        "inference_count": 4 * requests,
        "execution_count": requests,
        "success": DurationStat(requests, requests * 3 * MS),
    }
    return ModelStatistics(**(values | changes))


def make_measurement(level: LoadLevel | None = None, **changes: Any) -> Measurement:
    level = level or concurrency(1)
    values: dict[str, Any] = {
        "level": level,
        "stable": True,
        "reason": Reason.NONE,
        "reason_text": "",
        "windows_run": 4,
        "windows_merged": 3,
        "duration_ns": 3 * NS,
        "throughput": 333.25,
        "offered": 334.0,
        "unsent_ratio": 0.0,
        "latency": make_summary(),
        "response_time": make_summary(5.0) if level.mode is not Mode.CONCURRENCY else None,
        "send_lag": make_summary(0.25) if level.mode is not Mode.CONCURRENCY else None,
        "outcomes": {Outcome.OK: 999, Outcome.TIMEOUT: 1, Outcome.CANCELLED: 2},
        "responses": 999,
        "spread_ratio": 1.05,
        "breakdown_ns": {
            "client_send": 0.125 * MS,
            "client_receive": 0.125 * MS,
            "network": 0.5 * MS,
            "server_overhead": 0.25 * MS,
            "queue": 1.0 * MS,
            "compute_input": 0.5 * MS,
            "compute_infer": 2.0 * MS,
            "compute_output": 0.5 * MS,
        },
        "negative_remainder_ns": 0.0,
        "client_send_ns": 0.125 * MS,
        "client_receive_ns": 0.125 * MS,
        "server": make_statistics(),
        "foreign_requests": 110,
        "health": ClientHealth(loop_lag_ns=MS // 2, cpu_ratio=0.25),
        "client_limited": False,
        "window_summaries": (),
    }
    return Measurement(**(values | changes))


def make_result(probe: Probe | None = None, status: SweepStatus = SweepStatus.OK, **changes: Any) -> SweepResult:
    """A result with a measurement for each of the probe's levels if it is usable, else none."""
    probe = probe or make_probe()
    usable = status in (SweepStatus.OK, SweepStatus.UNSTABLE)
    values: dict[str, Any] = {
        "id": "sweep-1",
        "probe": probe,
        "status": status,
        "reason": Reason.NONE if status is SweepStatus.OK else Reason.UNREACHABLE,
        "reason_text": "" if usable else "connection refused",
        "started_unix_s": 1_700_000_000.0,
        "duration_ns": 12 * NS,
        "facts": make_facts() if usable else None,
        "measurements": tuple(make_measurement(level) for level in probe.levels) if usable else (),
    }
    return SweepResult(**(values | changes))


def make_counts(level: LoadLevel | None = None, **changes: Any) -> WindowCounts:
    """A window of ten requests: eight ok between 2 and 5 ms, one time-out, one refused."""
    values: dict[str, Any] = {
        "level": level or concurrency(1),
        "outcomes": {Outcome.OK: 8, Outcome.TIMEOUT: 1, Outcome.OVERLOAD: 1},
        "inferences": 32,
        "bucket_counts": (0, 0, 0, 8, *[0] * 41),
        "duration_sum_ns": 32 * MS,
    }
    return WindowCounts(**(values | changes))


def make_tokens(**changes: Any) -> TokenFigures:
    """1000 requests of 128 prompt and 64 output tokens each, a quarter of the prompts cached, ten ended early."""
    values: dict[str, Any] = {
        "source": TokenSource.COUNTED,
        "stream_open": make_summary(5.0),
        "first_token": make_summary(40.0),
        "per_output_token": make_summary(8.0),
        "inter_token": make_summary(7.5),
        "output_tokens_per_second": 21_312.0,
        "prompt_tokens": 128_000,
        "output_tokens": 64_000,
        "cached_tokens": 32_000,
        "chunks": 63_000,
        "early_ends": 10,
        "requests": 1000,
    }
    return TokenFigures(**(values | changes))


def make_streams(**changes: Any) -> StreamFigures:
    """3200 steps of 64 streams, 32 of them late, in 40 sequences of which 30 kept real time."""
    values: dict[str, Any] = {
        "step_interval_ns": 300 * MS,
        "final_latency": make_summary(62.0),
        "real_time_factor": 0.125,
        "steps": 3200,
        "late": 32,
        "streams": 40,
        "on_time": 30,
    }
    return StreamFigures(**(values | changes))


def make_token_counts(**changes: Any) -> TokenWindowCounts:
    values: dict[str, Any] = {
        "prompt": 1280,
        "output": 640,
        "cached": 320,
        "first_token_buckets": (0, 0, 0, 8, *[0] * 41),
        "first_token_sum_ns": 32 * MS,
        "per_output_token_buckets": (0, 8, *[0] * 43),
        "per_output_token_sum_ns": 8 * MS,
    }
    return TokenWindowCounts(**(values | changes))


LAST_GATE = LastGate(
    "old",
    "new",
    GateVerdict.WORSE,
    pairs=15,
    seconds=75.5,
    ended_unix_s=1_700_000_050.0,
    ratios={"p99": (1.5, 1.4, 1.6), "throughput": (0.9, None, 1.1), "ttft": (None, None, None)},
    error_ratio=0.002,
)


def make_exporter_facts(**changes: Any) -> ExporterFacts:
    values: dict[str, Any] = {
        "version": "0.1.0",
        "next_run": lambda probe: 1_700_000_060.0,
        "last_tick_unix_s": lambda: 1_700_000_012.5,
        "clock_jumps": lambda: 0,
        "pauses": lambda: {"all": 0, "target": 1, "probe": 2},
        "workers": lambda: 2,
        "worker_restarts": lambda: {"worker_crash": 1},
        "archive_rows": lambda: 30,
        "archive_write_errors": lambda: 0,
        "archive_bytes": lambda: 4096,
        "archive_error": lambda: "",
        "config_hash": lambda: "0123abcd",
        "config_reload_successful": lambda: True,
        "config_reload_success_unix_s": lambda: 1_700_000_000.0,
        "last_gate": lambda: LAST_GATE,
        "lease": lambda: LeaseState("canary", "0/2", True, 11.5, 3, "", ""),
    }
    return ExporterFacts(**(values | changes))


class Clock:
    """A clock that a test moves."""

    def __init__(self, at_s: float = 1_700_000_100.0) -> None:
        self.at_s = at_s

    def __call__(self) -> float:
        return self.at_s
