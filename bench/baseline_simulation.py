"""Baseline, tiers and the rolling rule over years of made-up sweeps: false alarms, and how long a change goes unseen.

`python -m bench.baseline_simulation [--archive DIR] [--years N]` prints the tables of docs/alerts.md. The arithmetic of
baselines, thresholds and counts is the product's own; what is done here at once for all sweeps of a year, the product
does one sweep at a time (a test holds both to the same alarms). Noise comes from five classes, and from the levels of
an archive if one is given: its differences from sweep to sweep, in blocks of 6 hours drawn at random.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from exporter.baseline.baseline import Floats, locations, make_baseline, threshold
from exporter.baseline.verdict import Counts, scaled
from exporter.core.probe import BaselineOptions, Signal, Tier
from exporter.core.units import NS

Flags = npt.NDArray[np.bool_]

INTERVAL_S = 300
DAY = 86_400 // INTERVAL_S
WEEK = 7 * DAY
YEAR = 365 * DAY
SERIES = 8
"""Probes of each class, each simulated for all years."""
STEPS = (1.10, 1.20, 1.50)
STARTS = 60
"""Moments of each series at which each step begins."""
ROLLING = "rolling rule"
P50_S, P99_S = 0.010, 0.020
"""What the made-up model takes: its floors of 0.2 and 1 ms are 2 % and 5 % of that."""


@dataclass(frozen=True, slots=True)
class NoiseClass:
    """How the logarithm of a model's latency moves from sweep to sweep: an autocorrelated part of `sigma`, whose
    innovations are Student's t of 3 degrees (heavy tails) or normal; a daily pattern, the same each day but for its
    height, which varies by a fifth; and disturbances: so many a day, of some sweeps each, up to `burst` high."""

    name: str
    sigma: float
    correlation: float
    heavy: bool = False
    daily: float = 0.0
    bursts_a_day: float = 0.0
    burst: float = 0.0


CLASSES = (
    NoiseClass("quiet", 0.01, 0.5),
    NoiseClass("heavy-tailed", 0.025, 0.6, heavy=True),
    NoiseClass("slowly drifting", 0.03, 0.97),
    NoiseClass("daily pattern", 0.02, 0.7, heavy=True, daily=0.15),
    NoiseClass("noisy neighbour", 0.03, 0.8, heavy=True, daily=0.05, bursts_a_day=1.0, burst=0.5),
)
P99_NOISE = 1.6
"""p99 of a sweep varies so much more than its p50."""


def noise(kind: NoiseClass, signal: Signal, sweeps: int, random: np.random.Generator) -> Floats:
    """Logarithms of `SERIES` probes over that many sweeps, one row each."""
    shape = (SERIES, sweeps)
    sigma = kind.sigma * (P99_NOISE if signal is Signal.LATENCY_P99 else 1.0)
    pushes = random.standard_t(3, shape) / math.sqrt(3) if kind.heavy else random.standard_normal(shape)
    result = _autoregressive(pushes * sigma * math.sqrt(1 - kind.correlation**2), kind.correlation)
    if kind.daily:
        hours = np.arange(sweeps) % DAY / DAY
        heights = np.repeat(1 + 0.2 * random.standard_normal((SERIES, sweeps // DAY + 1)), DAY, axis=1)[:, :sweeps]
        result += kind.daily * heights * np.maximum(0.0, np.sin(2 * np.pi * (hours - 0.3)))
    if kind.bursts_a_day:
        result += _bursts(kind, shape, random)
    return result


def _autoregressive(pushes: Floats, correlation: float) -> Floats:
    """x[t] = correlation * x[t-1] + push[t], as a sum over the pushes that still count."""
    reach = max(1, math.ceil(math.log(1e-4) / math.log(correlation)))
    weights = correlation ** np.arange(reach)
    size = 1 << (pushes.shape[1] + reach - 1).bit_length()
    spectrum = np.fft.rfft(pushes, size) * np.fft.rfft(weights, size)
    result: Floats = np.fft.irfft(spectrum, size)[:, : pushes.shape[1]]
    return result


def _bursts(kind: NoiseClass, shape: tuple[int, int], random: np.random.Generator) -> Floats:
    """Disturbances of 5 to 30 minutes."""
    result = np.zeros(shape)
    for row in result:
        for start in random.integers(0, shape[1], round(kind.bursts_a_day * shape[1] / DAY)):
            row[start : start + random.integers(1, 7)] += random.uniform(0.1, kind.burst)
    return result


# --- alarms ----------------------------------------------------------------------------------------------------------


def holding(bad: Flags, counts: Counts) -> Flags:
    """Whether the regression holds after each sweep: `baseline_verdict.take` for whole rows."""
    ones = _of_last(bad, counts.of)
    zeros = _of_last(~bad, counts.of)
    marks = np.where(ones >= counts.bad, 1, np.where(zeros >= counts.of - counts.clear, -1, 0))
    last = np.maximum.accumulate(np.where(marks != 0, np.arange(bad.shape[1]), -1), axis=1)
    result: Flags = np.where(last >= 0, np.take_along_axis(marks, np.maximum(last, 0), axis=1), -1) > 0
    return result


def _of_last(flags: Flags, of: int) -> npt.NDArray[np.int64]:
    total = np.cumsum(flags, axis=1, dtype=np.int64)
    total[:, of:] -= total[:, :-of].copy()
    return total


def begins(holds: Flags) -> Flags:
    """Where an alarm begins."""
    before = np.concatenate([np.zeros((holds.shape[0], 1), bool), holds[:, :-1]], axis=1)
    result: Flags = holds & ~before
    return result


@dataclass(frozen=True, slots=True)
class Judged:
    """Excess of each sweep's logarithm over the limit's, by the baseline of the first 7 days; None: too noisy."""

    excess: Floats
    noise: float


def tier_bad(logs: Floats, tier: Tier, signal: Signal, options: BaselineOptions) -> Iterator[Floats | None]:
    """For each series how far each sweep is above the limit of ratio and floor, None where no verdict is given."""
    times = np.arange(logs.shape[1], dtype=float) * INTERVAL_S
    floor_ns = options.p99_floor_ns if signal is Signal.LATENCY_P99 else options.p50_floor_ns
    typical_s = P99_S if signal is Signal.LATENCY_P99 else P50_S
    for row in logs:
        baseline = make_baseline(times[:WEEK], row[:WEEK])
        if baseline.noise > options.max_noise:
            yield None
            continue
        expected = locations(baseline.hours, times)
        floor = np.log1p(floor_ns / NS / (typical_s * np.exp(expected)))
        yield row - expected - np.maximum(math.log(threshold(tier, baseline.noise)), floor)


def rolling_excess(logs: Floats) -> Floats:
    """The rule in plain PromQL of dashboards/rules: above 1.2 times the median of 7 days, one day ago."""
    every = 48  # the median of a week moves little in four hours
    medians = np.median(sliding_window_view(logs, WEEK, axis=1)[:, ::every], axis=2)
    at = np.maximum(0, (np.arange(logs.shape[1]) - WEEK - DAY) // every)
    result: Floats = logs - np.take_along_axis(medians, np.broadcast_to(at, logs.shape), axis=1) - math.log(1.2)
    result[:, : WEEK + DAY] = -1.0
    return result


ROLLING_COUNTS = Counts(bad=6, of=6, clear=5, span_s=6 * INTERVAL_S)
"""`for: 30m`: six sweeps in a row; one that is good ends it."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one class, signal and rule: false alarms a year, sweeps until each step is found (inf: never within the
    day and a half that was looked at), and the part of the probes on which no verdict is given."""

    alarms_a_year: float
    delays: dict[float, Floats]
    withheld: float


def figures(excess: list[Floats], counts: Counts, probes: int, random: np.random.Generator) -> Figures:
    """Counts what the rule makes of these series, as they are and with steps in them."""
    if not excess:
        return Figures(math.nan, {}, 1.0)
    judged = np.stack(excess)[:, WEEK:]
    alarms = int(begins(holding(judged > 0, counts)).sum())
    years = judged.size / YEAR
    ahead, behind = 3 * DAY // 2, max(counts.of, 12)
    starts = random.integers(behind, judged.shape[1] - ahead, (judged.shape[0], STARTS))
    delays = {}
    for step in STEPS:
        pieces = np.concatenate(
            [
                np.stack([row[at - behind : at + ahead] for at in row_starts])
                for row, row_starts in zip(judged, starts, strict=True)
            ]
        ).copy()
        pieces[:, behind:] += math.log(step)
        held = holding(pieces > 0, counts)[:, behind:]
        delays[step] = np.where(held.any(axis=1), held.argmax(axis=1) + 1.0, math.inf)
    return Figures(alarms / years, delays, 1 - len(excess) / probes)


# --- noise from an archive -------------------------------------------------------------------------------------------


def archived(folder: Path, signal: Signal, least: int = 100) -> list[tuple[str, Floats]]:
    """The logarithms of the stable levels of an archive, by probe and level, those with enough sweeps."""
    column = "p99_ns" if signal is Signal.LATENCY_P99 else "p50_ns"
    found: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for path in sorted(folder.rglob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row.get("stable") == "1" and row.get(column) and float(row[column]) > 0:
                    at = datetime.fromisoformat(row["time"].replace("Z", "+00:00")).timestamp()
                    key = f"{row['probe']}, {row['mode']} {row['level']}"
                    found[key].append((at, math.log(float(row[column]))))
    return [(key, np.array([log for _, log in sorted(rows)])) for key, rows in found.items() if len(rows) >= least]


def resampled(logs: Floats, sweeps: int, random: np.random.Generator, block: int = 72) -> Floats:
    """Years out of what there is: blocks of it, each of at most a third of it, in random order."""
    block = min(block, max(1, len(logs) // 3))
    starts = random.integers(0, len(logs) - block + 1, (SERIES, sweeps // block + 1))
    index = (starts[:, :, None] + np.arange(block)).reshape(SERIES, -1)[:, :sweeps]
    result: Floats = logs[index] - np.median(logs)
    return result


# --- the tables ------------------------------------------------------------------------------------------------------


def rows(name: str, make: Callable[[Signal], Floats], random: np.random.Generator) -> Iterator[list[str]]:
    """The table's rows of one class of noise."""
    options = BaselineOptions()
    for signal in (Signal.LATENCY_P50, Signal.LATENCY_P99):
        logs = make(signal)
        for tier in options.tiers:
            if signal in tier.signals:
                found = [excess for excess in tier_bad(logs, tier, signal, options) if excess is not None]
                yield _row(name, signal, tier.name, figures(found, scaled(tier, INTERVAL_S * NS), len(logs), random))
        rolling = figures(list(rolling_excess(logs)), ROLLING_COUNTS, len(logs), random)
        yield _row(name, signal, ROLLING, rolling)


