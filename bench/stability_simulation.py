"""Which levels are called stable, and whether those that are were selected: perf_analyzer's rule and ours on made-up
queues and servers. `python -m bench.stability_simulation [--runs 200]` prints the table of docs/measuring.md.

Independent of the engine: requests arrive, wait and are served by Lindley's recursion, are cut into windows of 5 s by
the moment of their end, and the last three are judged as windows come in, as a level does. A ratio of the 99th
percentile below 1 means that calm levels were selected; its first column has what no selection gives.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.rounds import table
from exporter.analysis.windows import latencies_ns, summarise_window
from exporter.core.probe import Distribution, LoadLevel, MeasurementOptions, Mode, Probe, Schedule, StabilityRule
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.core.window import RecordColumns, Window
from exporter.sweep.stability import Stability, judge, judge_like_perf_analyzer

Floats = npt.NDArray[np.float64]

OPTIONS = MeasurementOptions()
WINDOW_S = OPTIONS.window_ns / NS
_PROBE = Probe(
    "simulated",
    Target("simulated", "triton", "http", "localhost", 8000, "localhost"),
    "simulated",
    "",
    Schedule(60 * NS),
    (),
    OPTIONS,
)


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of a level: whether it was stable, after how many windows, and its judged latencies, seconds."""

    stable: bool
    windows: int
    latencies_s: Floats
    why: str = ""


def poisson_queue(random: np.random.Generator, rate: float, utilization: float, *, memoryless: bool) -> list[Window]:
    """A level at a Poisson rate, before one server of this utilization whose times are constant or exponential."""
    count = int(rate * (WINDOW_S * (OPTIONS.max_windows + 1) + 5) * 1.2) + 100
    arrivals = np.cumsum(random.exponential(1 / rate, count))
    mean_s = utilization / rate
    times = random.exponential(mean_s, count) if memoryless else np.full(count, mean_s)
    # Lindley: a request ends when all before it have, and its own time is over.
    served = np.cumsum(times)
    ends = served + np.maximum.accumulate(arrivals - served + times)
    return cut(arrivals, ends, float(ends[0]))


def closed_loop(latency_s: Callable[[float], float], places: int = 1) -> list[Window]:
    """A closed loop whose requests take what this function gives for the moment of their start."""
    starts, ends = [], []
    for _ in range(places):
        now = 0.0
        while now < WINDOW_S * (OPTIONS.max_windows + 2):
            starts.append(now)
            now += latency_s(now)
            ends.append(now)
    return cut(np.array(starts), np.array(ends), max(ends[:1]))


def cut(starts_s: Floats, ends_s: Floats, begin_s: float) -> list[Window]:
    """The windows of requests with these starts and ends."""
    windows = []
    for index in range(OPTIONS.max_windows):
        low, high = begin_s + index * WINDOW_S, begin_s + (index + 1) * WINDOW_S
        inside = np.flatnonzero((ends_s > low) & (ends_s <= high))
        inside = inside[np.argsort(ends_s[inside], kind="stable")]
        columns = RecordColumns.empty(len(inside))
        columns.sent_ns[:] = columns.intended_ns[:] = (starts_s[inside] * NS).astype(np.int64)
        columns.last_ns[:] = (ends_s[inside] * NS).astype(np.int64)
        sent = int(np.count_nonzero((starts_s > low) & (starts_s <= high)))
        windows.append(Window(index, round(low * NS), round(high * NS), columns, sent))
    return windows


def run_level(windows: Sequence[Window], level: LoadLevel, rule: StabilityRule) -> Judged:
    """Takes in the windows until they agree."""
    summaries = [summarise_window(window, _PROBE, 0.0) for window in windows]
    verdict, seen = Stability(stable=False, spread_ratio=None), 0
    for seen in range(1, len(windows) + 1):
        if rule is StabilityRule.CANARY:
            verdict = judge(windows[:seen], summaries[:seen], level, OPTIONS)
        else:
            means = [window.latency.mean_ns if window.latency else 0.0 for window in summaries[:seen]]
            rates = [window.throughput for window in summaries[:seen]]
            verdict = judge_like_perf_analyzer(rates, means, OPTIONS.stability_ratio, OPTIONS.stability_windows)
        if verdict.stable:
            break
    kept = windows[max(0, seen - OPTIONS.stability_windows) : seen]
    return Judged(verdict.stable, seen, pooled_s(kept), verdict.why)


