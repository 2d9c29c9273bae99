"""How the trial judges one side after the other, and counts."""

from __future__ import annotations

import pytest

from bench.gate_trial import one_look, rows
from exporter.core.rollout import GateVerdict


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(1.0, GateVerdict.EQUIVALENT), (1.3, GateVerdict.WORSE), (0.7, GateVerdict.BETTER)],
)
def test_one_look_at_all_windows(factor: float, verdict: GateVerdict) -> None:
    stable = [{"p50": 0.010 + 1e-5 * number, "p95": 0.020 + 1e-5 * number} for number in range(10)]
    candidate = [{name: value * factor for name, value in window.items()} for window in stable]
    assert one_look(stable, candidate) is verdict
    assert one_look(stable[:2], candidate) is GateVerdict.UNDECIDED


def test_each_case_is_counted_by_verdict() -> None:
    trial = {"case": "same", "verdict": "equivalent", "after": "worse", "pairs": 10, "seconds": 20.0}
    trials = [trial, trial | {"verdict": "undecided", "pairs": 30, "seconds": 60.0}]
    ((case, gates, *counts),) = rows(trials)
    assert (case, gates) == ("same", "2")
    # better, equivalent, worse, undecided of the gate; median pairs and seconds; the same of the usual way
    assert counts == ["0", "1", "0", "1", "20", "40", "0", "0", "2", "0"]
