"""The pairs so far, and what they come to at each look. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from statistics import fmean, median

import numpy as np

from exporter.analysis.paired import PairedRatio, overall, paired_ratio
from exporter.analysis.student import binomial_low
from exporter.core.looks import least_pairs
from exporter.core.rollout import ErrorResult, FigureResult, GateOptions, GateVerdict, Margin
from exporter.rollout.halves import Half

HOPELESS_PAIRS = 3
"""A figure that so many pairs do not have, none has."""


class Tally:
    """Takes in pairs and judges them after as many as `looks` states."""

    def __init__(self, options: GateOptions) -> None:
        self._options = options
        self._looks = options.looks
        self._chance = options.one_sided_error
        self._values: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._few: dict[str, str] = {}
        self._components: dict[str, list[float]] = defaultdict(list)
        self._known: dict[str, PairedRatio] = {}
        self._errors = {"stable": [0, 0], "candidate": [0, 0]}
        self.pairs = 0
        """Pairs of which both halves have figures."""
        self.figures: tuple[FigureResult, ...] = ()
        self.errors = self._judge_errors(final=False)
        self.look(final=False)

    def count(self, side: str, half: Half) -> None:
        """Counts a half's requests, whether it has figures or not. `side` is stable or candidate."""
        self._errors[side][0] += half.errors
        self._errors[side][1] += half.requests

    def add(self, stable: Half, candidate: Half) -> bool:
        """Takes in a pair whose halves both have figures; returns whether it is time to look."""
        self.pairs += 1
        for margin in self._options.margins:
            name = margin.figure
            if name in stable.figures and name in candidate.figures:
                self._values[name].append((stable.figures[name], candidate.figures[name]))
            else:
                self._few[name] = stable.few.get(name) or candidate.few.get(name, "")
        for name in stable.components_ns.keys() & candidate.components_ns.keys():
            self._components[name].append(candidate.components_ns[name] - stable.components_ns[name])
        return self.pairs in self._looks

    @property
    def hopeless(self) -> str:
        """Why a figure will never be known; "" while all may be."""
        if self.pairs < HOPELESS_PAIRS:
            return ""
        return next((self._few[m.figure] for m in self._options.margins if not self._values[m.figure]), "")

    @property
    def components_ns(self) -> dict[str, float]:
        """By how much each part of the mean latency grew, on average over the pairs."""
        return {name: fmean(changes) for name, changes in sorted(self._components.items())}

    def look(self, *, final: bool) -> GateVerdict:
        """Judges all figures. At the final look, what is only shown not to be worse counts as equivalent."""
        self.figures = tuple(self._judge(margin, final=final) for margin in self._options.margins)
        self.errors = self._judge_errors(final=final)
        return overall([*(figure.verdict for figure in self.figures), self.errors.verdict])

    def _judge(self, margin: Margin, *, final: bool) -> FigureResult:
        values = self._values[margin.figure]
        if not values:
            text = self._few.get(margin.figure) or "no pair was measured"
            return FigureResult(margin, GateVerdict.UNDECIDED, 0, text)
        logs = np.array([math.log(candidate / stable) for stable, candidate in values])
        ratio = paired_ratio(logs, self._chance).narrowed(self._known.get(margin.figure))
        self._known[margin.figure] = ratio
        verdict = ratio.verdict(margin)
        text = _WORDS[verdict](margin, len(values))
        if not ratio.is_bounded:
            text = f"{len(values)} pairs are too few for an interval; it takes {least_pairs(self._chance)}"
        if verdict is GateVerdict.UNDECIDED and final and ratio.is_no_worse(margin):
            verdict = GateVerdict.EQUIVALENT
            text = f"not worse by more than {_percent(margin.ratio)}; whether it is better is not known"
        return FigureResult(
            margin,
            verdict,
            len(values),
            text,
            stable=median(stable for stable, _ in values),
            candidate=median(candidate for _, candidate in values),
            ratio=ratio.value,
            low=ratio.low or None,
            high=None if math.isinf(ratio.high) else ratio.high,
        )

    def _judge_errors(self, *, final: bool) -> ErrorResult:
        (bad, judged), (stable_bad, stable_judged) = self._errors["candidate"], self._errors["stable"]
        limit = self._options.max_error_ratio
        low = binomial_low(bad, judged, self._chance) if judged else 0.0
        found = ErrorResult(GateVerdict.UNDECIDED, limit, "", bad, judged, stable_bad, stable_judged, low)
        counted = f"{bad} of {judged} requests failed"
        if not judged:
            return replace(found, text="no request was sent")
        if low > limit:
            return replace(found, verdict=GateVerdict.WORSE, text=f"{counted}: above {_percent(limit)} beyond chance")
        if bad <= limit * judged:
            return replace(found, verdict=GateVerdict.EQUIVALENT, text=f"{counted}: at most {_percent(limit)}")
        more = "" if final else " so far"
        return replace(found, text=f"{counted}: above {_percent(limit)}, which may be chance{more}")


def _percent(ratio: float) -> str:
    return f"{ratio * 100:.4g} %"


_WORDS: dict[GateVerdict, Callable[[Margin, int], str]] = {
    GateVerdict.BETTER: lambda margin, _: f"better by more than {_percent(margin.ratio)}",
    GateVerdict.EQUIVALENT: lambda margin, _: f"within {_percent(margin.ratio)}",
    GateVerdict.WORSE: lambda margin, _: f"worse by more than {_percent(margin.ratio)}",
    GateVerdict.UNDECIDED: lambda margin, pairs: (
        f"after {pairs} pairs both more and less than {_percent(margin.ratio)} are possible"
    ),
}
