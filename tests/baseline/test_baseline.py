"""Baselines of one signal: location by hour, noise, thresholds; K of M and its scaling."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.baseline.baseline import Floats, SignalBaseline, locations, make_baseline, threshold, worse_by
from exporter.baseline.key import load_hash
from exporter.baseline.verdict import Counts, TierState, scaled, take
from exporter.core.probe import PAGE, SLOW, WARN, InputOptions, MeasurementOptions, Schedule, Signal, Slo, StopRules
from exporter.core.units import MS, NS
from tests.builders import concurrency, make_probe, make_target

HOUR = 3600.0
WEEK: Floats = np.arange(2016) * np.float64(300)


def test_a_constant_signal_has_its_own_value_and_no_noise() -> None:
    baseline = make_baseline(WEEK, np.full(2016, 2.5))
    assert baseline.hours == pytest.approx([2.5] * 24)
    assert baseline.noise == pytest.approx(0.0)
    assert baseline.samples == 2016


def test_the_location_follows_the_hour_of_the_day() -> None:
    daily: Floats = np.sin(2 * np.pi * WEEK / 86_400)
    baseline = make_baseline(WEEK, daily)
    for hour in range(24):
        at = 3 * 86_400 + hour * HOUR + 1800
        # Smoothing over five hours takes some 5 % of a sine's height.
        assert baseline.at(at) == pytest.approx(0.95 * math.sin(2 * math.pi * (hour + 0.5) / 24), abs=0.02)


def test_outliers_move_neither_location_nor_noise() -> None:
    random = np.random.default_rng(1)
    values = random.normal(1.0, 0.02, 2016)
    clean = make_baseline(WEEK, values)
    values[random.choice(2016, 100, replace=False)] += 3.0
    spoilt = make_baseline(WEEK, values)
    assert clean.noise == pytest.approx(0.02, rel=0.1)
    assert spoilt.noise == pytest.approx(clean.noise, rel=0.15)
    assert max(np.abs(np.subtract(spoilt.hours, clean.hours))) < 0.005


def test_hours_without_sweeps_get_those_of_their_neighbours_or_of_all() -> None:
    baseline = make_baseline([0.5 * HOUR, 0.6 * HOUR, 12.5 * HOUR], [1.0, 1.0, 4.0])
    assert [baseline.hours[hour] for hour in (22, 0, 2, 11, 12, 14)] == pytest.approx([1.0, 1.0, 1.0, 4.0, 4.0, 4.0])
    assert baseline.hours[6] == 1.0  # the median of all three


@given(st.floats(0, 2e9), st.lists(st.floats(-5, 5), min_size=24, max_size=24))
def test_one_moment_and_many_give_the_same(unix_s: float, hours: list[float]) -> None:
    one = SignalBaseline(tuple(hours), 0.0, 1).at(unix_s)
    assert locations(hours, np.array([unix_s]))[0] == pytest.approx(one)
    assert min(hours) - 1e-9 <= one <= max(hours) + 1e-9


@given(st.floats(0, 1e6))
def test_midnight_is_no_edge(day: float) -> None:
    baseline = SignalBaseline(tuple(float(hour) for hour in range(24)), 0.0, 1)
    midnight = round(day) * 86_400.0
    assert baseline.at(midnight - 1e-3) == pytest.approx(baseline.at(midnight + 1e-3), abs=1e-3)


@pytest.mark.parametrize(
    ("tier", "noise", "limit"),
    [
        (PAGE, 0.0, 1.30),
        (PAGE, 0.08, 1.30),
        (PAGE, 0.1, math.exp(0.3)),
        (WARN, 0.06, 1.15),
        (WARN, 0.08, math.exp(0.16)),
        (SLOW, 0.08, 1.07),
    ],
)
def test_thresholds(tier: object, noise: float, limit: float) -> None:
    assert threshold(tier, noise) == pytest.approx(limit)  # type: ignore[arg-type]
    assert threshold(tier, noise, 1.1) == pytest.approx(1.1 * limit)  # type: ignore[arg-type]


def test_less_throughput_is_worse_and_less_latency_is_better() -> None:
    now, then = math.log(80.0), math.log(100.0)
    assert worse_by(Signal.THROUGHPUT, now, then) == pytest.approx(1.25)
    assert worse_by(Signal.LATENCY_P50, now, then) == pytest.approx(0.8)


def test_ratio_of_two_baselines() -> None:
    slow = SignalBaseline(tuple([math.log(1.3)] * 24), 0.0, 1)
    assert slow.over(SignalBaseline((0.0,) * 24, 0.0, 1)) == pytest.approx(1.3)


# --- K of M ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tier", "minutes", "counts"),
    [
        (PAGE, 5, (9, 12, 4)),
        (WARN, 5, (20, 24, 9)),
        (SLOW, 5, (173, 288, 115)),
        (PAGE, 1, (45, 60, 20)),
        (WARN, 10, (10, 12, 4)),
        (PAGE, 15, (3, 4, 1)),
        (PAGE, 60, (3, 4, 1)),
        (SLOW, 60, (15, 24, 9)),
        (SLOW, 24 * 60, (3, 4, 1)),
    ],
)
def test_counts_keep_their_times_at_other_intervals(tier: object, minutes: int, counts: tuple[int, int, int]) -> None:
    found = scaled(tier, minutes * 60 * NS)  # type: ignore[arg-type]
    assert (found.bad, found.of, found.clear) == counts
    assert found.span_s == found.of * minutes * 60


@given(st.sampled_from([PAGE, WARN, SLOW]), st.integers(1, 366 * 86_400))
def test_scaled_counts_are_always_usable(tier: object, seconds: int) -> None:
    found = scaled(tier, seconds * NS)  # type: ignore[arg-type]
    assert 0 < found.clear < found.bad <= found.of


COUNTS = Counts(bad=3, of=4, clear=1, span_s=1200.0)


@pytest.mark.parametrize(
    ("sweeps", "holds"),
    [
        ("1", "0"),
        ("111", "001"),
        ("1101", "0001"),
        ("1001001", "0000000"),
        ("1110", "0011"),
        ("1110000", "0011100"),
        ("11101", "00111"),
        ("111101010", "001111111"),
        ("111?????", "001111??"),
        ("?01", "?00"),
        ("1?1?1", "0?0?1"),
        ("11????1", "00????0"),
    ],
)
def test_a_regression_begins_and_ends(sweeps: str, holds: str) -> None:
    """ "1" is a bad sweep, "?" one that could not be judged; of the verdicts "?" is none."""
    state, found = TierState(), ""
    for index, sweep in enumerate(sweeps):
        holding = take(state, COUNTS, None if sweep == "?" else sweep == "1", 1e9 + 300.0 * index)
        found += "?" if holding is None else "01"[holding]
    assert found == holds


def test_what_is_long_ago_says_nothing_of_now() -> None:
    state = TierState()
    for index in range(2):
        take(state, COUNTS, True, 300.0 * index)
    assert take(state, COUNTS, True, 300.0 + 2401) is False
    for index in range(2):
        take(state, COUNTS, True, 3000.0 + 300.0 * index)
    assert state.holds
    # A regression that held is not over because nobody looked.
    assert take(state, COUNTS, False, 90_000.0) is True
    assert [take(state, COUNTS, False, 90_300.0 + 300.0 * index) for index in range(2)] == [True, False]


# --- the load's hash -------------------------------------------------------------------------------------------------


def test_what_is_the_same_load() -> None:
    probe = make_probe()
    same = (
        replace(probe, name="other", schedule=Schedule(3600 * NS), labels=(("a", "b"),), config_hash="x"),
        replace(probe, model="other", version="2", stop=StopRules(max_requests=5), histogram=False, variant="v"),
        replace(probe, slo=Slo("s", MS, 99.0, ("1",)), target=make_target(name="t", host="h", port=1)),
        replace(probe, measurement=replace(probe.measurement, percentiles=(50.0, 99.0), latency_threshold_ns=MS)),
    )
    assert {load_hash(each) for each in same} == {load_hash(probe)}


def test_what_is_another_load() -> None:
    probe = make_probe()
    others = (
        replace(probe, levels=(concurrency(2),)),
        replace(probe, levels=(concurrency(1), concurrency(2))),
        replace(probe, measurement=MeasurementOptions(window_ns=2 * NS)),
        replace(probe, input=InputOptions(batch_size=2)),
        replace(probe, workers=2),
        replace(probe, target=make_target(scheme="grpc")),
        replace(probe, target=make_target(scheme="https")),
    )
    assert len({load_hash(each) for each in (probe, *others)}) == len(others) + 1


def test_the_hash_does_not_change_with_a_release() -> None:
    """A load's baselines must be found again after an update."""
    assert load_hash(make_probe()) == "4df8163cc681"
