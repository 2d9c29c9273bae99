"""The in-process comparison's table, from figures that were not measured."""

from __future__ import annotations

from bench.in_process import Figures, rows
from bench.rounds import OURS, PERF_ANALYZER, Case


async def no_figures() -> Figures:
    raise AssertionError("nothing is measured here")


def test_only_one_request_in_flight_is_held_to_the_aim() -> None:
    for concurrency, aims in (("1", ["≥ 1", "yes", "≤ 1", "**no**"]), ("4", ["", "", "", ""])):
        case = Case((concurrency,), {PERF_ANALYZER: no_figures, OURS: no_figures})
        case.figures.update(
            {
                (PERF_ANALYZER, 0): Figures(1000.0, 100.0),
                (OURS, 0): Figures(1100.0, 150.0),
                (PERF_ANALYZER, 1): Figures(2000.0, 100.0),
            }
        )
        theirs, ours = rows(case)
        assert theirs == [
            *(concurrency, PERF_ANALYZER, "1500 (1000 to 2000)", "100.0 (100.0 to 100.0)"),
            *[""] * 6,
        ]
        assert ours[:4] == [concurrency, OURS, "1100 (1100 to 1100)", "150.0 (150.0 to 150.0)"]
        assert [ours[4], ours[7]] == ["1.10 (1.10 to 1.10)", "1.50 (1.50 to 1.50)"]
        assert [*ours[5:7], *ours[8:10]] == aims
