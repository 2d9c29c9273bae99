"""Margins and options as users write them."""

from __future__ import annotations

import re

import pytest

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
        "window",
        "max_duration",
    ]
    assert GateOptions(()).problems() == ["margins: give at least one, as p99=10%"]
