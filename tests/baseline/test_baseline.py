"""Baselines of one signal: location by hour, noise, thresholds; K of M and its scaling."""

from __future__ import annotations

import math
from array import array
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.baseline.baseline import Floats, SignalBaseline, Usual, locations
from exporter.baseline.calendar import local_seconds
from exporter.baseline.history import SIGNALS, Rows
from exporter.baseline.key import load_hash
from exporter.baseline.make import make_baseline
from exporter.baseline.verdict import Counts, TierState, scaled, take
from exporter.core.probe import PAGE, SLOW, WARN, InputOptions, MeasurementOptions, Schedule, Signal, Slo, StopRules
from exporter.core.units import MS, NS
from tests.builders import concurrency, make_probe, make_target

HOUR, DAY = 3600.0, 86_400.0
MONDAY = 1_767_571_200.0  # 5 January 2026, 0:00 UTC
WEEK: Floats = MONDAY + np.arange(2016) * np.float64(300)
FOUR_WEEKS: Floats = MONDAY + np.arange(2016) * np.float64(1200)
P50 = Signal.LATENCY_P50


def rows_of(times: Floats, values: Floats) -> Rows:
    rows = Rows.empty(len(times))
    rows.unix_s[:], rows.logs[:, SIGNALS.index(P50)] = times, values
    return rows


def baseline_of(times: Floats, values: Floats, timezone: str = "UTC") -> SignalBaseline:
    counts = [(tier.name, scaled(tier, 300 * NS)) for tier in (PAGE, WARN, SLOW)]
    found = make_baseline(P50, rows_of(times, values), timezone, counts)
    assert found is not None
    return found


def local_hour(times: Floats) -> Floats:
    return times % DAY / HOUR


def test_a_constant_signal_has_its_own_value_and_no_noise() -> None:
    baseline = baseline_of(WEEK, np.full(2016, 2.5))
    assert baseline.hours.tolist() == pytest.approx([2.5] * 168)
    assert baseline.noise == pytest.approx(0.0, abs=1e-6)
    assert (baseline.samples, baseline.modes) == (2016, None)


def test_the_location_follows_a_smooth_day() -> None:
    baseline = baseline_of(WEEK, 0.2 * np.sin(2 * np.pi * WEEK / DAY))
    for hour in range(24):
        at = MONDAY + 3 * DAY + hour * HOUR + 1800
        assert baseline.at(at) == pytest.approx(0.2 * math.sin(2 * math.pi * (hour + 0.5) / 24), abs=0.015)


def test_a_nightly_job_of_an_hour_is_as_steep_as_it_is() -> None:
    """Smoothed over its neighbours it was a third as high, and paged each night."""
    noise = np.random.default_rng(1).normal(0, 0.03, 2016)
    baseline = baseline_of(WEEK, noise + np.where(local_hour(WEEK).astype(int) == 2, 0.45, 0.0))
    night = MONDAY + 2 * DAY + 2 * HOUR
    assert [baseline.at(night + minutes * 60) for minutes in (1, 30, 59)] == pytest.approx([0.45] * 3, abs=0.05)
    assert [baseline.at(night + minutes * 60) for minutes in (-1, 61)] == pytest.approx([0.0, 0.0], abs=0.05)


def test_a_weekend_is_another_class_of_days() -> None:
    noise = np.random.default_rng(1).normal(0, 0.02, 2016)
    working = (WEEK - MONDAY) // DAY < 5
    baseline = baseline_of(WEEK, noise + np.where(working, 0.26, 0.0))
    assert baseline.at(MONDAY + 2.5 * DAY) == pytest.approx(0.26, abs=0.03)
    assert baseline.at(MONDAY + 5.5 * DAY) == pytest.approx(0.0, abs=0.03)


def test_after_four_weeks_an_hour_of_the_week_stands_for_itself() -> None:
    """A job on Wednesdays at 3."""
    noise = np.random.default_rng(1).normal(0, 0.03, 2016)
    since = (FOUR_WEEKS - MONDAY) % (7 * DAY) / HOUR
    job = since.astype(int) == 2 * 24 + 3
    baseline = baseline_of(FOUR_WEEKS, noise + np.where(job, 0.5, 0.0))
    wednesday = MONDAY + 2 * DAY + 3.5 * HOUR
    assert baseline.at(wednesday) == pytest.approx(0.5, abs=0.08)
    assert [baseline.at(wednesday + day * DAY) for day in (1, -1)] == pytest.approx([0.0, 0.0], abs=0.05)


def test_hours_are_those_of_the_time_zone_over_the_change_to_summer_time() -> None:
    """Working hours from 9 to 17 in Berlin: an hour earlier in UTC from 29 March 2026 on."""
    march = 1_772_409_600.0  # Monday, 2 March, 0:00 UTC
    times: Floats = march + np.arange(2016) * np.float64(1200)
    local = local_hour(local_seconds(times, "Europe/Berlin"))
    values = np.where((local >= 9) & (local < 17), 0.4, 0.0)
    berlin, utc = baseline_of(times, values, "Europe/Berlin"), baseline_of(times, values)
    april = march + 35 * DAY  # Monday, 6 April
    assert [berlin.at(april + hour * HOUR) for hour in (6.8, 7.2, 14.8, 15.2)] == pytest.approx([0.0, 0.4, 0.4, 0.0])
    assert utc.at(april + 7.2 * HOUR) == pytest.approx(0.0)


