"""Section of the comparison: are the gaps of the poisson pacer exponential? Pure; needs no server."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt

from bench.rounds import table
from exporter.load.pacing import every_nth, poisson
from exporter.probe import NS

SEEDS = 20
GAPS = 20_000
RATE = 1000.0
TERMS = 100
"""Of a series that ends long before."""


def poisson_section() -> str:
    """Kolmogorov-Smirnov's test of each seed's gaps against the exponential of the rate asked for. If they are that,
    the p-values are uniform, which the same test says of them in turn."""
    header = ["workers", "seeds", "gaps each", "least p", "median p", "greatest p", "p of the p-values being uniform"]
    return table(header, [_row(workers) for workers in (1, 2)])


def _row(workers: int) -> list[str]:
    p_values = np.sort([gaps_p_value(seed, workers) for seed in range(SEEDS)])
    figures = [p_values[0], np.median(p_values), p_values[-1], p_value(p_values)]
    return [str(workers), str(SEEDS), str(GAPS), *(f"{figure:.3f}" for figure in figures)]


def gaps_p_value(seed: int, workers: int) -> float:
    """That of the gaps of all workers' requests together; they share one process, taken in turns."""
    count = GAPS // workers
    shares = [itertools.islice(every_nth(poisson(RATE, seed), part, workers), count) for part in range(workers)]
    offsets_ns = np.sort(np.array([0, *itertools.chain(*shares)], dtype=np.float64))
    gaps = np.diff(offsets_ns) * RATE / NS
    return p_value(np.sort(1 - np.exp(-gaps)))


def p_value(ascending: npt.NDArray[np.float64]) -> float:
    """How likely values this far from uniform on [0, 1] are: Kolmogorov's distribution, with Stephens's correction for
    few values (M. A. Stephens, 1970)."""
    count = len(ascending)
    steps = np.arange(count + 1) / count
    distance = max(float((steps[1:] - ascending).max()), float((ascending - steps[:-1]).max()))
    scaled = distance * (math.sqrt(count) + 0.12 + 0.11 / math.sqrt(count))
    series = math.fsum((-1.0) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, TERMS))
    return min(1.0, 2 * series)
