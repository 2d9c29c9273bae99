"""Ratios, their intervals and verdicts, on figures worked out by hand and on random ones."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.commands.compare.comparison import (
    Figures,
    LevelSample,
    Ratio,
    Side,
    Verdict,
    compare,
    judge,
    needed_requests,
    reported,
)


def sample(
    throughputs: list[float], label: str = "1", *, figure: float | None = None, stable: bool = True, p95_ms: float = 10
) -> LevelSample:
    """A sweep's level; its figure is its windows' mean unless reported otherwise."""
    windows = tuple(Figures(each, {95.0: p95_ms * 1e6}) for each in throughputs)
    merged = figure if figure is not None else sum(throughputs) / len(throughputs)
    return LevelSample("", "concurrency", label, stable, Figures(merged, {95.0: p95_ms * 1e6}), windows)


def throughput(first: list[LevelSample], second: list[LevelSample]) -> Ratio:
    [level] = compare(Side("A", tuple(first)), Side("B", tuple(second)), [95.0]).levels
    assert level.throughput is not None
    return level.throughput


def test_interval_by_hand() -> None:
    """A: 90, 100, 110, so s = 10 and a relative squared error of 100/3/100^2. B: 198, 200, 202, so 4/3/200^2.
    Their sum is 0.0033667, its degrees of freedom 2.0400 and t so 4.2228: exp(+-0.24502)."""
    found = throughput([sample([90, 100, 110])], [sample([198, 200, 202])])
    assert (found.first, found.second, found.value) == (100, 200, 2.0)
    assert found.low is not None
    assert found.high is not None
    assert math.log(found.high / 2) == pytest.approx(0.24502, abs=1e-5)
    assert found.low * found.high == pytest.approx(4.0)


def test_five_sweeps_are_the_values_themselves() -> None:
    """Windows within a sweep hardly differ here, sweeps do: the interval must know."""
    sweeps = [sample([each, each * 1.0001]) for each in (90.0, 95.0, 100.0, 105.0, 110.0)]
    few, many = throughput(sweeps[:1], sweeps[:1]), throughput(sweeps, sweeps)
    assert few.high is not None
    assert many.high is not None
    assert few.high < 1.01 < 1.1 < many.high


def test_without_two_values_there_is_no_interval() -> None:
    found = throughput([sample([100.0])], [sample([150.0, 151.0])])
    assert (found.value, found.low, found.high) == (1.505, None, None)


def test_values_that_never_vary() -> None:
    found = throughput([sample([100.0, 100.0])], [sample([150.0, 150.0])])
    assert (found.low, found.value, found.high) == (1.5, 1.5, 1.5)


def test_levels_are_matched_and_what_is_left_is_named() -> None:
    first = Side("A", (sample([1, 1], "1"), sample([1, 1], "2"), sample([1, 1], "4", stable=False)))
    second = Side("B", (sample([1, 1], "4"), sample([1, 1], "1"), sample([1, 1], "8")))
    found = compare(first, second, [95.0, 99.0])
    assert [(level.label, level.stable, list(level.latency)) for level in found.levels] == [
        ("1", True, [95.0]),
        ("4", False, [95.0]),
    ]
    assert found.unmatched == ("concurrency 2 (only A)", "concurrency 8 (only B)")


EMPTY = LevelSample("", "concurrency", "1", False, Figures(0.0, {}), (Figures(0.0, {}), Figures(0.0, {})))


@pytest.mark.parametrize(
    ("first", "second", "responded", "verdicts"),
    [
        (sample([1, 1]), EMPTY, (True, False), [Verdict.WORSE]),
        (EMPTY, sample([1, 1]), (False, True), [Verdict.BETTER]),
        (EMPTY, EMPTY, (False, False), []),
    ],
)
def test_a_level_that_sent_no_response_has_no_ratio(
    first: LevelSample, second: LevelSample, responded: tuple[bool, bool], verdicts: list[Verdict]
) -> None:
    found = compare(Side("A", (first,)), Side("B", (second,)), [95.0])
    [level] = found.levels
    assert (level.throughput, level.latency, level.responded) == (None, {}, responded)
    assert level.verdicts(0.05) == verdicts
    assert found.is_worse(0.99) == (Verdict.WORSE in verdicts)


def test_all_percentiles_that_both_sides_have() -> None:
    def side(name: str, *percentiles: float) -> Side:
        figures = Figures(1.0, dict.fromkeys(percentiles, 1e6))
        return Side(name, (LevelSample("", "concurrency", "1", True, figures, (figures, figures)),))

    [level] = compare(side("A", 99.9, 50.0, 90.0, 95.0), side("B", 90.0, 97.5, 99.9, 50.0)).levels
    assert list(level.latency) == [50.0, 90.0, 99.9]
    [level] = compare(side("A", 50.0), side("B", 97.5)).levels
    assert list(level.latency) == []


@pytest.mark.parametrize(
    ("low", "value", "high", "more_is_better", "verdict"),
    [
        (1.7, 1.76, 1.8, True, Verdict.BETTER),
        (1.7, 1.76, 1.8, False, Verdict.WORSE),
        (0.90, 0.94, 0.98, True, Verdict.WORSE),
        (0.90, 0.94, 0.98, False, Verdict.BETTER),
        (0.90, 0.94, 1.01, True, Verdict.UNCLEAR),
        (0.97, 0.99, 0.999, True, Verdict.SAME),
        (0.97, 1.0, 1.04, True, Verdict.SAME),
        (0.94, 1.0, 1.04, True, Verdict.UNCLEAR),
        (None, 0.94, None, True, Verdict.WORSE),
        (None, 0.96, None, True, Verdict.SAME),
    ],
)
def test_verdicts_at_five_percent(
    low: float | None, value: float, high: float | None, more_is_better: bool, verdict: Verdict
) -> None:
    clear = low is None or high is None or not low <= 1.0 <= high
    found = Ratio(1.0, value, low, high, is_clear=clear)
    assert judge(found, 0.05, more_is_better=more_is_better) is verdict


def test_worse_is_any_figure_that_is_worse() -> None:
    first, second = [sample([100.0, 101.0])] * 5, [sample([100.0, 101.0], p95_ms=20)] * 5
    found = compare(Side("A", tuple(first)), Side("B", tuple(second)), [95.0])
    assert found.is_worse(0.05)
    assert not found.is_worse(1.5)
    assert not compare(Side("B", tuple(second)), Side("A", tuple(first)), [95.0]).is_worse(0.05)


@given(st.lists(st.floats(1.0, 1e6), min_size=2, max_size=8), st.lists(st.floats(1.0, 1e6), min_size=2, max_size=8))
def test_the_other_way_round_is_the_inverse(first: list[float], second: list[float]) -> None:
    there, back = throughput([sample(first)], [sample(second)]), throughput([sample(second)], [sample(first)])
    assert there.low is not None
    assert back.high is not None
    assert there.value * back.value == pytest.approx(1.0)
    assert there.low * back.high == pytest.approx(1.0)
    assert there.low <= there.value


def test_the_interval_covers_the_truth_about_as_often_as_it_reports() -> None:
    """Three windows a side, 2 % noise, a true ratio of 1.5: 95 % of the intervals hold it."""
    rng = random.Random(1)
    hits = 0
    for _ in range(600):
        found = throughput(
            [sample([rng.gauss(100, 2) for _ in range(3)])], [sample([rng.gauss(150, 3) for _ in range(3)])]
        )
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 1.5 <= found.high
    assert 0.92 < hits / 600 < 0.98


def sweeps(values: Sequence[float]) -> list[LevelSample]:
    return [sample([value]) for value in values]


def test_nothing_is_worse_by_fewer_than_five_sweeps_unless_asked() -> None:
    one, other = Side("A", (sample([100.0, 101.0, 99.0]),)), Side("B", (sample([50.0, 51.0, 49.0]),))
    assert not compare(one, other, [95.0]).is_worse(0.05)
    assert Verdict.UNCLEAR in compare(one, other, [95.0]).verdicts(0.05)
    assert compare(one, other, [95.0], min_sweeps=1).is_worse(0.05)


def test_sweeps_that_follow_each_other_are_alike() -> None:
    """An hour that is 10 % slow among twelve, in a row or dealt out: only dealt out does it report the mean."""
    rng = random.Random(3)
    slow_hours = [100.0 * (0.8 if hour % 3 == 0 else 1.0) * rng.gauss(1, 0.01) for hour in range(12) for _ in range(12)]
    dealt = slow_hours.copy()
    rng.shuffle(dealt)
    in_a_row, mixed = (throughput(sweeps(values), sweeps(values)) for values in (slow_hours, dealt))
    assert in_a_row.high is not None
    assert mixed.high is not None
    assert in_a_row.high - 1 > 2 * (mixed.high - 1)


def test_of_many_figures_one_differs_by_chance() -> None:
    """20 levels alike, and one that is 7 % worse with a p of about 0.02: clear alone, not among so many."""
    first = [100.0, 104.0, 96.0, 102.0, 98.0]
    worse = [value * 0.93 for value in first]
    alike = [sample([value], str(level)) for level in range(2, 22) for value in first]
    alone = compare(Side("A", tuple(sweeps(first))), Side("B", tuple(sweeps(worse))), [])
    assert alone.is_worse(0.05)
    together = compare(Side("A", (*sweeps(first), *alike)), Side("B", (*sweeps(worse), *alike)), [])
    assert not together.is_worse(0.05)


def test_a_percentile_needs_requests_beyond_it() -> None:
    assert [needed_requests(p) for p in (50.0, 99.0, 99.9)] == [6, 300, 3000]
    figures = reported(10.0, {50.0: 1e6, 99.0: 2e6, 99.9: 3e6}, 2999)
    assert (sorted(figures.percentiles_ns), figures.unsupported) == ([50.0, 99.0], (99.9,))
    side = tuple(LevelSample("", "concurrency", "1", True, figures, ()) for _ in range(5))
    [level] = compare(Side("A", side), Side("B", side)).levels
    assert (sorted(level.latency), level.unsupported) == ([50.0, 99.0], (99.9,))


@pytest.mark.parametrize(
    ("correlation", "count", "least"),
    [(0.0, 20, 0.9), (0.9, 5, 0.9), (0.9, 50, 0.9), (0.97, 10, 0.87), (0.97, 288, 0.9)],
)
def test_the_interval_of_sweeps_covers_one(correlation: float, count: int, least: float) -> None:
    """Both sides vary alike, by 5 %, each sweep like the one before; now 90 to 98 %, when sweeps were taken for
    independent 19 % (0.97), 31 % (0.9)."""
    rng = random.Random(8)

    def side() -> list[LevelSample]:
        now, values = rng.gauss(0, 1), []
        for _ in range(count):
            now = correlation * now + math.sqrt(1 - correlation**2) * rng.gauss(0, 1)
            values.append(100 * math.exp(0.05 * now))
        return sweeps(values)

    found = [throughput(side(), side()) for _ in range(150)]
    assert sum(each.low is not None and each.high is not None and each.low <= 1 <= each.high for each in found) >= (
        least * len(found)
    )
