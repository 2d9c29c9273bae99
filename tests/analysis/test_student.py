"""Quantiles against the tables."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.analysis.student import t_quantile


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
