"""perf_analyzer and this project's own load, side by side on one embedded Triton: do they measure the same?

Both measure the `delay` model at the same concurrency with windows of the same length, in turns and in rounds, so that
whatever the machine does meanwhile hits both alike. A ratio is ours over perf_analyzer's within one round; the verdict
is on the median over the rounds: throughput within 2 %, mean latency within 3 %. Exit status 1 if one is not, 2 if a
tool gave no figures at all.

    python -m bench.side_by_side --perf-analyzer PATH [--rounds N] [--window-seconds S] [--without-batching]

As shipped, the model batches what waits together, so that from concurrency 2 on its speed depends on which requests
happen to meet at the server: with the tools' own ways of sending, and with chance. The mean batch sizes in the table
show it. `--without-batching` takes that away: one instance for each request in flight, no batches.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench import own_load, perf_analyzer
from bench.models import DELAY, delay_models
from bench.programs import BenchError, progress
from exporter.core.result import SweepResult
from exporter.demo.triton import EmbeddedTriton
from exporter.demo.triton_environment import make_environment
from exporter.sweep.conductor import Sweep
from exporter.worker.local import LocalWorker

ENDPOINTS = ("http", "grpc")
CONCURRENCIES = (1, 2, 4)
THROUGHPUT_LIMIT = 0.02
LATENCY_LIMIT = 0.03


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured: a concurrency at one of the server's endpoints."""

    endpoint: str
    port: int
    concurrency: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What one tool found in one run."""

    inferences_per_second: float
    mean_latency_us: float
    mean_batch_size: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """All rounds of one case: perf_analyzer's figures and ours, pair by pair."""

    case: Case
    rounds: list[tuple[Figures, Figures]] = field(default_factory=list)

    def ratios(self, figure: Callable[[Figures], float]) -> list[float]:
        """Ours over perf_analyzer's, round by round."""
        return [figure(ours) / figure(theirs) for theirs, ours in self.rounds]

    @property
    def holds(self) -> bool:
        """Whether the medians are within their limits."""
        throughput_off = abs(median(self.ratios(throughput)) - 1)
        latency_off = abs(median(self.ratios(mean_latency)) - 1)
        return throughput_off <= THROUGHPUT_LIMIT and latency_off <= LATENCY_LIMIT


def throughput(figures: Figures) -> float:
    """Inferences a second."""
    return figures.inferences_per_second


def mean_latency(figures: Figures) -> float:
    """Microseconds."""
    return figures.mean_latency_us


def mean_batch_size(figures: Figures) -> float:
    """Inferences that the server ran at once, as its own counts state."""
    return figures.mean_batch_size


# --- the two tools ----------------------------------------------------------------------------------------------------


async def run_perf_analyzer(program: Path, case: Case, window_seconds: float) -> Figures:
    """One run of perf_analyzer."""
    report = await perf_analyzer.run_level(
        program,
        model=DELAY,
        endpoint=case.endpoint,
        port=case.port,
        window_seconds=window_seconds,
        load=["--concurrency-range", str(case.concurrency)],
    )
    return Figures(report.throughput, report.mean_latency_us, mean_batch(report.printed))


def mean_batch(printed: str) -> float:
    """The server's own counts, which perf_analyzer gives only in what it prints."""
    counts = [re.search(rf"{name} count: (\d+)", printed) for name in ("Inference", "Execution")]
    if counts[0] is None or counts[1] is None:
        raise BenchError(f"perf_analyzer gave no counts of the server:\n{printed}")
    return int(counts[0][1]) / int(counts[1][1])


async def run_ours(worker: LocalWorker, case: Case, window_seconds: float) -> Figures:
    """One sweep of one level, as the daemon would run it."""
    level = own_load.concurrency(case.concurrency)
    probe = own_load.make_probe(
        endpoint=case.endpoint, port=case.port, model=DELAY, level=level, window_seconds=window_seconds
    )
    return figures_of(await Sweep(probe, sinks=()).run(lambda: nullcontext(worker)))


