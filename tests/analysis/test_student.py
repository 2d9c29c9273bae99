"""Quantiles against the tables."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.analysis.student import binomial_low, t_quantile


@pytest.mark.parametrize(
    ("degrees", "value"),
    [(1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (10, 2.22814), (30, 2.04227), (120, 1.97993)],
)
def test_the_usual_table(degrees: int, value: float) -> None:
    assert t_quantile(0.975, degrees) == pytest.approx(value, rel=3e-6)


def test_one_degree_is_cauchy_and_many_are_normal() -> None:
    assert t_quantile(0.9, 1) == pytest.approx(math.tan(math.pi * 0.4), rel=1e-6)
    assert t_quantile(0.975, 1e7) == pytest.approx(NormalDist().inv_cdf(0.975), rel=1e-5)


@given(st.floats(0.51, 0.999), st.floats(1.0, 200.0), st.floats(0.1, 10.0))
def test_more_degrees_never_widen(probability: float, degrees: float, more: float) -> None:
    assert t_quantile(probability, degrees + more) <= t_quantile(probability, degrees) * (1 + 1e-6)


def _at_least(events: int, trials: int, probability: float) -> float:
    """By adding up, in whole numbers of ways."""
    ways = (
        math.comb(trials, k) * probability**k * (1 - probability) ** (trials - k) for k in range(events, trials + 1)
    )
    return math.fsum(ways)


@pytest.mark.parametrize(("events", "trials"), [(1, 10), (3, 10), (10, 10), (1, 800), (20, 800), (799, 800)])
@pytest.mark.parametrize("chance", [0.05, 0.001])
def test_the_binomial_bound_is_where_so_many_events_are_that_rare(events: int, trials: int, chance: float) -> None:
    assert _at_least(events, trials, binomial_low(events, trials, chance)) == pytest.approx(chance, rel=1e-4)


def test_the_binomial_bound_of_many_trials() -> None:
    assert binomial_low(0, 5, 0.05) == 0.0
    # The normal approximation, which is good there.
    low = binomial_low(100_000, 1_000_000, 0.025)
    assert low == pytest.approx(0.1 - 1.96 * math.sqrt(0.09 / 1e6), rel=1e-4)
