"""The simulation draws what it reports, drives the product's judge, and counts what that makes of it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from bench.baseline_simulation.__main__ import averages, row
from bench.baseline_simulation.drive import probe_years, quantile
from bench.baseline_simulation.scenarios import MONDAY_UNIX_S, SCENARIOS, Draw, Scenario, Series, make_series


def scenario(shape: Callable[[Series, Draw], None], noise: float = 0.02) -> Scenario:
    return Scenario("made up", shape, (noise, noise), 0.5)


def test_a_step_is_found_after_the_sweeps_that_it_takes_and_ends() -> None:
    found = probe_years(
        scenario(lambda *_: None, 0.005), 1, held_out=False, days=38.0, interval_s=1200.0, weekday=0, starts=2
    )
    assert found.alarms == {"page": 0, "warn": 0, "slow": 0}
    assert found.delays[1.5] == [3 * 1200.0] * 2  # 3 of 4 sweeps
    assert found.delays[1.2] == [5 * 1200.0] * 2
    assert all(delay < math.inf for delay in found.delays[1.1])
    assert len(found.recovery) == 2
    assert found.silent == pytest.approx(1 / 38, rel=0.05)


def test_what_holds_for_ever_is_one_alarm() -> None:
    def worse(series: Series, _: Draw) -> None:
        series.logs[800:] += 0.5

    found = probe_years(scenario(worse), 1, held_out=False, days=15.0, interval_s=1200.0, weekday=0, starts=0)
    assert (found.alarms["page"], found.alarms["warn"]) == (1, 1)
    assert found.held["page"] == pytest.approx((15 * 72 - 803) / (15 * 72), abs=0.01)
    text = row("x", [found])
    assert text[1] == f"{365 / 15:.2f}"
    assert f"page {365 / 15:.2f}" in averages([[found]])


def test_tuning_and_held_out_parameters_have_nothing_in_common() -> None:
    random = np.random.default_rng(1)
    tuning = [Draw(random, False).between(0, 4) for _ in range(200)]
    held_out = [Draw(random, True).between(0, 4) for _ in range(200)]
    assert 1 <= min(tuning) <= max(tuning) <= 3
    assert all(value <= 1 or value >= 3 for value in held_out)


def test_noise_has_the_spread_and_the_memory_it_reports() -> None:
    series = make_series(scenario(lambda *_: None, 0.03), Draw(np.random.default_rng(2), False), 20_000, 300.0, 2)
    assert series.logs.std() == pytest.approx(0.03, rel=0.05)
    assert np.corrcoef(series.logs[1:], series.logs[:-1])[0, 1] == pytest.approx(0.5, abs=0.03)
    assert series.unix_s[0] == pytest.approx(MONDAY_UNIX_S + 2 * 86_400 + 11 * 3600, abs=10)


@pytest.mark.parametrize("each", SCENARIOS, ids=lambda each: each.name)
def test_every_scenario_makes_a_series(each: Scenario) -> None:
    series = make_series(each, Draw(np.random.default_rng(1), True), 40 * 288, 300.0, 4)
    assert np.all(np.isfinite(series.logs))
    assert np.all(np.diff(series.unix_s) > 0)
    assert not series.missing.all()


def test_quantiles_of_what_may_never_be() -> None:
    assert quantile([1.0, math.inf, 2.0], 0.5) == 2.0
    assert quantile([1.0, math.inf], 0.95) == math.inf
