"""The simulation makes of a series of sweeps what the product makes of it."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from bench import baseline_simulation as simulation
from exporter.baseline.verdict import Counts, TierState, take
from exporter.core.probe import PAGE, BaselineOptions, Signal


@pytest.mark.parametrize("counts", [Counts(3, 4, 1, 1200.0), Counts(9, 12, 4, 3600.0), simulation.ROLLING_COUNTS])
def test_whole_rows_as_one_sweep_at_a_time(counts: Counts) -> None:
    bad = np.random.default_rng(3).random((4, 600)) < 0.6
    expected = []
    for row in bad:
        state = TierState()
        expected.append([take(state, counts, bool(each), 300.0 * index) for index, each in enumerate(row)])
    # While there are fewer sweeps than `of`, those missing count as neither.
    assert np.array_equal(simulation.holding(bad, counts), np.array(expected))
    assert 0 < np.array(expected).sum() < bad.size


def test_a_step_is_found_after_the_sweeps_that_it_takes() -> None:
    flat = np.zeros((1, 5 * simulation.WEEK))
    excess = [
        each for each in simulation.tier_bad(flat, PAGE, Signal.LATENCY_P50, BaselineOptions()) if each is not None
    ]
    found = simulation.figures(excess, Counts(9, 12, 4, 3600.0), 1, np.random.default_rng(1))
    assert (found.alarms_a_year, found.withheld) == (0.0, 0.0)
    assert set(found.delays[1.5]) == {9.0}
    assert set(found.delays[1.2]) == {math.inf}


def test_noise_has_the_spread_and_the_memory_it_says() -> None:
    kind = simulation.NoiseClass("x", sigma=0.03, correlation=0.9)
    logs = simulation.noise(kind, Signal.LATENCY_P50, 20_000, np.random.default_rng(2))
    assert logs.std() == pytest.approx(0.03, rel=0.05)
    assert np.corrcoef(logs[0, 1:], logs[0, :-1])[0, 1] == pytest.approx(0.9, abs=0.02)


def test_noise_of_an_archive(tmp_path: Path) -> None:
    with (tmp_path / "levels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["time", "probe", "mode", "level", "stable", "p50_ns", "p99_ns"])
        writer.writeheader()
        for minute in range(10):
            row = {"time": f"2026-01-01T00:{minute:02}:00Z", "probe": "a", "mode": "concurrency", "level": "1"}
            writer.writerow(row | {"stable": int(minute != 3), "p50_ns": 1000 + minute, "p99_ns": ""})
    ((key, logs),) = simulation.archived(tmp_path, Signal.LATENCY_P50, least=5)
    assert key == "a, concurrency 1"
    assert np.exp(logs) == pytest.approx([1000 + minute for minute in range(10) if minute != 3])
    assert simulation.archived(tmp_path, Signal.LATENCY_P99, least=5) == []
    assert simulation.resampled(logs, 50, np.random.default_rng(1)).shape == (simulation.SERIES, 50)
