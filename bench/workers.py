"""Section of the comparison: two workers that share a level against one, and who takes the machine's cores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench import own_load, perf_analyzer
from bench.models import CACHED_IDENTITY
from bench.rounds import Case, Tool, measure, spread, table
from bench.setting import ENDPOINTS, Setting
from bench.throughput import SMALL
from exporter.core.units import NS
from exporter.engine.plan import Worker
from exporter.worker.group import WorkerGroup
from exporter.worker.local import LocalWorker

CONCURRENCY = 32
ONE, TWO = "1", "2"
BUSY_RATIO = 0.9
"""From here on the cores count as taken up: the rest is the kernel's, and the gaps between two wake-ups."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Responses a second, and how many cores each took: the server, and the busiest and all of the workers."""

    per_second: float
    server_cores: float
    busiest_worker_cores: float
    workers_cores: float


async def workers(setting: Setting) -> str:
    """The section."""
    second = await LocalWorker.spawn()
    try:
        cases = [_case(setting, endpoint, second) for endpoint in ENDPOINTS]
        await measure("two workers", setting.rounds, cases)
    finally:
        await second.kill()
    header = ["endpoint", "concurrency", "workers", "/s (range)", "over 1 worker (range)"]
    header += ["server's cores", "busiest worker's", "all workers'", "what bounds it"]
    return table(header, [_row(case, tool) for case in cases for tool in case.tools])


def _case(setting: Setting, endpoint: str, second: LocalWorker) -> Case[Shares]:
    first = setting.worker

    async def one() -> Shares:
        return await _run(setting, endpoint, first, [first])

    async def two() -> Shares:
        return await _run(setting, endpoint, WorkerGroup([first, second]), [first, second])

    tools: dict[str, Tool[Shares]] = {ONE: one, TWO: two}
    return Case((endpoint, str(CONCURRENCY)), tools)


async def _run(setting: Setting, endpoint: str, worker: Worker, processes: Sequence[LocalWorker]) -> Shares:
    assert setting.server.pid is not None
    probe = setting.probe(endpoint, CACHED_IDENTITY, SMALL, own_load.concurrency(CONCURRENCY))
    pids = [setting.server.pid, *(process.pid for process in processes)]
    run = await own_load.run_level(worker, pids, probe, perf_analyzer.WINDOWS)
    server, *own = (cpu_ns / NS / run.seconds for cpu_ns in run.cpu_ns)
    return Shares(run.throughput, server, max(own), sum(own))


def _row(case: Case[Shares], tool: str) -> list[str]:
    runs = case.of(tool)
    throughputs = spread([run.per_second for run in runs], 0)
    if not runs:
        return [*case.cells, tool, throughputs, *[""] * 5]
    pairs = [(two.per_second, one.per_second) for two, one in case.pairs(TWO, ONE)]
    typical = Shares(
        per_second=median(run.per_second for run in runs),
        server_cores=median(run.server_cores for run in runs),
        busiest_worker_cores=median(run.busiest_worker_cores for run in runs),
        workers_cores=median(run.workers_cores for run in runs),
    )
    return [
        *case.cells,
        tool,
        throughputs,
        spread([ours / theirs for ours, theirs in pairs]) if tool == TWO else "",
        f"{typical.server_cores:.2f}",
        f"{typical.busiest_worker_cores:.2f}",
        f"{typical.workers_cores:.2f}",
        bound(typical, len(os.sched_getaffinity(0))),
    ]


def bound(shares: Shares, cores: int) -> str:
    """What keeps the throughput from being higher, as far as cpu time reports."""
    if shares.busiest_worker_cores >= BUSY_RATIO:
        return "a worker's core"
    taken = shares.server_cores + shares.workers_cores
    if taken >= BUSY_RATIO * cores:
        return f"the machine: server and workers take {taken:.2f} of {cores} cores"
    return f"neither: {cores - taken:.2f} of {cores} cores are left, to others or idle"
