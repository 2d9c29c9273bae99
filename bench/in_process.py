"""Triton in this project's worker process beside perf_analyzer's own C-API mode, on the same library and model in one
run, and what the network's endpoints add to it.

    python -m bench.in_process --peer-root PATH [--rounds N] [--window-seconds S]

PATH is the root of a system in which perf_analyzer's wheel runs, with the wheel unpacked in opt/perf_analyzer; the
program is started by that system's own loader, so that it needs nothing of this one. Of each figure the median over
the rounds counts. The aim is a throughput of at least perf_analyzer's, at a median latency of at most its, at
concurrency 1. Exit status 1 if that is not met, 2 if a tool gave no figures.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

from bench import own_load, perf_analyzer
from bench.models import IDENTITY, identity_models
from bench.programs import BenchError, progress, run_program
from bench.rounds import OURS, PERF_ANALYZER, Aim, Case, measure, ratio_cells, spread, table
from exporter.core.probe import Probe
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.demo.triton import EmbeddedTriton
from exporter.demo.triton_environment import TritonEnvironment, make_environment
from exporter.worker.local import LocalWorker

CONCURRENCIES = (1, 4)
ELEMENTS = 16
LIMIT_SECONDS = 60.0
HTTP, GRPC = "ours, HTTP", "ours, gRPC"


@dataclass(frozen=True, slots=True)
class Figures:
    """What a tool found: responses a second, and the median latency in microseconds."""

    throughput: float
    median_us: float


@dataclass(frozen=True, slots=True)
class Setting:
    """What all are given. `folder` looks as Triton does where it is installed."""

    environment: TritonEnvironment
    server: EmbeddedTriton
    worker: LocalWorker
    folder: Path
    models: Path
    peer_root: Path
    window_seconds: float


async def run_peer(setting: Setting, concurrency: int) -> Figures:
    """perf_analyzer's C-API mode."""
    root, libraries = setting.peer_root, setting.environment.server_libraries
    search = f"{setting.folder}/lib:{libraries}:{root}/usr/lib/x86_64-linux-gnu"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report = folder / "report.csv"
        command = [
            *(str(root / "lib64/ld-linux-x86-64.so.2"), "--library-path", search),
            str(root / "opt/perf_analyzer/perf_analyzer/bin/perf_analyzer"),
            *("-m", IDENTITY, "--service-kind=triton_c_api", f"--triton-server-directory={setting.folder}"),
            *(f"--model-repository={setting.models}", "--shape", f"INPUT0:{ELEMENTS}", "-s", "999"),
            *("-p", str(round(setting.window_seconds * 1000 / perf_analyzer.WINDOW_STRETCH))),
            *("--concurrency-range", str(concurrency), "-f", "report.csv", "--verbose-csv"),
        ]
        ended = await run_program(command, folder, LIMIT_SECONDS)
        if not report.exists():
            raise BenchError(f"perf_analyzer wrote no report:\n{ended.printed}")
        row = perf_analyzer.parse_report(report.read_text(encoding="utf-8"))
    return Figures(float(row["Inferences/Second"]), float(row["p50 latency"]))


async def run_ours(setting: Setting, concurrency: int, endpoint: str) -> Figures:
    """Our load, in-process or through an endpoint of the server beside."""
    base = own_load.make_probe(
        endpoint="grpc" if endpoint == GRPC else "http",
        port=setting.server.grpc_port if endpoint == GRPC else setting.server.http_port,
        model=IDENTITY,
        level=own_load.concurrency(concurrency),
        window_seconds=setting.window_seconds,
        elements=ELEMENTS,
    )
    probe = base if endpoint != OURS else in_process(base, setting)
    run = await own_load.run_level(setting.worker, [setting.worker.pid], probe, perf_analyzer.WINDOWS)
    columns = run.columns
    return Figures(run.throughput, float(np.median(columns.last_ns - columns.sent_ns)) / 1000)


