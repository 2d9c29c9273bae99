"""Does the server's part of the latency hold what it should? On a model that takes a known time, one instance:

    python -m bench.breakdown [--rounds N] [--window-seconds S]

At concurrency 1 compute infer is that time, at concurrency 2 the queue is, too, since each request waits for the other.
Prints both over the model's delay, as medians over the rounds with their range; from 50 ms on each median should be
within 3 %. Exit status 1 if one is not. Triton counts what its Python backend needs to hand a request over and back,
some 0.4 ms, as compute infer: of 10 ms that is over 3 %, which is reported and not judged. A machine that wakes its
sleepers late adds to both: that of this one is reported beside.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from statistics import median

from bench import own_load
from bench.models import DELAY, delayed_models
from bench.programs import BenchError, progress
from bench.rounds import spread, table
from bench.sleeper import sleep_beside
from exporter.core.units import MS
from exporter.demo.triton import EmbeddedTriton
from exporter.demo.triton_environment import make_environment
from exporter.sweep.conductor import Sweep
from exporter.worker.local import LocalWorker

DELAYS_MS = (10, 50, 100)
JUDGED_FROM_MS = 50
LIMIT = 0.03
COMPONENTS = {1: ("compute_infer",), 2: ("compute_infer", "queue")}
"""By concurrency: what should be the model's delay."""

MISSED = "**no**"

Key = tuple[int, int, str]
"""Delay, concurrency, component."""


async def measure(server: EmbeddedTriton, rounds: int, window_seconds: float) -> dict[Key, list[float]]:
    """The components over the delay, one figure a round. Raises BenchError."""
    found: dict[Key, list[float]] = {}
    worker = await LocalWorker.spawn()
    try:
        for number in range(rounds):
            for delay_ms in DELAYS_MS:
                for concurrency, components in COMPONENTS.items():
                    progress(f"round {number + 1} of {rounds}: {delay_ms} ms, concurrency {concurrency}")
                    parts_ns = await run_level(worker, server, delay_ms, concurrency, window_seconds)
                    for name in components:
                        ratio = parts_ns[name] / (delay_ms * MS)
                        found.setdefault((delay_ms, concurrency, name), []).append(ratio)
    finally:
        await worker.kill()
    return found


async def run_level(
    worker: LocalWorker, server: EmbeddedTriton, delay_ms: int, concurrency: int, window_seconds: float
) -> Mapping[str, float]:
    """The breakdown of one sweep of one level, as the daemon would run it."""
    probe = own_load.make_probe(
        endpoint="http",
        port=server.http_port,
        model=f"{DELAY}_{delay_ms}",
        level=own_load.concurrency(concurrency),
        window_seconds=window_seconds,
    )
    result = await Sweep(probe, sinks=()).run(lambda: nullcontext(worker))
    if not result.measurements or "queue" not in result.measurements[0].breakdown_ns:
        raise BenchError(f"our sweep ended as {result.status}, {result.reason}: {result.reason_text}")
    return result.measurements[0].breakdown_ns


def rows(found: Mapping[Key, list[float]]) -> list[list[str]]:
    """The table's."""
    return [
        [
            *(str(delay_ms), str(concurrency), name, spread(ratios, 4), f"{(median(ratios) - 1) * delay_ms:+.2f}"),
            verdict(delay_ms, ratios),
        ]
        for (delay_ms, concurrency, name), ratios in found.items()
    ]


def verdict(delay_ms: int, ratios: list[float]) -> str:
    """Whether the median is within the limit, for the table; "" where that is not judged."""
    if delay_ms < JUDGED_FROM_MS:
        return ""
    return "yes" if abs(median(ratios) - 1) <= LIMIT else MISSED


def main() -> int:
    """Runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window-seconds", type=float, default=1.0)
    options = parser.parse_args()
    with (
        delayed_models(DELAYS_MS, instances=1) as models,
        EmbeddedTriton(make_environment(progress), models=models) as server,
    ):
        found = asyncio.run(measure(server, options.rounds, options.window_seconds))
    lines = rows(found)
    p50_us, p99_us, _ = asyncio.run(sleep_beside(100, 2))
    print(table(["delay ms", "concurrency", "component", "over the delay", "ms more", "within 3 %"], lines))
    print(f"\nThis machine wakes a sleeper late by {p50_us:.0f} us (p50), {p99_us:.0f} us (p99).")
    return 1 if any(MISSED in line for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
