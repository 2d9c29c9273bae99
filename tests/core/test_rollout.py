"""Margins and options as users write them."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.analysis.paired import outside_count
from exporter.core.rollout import GateOptions, Margin
from exporter.core.units import NS


@pytest.mark.parametrize(
    ("text", "figure", "ratio", "percentile", "more_is_better"),
    [
        ("p99=10%", "p99", 0.1, 99.0, False),
        ("p99.9=0.25", "p99.9", 0.25, 99.9, False),
        (" p5 = 2.5% ", "p5", 0.025, 5.0, False),
        ("throughput=5%", "throughput", 0.05, None, True),
        ("ttft=20%", "ttft", 0.2, 50.0, False),
    ],
)
def test_a_margin(text: str, figure: str, ratio: float, percentile: float | None, more_is_better: bool) -> None:
    margin = Margin.parse(text)
    assert (margin.figure, margin.percentile, margin.more_is_better) == (figure, percentile, more_is_better)
    assert margin.ratio == pytest.approx(ratio)
    assert Margin.parse(str(margin)) == margin


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("p99", "'' is not a ratio: write 10% or 0.1"),
        ("p99=ten", "'ten' is not a ratio"),
        ("p99=-3%", "'-3%' is not a ratio"),
        ("p99=nan", "'nan' is not a ratio"),
        ("p99=0%", "the margin of p99 must be above 0% and below 100%"),
        ("p99=10", "the margin of p99 must be above 0% and below 100%"),
        ("p100=10%", "unknown figure 'p100': use a percentile of latency (p99), throughput or ttft"),
        ("p0=10%", "unknown figure 'p0'"),
        ("latency=10%", "unknown figure 'latency'"),
    ],
)
def test_a_margin_that_is_none(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(problem)):
        Margin.parse(text)


def test_all_problems_of_options_at_once() -> None:
    assert GateOptions().problems() == []
    margin = Margin("p99", 0.1)
    broken = GateOptions((margin, margin), 1.0, 4, 3, 10, 61 * NS)
    assert [problem.partition(":")[0] for problem in broken.problems()] == [
        "margins",
        "max_error_ratio",
        "min_pairs",
        "max_pairs",
        "window",
        "max_duration",
    ]
    assert GateOptions(()).problems() == ["margins: give at least one, as p99=10%"]


FIGURES = ("p50", "p90", "p95", "p99", "p99.9", "throughput", "ttft", "p75", "p25", "p10")


def bound(options: GateOptions) -> int:
    return outside_count(options.max_pairs, options.one_sided_error)


@given(st.integers(1, len(FIGURES)), st.integers(5, 40), st.integers(0, 30))
def test_what_is_accepted_can_be_decided_and_the_number_named_is_the_least(count: int, least: int, more: int) -> None:
    margins = tuple(Margin(name, 0.1) for name in FIGURES[:count])
    options = GateOptions(margins, min_pairs=least, max_pairs=least + more)
    problems = options.problems()
    assert bool(problems) is (bound(options) == 0)
    if problems:
        [problem] = problems
        assert problem.startswith(f"max_pairs: {least + more} pairs are too few for an interval")
        named = int(problem.rpartition(" ")[2])
        assert replace(options, max_pairs=named).problems() == []
        assert bound(replace(options, max_pairs=named)) > 0
        assert all(bound(replace(options, max_pairs=fewer)) == 0 for fewer in range(least, named))


def test_six_pairs_decide_nothing_whatever_they_show() -> None:
    [problem] = GateOptions((Margin("p50", 0.1),), min_pairs=5, max_pairs=6).problems()
    assert problem.endswith(" it takes 8")
    assert GateOptions((Margin("p50", 0.1),), min_pairs=5, max_pairs=8).problems() == []
