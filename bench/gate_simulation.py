"""How often the rollout gate errs, and what it finds, on made-up noise: 10,000 gates per case, looked at as they run.
`python -m bench.gate_simulation [--gates 10000]` prints the table of docs/gate.md.

A window's figure is its true value times noise. Both ways of measuring get the same series of windows: the gate takes
them in pairs whose order a coin decides, and the other way is the usual one, all windows of one side after all of the
other, judged once by Welch's interval.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from bench.rounds import table
from exporter.analysis.paired import outside_count
from exporter.analysis.student import t_quantile
from exporter.core.looks import one_sided_error
from exporter.core.rollout import GateOptions, GateVerdict

Floats = npt.NDArray[np.float64]
Noise = Callable[[np.random.Generator, int, int], Floats]
"""Logarithms of the noise: one row per gate, windows in order of time."""

FIGURES = 3
"""p99, throughput and the error ratio share the error, as by default."""
_CHUNK = 500
_CODES = list(GateVerdict)


@dataclass(frozen=True, slots=True)
class Found:
    """By gate: its verdict (an index into GateVerdict), after how many pairs, and whether an interval of any look
    missed the truth."""

    verdicts: npt.NDArray[np.int64]
    pairs: npt.NDArray[np.int64]
    missed: npt.NDArray[np.bool_]

    def part(self, verdict: GateVerdict) -> float:
        return float(np.mean(self.verdicts == _CODES.index(verdict)))


def independent(sigma: float) -> Noise:
    """Each window for itself."""
    return lambda random, gates, windows: random.normal(0, sigma, (gates, windows))


def autoregressive(phi: float, sigma: float) -> Noise:
    """Windows that resemble the one before, as beside a neighbour that comes and goes slowly."""

    def noise(random: np.random.Generator, gates: int, windows: int) -> Floats:
        shocks = random.normal(0, sigma * math.sqrt(1 - phi * phi), (gates, windows))
        shocks[:, 0] = random.normal(0, sigma, gates)
        for before, now in pairwise(range(windows)):
            shocks[:, now] += phi * shocks[:, before]
        return shocks

    return noise


def bursts(random: np.random.Generator, gates: int, windows: int) -> Floats:
    """Calm with 5 % of noise, and every 30 windows or so a burst of some 8 windows, 50 % slower or so."""
    found = random.normal(0, 0.05, (gates, windows))
    for row in found:
        begin = 0
        while begin < windows:
            begin += int(random.exponential(30))
            end = begin + int(random.exponential(8))
            row[begin:end] += random.exponential(0.5)
            begin = end
    return found


def heavy_tails(random: np.random.Generator, gates: int, windows: int) -> Floats:
    """Student's t with two degrees of freedom: outliers without bound."""
    return 0.05 * random.standard_t(2, (gates, windows))


def drift(random: np.random.Generator, gates: int, windows: int) -> Floats:
    """A server that gets 1 % slower, or faster, with each pair."""
    slope = random.choice([-0.005, 0.005], (gates, 1))
    return random.normal(0, 0.05, (gates, windows)) + slope * np.arange(windows)


NOISES: dict[str, Noise] = {
    "independent, 5 %": independent(0.05),
    "independent, 15 %": independent(0.15),
    "autocorrelated 0.97, 20 %": autoregressive(0.97, 0.2),
    "bursts": bursts,
    "heavy tails": heavy_tails,
    "drift of 1 % per pair": drift,
}


def gates(random: np.random.Generator, noise: Noise, effect: float, margin: float, count: int) -> Found:
    """So many gates whose candidate is `effect` times the stable side."""
    parts = [_some_gates(random, noise, effect, margin, min(_CHUNK, count - done)) for done in range(0, count, _CHUNK)]
    return Found(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("verdicts", "pairs", "missed")))


def _some_gates(random: np.random.Generator, noise: Noise, effect: float, margin: float, count: int) -> Found:
    options = GateOptions()
    windows = noise(random, count, 2 * options.max_pairs).reshape(count, options.max_pairs, 2)
    coins = random.choice([-1.0, 1.0], (count, options.max_pairs))
    return judge((windows[:, :, 0] - windows[:, :, 1]) * coins + math.log(effect), math.log(effect), margin)