def _row(name: str, signal: Signal, rule: str, found: Figures) -> list[str]:
    rate = "no verdict" if math.isnan(found.alarms_a_year) else f"{found.alarms_a_year:.2f}"
    delays = [_delay(found.delays.get(step)) for step in STEPS]
    return [name, signal.value.removeprefix("latency_"), rule, rate, *delays, f"{found.withheld:.0%}"]


def _delay(sweeps: Floats | None) -> str:
    """Median and 90th percentile of the time until a step is found, and the part that is not within 36 hours."""
    if sweeps is None:
        return ""
    missed = float(np.isinf(sweeps).mean())
    if missed > 0.5:
        return f"{missed:.0%} not found"
    texts = [_span(float(np.quantile(sweeps, part, method="higher")) * INTERVAL_S) for part in (0.5, 0.9)]
    return " / ".join(texts) + (f", {missed:.0%} not found" if missed else "")


def _span(seconds: float) -> str:
    if math.isinf(seconds):
        return "> 36 h"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


HEADER = [
    "noise",
    "signal",
    "rule",
    "false alarms a year",
    *(f"+{step - 1:.0%} found after" for step in STEPS),
    "withheld",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else "")
    parser.add_argument("--archive", type=Path, help="an archive's directory, to draw noise from")
    parser.add_argument("--years", type=int, default=3, help="years of each of the probes of each class")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began_s = time.perf_counter()
    random = np.random.default_rng(options.seed)
    sweeps = options.years * YEAR + WEEK
    print(f"{SERIES} probes of each class, {options.years} years each, a sweep every {INTERVAL_S} s.\n")
    print("| " + " | ".join(HEADER) + " |\n|" + "---|" * len(HEADER))

    def print_rows(name: str, make: Callable[[Signal], Floats]) -> None:
        for row in rows(name, make, random):
            print("| " + " | ".join(row) + " |", flush=True)

    for kind in CLASSES:
        print_rows(kind.name, lambda signal, kind=kind: noise(kind, signal, sweeps, random))  # type: ignore[misc]
    if options.archive:
        p99s = dict(archived(options.archive, Signal.LATENCY_P99))
        for key, p50 in archived(options.archive, Signal.LATENCY_P50):
            both = {Signal.LATENCY_P50: p50, Signal.LATENCY_P99: p99s[key]}
            print_rows(
                f"archive: {key}",
                lambda signal, both=both: resampled(both[signal], sweeps, random),  # type: ignore[misc]
            )
    print(f"\nRan for {time.perf_counter() - began_s:.0f} s.")


if __name__ == "__main__":
    main()
