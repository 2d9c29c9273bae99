"""The intervals hold the truth about as often as they state, on a small run of the bench with fixed seeds."""

from __future__ import annotations

import pytest

from bench.interval_coverage import PROCESSES, Process, percentile_coverage, ratio_coverage


@pytest.mark.parametrize("process", PROCESSES, ids=[process.name for process in PROCESSES])
def test_percentiles(process: Process) -> None:
    found = percentile_coverage(process, 1500, 100)
    assert all(now >= 0.87 for _, now in found.values()), found
    if process.name == "M/M/1, 0.8":
        assert all(before < 0.5 for before, _ in found.values()), "what taking requests for independent gives"


def test_ratios() -> None:
    before, before_worse, now, now_worse = ratio_coverage(0.97, 288, 80)
    assert before < 0.4
    assert now >= 0.9
    assert now_worse <= before_worse
