"""Section of the comparison: are the gaps of poisson arrivals exponential, as planned and as sent?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bench import own_load
from bench.models import CACHED_IDENTITY
from bench.programs import progress
from bench.rounds import table
from bench.setting import Setting
from bench.throughput import SMALL
from exporter.core.units import NS
from exporter.engine.pacing import every_nth, poisson

SEEDS = 20
GAPS = 20_000
RATE = 1000.0
TERMS = 100
"""Of a series that ends long before."""

SENT_RATES = {200.0: 1.0, 1000.0: 0.5}
"""At which rates real levels are sent, and for how much of the usual length: the whole section takes about 75 s."""

Numbers = npt.NDArray[np.float64]


async def poisson_arrivals(setting: Setting) -> str:
    """The section: Kolmogorov-Smirnov's test of each seed's gaps against the exponential of the rate asked for. If they
    are that, the p-values are uniform, which the same test reports about them in turn."""
    header = ["what", "seeds", "gaps each", "least p", "median p", "greatest p", "p of the p-values being uniform"]
    rows = [pacer_row(workers) for workers in (1, 2)]
    for rate, share in SENT_RATES.items():
        rows.append(await _sent_row(setting, rate, share * setting.seconds))
    return table(header, rows)


def pacer_row(workers: int) -> list[str]:
    """The pacer's own gaps."""
    what = f"pacer, {workers} worker{'s' if workers > 1 else ''}"
    return [what, *_cells([planned_gaps(seed, workers) for seed in range(SEEDS)])]


async def _sent_row(setting: Setting, rate: float, seconds: float) -> list[str]:
    """The gaps between the moments at which the first bytes of requests went to their sockets."""
    samples = []
    for seed in range(SEEDS):
        progress(f"poisson, {rate:g}/s, seed {seed + 1} of {SEEDS}")
        probe = setting.probe("http", CACHED_IDENTITY, SMALL, own_load.poisson_rate(rate, seed), seconds)
        columns = (await setting.run_ours(probe)).columns
        samples.append(scaled_gaps(columns.sent_ns, rate))
    return [f"sent at {rate:g}/s", *_cells(samples)]


def _cells(samples: Sequence[Numbers]) -> list[str]:
    p_values = np.sort([exponential_p_value(gaps) for gaps in samples])
    figures = [p_values[0], np.median(p_values), p_values[-1], uniform_p_value(p_values)]
    count = np.median([len(gaps) for gaps in samples])
    return [str(len(samples)), f"{count:.0f}", *(f"{figure:.3f}" for figure in figures)]


def planned_gaps(seed: int, workers: int) -> Numbers:
    """Those of all workers' requests together, in mean gaps; they share one process, taken in turns."""
    count = GAPS // workers
    shares = [itertools.islice(every_nth(poisson(RATE, seed), part, workers), count) for part in range(workers)]
    return scaled_gaps(np.array([0, *itertools.chain(*shares)], dtype=np.int64), RATE)


def scaled_gaps(times_ns: npt.NDArray[np.int64], rate: float) -> Numbers:
    """The gaps between these moments, in any order, as multiples of the mean gap at this rate."""
    return np.diff(np.sort(times_ns).astype(np.float64)) * (rate / NS)


def exponential_p_value(gaps: Numbers) -> float:
    """How likely such gaps, or ones further off, are if they are exponential with mean 1."""
    return uniform_p_value(np.sort(1 - np.exp(-gaps)))


def uniform_p_value(ascending: Numbers) -> float:
    """How likely values this far from uniform on [0, 1] are: Kolmogorov's distribution, with Stephens's correction for
    few values (M. A. Stephens, 1970)."""
    count = len(ascending)
    steps = np.arange(count + 1) / count
    distance = max(float((steps[1:] - ascending).max()), float((ascending - steps[:-1]).max()))
    scaled = distance * (math.sqrt(count) + 0.12 + 0.11 / math.sqrt(count))
    series = math.fsum((-1.0) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, TERMS))
    return min(1.0, 2 * series)