def pooled_s(windows: Sequence[Window]) -> Floats:
    """The latencies of the windows in seconds."""
    values: Floats = np.concatenate([latencies_ns(window.columns) for window in windows]) / NS
    return values


def poisson_row(rate: float, utilization: float, runs: int, *, memoryless: bool) -> list[str]:
    """One row of the table."""
    random = np.random.default_rng(round(1000 * rate + 10 * utilization + memoryless))
    level = LoadLevel(Mode.REQUEST_RATE, rate, f"{rate:g}", Distribution.POISSON)
    levels = [poisson_queue(random, rate, utilization, memoryless=memoryless) for _ in range(runs)]
    truth = p99([pooled_s(windows) for windows in levels])
    first = p99([pooled_s(windows[: OPTIONS.stability_windows]) for windows in levels])
    row = [f"M/{'M' if memoryless else 'D'}/1, {utilization:g}, {rate:g}/s", f"{first / truth:.2f}"]
    for rule in (StabilityRule.PERF_ANALYZER, StabilityRule.CANARY):
        judged = [run_level(windows, level, rule) for windows in levels]
        stable = [each for each in judged if each.stable]
        row.append(f"{len(stable) / runs:.0%}")
        row.append(f"{p99([each.latencies_s for each in stable]) / truth:.2f}" if stable else "none")
        row.append(f"{np.mean([each.windows for each in judged]):.1f}")
    return row


def p99(samples: Sequence[Floats]) -> float:
    """Of all samples together."""
    return float(np.quantile(np.concatenate(samples), 0.99))


def closed_rows() -> list[list[str]]:
    """Servers in a closed loop: what of each rule's stable figure is too high."""
    random = np.random.default_rng(17)
    cases: list[tuple[str, float, Callable[[float], float]]] = [
        *((f"constant {seconds:g} s", seconds, lambda _, s=seconds: s) for seconds in (0.75, 0.9, 1.4)),
        *(
            (
                f"20 ms, warming from {1 + high:g} times, {tau} s",
                0.02,
                lambda t, high=high, tau=tau: 0.02 * (1 + high * np.exp(-t / tau)) * random.lognormal(0, 0.02),
            )
            for high, tau in ((0.3, 22), (0.6, 22), (1.0, 22), (0.6, 40), (0.3, 60), (0.15, 60), (0.3, 120))
        ),
    ]
    rows = []
    level = LoadLevel(Mode.CONCURRENCY, 1.0, "1")
    for name, seconds, latency in cases:
        windows = closed_loop(latency)
        row = [name]
        for rule in (StabilityRule.PERF_ANALYZER, StabilityRule.CANARY):
            judged = run_level(windows, level, rule)
            too_high = f"{(judged.latencies_s.mean() / seconds - 1) * 100:+.0f} %" if judged.stable else ""
            row += ["yes" if judged.stable else "no", too_high, str(judged.windows)]
        rows.append(row)
    return rows


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    runs = parser.parse_args().runs
    rules = [f"{rule}: {what}" for rule in ("perf_analyzer", "canary") for what in ("stable", "p99 / true", "windows")]
    rows = [
        poisson_row(rate, utilization, runs, memoryless=memoryless)
        for memoryless in (False, True)
        for utilization in (0.5, 0.8)
        for rate in (5.0, 10.0, 20.0)
    ]
    print(table(["queue, utilization, rate", "unselected p99 / true", *rules], rows))
    rules = [f"{rule}: {what}" for rule in ("perf_analyzer", "canary") for what in ("stable", "too high", "windows")]
    print(table(["server, concurrency 1", *rules], closed_rows()))


if __name__ == "__main__":
    main()
