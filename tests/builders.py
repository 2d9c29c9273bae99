"""Builders of core values for tests: everything has a plain default, a test names what it is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from exporter.core.facts import DurationStat, ModelFacts, ModelStatistics, ServerSnapshot, TensorSpec
from exporter.core.outcome import Outcome
from exporter.core.probe import LoadLevel, MeasurementOptions, Mode, Probe, Schedule
from exporter.core.target import Target
from exporter.core.units import MS, NS
from exporter.core.window import RecordColumns, Window


def make_target(**changes: Any) -> Target:
    values: dict[str, Any] = {
        "name": "triton-http",
        "kind": "triton",
        "scheme": "http",
        "host": "127.0.0.1",
        "port": 8000,
        "group": "127.0.0.1",
    }
    return Target(**(values | changes))


def concurrency(value: int) -> LoadLevel:
    return LoadLevel(Mode.CONCURRENCY, float(value), str(value))


def make_probe(**changes: Any) -> Probe:
    values: dict[str, Any] = {
        "name": "addsub",
        "target": make_target(),
        "model": "addsub",
        "version": "",
        "schedule": Schedule(interval_ns=60 * NS),
        "levels": (concurrency(1),),
        "measurement": MeasurementOptions(window_ns=NS),
    }
    return Probe(**(values | changes))


def make_facts(**changes: Any) -> ModelFacts:
    values: dict[str, Any] = {
        "name": "addsub",
        "version": "1",
        "platform": "",
        "backend": "python",
        "max_batch_size": 8,
        "inputs": (TensorSpec("INPUT0", "FP32", (16,)),),
        "outputs": (TensorSpec("OUTPUT0", "FP32", (16,)),),
    }
    return ModelFacts(**(values | changes))


def make_columns(
    latencies_ms: Sequence[float],
    *,
    outcomes: Sequence[Outcome] | None = None,
    start_ns: int = 10 * NS,
    lag_ms: float = 0.0,
    send_ms: float = 0.0,
    receive_ms: float = 0.0,
) -> RecordColumns:
    """One row for each latency (sent to last byte); all ok unless reported otherwise."""
    rows = len(latencies_ms)
    columns = RecordColumns.empty(rows)
    latencies = np.array([round(value * MS) for value in latencies_ms], np.int64)
    columns.intended_ns[:] = start_ns
    columns.sent_ns[:] = start_ns + round(lag_ms * MS)
    columns.send_done_ns[:] = columns.sent_ns + round(send_ms * MS)
    columns.last_ns[:] = columns.sent_ns + latencies
    columns.first_ns[:] = columns.last_ns - round(receive_ms * MS)
    columns.responses[:] = 1
    if outcomes is not None:
        columns.outcome[:] = [int(outcome) for outcome in outcomes]
    return columns


def make_window(index: int = 0, latencies_ms: Sequence[float] = (1.0,), **changes: Any) -> Window:
    """A window of one second."""
    columns = changes.pop("columns", None) or make_columns(latencies_ms)
    values: dict[str, Any] = {
        "index": index,
        "start_ns": (10 + index) * NS,
        "end_ns": (11 + index) * NS,
        "columns": columns,
        "sent": len(columns),
        "in_flight": 1,
    }
    return Window(**(values | changes))


def make_snapshot(
    at_ns: int = 0, *, requests: int, request_ms: float, queue_ms: float, infer_ms: float
) -> ServerSnapshot:
    """Cumulative statistics after `requests` requests, each of which took as long as reported."""

    def stat(each_ms: float) -> DurationStat:
        return DurationStat(requests, round(requests * each_ms * MS))

    statistics = ModelStatistics(
        name="addsub",
        version="1",
        inference_count=requests,
        execution_count=requests,
        success=stat(request_ms),
        queue=stat(queue_ms),
        compute_input=stat(0.0),
        compute_infer=stat(infer_ms),
        compute_output=stat(0.0),
    )
    return ServerSnapshot(at_ns, at_ns, (statistics,))
