"""Percentiles against perf_analyzer's own formula and a sorted oracle; intervals against the exact binomial."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.analysis.latency import interval_ranks, percentile_index, summarise

samples = st.lists(st.integers(1, 10**12), min_size=1, max_size=300)


def perf_analyzer_percentile(ordered: list[int], percentile: float) -> int:
    return ordered[int(percentile / 100.0 * (len(ordered) - 1) + 0.5)]


@given(samples, st.floats(0, 100))
def test_percentiles_are_perf_analyzers(sample: list[int], percentile: float) -> None:
    summary = summarise(np.array(sample, np.int64), [percentile])
    assert summary is not None
    assert summary.at(percentile) == perf_analyzer_percentile(sorted(sample), percentile)


@given(samples)
def test_the_other_figures_against_plain_arithmetic(sample: list[int]) -> None:
    summary = summarise(np.array(sample, np.int64), [50.0])
    assert summary is not None
    mean = sum(sample) / len(sample)
    variance = sum((value - mean) ** 2 for value in sample) / max(1, len(sample) - 1)
    assert summary.count == len(sample)
    assert summary.mean_ns == pytest.approx(mean)
    assert summary.stddev_ns == pytest.approx(math.sqrt(variance), rel=1e-6, abs=1e-3)
    assert (summary.min_ns, summary.max_ns) == (min(sample), max(sample))


@given(samples)
def test_the_interval_encloses_the_percentile(sample: list[int]) -> None:
    summary = summarise(np.array(sample, np.int64), [50.0, 90.0, 99.0])
    assert summary is not None
    for entry in summary.percentiles:
        assert entry.low_ns is None or entry.low_ns <= entry.value_ns
        assert entry.high_ns is None or entry.high_ns >= entry.value_ns


def test_an_empty_sample_has_no_summary() -> None:
    assert summarise(np.empty(0, np.int64), [50.0]) is None


def test_a_percentile_that_was_not_asked_for_is_an_error() -> None:
    summary = summarise(np.array([1], np.int64), [50.0])
    assert summary is not None
    with pytest.raises(KeyError):
        summary.at(99.0)


@pytest.mark.parametrize(
    ("percentile", "count", "index"),
    [(50.0, 1, 0), (50.0, 2, 1), (50.0, 3, 1), (99.0, 51, 50), (99.0, 100, 98), (99.9, 1001, 999), (100.0, 7, 6)],
)
def test_percentile_index(percentile: float, count: int, index: int) -> None:
    assert percentile_index(percentile, count) == index


def binomial_cdf(k: int, n: int, q: float) -> float:
    return sum(math.comb(n, i) * q**i * (1 - q) ** (n - i) for i in range(k + 1))


@pytest.mark.parametrize("count", [5, 20, 60, 100, 350])
@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
def test_interval_ranks_against_the_exact_binomial(count: int, quantile: float) -> None:
    low, high = interval_ranks(quantile, count)
    # P(X < low) <= 2.5 %, and low is the largest such; P(X >= high) <= 2.5 %, and high is the smallest such.
    below = binomial_cdf(low - 1, count, quantile) if low else 0.0
    assert below <= 0.025
    assert low == count or binomial_cdf(low, count, quantile) > 0.025
    if high <= count:
        assert 1 - binomial_cdf(high - 1, count, quantile) <= 0.0250001
    assert high == 1 or 1 - binomial_cdf(high - 2, count, quantile) > 0.0249999


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
def test_the_normal_approximation_meets_the_exact_ranks(quantile: float) -> None:
    # Just above the switch both ways of counting must agree to within two ranks.
    count = math.ceil(101 / (quantile * (1 - quantile)))
    low, high = interval_ranks(quantile, count)
    masses = np.exp([_log_mass(i, count, quantile) for i in range(count + 1)])
    cumulative = np.cumsum(masses)
    assert abs(low - int(np.argmax(cumulative > 0.025))) <= 2
    assert abs(high - int(np.argmax(cumulative >= 0.975)) - 1) <= 2


def _log_mass(k: int, n: int, q: float) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(q) + (n - k) * math.log1p(-q)


def test_small_samples_give_no_upper_bound_for_a_high_percentile() -> None:
    summary = summarise(np.arange(1, 101, dtype=np.int64), [99.0])
    assert summary is not None
    assert summary.percentiles[0].high_ns is None
    assert summary.percentiles[0].low_ns is not None
