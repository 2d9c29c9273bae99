"""What pairs of short measurements report about two sides, while they come in. Pure.

Stable and candidate are measured in turns, pair by pair, and a coin decides which comes first. If the candidate is the
stable side times a constant, the log ratios of the pairs, less the logarithm of that constant, are as likely positive
as negative: the coin made it so, whatever drifts, bursts or correlations the server has. So Wilcoxon's signed-rank test
is exact as a randomisation test (Fisher, The Design of Experiments, 1935; Rosenbaum, Observational Studies, 2002,
chapter 2), and the constants that it does not reject are an interval: order statistics of the Walsh averages, with
their median, Hodges and Lehmann's, as the estimate (Annals of Mathematical Statistics 34, 1963).

The pairs are looked at several times, and several figures are judged. The error of 5 % is divided among all looks, all
figures and both sides (Bonferroni), so that it is at most 5 % that any interval of a gate misses its true ratio at any
look. Only a few looks are taken, each after half as many pairs again, so that this costs little. Since all intervals
hold at once, so does what is in all of them: a later interval only ever narrows what an earlier one left.

A figure within its margin on both sides is equivalent: two one-sided tests (Schuirmann, Journal of Pharmacokinetics and
Biopharmaceutics 15, 1987).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from exporter.core.rollout import GateVerdict, Margin

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PairedRatio:
    """Candidate over stable, of one figure: the estimate and its interval, 0 and infinity where there are too few pairs
    for a bound."""

    pairs: int
    value: float
    low: float
    high: float

    @property
    def is_bounded(self) -> bool:
        """Whether there is an interval: its two bounds take equally many pairs."""
        return not math.isinf(self.high)

    def verdict(self, margin: Margin) -> GateVerdict:
        """With a margin of 0.1 a latency is worse if its whole interval is above 1.1, equivalent if it is between
        1/1.1 and 1.1, and better if it is below 1/1.1. A throughput is read the other way round."""
        low, high = self._as_cost(margin)
        limit = 1 + margin.ratio
        if low > limit:
            return GateVerdict.WORSE
        if high < 1 / limit:
            return GateVerdict.BETTER
        return GateVerdict.EQUIVALENT if low > 1 / limit and high < limit else GateVerdict.UNDECIDED

    def is_no_worse(self, margin: Margin) -> bool:
        """Whether it is shown that the figure is not worse by more than the margin; it may be better."""
        return self._as_cost(margin)[1] < 1 + margin.ratio

    def narrowed(self, before: PairedRatio | None) -> PairedRatio:
        """With what an earlier look excluded. Where the two have nothing in common, one of them is wrong: this one,
        with more pairs, counts."""
        if before is None:
            return self
        low, high = max(self.low, before.low), min(self.high, before.high)
        return PairedRatio(self.pairs, min(max(self.value, low), high), low, high) if low <= high else self

    def _as_cost(self, margin: Margin) -> tuple[float, float]:
        """The interval such that more is worse."""
        if not margin.more_is_better:
            return self.low, self.high
        return 1 / self.high, 1 / self.low if self.low else math.inf


def paired_ratio(log_ratios: Floats, chance: float) -> PairedRatio:
    """Of the logarithms of candidate over stable, one a pair, in any order; at least one. Each bound misses the truth
    with at most this chance."""
    pairs = len(log_ratios)
    first, second = np.triu_indices(pairs)
    walsh = np.sort((log_ratios[first] + log_ratios[second]) / 2)
    outside = outside_count(pairs, chance)
    low, high = (walsh[outside - 1], walsh[-outside]) if outside else (-math.inf, math.inf)
    return PairedRatio(pairs, math.exp(float(np.median(walsh))), math.exp(low), math.exp(high))


@lru_cache(maxsize=1024)
def outside_count(pairs: int, chance: float) -> int:
    """How many Walsh averages may be cut off at one end so that the interval misses the truth at that end with at most
    this chance: the largest k with P(T <= k - 1) <= chance, T the signed-rank statistic; 0 if there is none."""
    cumulative = np.cumsum(signed_rank_distribution(pairs))
    return int(np.searchsorted(cumulative, chance, side="right"))


@lru_cache(maxsize=256)
def signed_rank_distribution(pairs: int) -> Floats:
    """The probability of each value of the sum of those ranks 1 to n whose coin shows heads."""
    chances = np.ones(1)
    for rank in range(1, pairs + 1):
        grown = np.zeros(len(chances) + rank)
        grown[: len(chances)] += chances / 2
        grown[rank:] += chances / 2
        chances = grown
    return chances


def overall(verdicts: Sequence[GateVerdict]) -> GateVerdict:
    """Of a gate with these figures. One that is worse makes it worse; all must be known for anything else."""
    for verdict in GateVerdict.WORSE, GateVerdict.UNDECIDED, GateVerdict.BETTER:
        if verdict in verdicts:
            return verdict
    return GateVerdict.EQUIVALENT if verdicts else GateVerdict.UNDECIDED
