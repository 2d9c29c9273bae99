"""The paired statistics against enumerations of all coins, and by what they promise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.analysis.paired import PairedRatio, outside_count, overall, paired_ratio, signed_rank_distribution
from exporter.core.looks import ERROR, least_pairs, looks, one_sided_error
from exporter.core.rollout import GateVerdict, Margin

LATENCY = Margin("p99", 0.1)
THROUGHPUT = Margin("throughput", 0.1)
BETTER, EQUIVALENT, WORSE, UNDECIDED = GateVerdict


def rank_sums(pairs: int) -> list[int]:
    """Of every way in which the coins can fall."""
    return [
        sum(rank for rank, heads in enumerate(coins, 1) if heads) for coins in itertools.product((0, 1), repeat=pairs)
    ]


@pytest.mark.parametrize("pairs", range(1, 13))
def test_the_distribution_is_that_of_all_coins(pairs: int) -> None:
    sums = rank_sums(pairs)
    counted = [sums.count(value) / 2**pairs for value in range(pairs * (pairs + 1) // 2 + 1)]
    assert signed_rank_distribution(pairs).tolist() == counted


@pytest.mark.parametrize("pairs", range(1, 13))
@pytest.mark.parametrize("chance", [0.1, 0.025, 0.005, 0.0005])
def test_as_many_are_cut_off_as_the_chance_allows(pairs: int, chance: float) -> None:
    sums = np.array(rank_sums(pairs))
    allowed = [k for k in range(1, len(sums)) if np.mean(sums <= k - 1) <= chance]
    assert outside_count(pairs, chance) == max(allowed, default=0)


@given(st.floats(1e-12, 0.4))
def test_the_least_pairs_are_those_with_the_first_bound(chance: float) -> None:
    pairs = least_pairs(chance)
    assert outside_count(pairs, chance) > 0
    assert outside_count(pairs - 1, chance) == 0


@pytest.mark.parametrize("noise", ["even", "one burst", "tied"])
@pytest.mark.parametrize("pairs", [6, 9, 11])
def test_of_all_orders_no_more_miss_the_truth_than_promised(noise: str, pairs: int) -> None:
    """The noise is fixed, and anything: the coin alone decides, for each pair, its sign."""
    random, truth, chance = np.random.default_rng(pairs), 1.3, 0.03
    differences = random.normal(0, 0.1, pairs)
    if noise == "one burst":
        differences[0] = 40.0
    elif noise == "tied":
        differences = np.round(differences, 1)
    missed_low = missed_high = 0
    for coins in itertools.product((-1.0, 1.0), repeat=pairs):
        found = paired_ratio(math.log(truth) + differences * np.array(coins), chance)
        missed_low += found.low > truth * (1 + 1e-12)
        missed_high += found.high < truth * (1 - 1e-12)
    assert missed_low == missed_high <= chance * 2**pairs
    assert missed_low > 0 or noise == "tied" or 2**-pairs > chance


def test_too_few_pairs_have_no_bounds() -> None:
    found = paired_ratio(np.log([1.1, 1.2, 1.3]), 0.025)
    assert (found.low, found.high) == (0.0, math.inf)
    assert found.value == pytest.approx(1.2, rel=0.01)
    assert found.verdict(LATENCY) is UNDECIDED
    assert found.verdict(THROUGHPUT) is UNDECIDED


@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=25),
    st.floats(-2, 2),
    st.sampled_from([0.025, 0.001]),
)
def test_a_constant_factor_moves_all_and_a_swap_of_sides_inverts_it(
    ratios: list[float], shift: float, chance: float
) -> None:
    logs = np.array(ratios)
    plain, moved, swapped = (paired_ratio(each, chance) for each in (logs, logs + shift, -logs))
    assert plain.low <= plain.value <= plain.high
    for name in ("low", "value", "high"):
        assert getattr(moved, name) == pytest.approx(getattr(plain, name) * math.exp(shift), rel=1e-9)
    assert swapped.value == pytest.approx(1 / plain.value, rel=1e-9)
    assert swapped.low == pytest.approx(1 / plain.high, rel=1e-9)


@pytest.mark.parametrize(
    ("low", "high", "latency", "throughput", "no_worse"),
    [
        (1.11, 1.3, WORSE, BETTER, False),
        (0.7, 0.9, BETTER, WORSE, True),
        (0.92, 1.09, EQUIVALENT, EQUIVALENT, True),
        (1.05, 1.2, UNDECIDED, UNDECIDED, False),
        (0.8, 1.05, UNDECIDED, UNDECIDED, True),
        (0.0, math.inf, UNDECIDED, UNDECIDED, False),
    ],
)
def test_verdicts(low: float, high: float, latency: GateVerdict, throughput: GateVerdict, no_worse: bool) -> None:
    ratio = PairedRatio(20, 1.0, low, high)
    assert ratio.verdict(LATENCY) is latency
    assert ratio.verdict(THROUGHPUT) is throughput
    assert ratio.is_no_worse(LATENCY) is no_worse


def test_a_throughput_that_may_only_be_higher_is_no_worse() -> None:
    assert PairedRatio(20, 1.1, 0.95, 1.4).is_no_worse(THROUGHPUT)
    assert not PairedRatio(20, 0.8, 0.7, 0.95).is_no_worse(THROUGHPUT)


def test_a_later_look_only_narrows() -> None:
    early, late = PairedRatio(10, 1.1, 1.02, 1.3), PairedRatio(15, 1.0, 0.95, 1.1)
    assert late.narrowed(early) == PairedRatio(15, 1.02, 1.02, 1.1)
    assert late.narrowed(None) == late
    assert PairedRatio(15, 0.9, 0.8, 1.0).narrowed(early) == PairedRatio(15, 0.9, 0.8, 1.0)


@given(st.integers(5, 60), st.integers(0, 400))
def test_looks_are_few_and_include_both_ends(min_pairs: int, more: int) -> None:
    found = looks(min_pairs, min_pairs + more)
    assert (found[0], found[-1]) == (min_pairs, min_pairs + more)
    assert list(found) == sorted(set(found))
    assert all(later <= math.ceil(earlier * 1.5) for earlier, later in itertools.pairwise(found))
    assert len(found) <= 14


def test_the_error_is_divided_among_all_that_can_be_wrong() -> None:
    assert 2 * 7 * 3 * one_sided_error(7, 3) == pytest.approx(ERROR)
    assert looks(10, 100) == (10, 15, 23, 35, 53, 80, 100)


def test_the_gate_is_as_good_as_its_worst_figure() -> None:
    assert overall([]) is UNDECIDED
    assert overall([EQUIVALENT, EQUIVALENT]) is EQUIVALENT
    assert overall([EQUIVALENT, BETTER]) is BETTER
    assert overall([BETTER, UNDECIDED]) is UNDECIDED
    assert overall([BETTER, UNDECIDED, WORSE]) is WORSE
