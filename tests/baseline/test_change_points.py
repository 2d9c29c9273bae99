"""Change points: where steps are, what is none, and the cuts against an independent library."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.baseline.change_points import _by_hour, cuts, find_changes

BEGIN = 1_767_571_200.0
DAY = 86_400.0
TIMES = BEGIN + np.arange(14 * 288) * 300.0


def series(step: float, at_day: float, noise: float = 0.03, night: float = 0.0) -> list[float]:
    random = np.random.default_rng(4)
    logs = random.normal(0, noise, len(TIMES)) + np.where(TIMES % DAY < 3600, night, 0.0)
    return list(np.exp(logs + np.where(BEGIN + at_day * DAY <= TIMES, np.log(step), 0.0)) * 20e6)


@pytest.mark.parametrize(("step", "noise"), [(1.2, 0.03), (1.2, 0.15), (0.8, 0.05), (1.1, 0.03)])
def test_a_step_is_found_where_it_is(step: float, noise: float) -> None:
    (change,) = find_changes(list(TIMES), series(step, 9.5, noise), 1.05, "UTC")
    assert change.unix_s == pytest.approx(BEGIN + 9.5 * DAY, abs=4 * 3600)
    assert change.ratio == pytest.approx(step, rel=0.04)
    assert change.before == pytest.approx(20e6, rel=0.03)
    assert change.after == pytest.approx(step * 20e6, rel=0.03)


def test_a_nightly_job_noise_and_two_modes_are_no_change() -> None:
    assert find_changes(list(TIMES), series(1.0, 1.0, night=0.5), 1.05, "UTC") == []
    assert find_changes(list(TIMES), series(1.0, 1.0, 0.15), 1.05, "UTC") == []
    upper = np.random.default_rng(1).random(len(TIMES)) < 0.3
    assert find_changes(list(TIMES), list(np.array(series(1.0, 1.0)) * np.where(upper, 1.95, 1)), 1.05, "UTC") == []
    assert find_changes(list(TIMES[:5]), [1.0] * 5, 1.05, "UTC") == []


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(-1, 1)), min_size=1, max_size=40))
def test_medians_by_hour_are_those_of_the_hours(sweeps: list[tuple[int, float]]) -> None:
    sweeps.sort(key=lambda each: each[0])
    times, values = np.array([hour * 3600.0 for hour, _ in sweeps]), np.array([value for _, value in sweeps])
    hours, medians = _by_hour(times, values)
    assert hours.tolist() == sorted(set(times.tolist()))
    assert medians.tolist() == [float(np.median(values[times == hour])) for hour in hours]


def cost(points: list[float], edges: list[int]) -> float:
    parts = np.split(np.array(points), edges)
    return float(sum(((part - part.mean()) ** 2).sum() for part in parts))


@given(st.lists(st.floats(-10, 10), min_size=6, max_size=11), st.floats(0.1, 30.0), st.integers(1, 3))
def test_no_other_cuts_cost_less(points: list[float], penalty: float, least: int) -> None:
    """Against all that there are."""
    found = cuts(np.array(points), penalty, least)
    inside = range(1, len(points))
    every = [[place for place in inside if code >> place & 1] for code in range(0, 1 << len(points), 2)]
    allowed = [each for each in every if min(np.diff([0, *each, len(points)])) >= least]
    assert found in allowed
    best = min(cost(points, each) + penalty * len(each) for each in allowed)
    assert cost(points, found) + penalty * len(found) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_cuts_are_those_of_ruptures(seed: int) -> None:
    ruptures = pytest.importorskip("ruptures", reason="ruptures has no build for this Python")
    random = np.random.default_rng(seed)
    points = np.repeat(random.normal(0, 1, 8), random.integers(5, 40, 8))
    points += random.normal(0, 0.3, len(points))
    penalty = 2 * np.log(len(points)) * 0.3**2
    search = ruptures.Dynp(model="l2", min_size=3, jump=1).fit(points)
    found = cuts(points, penalty, 3)
    assert 3 <= len(found) <= 8
    assert found == search.predict(n_bkps=len(found))[:-1]
