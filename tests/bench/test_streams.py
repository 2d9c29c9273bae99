"""What the bench of streams makes of its rounds, and of a result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.programs import BenchError
from bench.streams import Figures, _level, percentile, shown


def figures(value: float, theirs: dict[str, float]) -> Figures:
    streams = dict.fromkeys(("p50", "p99", "final p50", "late %", "factor"), value)
    rate = {"p50": value, "p99": 2 * value}
    return Figures(lag=(value, 2 * value), sleeper=(0.5, 1.5), streams=streams, rate=rate, theirs=theirs)


def test_medians_and_ranges_and_a_round_without_perf_analyzer() -> None:
    rounds = [figures(1.0, {}), figures(3.0, {"p50": 7.0, "p99": 9.0}), figures(2.0, {"p50": 5.0, "p99": 9.0})]
    rows = dict(line.strip("| ").split(" | ") for line in shown(rounds).splitlines())
    assert rows["sent after the deadline, p99"] == "4.000 (2.000 to 6.000)"
    assert rows["the machine's own lateness beside it, p99"] == "1.500 (1.500 to 1.500)"
    assert rows["perf_analyzer's request rate, p50"] == "6.000 (5.000 to 7.000)"


def test_one_level_of_a_result(tmp_path: Path) -> None:
    summary = {"percentiles": [{"percentile": 50.0, "value_seconds": 0.002}, {"percentile": 99.0, "value_seconds": 1}]}
    path = tmp_path / "result.json"
    path.write_text(json.dumps({"measurements": [{"latency": summary}]}))
    assert percentile(_level(path, "")["latency"], 50.0) == 2.0
    path.write_text(json.dumps({"measurements": []}))
    with pytest.raises(BenchError, match="exactly one level"):
        _level(path, "printed")