def judge(log_ratios: Floats, truth: float, margin: float) -> Found:
    """What gates come to whose pairs have these ratios, one row per gate: `analysis.paired` for many at once."""
    options = GateOptions()
    look_pairs = options.looks
    chance = one_sided_error(len(look_pairs), FIGURES)
    count = len(log_ratios)
    low, high = np.full(count, -math.inf), np.full(count, math.inf)
    verdicts = np.full(count, _CODES.index(GateVerdict.UNDECIDED))
    ended = np.full(count, look_pairs[-1])
    missed = np.zeros(count, bool)
    for pairs in look_pairs:
        going = verdicts == _CODES.index(GateVerdict.UNDECIDED)
        new_low, new_high = _bounds(log_ratios[going, :pairs], chance)
        missed[going] |= (new_low > truth) | (new_high < truth)
        both = np.maximum(low[going], new_low), np.minimum(high[going], new_high)
        whole = both[0] <= both[1]
        low[going], high[going] = np.where(whole, both[0], new_low), np.where(whole, both[1], new_high)
        limit = math.log(1 + margin)
        inside = (low > -limit) & (high < limit)
        for verdict, holds in (
            (GateVerdict.EQUIVALENT, inside),
            (GateVerdict.WORSE, low > limit),
            (GateVerdict.BETTER, high < -limit),
        ):
            verdicts[going & holds] = _CODES.index(verdict)
        ended[going & (verdicts != _CODES.index(GateVerdict.UNDECIDED))] = pairs
    return Found(verdicts, ended, missed)


def _bounds(log_ratios: Floats, chance: float) -> tuple[Floats, Floats]:
    count, pairs = log_ratios.shape
    outside = outside_count(pairs, chance)
    if not outside:
        return np.full(count, -math.inf), np.full(count, math.inf)
    first, second = np.triu_indices(pairs)
    walsh = (log_ratios[:, first] + log_ratios[:, second]) / 2
    total = walsh.shape[1]
    walsh.partition((outside - 1, total - outside), axis=1)
    return walsh[:, outside - 1], walsh[:, total - outside]


def one_after_the_other(
    random: np.random.Generator, noise: Noise, effect: float, margin: float, count: int, pairs: int
) -> Found:
    """The usual way: first all windows of the stable side, then all of the candidate, and one look."""
    windows = noise(random, count, 2 * pairs)
    stable, candidate = windows[:, :pairs], windows[:, pairs:] + math.log(effect)
    difference = candidate.mean(axis=1) - stable.mean(axis=1)
    parts = candidate.var(axis=1, ddof=1) / pairs, stable.var(axis=1, ddof=1) / pairs
    degrees = (parts[0] + parts[1]) ** 2 / ((parts[0] ** 2 + parts[1] ** 2) / (pairs - 1))
    half = np.sqrt(parts[0] + parts[1]) * t_quantile(0.975, round(float(np.median(degrees))))
    low, high, limit = difference - half, difference + half, math.log(1 + margin)
    verdicts = np.full(count, _CODES.index(GateVerdict.UNDECIDED))
    verdicts[(low > -limit) & (high < limit)] = _CODES.index(GateVerdict.EQUIVALENT)
    verdicts[low > limit] = _CODES.index(GateVerdict.WORSE)
    verdicts[high < -limit] = _CODES.index(GateVerdict.BETTER)
    missed = (low > math.log(effect)) | (high < math.log(effect))
    return Found(verdicts, np.full(count, pairs), missed)


def row(name: str, effect: float, margin: float, found: Found, other: Found) -> list[str]:
    return [
        name,
        f"{effect:g}",
        f"{margin:.0%}",
        *(f"{found.part(verdict):.2%}" for verdict in GateVerdict),
        f"{np.mean(found.missed):.2%}",
        f"{np.median(found.pairs):.0f}",
        *(f"{other.part(verdict):.1%}" for verdict in GateVerdict),
        f"{np.mean(other.missed):.1%}",
    ]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gates", type=int, default=10_000)
    count = parser.parse_args().gates
    verdicts = [verdict.value for verdict in GateVerdict]
    head = ["noise", "true ratio", "margin", *verdicts, "missed", "median pairs"]
    head += [f"after: {name}" for name in (*verdicts, "missed")]
    rows = []
    for name, noise in NOISES.items():
        for effect, margin in ((1.0, 0.05), (1.0, 0.1), (1.1, 0.1), (1.1, 0.05), (1.2, 0.1)):
            random = np.random.default_rng(22)
            found = gates(random, noise, effect, margin, count)
            other = one_after_the_other(random, noise, effect, margin, count, int(np.median(found.pairs)))
            rows.append(row(name, effect, margin, found, other))
    print(table(head, rows))


if __name__ == "__main__":
    main()
