from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.units import NS
from exporter.engine.pacing import constant, every_nth, level_seed, looped, poisson, scheduled

rates = st.floats(min_value=0.001, max_value=1e6, allow_nan=False)


@pytest.mark.parametrize(
    ("rate", "offsets_ns"),
    [
        (1.0, [0, NS, 2 * NS]),
        (3.0, [0, 333_333_333, 666_666_666, NS]),  # rounded down, and whole again at each second
        (0.1, [0, 10 * NS, 20 * NS]),  # one tenth as it was written, not as a binary fraction
        (8000.0, [0, 125_000, 250_000]),
        (2e9, [0, 0, 1, 1, 2]),  # more than one in a nanosecond
    ],
)
def test_constant(rate: float, offsets_ns: list[int]) -> None:
    assert list(itertools.islice(constant(rate), len(offsets_ns))) == offsets_ns


@given(rates, st.integers(min_value=1, max_value=2000))
def test_constant_does_not_drift(rate: float, n: int) -> None:
    offset_ns = next(itertools.islice(constant(rate), n, None))
    assert offset_ns == pytest.approx(n * NS / rate, rel=1e-12, abs=1)


@given(st.floats(min_value=0.5, max_value=500), st.floats(min_value=0.01, max_value=4))
def test_constant_sends_the_rate_times_the_time(rate: float, seconds: float) -> None:
    sent = sum(1 for _ in itertools.takewhile(lambda offset_ns: offset_ns < seconds * NS, constant(rate)))
    assert abs(sent - rate * seconds) <= 1 + 1e-9


@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf, math.nan])
def test_a_rate_must_be_positive_and_finite(rate: float) -> None:
    with pytest.raises(ValueError, match="a rate is a finite number above 0"):
        constant(rate)
    with pytest.raises(ValueError, match="a rate is a finite number above 0"):
        poisson(rate, seed=0)


def gaps_ns(rate: float, seed: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    offsets = np.array([0, *itertools.islice(poisson(rate, seed), count)], dtype=np.float64)
    return np.diff(offsets)


def test_poisson_is_repeatable_and_seeded() -> None:
    first = list(itertools.islice(poisson(100.0, 1), 50))
    assert first == list(itertools.islice(poisson(100.0, 1), 50))
    assert first != list(itertools.islice(poisson(100.0, 2), 50))
    assert first == sorted(first)


@pytest.mark.parametrize("seed", range(5))
def test_poisson_gaps_are_exponential(seed: int) -> None:
    """Mean within 4 standard errors, and the Kolmogorov-Smirnov distance below its 0.1 % point, 1.95 / sqrt(n)."""
    count = 5000
    gaps = np.sort(gaps_ns(1000.0, seed, count)) * 1000.0 / NS
    assert gaps.mean() == pytest.approx(1.0, abs=4 / math.sqrt(count))
    expected = 1 - np.exp(-gaps)
    steps = np.arange(count + 1) / count
    distance = max(np.abs(expected - steps[1:]).max(), np.abs(expected - steps[:-1]).max())
    assert distance < 1.95 / math.sqrt(count)


def test_poisson_keeps_its_precision_far_from_its_start() -> None:
    """At a rate with gaps around one nanosecond the fractions make up half of the sum."""
    count = 200_000
    offset_ns = next(itertools.islice(poisson(1e9, 3), count - 1, None))
    assert offset_ns == pytest.approx(count, abs=4 * math.sqrt(count))


@pytest.mark.parametrize(
    ("intervals_ns", "offsets_ns"),
    [
        ([10], [10, 20, 30]),
        ([10, 20, 5], [10, 30, 35, 45, 65, 70]),  # the list starts over
        ([0, 7], [0, 7, 7, 14]),  # 0: two at once
    ],
)
def test_looped(intervals_ns: list[int], offsets_ns: list[int]) -> None:
    assert list(itertools.islice(looped(intervals_ns), len(offsets_ns))) == offsets_ns


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=20).filter(any), st.integers(0, 5))
def test_looped_does_not_drift(intervals_ns: list[int], rounds: int) -> None:
    last = next(itertools.islice(looped(intervals_ns), (rounds + 1) * len(intervals_ns) - 1, None))
    assert last == (rounds + 1) * sum(intervals_ns)


@pytest.mark.parametrize("intervals_ns", [[], [5, -1], [0, 0]])
def test_bad_intervals(intervals_ns: list[int]) -> None:
    with pytest.raises(ValueError, match="intervals are 0 or more, and at least one is above 0"):
        looped(intervals_ns)


def test_scheduled_ends_after_its_last() -> None:
    assert list(scheduled([0, 5, 5, 9])) == [0, 5, 5, 9]


@pytest.mark.parametrize("offsets_ns", [[], [-1], [3, 2]])
def test_bad_schedules(offsets_ns: list[int]) -> None:
    with pytest.raises(ValueError, match="a schedule is at least one time, from 0 on and never going back"):
        scheduled(offsets_ns)


@given(st.integers(1, 16), rates, st.integers(0, 2**32))
def test_workers_in_turn_send_what_one_alone_would(workers: int, rate: float, seed: int) -> None:
    shares = [itertools.islice(every_nth(poisson(rate, seed), member, workers), 3) for member in range(workers)]
    assert sorted(itertools.chain(*shares)) == list(itertools.islice(poisson(rate, seed), 3 * workers))


def test_each_level_has_a_seed_of_its_own() -> None:
    seeds = {level_seed(seed, label) for seed in range(10) for label in ("1", "10", "50", "100")}
    assert len(seeds) == 40
    assert level_seed(7, "100") == level_seed(7, "100")
