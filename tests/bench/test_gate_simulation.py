"""The simulated gates decide as the real statistics do, and err no more than promised."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.gate_simulation import FIGURES, NOISES, gates, judge
from exporter.analysis.paired import PairedRatio, paired_ratio
from exporter.core.looks import ERROR, one_sided_error
from exporter.core.rollout import GateOptions, GateVerdict, Margin


@pytest.mark.parametrize("effect", [0.8, 1.0, 1.08, 1.25])
def test_many_at_once_are_judged_as_one_is(effect: float) -> None:
    options = GateOptions()
    random = np.random.default_rng(3)
    log_ratios = math.log(effect) + random.normal(0, 0.1, (30, options.max_pairs))
    found = judge(log_ratios, math.log(effect), 0.1)
    look_pairs = options.looks
    for number, ratios in enumerate(log_ratios):
        known: PairedRatio | None = None
        for pairs in look_pairs:
            known = paired_ratio(ratios[:pairs], one_sided_error(len(look_pairs), FIGURES)).narrowed(known)
            verdict = known.verdict(Margin("p99", 0.1))
            if verdict is not GateVerdict.UNDECIDED:
                break
        assert list(GateVerdict)[found.verdicts[number]] is verdict
        assert found.pairs[number] == pairs


@pytest.mark.parametrize("name", list(NOISES))
def test_the_same_on_both_sides_is_hardly_ever_worse_or_better(name: str) -> None:
    found = gates(np.random.default_rng(7), NOISES[name], 1.0, 0.05, 400)
    # Of one figure of three, on both sides; four standard deviations of 400 gates above it.
    promised = ERROR / FIGURES
    assert np.mean(found.missed) <= promised + 4 * math.sqrt(promised / 400)
    assert found.part(GateVerdict.WORSE) + found.part(GateVerdict.BETTER) <= 0.02


def test_a_fifth_slower_is_found_where_the_noise_is_small() -> None:
    found = gates(np.random.default_rng(7), NOISES["independent, 5 %"], 1.2, 0.1, 200)
    assert found.part(GateVerdict.WORSE) > 0.9
