"""Sections of the comparison: throughput with each kind of request, and a streaming speech recogniser's sweep."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from bench import own_load, perf_analyzer
from bench.models import ACCUMULATOR, CACHED_IDENTITY, IDENTITY, REPEAT
from bench.printed_report import parse_levels
from bench.programs import BenchError, progress, run_program
from bench.rounds import OURS, PERF_ANALYZER, Aim, Case, Tool, measure, ratio_cells, table
from bench.setting import Setting
from bench.throughput import SMALL
from exporter.core.probe import InputOptions, Probe, SequenceOptions

STEPS = 1000
CONCURRENCY = 8

AIM = Aim(1.5)
"""That of plain requests at this concurrency."""

RESPONSES = 3
_PARAMETERS = (("answers", RESPONSES), ("interval_ms", 0))

SWEEP = (
    f"-m {ACCUMULATOR} -i grpc -a --streaming --sequence-length=50 --measurement-mode=count_windows "
    "--measurement-request-count=5000 --request-rate-range=512:4096:512 --stability-percentage=100 "
    "--latency-threshold=100"
)
"""Both tools end at the first rate that does not keep the threshold."""
SWEEP_LIMIT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request: perf_analyzer's arguments, and how our probe differs. The aims are those of plain requests
    at the same endpoint; models in a Python process bound what any client can show, and have none."""

    name: str
    endpoint: str
    model: str
    arguments: tuple[str, ...]
    changes: dict[str, Any] = field(default_factory=dict)
    aim: Aim | None = AIM


def kinds(data: Path) -> list[Kind]:
    """All of them; `data` is the file of many steps."""
    files = InputOptions(source="files", paths=(str(data),), shapes=(("INPUT0", (SMALL,)),))
    shared = InputOptions(shared_memory="system", shapes=(("INPUT0", (SMALL,)),))
    sized = ("--shape", f"INPUT0:{SMALL}")
    sequences = {"sequences": SequenceOptions()}
    parameters = [word for name, value in _PARAMETERS for word in ("--request-parameter", f"{name}:{value}:int")]
    found = []
    for endpoint in ("http", "grpc"):
        found += [
            Kind(
                f"JSON, {STEPS} steps", endpoint, CACHED_IDENTITY, (*sized, "--input-data", str(data)), {"input": files}
            ),
            Kind("shared memory", endpoint, CACHED_IDENTITY, (*sized, "--shared-memory", "system"), {"input": shared}),
            Kind("sequences", endpoint, ACCUMULATOR, (), sequences, None),
        ]
    stream = {"streaming": True}
    repeated = stream | {"input": InputOptions(parameters=_PARAMETERS)}
    return [
        *found,
        # Of the response cache's responses perf_analyzer reports "response output count mismatch" on a stream.
        Kind("stream", "grpc", IDENTITY, (*sized, "--streaming"), stream, None),
        Kind("sequences on streams", "grpc", ACCUMULATOR, ("--streaming",), sequences | stream, None),
        Kind(f"decoupled, {RESPONSES} responses", "grpc", REPEAT, ("--streaming", *parameters), repeated, None),
    ]


async def requests(setting: Setting) -> str:
    """The section of the kinds of requests."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = kinds(_many_steps(folder))
        await setting.run_ours(_probe(setting, chosen[0]))  # what the response cache is to hold
        cases = [Case((kind.name, kind.endpoint, kind.model), _tools(setting, kind)) for kind in chosen]
        await measure("requests", setting.rounds, cases)
    rows = []
    for kind, case in zip(chosen, cases, strict=True):
        medians = [f"{median(values):.0f}" if values else "" for values in map(case.of, (OURS, PERF_ANALYZER))]
        rows.append([*case.cells, *medians, *ratio_cells(case.pairs(OURS, PERF_ANALYZER), kind.aim)])
    return table(["requests", "endpoint", "model", "ours /s", "perf_analyzer /s", "ratio (range)", "aim", "met"], rows)


def _many_steps(folder: str) -> Path:
    data = Path(folder, "steps.json")
    steps = [{"INPUT0": [float(step)] * SMALL} for step in range(STEPS)]
    data.write_text(json.dumps({"data": steps}), encoding="utf-8")
    return data


def _tools(setting: Setting, kind: Kind) -> dict[str, Tool[float]]:
    probe = _probe(setting, kind)

    async def ours() -> float:
        return (await setting.run_ours(probe)).throughput

    async def theirs() -> float:
        report = await perf_analyzer.run_level(
            _program(setting),
            model=kind.model,
            endpoint=kind.endpoint,
            port=setting.port(kind.endpoint),
            window_seconds=setting.seconds / perf_analyzer.WINDOWS,
            load=["-a", "-s", "999", "--concurrency-range", str(CONCURRENCY), *kind.arguments],
        )
        return report.throughput

    return {OURS: ours} if setting.program is None else {OURS: ours, PERF_ANALYZER: theirs}


def _probe(setting: Setting, kind: Kind) -> Probe:
    elements = SMALL if kind.model in (IDENTITY, CACHED_IDENTITY) else None
    probe = setting.probe(kind.endpoint, kind.model, elements, own_load.concurrency(CONCURRENCY))
    return replace(probe, **kind.changes)


def _program(setting: Setting) -> Path:
    assert setting.program is not None
    return setting.program


async def recogniser(setting: Setting) -> str:
    """The section of the sweep: both tools run the same command line, once, and the ratio is of what they report."""
    rates: dict[str, dict[str, float]] = {}
    commands = {OURS: [sys.executable, "-m", "exporter", "analyze"]}
    if setting.program is not None:
        commands[PERF_ANALYZER] = [str(setting.program)]
    for tool, command in commands.items():
        progress(f"recogniser: {tool}")
        try:
            words = [*command, *SWEEP.split(), "-u", setting.address("grpc")]
            ended = await run_program(words, limit_seconds=SWEEP_LIMIT_SECONDS)
            rates[tool] = {level.load: level.figures["throughput"] for level in parse_levels(ended.printed)}
        except BenchError as error:
            progress(f"{tool} gave no figures: {error}")
            rates[tool] = {}
    asked = sorted({load for found in rates.values() for load in found}, key=float)
    rows = [[load, *(_reached(found, load) for found in rates.values())] for load in asked]
    return table(["asked /s", *(f"{tool}: reached, over asked" for tool in rates)], rows)


def _reached(found: dict[str, float], load: str) -> str:
    return f"{found[load]:.1f}, {found[load] / float(load):.4f}" if load in found else ""