def figures_of(result: SweepResult) -> Figures:
    """The figures of the sweep's one level."""
    if result.usable:
        [measurement] = result.measurements
        latency, server = measurement.latency, measurement.server
        if latency is not None and server is not None and server.inference_count and server.execution_count:
            batch_size = server.inference_count / server.execution_count
            return Figures(measurement.throughput, latency.mean_ns / 1000, batch_size)
    raise BenchError(f"our sweep ended as {result.status}, {result.reason}: {result.reason_text}")


# --- side by side ----------------------------------------------------------------------------------------------------


async def compare(server: EmbeddedTriton, program: Path, rounds: int, window_seconds: float) -> list[Comparison]:
    """Measures every case in every round with both tools; who begins changes from round to round."""
    ports = {"http": server.http_port, "grpc": server.grpc_port}
    comparisons = [
        Comparison(Case(endpoint, ports[endpoint], concurrency))
        for endpoint, concurrency in itertools.product(ENDPOINTS, CONCURRENCIES)
    ]
    worker = await LocalWorker.spawn()
    try:
        for number in range(rounds):
            for comparison in comparisons:
                case = comparison.case
                progress(f"round {number + 1} of {rounds}: {case.endpoint}, concurrency {case.concurrency}")
                try:
                    ours = await run_ours(worker, case, window_seconds) if number % 2 else None
                    theirs = await run_perf_analyzer(program, case, window_seconds)
                    ours = ours or await run_ours(worker, case, window_seconds)
                except BenchError as error:  # most often perf_analyzer that got no stable windows on a busy machine
                    progress(f"this round is lost: {error}")
                else:
                    comparison.rounds.append((theirs, ours))
    finally:
        await worker.kill()
    return comparisons


def table(comparisons: Iterable[Comparison]) -> str:
    """The comparison as a Markdown table: medians over the rounds, of ratios with their range."""
    names = ["endpoint", "concurrency", "rounds"]
    for unit in ("/s", "mean us"):
        names += [f"perf_analyzer {unit}", f"ours {unit}", "ratio"]
    names.append("mean batches")
    lines = [f"| {' | '.join(names)} | |", "|---" * (len(names) + 1) + "|"]
    for comparison in comparisons:
        cells = [comparison.case.endpoint, str(comparison.case.concurrency), str(len(comparison.rounds))]
        for figure in (throughput, mean_latency):
            ratios = comparison.ratios(figure)
            cells += [
                f"{median(figure(theirs) for theirs, _ in comparison.rounds):.1f}",
                f"{median(figure(ours) for _, ours in comparison.rounds):.1f}",
                f"{median(ratios):.4f} ({min(ratios):.4f} to {max(ratios):.4f})",
            ]
        batches = [median(mean_batch_size(pair[tool]) for pair in comparison.rounds) for tool in (0, 1)]
        cells.append(f"{batches[0]:.3f}, {batches[1]:.3f}")
        cells.append("ok" if comparison.holds else "OFF")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Runs the comparison and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--perf-analyzer", type=Path, required=True, help="the program to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--window-seconds", type=float, default=1.0)
    parser.add_argument("--without-batching", action="store_true", help="no batches in the model")
    options = parser.parse_args()

    environment = make_environment(progress)
    with (
        delay_models(batching=not options.without_batching, instances=max(CONCURRENCIES)) as models,
        EmbeddedTriton(environment, models=models) as server,
    ):
        program = options.perf_analyzer.resolve()
        comparisons = asyncio.run(compare(server, program, options.rounds, options.window_seconds))
    if not all(comparison.rounds for comparison in comparisons):
        return 2
    print(table(comparisons))
    return 0 if all(comparison.holds for comparison in comparisons) else 1


if __name__ == "__main__":
    sys.exit(main())
