"""Gates between models of a real Triton whose times and outputs are known."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.core.probe import InputOptions, Probe
from exporter.core.result import SweepResult
from exporter.core.rollout import GateOptions, GateResult, GateVerdict, Margin
from exporter.core.units import MS
from exporter.demo.triton import MODELS, EmbeddedTriton
from exporter.demo.triton_environment import TritonEnvironment
from exporter.rollout.gate import RolloutGate
from exporter.rollout.halves import same_load
from exporter.sweep.conductor import Sweep
from exporter.worker.pool import WorkerPool
from tests.engine.test_real_triton import probe_of

SHIFTED = Path(__file__).parents[1] / "sweep" / "models" / "shifted"
MARGIN = Margin("p50", 0.5)
"""Wide: other work may run on the tests' machine."""
OPTIONS = GateOptions((MARGIN, Margin("throughput", 0.5)), max_pairs=40, window_ns=400 * MS)


@pytest.fixture(scope="module")
def server(triton_environment: TritonEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    folder = tmp_path_factory.mktemp("models")
    for name, delay_ms in (("old", 5), ("same", 5), ("slow", 15)):
        shutil.copytree(MODELS / "delay", folder / name)
        config = folder / name / "config.pbtxt"
        text = config.read_text().replace('"delay"', f'"{name}"').replace('"10"', f'"{delay_ms}"')
        config.write_text(text)
    shutil.copytree(SHIFTED, folder / "shifted")
    shutil.copytree(MODELS / "identity", folder / "identity")
    shutil.copytree(MODELS / "addsub", folder / "addsub")
    with EmbeddedTriton(triton_environment, models=folder) as server:
        yield server
        server.kill()


def side(server: EmbeddedTriton, model: str) -> Probe:
    return replace(probe_of(server, "grpc", model), name=model)


async def gate(pool: WorkerPool, sides: tuple[Probe, Probe], options: GateOptions = OPTIONS) -> GateResult:
    async def measure(probe: Probe) -> SweepResult:
        return await Sweep(probe, []).run(lambda: pool.lend(probe.workers))

    return await RolloutGate("g", sides, options, measure).run()


async def test_a_slower_model_is_found_and_the_component(pool: WorkerPool, server: EmbeddedTriton) -> None:
    found = await gate(pool, same_load(side(server, "old"), side(server, "slow")))
    assert found.verdict is GateVerdict.WORSE, found
    latency = found.figures[0]
    assert latency.low is not None
    assert latency.low > 1.5
    assert latency.ratio is not None
    assert latency.ratio < 5
    assert found.component == "compute_infer"
    assert 5 * MS < found.components_ns["compute_infer"] < 15 * MS
    assert (found.candidate.model, found.candidate.version) == ("slow", "1")
    assert found.outputs == "equal in 20 requests"
    assert found.errors.candidate_errors == 0


async def test_the_same_model_is_neither_worse_nor_better(pool: WorkerPool, server: EmbeddedTriton) -> None:
    found = await gate(pool, same_load(side(server, "old"), side(server, "same")))
    assert found.verdict not in (GateVerdict.WORSE, GateVerdict.BETTER), found
    assert found.pairs >= OPTIONS.min_pairs


async def test_outputs_that_differ_too_much_are_worse(pool: WorkerPool, server: EmbeddedTriton) -> None:
    shape = InputOptions(shapes=(("INPUT0", (16,)),))
    sides = replace(side(server, "identity"), input=shape), side(server, "shifted")
    found = await gate(pool, same_load(*sides, output_tolerance=0.0))
    assert (found.verdict, found.pairs) == (GateVerdict.WORSE, 0)
    assert " outputs are wrong: tensor 'OUTPUT0', index [0,0]: " in found.outputs


@pytest.mark.parametrize("name", ["unknown", "wrong shape"])
async def test_no_result_is_undecided(pool: WorkerPool, server: EmbeddedTriton, name: str) -> None:
    stable, candidate = same_load(side(server, "old"), side(server, "unknown" if name == "unknown" else "addsub"))
    if name == "wrong shape":
        wrong = InputOptions(shapes=(("INPUT0", (3,)),))
        candidate = replace(candidate, input=wrong)
    found = await gate(pool, (stable, candidate))
    assert (found.verdict, found.passed, found.pairs) == (GateVerdict.UNDECIDED, False, 0)
    assert found.text.startswith("ended early: the candidate side cannot be measured: ")
