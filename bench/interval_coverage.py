"""How often the 95 % intervals hold the truth: of percentiles, and of the ratios that `compare` gives.

`python -m bench.interval_coverage [--runs 400]` prints the tables of docs/measuring.md and docs/results.md, each beside
what independent values would be taken for. Sequences are made here, by Lindley's recursion and as first-order
autoregressions; truths are exact for M/M/1, and of long sequences for the others.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean, variance

import numpy as np
import numpy.typing as npt

from bench.rounds import table
from exporter.analysis.latency import interval_ranks, summarise
from exporter.analysis.student import t_quantile
from exporter.commands.compare.comparison import Figures, LevelSample, Side, compare
from exporter.core.units import NS

Floats = npt.NDArray[np.float64]
QUANTILES = (0.5, 0.9, 0.99)
_SECONDS = 0.01
_SPREAD = 0.3


@dataclass(frozen=True, slots=True)
class Process:
    """A stationary sequence of durations in seconds: `make(random, runs, count)` gives a row for each run."""

    name: str
    make: Callable[[np.random.Generator, int, int], Floats]
    utilization: float | None = None

    def truths(self, random: np.random.Generator) -> dict[float, float]:
        """The true quantiles."""
        if self.utilization is not None:
            return {q: -math.log(1 - q) * _SECONDS / (1 - self.utilization) for q in QUANTILES}
        sample = self.make(random, 2000, 1000)
        return {q: float(np.quantile(sample, q)) for q in QUANTILES}


def queue(utilization: float, *, memoryless: bool) -> Callable[[np.random.Generator, int, int], Floats]:
    """Times in the system of a stationary M/M/1 or M/D/1 queue."""

    def make(random: np.random.Generator, runs: int, count: int) -> Floats:
        warm = 1500
        total = warm + count
        gaps = random.exponential(_SECONDS / utilization, (runs, total))
        times = random.exponential(_SECONDS, (runs, total)) if memoryless else np.full((runs, total), _SECONDS)
        arrivals, served = np.cumsum(gaps, axis=1), np.cumsum(times, axis=1)
        ends = served + np.maximum.accumulate(arrivals - served + times, axis=1)
        found: Floats = (ends - arrivals)[:, warm:]
        return found

    return make


def autoregression(correlation: float, spread: float = _SPREAD) -> Callable[[np.random.Generator, int, int], Floats]:
    """exp(spread x), x a first-order autoregression of variance 1; 0 is independent."""

    def make(random: np.random.Generator, runs: int, count: int) -> Floats:
        noise = random.standard_normal((count, runs)) * math.sqrt(1 - correlation**2)
        now = random.standard_normal(runs)
        rows = np.empty((count, runs))
        for index in range(count):
            now = correlation * now + noise[index]
            rows[index] = now
        values: Floats = _SECONDS * np.exp(spread * rows.T)
        return values

    return make


PROCESSES = (
    Process("independent", autoregression(0.0)),
    Process("M/D/1, 0.5", queue(0.5, memoryless=False)),
    Process("M/D/1, 0.8", queue(0.8, memoryless=False)),
    Process("M/M/1, 0.5", queue(0.5, memoryless=True), 0.5),
    Process("M/M/1, 0.8", queue(0.8, memoryless=True), 0.8),
    Process("AR(1), 0.9", autoregression(0.9)),
    Process("AR(1), 0.97", autoregression(0.97)),
)


def percentile_coverage(process: Process, count: int, runs: int, seed: int = 1) -> dict[float, tuple[float, float]]:
    """By quantile: how often the interval holds the truth if requests are taken for independent, and as we give it."""
    random = np.random.default_rng(seed)
    truths = process.truths(random)
    hits = {q: [0, 0] for q in QUANTILES}
    for row in process.make(random, runs, count):
        durations_ns = (row * NS).astype(np.int64)
        ordered = np.sort(durations_ns)
        summary = summarise(durations_ns, [q * 100 for q in QUANTILES])
        assert summary is not None
        for q, entry in zip(QUANTILES, summary.percentiles, strict=True):
            low, high = interval_ranks(q, count)
            plain = (int(ordered[low - 1]) if low else None, int(ordered[high - 1]) if high <= count else None)
            for position, bounds in enumerate((plain, (entry.low_ns, entry.high_ns))):
                hits[q][position] += _holds(bounds, truths[q] * NS)
    return {q: (before / runs, now / runs) for q, (before, now) in hits.items()}


def _holds(bounds: tuple[int | None, int | None], truth: float) -> bool:
    low, high = bounds
    return (low is None or low <= truth) and (high is None or truth <= high)


def ratio_coverage(correlation: float, sweeps: int, runs: int, seed: int = 2) -> tuple[float, float, float, float]:
    """Of two sides that vary alike, by 5 %: coverage and false `worse` (of the latency) with sweeps taken for
    independent, and as `compare` does."""
    random = np.random.default_rng(seed)
    make = autoregression(correlation, 0.05)
    sides = zip(make(random, runs, sweeps), make(random, runs, sweeps), strict=True)
    counts = [0, 0, 0, 0]
    for first, second in sides:
        error = sum(variance(side) / sweeps / fmean(side) ** 2 for side in (first.tolist(), second.tolist()))
        reach, found = t_quantile(0.975, 2 * sweeps - 2) * math.sqrt(error), math.log(second.mean() / first.mean())
        counts[0] += abs(found) <= reach
        counts[1] += found > max(reach, math.log(1.05))
        comparison = compare(_side("A", first), _side("B", second), [50.0])
        ratio = comparison.levels[0].latency[50.0]
        counts[2] += ratio.low is not None and ratio.high is not None and ratio.low <= 1 <= ratio.high
        counts[3] += comparison.is_worse(0.05)
    before, before_worse, now, now_worse = (count / runs for count in counts)
    return before, before_worse, now, now_worse


def _side(name: str, values: Floats) -> Side:
    figures = (Figures(1.0, {50.0: float(value) * NS}) for value in values)
    return Side(name, tuple(LevelSample("", "concurrency", "1", True, each, ()) for each in figures))


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    runs = parser.parse_args().runs
    rows = []
    for count in (300, 1500):
        for process in PROCESSES:
            found = percentile_coverage(process, count, runs)
            cells = [f"{before:.0%} / {now:.0%}" for before, now in found.values()]
            rows.append([process.name, str(count), *cells])
    print(table(["requests are", "count", *(f"p{q * 100:g}: independent / ours" for q in QUANTILES)], rows))
    rows = []
    for correlation in (0.0, 0.5, 0.9, 0.97):
        for sweeps in (5, 10, 20, 50, 288):
            before, before_worse, now, now_worse = ratio_coverage(correlation, sweeps, runs)
            cells = [f"{before:.0%} / {now:.0%}", f"{before_worse:.1%} / {now_worse:.1%}"]
            rows.append([f"AR(1), {correlation:g}", str(sweeps), *cells])
    print(table(["sweeps are", "a side", "coverage: independent / ours", "falsely worse: independent / ours"], rows))


if __name__ == "__main__":
    main()
