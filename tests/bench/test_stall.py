"""What is made of a level with a stall in it."""

from __future__ import annotations

import numpy as np
import pytest

from bench.own_load import OwnRun
from bench.stall import RATE, count_gaps, summarize
from exporter.core.units import NS
from exporter.core.window import RecordColumns, Window

GAP_NS = NS // RATE


def window(intended_ns: list[int], late_ns: list[int], took_ns: list[int], unsent: int = 0) -> Window:
    columns = RecordColumns.empty(len(intended_ns))
    columns.intended_ns[:] = intended_ns
    columns.sent_ns[:] = columns.intended_ns + late_ns
    columns.last_ns[:] = columns.sent_ns + took_ns
    return Window(0, 0, NS, columns, sent=len(intended_ns), unsent=unsent)


@pytest.mark.parametrize(
    ("due", "gaps"),
    [([0, 1, 2, 3], 0), ([3, 0, 2, 1], 0), ([0, 1, 3], 1), ([0, 5], 4), ([7], 0)],
)
def test_gaps_are_moments_with_no_record(due: list[int], gaps: int) -> None:
    intended_ns = np.array([1_000_007 + each * GAP_NS for each in due], dtype=np.int64)
    assert count_gaps(intended_ns, RATE) == gaps


def test_summary_counts_from_the_intended_moment_and_from_the_sending() -> None:
    first = window([0, GAP_NS], [0, 0], [NS, NS])
    second = window([4 * GAP_NS, 5 * GAP_NS], [NS, NS], [NS, NS], unsent=1)
    stalled = summarize(OwnRun((first, second), (0,)))
    assert stalled.p99_seconds == pytest.approx(2.0)
    assert stalled.sent_p99_seconds == pytest.approx(1.0)
    assert (stalled.responded, stalled.unsent, stalled.lost) == (4, 1, 1)
