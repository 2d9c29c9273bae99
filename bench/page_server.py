"""A web side with made-up results, for `bench.daemon_cost`: argument, how many probes; a line on standard input makes
one of them change."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import sys
from collections.abc import Iterable

from exporter.core.probe import LoadLevel, Probe
from exporter.core.result import LatencySummary, Measurement, PercentileValue, SweepResult
from exporter.metrics.page import MetricsPage
from exporter.state.probe_state import Board
from exporter.web.app import WebSources, create_app
from exporter.web.http_server import WebServer
from tests.builders import concurrency, make_probe, make_target
from tests.metrics.results import make_exporter_facts, make_measurement, make_result

LEVELS = tuple(concurrency(value) for value in (1, 8))


def varied(level: LoadLevel, dice: random.Random) -> Measurement:
    """A measurement whose figures are its own: equal lines would flatter the compression."""
    made = make_measurement(level)
    assert isinstance(made.latency, LatencySummary)
    percentiles = tuple(
        PercentileValue(entry.percentile, dice.randrange(10**8), None, None) for entry in made.latency.percentiles
    )
    return dataclasses.replace(
        made,
        throughput=dice.random() * 1000,
        latency=dataclasses.replace(made.latency, percentiles=percentiles, mean_ns=dice.random() * 1e8),
        breakdown_ns={component: dice.random() * 1e6 for component in made.breakdown_ns},
    )


def result_of(probe: Probe, dice: random.Random) -> SweepResult:
    """A sweep of the probe."""
    return make_result(probe, measurements=tuple(varied(level, dice) for level in probe.levels))


def probes_of(count: int) -> Iterable[Probe]:
    """Probes over 100 targets and 50 models."""
    for number in range(count):
        target = make_target(name=f"triton-{number % 100}")
        yield make_probe(name=f"probe-{number}", model=f"model-{number % 50}", target=target, levels=LEVELS)


async def serve(count: int) -> None:
    """Serves until standard input ends."""
    dice = random.Random(1)
    board, probes = Board(None), list(probes_of(count))
    board.configure(probes)
    for probe in probes:
        board.sweep_ended(result_of(probe, dice))
    page = MetricsPage(board, make_exporter_facts(), 10**9)
    lines = (await page.render(None, None, ())).body.splitlines()
    series = sum(not line.startswith(b"#") for line in lines)
    page.close()
    page = MetricsPage(board, make_exporter_facts(), 10**9)
    sources = WebSources(board, page, make_exporter_facts(), healthy=lambda: True, ready=lambda: True)
    server = WebServer(create_app(sources), "127.0.0.1", 0)
    address = await server.start()
    print(address.rpartition(":")[2], series, flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        board.sweep_ended(result_of(dice.choice(probes), dice))
        print("changed", flush=True)
    await server.stop()
    page.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
