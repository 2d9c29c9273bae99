"""Interleaving, pairs within a round, and tables."""

from __future__ import annotations

import pytest

from bench.programs import BenchError
from bench.rounds import Aim, Case, Tool, measure, ratio_cells, spread, table


def tool(log: list[str], name: str, figures: list[float | None]) -> Tool[float]:
    left = iter(figures)

    async def run() -> float:
        log.append(name)
        figure = next(left)
        if figure is None:
            raise BenchError("lost")
        return figure

    return run


async def test_measure_lets_each_begin_in_turn_and_pairs_within_a_round() -> None:
    log: list[str] = []
    case = Case(("http",), {"ours": tool(log, "ours", [10, None, 30]), "peer": tool(log, "peer", [1, 2, 3])})
    await measure("rates", 3, [case])
    assert log == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert case.of("ours") == [10, 30]
    assert case.pairs("ours", "peer") == [(10, 1), (30, 3)]


async def test_measure_takes_all_cases_in_a_round_before_the_next_round() -> None:
    log: list[str] = []
    cases = [Case((name,), {"ours": tool(log, name, [1, 1])}) for name in ("first", "second")]
    await measure("rates", 2, cases)
    assert log == ["first", "second", "first", "second"]


@pytest.mark.parametrize(
    ("aim", "value", "text", "verdict"),
    [
        (Aim(1.5), 1.5, "≥ 1.5", "yes"),
        (Aim(1.5), 1.49, "≥ 1.5", "**no**"),
        (Aim(0.5, at_least=False), 0.5, "≤ 0.5", "yes"),
        (Aim(50.0, at_least=False), 51, "≤ 50", "**no**"),
    ],
)
def test_aim(aim: Aim, value: float, text: str, verdict: str) -> None:
    assert (str(aim), aim.verdict(value)) == (text, verdict)


def test_ratio_cells_judge_the_median() -> None:
    pairs = [(3.0, 2.0), (1.0, 1.0), (4.0, 2.0)]
    assert ratio_cells(pairs, Aim(1.5)) == ["1.50 (1.00 to 2.00)", "≥ 1.5", "yes"]
    assert ratio_cells(pairs, None) == ["1.50 (1.00 to 2.00)", "", ""]
    assert ratio_cells([], Aim(1.5)) == ["no figures", "≥ 1.5", ""]


def test_spread() -> None:
    assert spread([3, 1, 2], 1) == "2.0 (1.0 to 3.0)"


def test_table() -> None:
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