def in_process(probe: Probe, setting: Setting) -> Probe:
    """The probe of the same model in the worker itself."""
    target = Target(
        name="in-process",
        kind="triton_in_process",
        scheme="",
        host="127.0.0.1",
        port=0,
        group="in-process",
        connect_timeout_ns=60 * NS,
        server_directory=str(setting.folder),
        model_repository=str(setting.models),
    )
    return replace(probe, target=target)


def make_case(setting: Setting, concurrency: int) -> Case[Figures]:
    """A concurrency, and who measures at it."""
    return Case(
        (str(concurrency),),
        {
            PERF_ANALYZER: lambda: run_peer(setting, concurrency),
            OURS: lambda: run_ours(setting, concurrency, OURS),
            HTTP: lambda: run_ours(setting, concurrency, HTTP),
            GRPC: lambda: run_ours(setting, concurrency, GRPC),
        },
    )


async def compare(setting: Setting, rounds: int) -> int:
    """Measures and prints; gives the exit status."""
    cases = [make_case(setting, concurrency) for concurrency in CONCURRENCIES]
    await measure("in-process", rounds, cases)
    if not all(case.of(tool) for case in cases for tool in case.tools):
        return 2
    header = ["concurrency", "tool", "/s", "p50 us", "/s over perf_analyzer's", "aim", "", "p50 over it", "aim", ""]
    print(table(header, [row for case in cases for row in rows(case)]))
    for case in cases:
        base = median(figures.median_us for figures in case.of(OURS))
        adds = [f"{tool[6:]} {median(each.median_us for each in case.of(tool)) - base:.0f} us" for tool in (HTTP, GRPC)]
        print(f"\nAt concurrency {case.cells[0]} the endpoints add to the median: {', '.join(adds)}.")
    pairs = cases[0].pairs(OURS, PERF_ANALYZER)
    good = median(ours.throughput / theirs.throughput for ours, theirs in pairs) >= 1
    return 0 if good and median(ours.median_us / theirs.median_us for ours, theirs in pairs) <= 1 else 1


def rows(case: Case[Figures]) -> list[list[str]]:
    """A row for each tool. Only the closed loop of one request is held to the aim."""
    found = []
    for tool in case.tools:
        own = tool == OURS and case.cells == ("1",)
        pairs = case.pairs(tool, PERF_ANALYZER) if tool != PERF_ANALYZER else []
        cells = [*case.cells, tool]
        cells.append(spread([figures.throughput for figures in case.of(tool)], 0))
        cells.append(spread([figures.median_us for figures in case.of(tool)], 1))
        throughputs = [(ours.throughput, theirs.throughput) for ours, theirs in pairs]
        medians = [(ours.median_us, theirs.median_us) for ours, theirs in pairs]
        cells += ratio_cells(throughputs, Aim(1.0) if own else None) if pairs else [""] * 3
        cells += ratio_cells(medians, Aim(1.0, at_least=False) if own else None) if pairs else [""] * 3
        found.append(cells)
    return found


async def run(options: argparse.Namespace, environment: TritonEnvironment, server: EmbeddedTriton, models: Path) -> int:
    """Makes what all need, and compares."""
    with tempfile.TemporaryDirectory() as name:
        environment.link_installation(Path(name))
        worker = await LocalWorker.spawn()
        try:
            setting = Setting(
                environment, server, worker, Path(name), models, options.peer_root.resolve(), options.window_seconds
            )
            return await compare(setting, options.rounds)
        finally:
            await worker.kill()


def main() -> int:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-root", type=Path, required=True, help="the root with perf_analyzer in it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--window-seconds", type=float, default=1.0)
    options = parser.parse_args()
    environment = make_environment(progress)
    # For Triton in our worker and in perf_analyzer, as for the server itself.
    variables = environment.variables()
    os.environ.update({name: variables[name] for name in ("PATH", "LD_LIBRARY_PATH")})
    with identity_models() as models, EmbeddedTriton(environment, models=models) as server:
        return asyncio.run(run(options, environment, server, models))


if __name__ == "__main__":
    sys.exit(main())