def test_outliers_move_neither_location_nor_noise() -> None:
    random = np.random.default_rng(1)
    values = random.normal(1.0, 0.02, 2016)
    clean = baseline_of(WEEK, values)
    values[random.choice(2016, 90, replace=False)] += random.uniform(0.3, 3.0, 90)
    spoilt = baseline_of(WEEK, values)
    assert clean.noise == pytest.approx(0.02, rel=0.15)
    assert spoilt.noise == pytest.approx(clean.noise, rel=0.15)
    assert float(np.median(np.abs(np.subtract(spoilt.hours, clean.hours)))) < 0.005


@given(st.floats(0, 2e9), st.lists(st.floats(-5, 5), min_size=168, max_size=168))
def test_one_moment_and_many_give_the_same(unix_s: float, hours: list[float]) -> None:
    one = SignalBaseline(array("d", hours), 0.0, 1).at(unix_s)
    assert locations(array("d", hours), np.array([unix_s]), "UTC")[0] == pytest.approx(one)
    assert min(hours) - 1e-9 <= one <= max(hours) + 1e-9


def test_two_modes_are_found_and_the_location_is_the_lower_one() -> None:
    random = np.random.default_rng(1)
    for part in (0.1, 0.3, 0.5):
        upper = random.random(2016) < part
        baseline = baseline_of(WEEK, random.normal(0, 0.03, 2016) + np.where(upper, math.log(1.95), 0.0))
        assert baseline.modes is not None
        assert baseline.modes.distance == pytest.approx(math.log(1.95), abs=0.02)
        assert baseline.modes.upper_part == pytest.approx(part, abs=0.03)
        assert baseline.at(MONDAY) == pytest.approx(0.0, abs=0.02)
        assert baseline.noise == pytest.approx(0.03, rel=0.2)


def test_a_nightly_job_is_no_second_mode() -> None:
    values = np.where(local_hour(WEEK) < 4, 0.5, 0.0) + np.random.default_rng(1).normal(0, 0.02, 2016)
    assert baseline_of(WEEK, values).modes is None


@pytest.mark.parametrize(
    ("usual", "noise", "limit"),
    [
        ((), 0.0, math.log(1.25)),
        ((), 0.1, 0.4),  # e^(k x noise), where no days are known
        ((0.02, 0.01, 0.05, 0.05), 0.1, math.log(1.25)),  # noisy, but its days never come to much
        ((0.2, 0.08, 0.4, 0.5), 0.03, 0.52),
        ((0.2, 0.2, 0.4, 0.5), 0.03, 0.6),  # no more than the worst of its days, and something
        ((0.05, 0.01, 0.3, 0.3), 0.03, 0.3 + math.log(1.25) / 4),  # a few of its days are much worse
    ],
)
def test_limits(usual: tuple[float, ...], noise: float, limit: float) -> None:
    days = {"page": Usual(*usual)} if usual else {}
    baseline = SignalBaseline(array("d", [0.0] * 168), noise, 1, usual=days)
    assert baseline.limit(PAGE) == pytest.approx(limit)
    by_noise = limit if limit > math.log(1.25) else 0.0
    assert baseline.limit(PAGE, unstable=True) >= 1.5 * by_noise  # as much wider as unstable sweeps scatter


def test_ordinary_days_with_bursts_come_to_more_than_quiet_ones() -> None:
    random = np.random.default_rng(1)
    quiet = random.normal(0, 0.02, 2016)
    bursts = quiet.copy()
    for day in range(7):
        start = 288 * day + int(random.integers(0, 200))
        bursts[start : start + 24] += 0.4
    assert baseline_of(WEEK, quiet).usual["page"].middle < 0.05
    assert baseline_of(WEEK, bursts).usual["page"].middle == pytest.approx(0.4, abs=0.06)


def test_ratio_of_two_baselines() -> None:
    slow = SignalBaseline(array("d", [math.log(1.3)] * 168), 0.0, 1)
    assert slow.over(SignalBaseline(array("d", [0.0] * 168), 0.0, 1)) == pytest.approx(1.3)


# --- K of M ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tier", "minutes", "counts"),
    [
        (PAGE, 5, (14, 18, 6)),
        (WARN, 5, (20, 24, 9)),
        (SLOW, 5, (173, 288, 115)),
        (PAGE, 1, (70, 90, 30)),
        (WARN, 10, (10, 12, 4)),
        (PAGE, 15, (5, 6, 2)),
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
        ("11?1", "00?1"),  # as long as 1111
    ],
)
def test_a_regression_begins_and_ends(sweeps: str, holds: str) -> None:
    """ "1" is a bad sweep, "?" one that could not be judged; of the verdicts "?" is none."""
    state, found = TierState(), ""
    for index, sweep in enumerate(sweeps):
        holding = take(state, COUNTS, None if sweep == "?" else sweep == "1", 1e9 + 300.0 * index)
        found += "?" if holding is None else "01"[holding]
    assert found == holds


def test_what_is_long_ago_contains_no_information_of_now() -> None:
    state = TierState()
    for index in range(2):
        take(state, COUNTS, True, 300.0 * index)
    assert take(state, COUNTS, True, 300.0 + 2401) is False
    for index in range(2):
        take(state, COUNTS, True, 3000.0 + 300.0 * index)
    assert state.holds
    # A regression that held does not end because no sweep was judged.
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
