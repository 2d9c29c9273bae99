"""Rollout gates on a real Triton beside neighbours that come and go, against measuring one side after the other.
`python -m bench.gate_trial --gates 1 FILE` adds a gate of each case to the file, `--table FILE` prints what it holds.

The models sleep 10 ms, 10 ms again, 11 ms and 12 ms. Two processes use a core each for a random time, and rest for a
random time. After each gate the same number of windows is measured of one side, then of the other, in the same noise,
and judged once by Welch's interval with the same margins.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import multiprocessing
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median, variance
from urllib.parse import urlsplit

from bench.rounds import table
from exporter.analysis.paired import PairedRatio, overall
from exporter.analysis.student import t_quantile
from exporter.core.probe import LoadLevel, Mode, Probe, Schedule
from exporter.core.result import SweepResult
from exporter.core.rollout import GateOptions, GateVerdict, Margin
from exporter.core.target import Target
from exporter.core.units import MS, NS
from exporter.demo.triton import MODELS, EmbeddedTriton
from exporter.demo.triton_environment import make_environment
from exporter.rollout.gate import RolloutGate
from exporter.rollout.halves import half_probe, read_half, same_load
from exporter.sweep.conductor import Sweep
from exporter.worker.pool import WorkerPool

DELAYS_MS = {"stable": 10, "same": 10, "plus10": 11, "plus20": 12}
CASES = ("same", "plus10", "plus20")
OPTIONS = GateOptions((Margin("p50", 0.05), Margin("p95", 0.1)), max_pairs=23, window_ns=300 * MS)
NEIGHBOURS = 2


def neighbour(seed: int) -> None:
    """Uses a core for a second or so, rests for two or so, for ever."""
    chance = random.Random(seed)
    while True:
        time.sleep(chance.expovariate(1 / 2))
        end = time.monotonic() + chance.expovariate(1)
        while time.monotonic() < end:
            pass


@contextmanager
def neighbours() -> Iterator[None]:
    """Some of them, for the time of the block."""
    running = [multiprocessing.Process(target=neighbour, args=(seed,), daemon=True) for seed in range(NEIGHBOURS)]
    for process in running:
        process.start()
    try:
        yield
    finally:
        for process in running:
            process.kill()


@contextmanager
def server() -> Iterator[EmbeddedTriton]:
    """A real Triton with the models."""
    with tempfile.TemporaryDirectory() as folder:
        for name, delay_ms in DELAYS_MS.items():
            shutil.copytree(MODELS / "delay", Path(folder, name))
            config = Path(folder, name, "config.pbtxt")
            config.write_text(config.read_text().replace('"delay"', f'"{name}"').replace('"10"', f'"{delay_ms}"'))
        with EmbeddedTriton(make_environment(print), models=Path(folder)) as triton:
            yield triton
            triton.kill()


def probe_of(triton: EmbeddedTriton, model: str) -> Probe:
    url = urlsplit(triton.grpc_url)
    target = Target("triton", "triton", "grpc", url.hostname or "", url.port or 0, "triton")
    return Probe(model, target, model, "", Schedule(60 * NS), (LoadLevel(Mode.CONCURRENCY, 1.0, "1"),))


async def trial(triton: EmbeddedTriton, case: str) -> dict[str, object]:
    """A gate, and the same number of windows one side after the other."""
    pool = WorkerPool(1)

    async def measure(probe: Probe) -> SweepResult:
        return await Sweep(probe, []).run(pool.lend)

    try:
        sides = same_load(probe_of(triton, "stable"), probe_of(triton, case))
        sides = sides[0], replace(sides[1], validation=None)
        found = await RolloutGate(case, sides, OPTIONS, measure).run()
        windows: list[list[dict[str, float]]] = [[], []]
        for side, values in zip(sides, windows, strict=True):
            for _ in range(found.pairs):
                half = read_half(await measure(half_probe(side, OPTIONS, 1)), OPTIONS)
                values.append(dict(half.figures))
    finally:
        await pool.close()
    return {
        "case": case,
        "verdict": found.verdict.value,
        "pairs": found.pairs,
        "seconds": round(found.duration_ns / NS, 1),
        "after": one_look(*windows).value,
        "ratio": found.figures[0].ratio,
    }


def one_look(stable: Sequence[dict[str, float]], candidate: Sequence[dict[str, float]]) -> GateVerdict:
    """The usual judgement: Welch's 95 % interval of the mean logarithms, figure by figure."""
    verdicts = []
    for margin in OPTIONS.margins:
        logs = [
            [math.log(each[margin.figure]) for each in side if margin.figure in each] for side in (stable, candidate)
        ]
        if min(map(len, logs)) < 3:
            return GateVerdict.UNDECIDED
        parts = [variance(side) / len(side) for side in logs]
        degrees = sum(parts) ** 2 / sum(part**2 / (len(side) - 1) for part, side in zip(parts, logs, strict=True))
        half = t_quantile(0.975, degrees) * math.sqrt(sum(parts))
        middle = fmean(logs[1]) - fmean(logs[0])
        ratio = PairedRatio(len(logs[0]), math.exp(middle), math.exp(middle - half), math.exp(middle + half))
        verdicts.append(ratio.verdict(margin))
    return overall(verdicts)


def rows(trials: Sequence[dict[str, object]]) -> list[list[str]]:
    """One per case: how often each verdict came, of the gate and of the usual way, and what it took."""
    found = []
    for case in CASES:
        of_case = [each for each in trials if each["case"] == case]
        if not of_case:
            continue

        cost = [f"{median(float(str(each[key])) for each in of_case):.0f}" for key in ("pairs", "seconds")]
        gate, after = (
            [str(sum(each[key] == verdict for each in of_case)) for verdict in GateVerdict]
            for key in ("verdict", "after")
        )
        found.append([case, str(len(of_case)), *gate, *cost, *after])
    return found


def main() -> None:
    """Runs gates, or prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--gates", type=int, default=1)
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        verdicts = [verdict.value for verdict in GateVerdict]
        head = ["case", "gates", *verdicts, "pairs", "seconds", *(f"after: {name}" for name in verdicts)]
        print(table(head, rows([json.loads(line) for line in options.file.read_text().splitlines()])))
        return
    with server() as triton, neighbours():
        for case in (options.case or CASES) * options.gates:
            found = asyncio.run(trial(triton, case))
            with options.file.open("a") as file:
                file.write(json.dumps(found) + "\n")
            print(found, flush=True)


if __name__ == "__main__":
    main()
