"""Weeks of made-up sweeps: pins, verdicts, versions, and why there is no verdict."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from exporter.baseline.judge import accept, judge, latest_version, pin_now
from exporter.baseline.state import LevelState, LoadState
from exporter.core.probe import BaselineOptions, Probe, Schedule, Signal
from exporter.core.result import LevelVerdict, SignalVerdict
from exporter.core.units import MS, NS
from tests.builders import concurrency, make_facts, make_probe
from tests.metrics.results import make_measurement, make_result, make_summary

P50, P99, THROUGHPUT = Signal.LATENCY_P50, Signal.LATENCY_P99, Signal.THROUGHPUT
HOUR = 3600.0
DAY = 24 * HOUR
BEGIN = 1_767_225_600.0  # a midnight


@dataclass
class Story:
    """A probe whose sweeps are made one after the other; `verdict` is the last one's."""

    minutes: int = 20
    noise: float = 0.01
    options: BaselineOptions = field(default_factory=BaselineOptions)

    def __post_init__(self) -> None:
        self.load = LoadState()
        self.now_s = BEGIN
        self._random = np.random.default_rng(7)
        self.verdict: LevelVerdict | None = None

    @property
    def probe(self) -> Probe:
        return make_probe(schedule=Schedule(self.minutes * 60 * NS), baseline=self.options)

    @property
    def level(self) -> LevelState:
        return self.load.levels["concurrency 1"]

    def sweeps(self, seconds: float, factor: float = 1.0, version: str = "1", **changes: Any) -> Iterator[LevelVerdict]:
        """Sweeps for so long, their latency `factor` times 10 ms but for the noise."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            latency_ms = 10 * factor * math.exp(self.noise * self._random.standard_normal())
            values: dict[str, Any] = {
                "latency": make_summary(latency_ms),
                "throughput": 1000 / latency_ms,
                "foreign_requests": 0,
            }
            result = make_result(
                self.probe,
                facts=make_facts(version=version),
                started_unix_s=self.now_s,
                duration_ns=0,
                measurements=(make_measurement(**(values | changes)),),
            )
            (self.verdict,) = judge(self.load, result)
            yield self.verdict
            self.now_s += self.minutes * 60

    def run(self, seconds: float, factor: float = 1.0, version: str = "1", **changes: Any) -> list[LevelVerdict]:
        return list(self.sweeps(seconds, factor, version, **changes))

    def signal(self, signal: Signal = P50) -> SignalVerdict:
        assert self.verdict is not None
        return next(each for each in self.verdict.signals if each.signal is signal)


def tiers_seen(verdicts: list[LevelVerdict], signal: Signal = P50) -> set[str]:
    """The tiers that held at any time."""
    return {
        tier
        for verdict in verdicts
        for each in verdict.signals
        if each.signal is signal
        for tier, holds in each.tiers.items()
        if holds
    }


def pinned(**changes: Any) -> Story:
    """A story whose first eight days are over; the usual one is told once."""
    if not changes:
        return deepcopy(_usual())
    story = Story(**changes)
    story.run(8 * DAY)
    return story


@functools.cache
def _usual() -> Story:
    story = Story()
    story.run(8 * DAY)
    return story


# --- pins ------------------------------------------------------------------------------------------------------------


def test_provisional_after_a_day_and_pinned_after_seven() -> None:
    story = Story()
    story.run(0.9 * DAY)
    assert story.signal().tiers == {}
    assert story.signal().withheld == "there is no baseline yet: 21.3 h of the first 24.0 h, 65 sweeps of at least 20"
    story.run(0.5 * DAY)
    assert story.signal().tiers == {"page": False, "warn": False, "slow": False}
    pin = story.level.versions["1"].pin
    assert pin is not None
    assert (pin.provisional, pin.pinned_unix_s, story.level.accepted) == (True, BEGIN + DAY, "1")
    story.run(6 * DAY)
    pin = story.level.versions["1"].pin
    assert pin is not None
    assert (pin.provisional, pin.pinned_unix_s) == (False, BEGIN + 7 * DAY)
    assert pin.signals[P50].noise == pytest.approx(0.01, rel=0.2)
    assert story.signal().baseline == pytest.approx(10 * MS, rel=0.01)
    assert pin.components_ns["compute_infer"] == 2.0 * MS


@pytest.mark.parametrize(("factor", "taken"), [(1.04, True), (1.08, False), (0.8, True)])
def test_the_longer_pin_replaces_the_provisional_one_unless_it_is_worse(factor: float, taken: bool) -> None:
    story = Story()
    story.run(1.1 * DAY)
    story.run(6.5 * DAY, factor)
    state = story.level.versions["1"]
    assert state.pin is not None
    assert state.pin.provisional is not taken
    assert ("stays" in state.note) is not taken


def test_a_pin_is_never_made_anew_by_itself() -> None:
    story = pinned()
    before = story.level.versions["1"].pin
    story.run(20 * DAY, 1.03)
    assert story.level.versions["1"].pin is before


def test_few_sweeps_take_longer() -> None:
    story = Story(minutes=6 * 60)
    story.run(4.7 * DAY)
    assert story.level.versions["1"].pin is None
    story.run(0.3 * DAY)
    assert story.level.versions["1"].pin is not None


def test_what_is_kept_is_bounded() -> None:
    story = Story(minutes=1)
    story.run(1.5 * DAY)
    story.options = replace(story.options, pin_ns=2 * 3600 * NS)
    story.run(0.2 * DAY)
    state = story.level.versions["1"]
    assert len(state.rows) <= 1.1 * 2 * 60
    for version in range(2, 12):
        story.run(60.0, version=str(version))
    assert sorted(story.level.versions) == ["1", "10", "11", "8", "9"]


# --- verdicts --------------------------------------------------------------------------------------------------------


def test_a_quiet_month_is_quiet() -> None:
    story = pinned(noise=0.03)
    assert tiers_seen(story.run(30 * DAY)) == set()


@pytest.mark.parametrize(
    ("factor", "days", "tiers"),
    [
        (1.05, 3, set()),
        (1.10, 3, {"slow"}),
        (1.20, 3, {"warn", "slow"}),
        (1.60, 30, {"page", "warn", "slow"}),
        (0.5, 3, set()),
    ],
)
def test_a_regression_holds_as_long_as_it_stays_and_ends(factor: float, days: int, tiers: set[str]) -> None:
    story = pinned()
    seen = story.run(days * DAY, factor)
    assert tiers_seen(seen[-1:]) == tiers
    assert story.signal().ratio == pytest.approx(factor, rel=0.05)
    back = story.run(2 * DAY)
    assert tiers_seen(back[-1:]) == set()


@pytest.mark.parametrize(("tier", "minutes"), [("page", 45), ("warn", 100), ("slow", 865)])
def test_how_soon_a_regression_is_found(tier: str, minutes: int) -> None:
    story = pinned(minutes=5)
    before_s = story.now_s
    next(_ for _ in story.sweeps(DAY, 1.6) if story.signal().tiers[tier])
    assert story.now_s - before_s == (minutes - 5) * 60  # the first of them is bad at once


def test_a_daily_pattern_is_no_regression() -> None:
    story = Story(minutes=30)
    random = np.random.default_rng(5)
    seen: list[LevelVerdict] = []
    for _ in range(20 * 48):
        of_day = (story.now_s % DAY) / DAY
        factor = 1 + 0.4 * max(0.0, math.sin(2 * math.pi * (of_day - 0.3))) + 0.01 * random.standard_normal()
        seen += story.run(60.0, factor)
        story.now_s += 30 * 60 - 30 * 60  # `run` moved on by one interval already
    assert tiers_seen(seen[8 * 48 :]) == set()


def test_p99_warns_and_does_not_page() -> None:
    story = pinned()
    slow_tail = make_summary(10.0)
    worse = replace(
        slow_tail,
        percentiles=tuple(
            replace(each, value_ns=2 * each.value_ns) if each.percentile == 99.0 else each
            for each in slow_tail.percentiles
        ),
    )
    seen = story.run(DAY, latency=worse)
    assert (tiers_seen(seen, P50), tiers_seen(seen, P99)) == (set(), {"warn"})
    assert story.signal(P99).ratio == pytest.approx(2.0, rel=0.05)


def test_throughput_is_told_of_and_by_default_wakes_nobody() -> None:
    story = pinned()
    story.run(DAY, throughput=50.0)
    assert story.signal(THROUGHPUT).ratio == pytest.approx(0.5, rel=0.02)
    assert story.signal(THROUGHPUT).tiers == {}


def test_less_throughput_is_a_regression_where_asked_for() -> None:
    options = BaselineOptions()
    tiers = tuple(replace(tier, signals=(THROUGHPUT,)) for tier in options.tiers)
    story = pinned(options=replace(options, tiers=tiers))
    assert tiers_seen(story.run(DAY, throughput=200.0), THROUGHPUT) == set()
    assert tiers_seen(story.run(DAY, throughput=50.0), THROUGHPUT) == {"page", "warn", "slow"}


def test_below_the_floor_nothing_is_worse() -> None:
    """60 % more of 0.3 ms is 0.18 ms, which no user feels."""
    story = Story()
    story.run(8 * DAY, 0.03)
    assert tiers_seen(story.run(DAY, 0.03 * 1.6)) == set()
    assert tiers_seen(story.run(DAY, 0.03 * 1.8)) == {"page", "warn", "slow"}


def test_which_component_carries_the_regression() -> None:
    story = pinned()
    breakdown = {"queue": 1.0 * MS, "compute_infer": 8.0 * MS, "network": 0.4 * MS, "composing": 1.0 * MS}
    story.run(2 * HOUR, 1.6, breakdown_ns=breakdown)
    assert story.verdict is not None
    assert story.verdict.components_ns == pytest.approx({"queue": 0.0, "compute_infer": 6.0 * MS, "network": -0.1 * MS})
    story.run(DAY)
    assert story.verdict.components_ns == {}


# --- no verdict ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"stable": False}, "the level is unstable"),
        ({"client_limited": True}, "this client, not the server, bounded the level"),
        ({"foreign_requests": 110}, "10% of the server's requests came from others"),
        ({"latency": None}, "no request was ok"),
    ],
)
def test_a_level_that_cannot_be_judged(changes: dict[str, Any], why: str) -> None:
    story = pinned()
    rows = len(story.level.versions["1"].rows)
    story.run(HOUR, 1.6, **changes)
    assert [(each.tiers, each.withheld) for each in story.verdict.signals] == [({}, why)] * 3  # type: ignore[union-attr]
    assert len(story.level.versions["1"].rows) == rows


def test_p99_of_few_requests() -> None:
    story = pinned()
    story.run(HOUR, latency=make_summary(10.0, count=999))
    assert story.signal(P99).withheld == "p99 rests on 999 requests, fewer than 1000"
    assert (story.signal(P99).tiers, story.signal(P99).ratio) == ({}, None)
    assert story.signal(P50).tiers == {"page": False, "warn": False, "slow": False}


def test_a_baseline_that_is_too_noisy() -> None:
    story = pinned(noise=0.12)
    assert story.signal().tiers == {}
    assert story.signal().withheld.startswith("its baseline is too noisy: 1")
    assert story.signal().ratio is not None


def test_a_regression_is_not_over_because_it_cannot_be_judged() -> None:
    story = pinned()
    story.run(2 * HOUR, 1.6)
    assert story.signal().tiers["page"] is True
    story.run(0.5 * HOUR, 1.6, stable=False)
    assert story.signal().tiers["page"] is True
    story.run(1.5 * HOUR, 1.6, stable=False)  # its span is 80 minutes
    assert "page" not in story.signal().tiers


# --- versions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.05])
def test_a_version_as_fast_is_quiet(factor: float) -> None:
    story = pinned()
    seen = story.run(10 * DAY, factor, version="2")
    assert tiers_seen(seen) == set()
    ratios = [each.version_ratio for verdict in seen for each in verdict.signals if each.signal is P50]
    assert max(ratio for ratio in ratios if ratio is not None) < 1.10
    # One that is not slower takes the place of the accepted one; one that is by a little does not.
    assert story.level.accepted == ("2" if factor < 1.0 else story.level.accepted)
    assert (story.level.accepted == "1") is (factor > 1.0) or factor == 1.0


def test_a_slower_version_is_a_ticket_until_it_is_accepted() -> None:
    story = pinned()
    seen = story.run(12 * DAY, 1.3, version="2")
    assert "page" not in tiers_seen(seen)
    ratios = [verdict.signals[0].version_ratio for verdict in seen]
    assert all(ratio is not None and 1.25 < ratio < 1.35 for ratio in ratios)
    assert accept(story.level, story.now_s) == "2"
    story.run(DAY, 1.3, version="2")
    assert story.signal().version_ratio is None
    assert story.signal().tiers == {"page": False, "warn": False, "slow": False}


def test_a_version_twice_as_slow_pages_at_once() -> None:
    story = pinned()
    assert "page" in tiers_seen(story.run(2 * HOUR, 2.0, version="2"))


def test_many_small_steps_are_a_large_one() -> None:
    story = pinned()
    for step in range(1, 4):
        story.run(9 * DAY, 1.06**step, version=str(step + 1))
    assert story.level.accepted == "1"
    assert story.signal().version_ratio == pytest.approx(1.06**3, rel=0.02)


def test_a_roll_back_finds_its_pin_and_is_quiet() -> None:
    story = pinned()
    pin = story.level.versions["1"].pin
    story.run(3 * DAY, 1.5, version="2")
    seen = story.run(3 * DAY, version="1")
    assert tiers_seen(seen) == set()
    assert story.level.versions["1"].pin is pin
    assert story.signal().version_ratio is None
    assert all(each.signals[0].tiers for each in seen)


# --- what a person decides -------------------------------------------------------------------------------------------


def test_pin_takes_what_there_is() -> None:
    story = Story()
    story.run(3 * HOUR)
    with pytest.raises(ValueError, match="9 judged sweeps of version 1; at least 20 are needed"):
        pin_now(story.level, story.now_s)
    story.run(4 * HOUR)
    assert pin_now(story.level, story.now_s) == latest_version(story.level) == "1"
    story.run(HOUR)
    assert story.signal().tiers == {"page": False, "warn": False, "slow": False}


def test_pin_ends_a_regression_that_is_to_stay() -> None:
    story = pinned()
    story.run(9 * DAY, 1.6)
    assert story.signal().tiers["page"] is True
    pin_now(story.level, story.now_s)
    story.run(HOUR, 1.6)
    assert story.signal().tiers["page"] is False


def test_only_configured_levels_are_judged() -> None:
    probe = make_probe()
    result = make_result(probe, measurements=(make_measurement(), make_measurement(concurrency(9))))
    assert [verdict.level.label for verdict in judge(LoadState(), result)] == ["1"]
