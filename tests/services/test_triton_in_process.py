"""A Triton in the worker's own process: facts, values, accounts, streams, sequences, errors, and a clean end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_asyncio

from exporter.core.bounds import STREAM_RESPONSES
from exporter.core.errors import PreflightError
from exporter.core.facts import TensorSpec
from exporter.core.outcome import Outcome, Reason, SweepStatus
from exporter.core.probe import InputOptions, LoadLevel, MeasurementOptions, Probe, StopRules, Validation
from exporter.core.result import SweepResult
from exporter.core.target import Target
from exporter.core.units import MS, NS
from exporter.core.window import LevelEnd, RecordColumns, Window
from exporter.demo.triton import MODELS
from exporter.engine.plan import LevelPlan
from exporter.payload.regions import CLAIMED_PREFIX, FOLDER
from exporter.services.triton_in_process.control import InProcess
from exporter.services.triton_in_process.library import check_version
from exporter.services.triton_in_process.service import InProcessChannel
from exporter.sweep.conductor import Sweep
from exporter.transport.call import Call
from exporter.worker.local import LocalWorker
from exporter.worker.pool import WorkerPool
from tests.builders import concurrency, make_probe
from tests.engine.fakes import request_rate
from tests.waiting import PATIENCE_SECONDS

# One worker for all tests that need nothing else of it: what a sweep loads is gone with its end.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker(triton_variables: None) -> AsyncIterator[LocalWorker]:
    it = await LocalWorker.spawn()
    yield it
    await it.kill()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(triton_variables: None) -> AsyncIterator[WorkerPool]:
    it = WorkerPool(1)
    yield it
    await it.close()


ENGINE_MODELS = Path(__file__).parents[1] / "engine" / "error_models"


def target(installation: Path, models: Path = MODELS, **changes: Any) -> Target:
    values: dict[str, Any] = {
        "name": "here",
        "kind": "triton_in_process",
        "scheme": "",
        "host": "127.0.0.1",
        "port": 0,
        "group": "here",
        "connect_timeout_ns": 60 * NS,
        "server_directory": str(installation),
        "model_repository": str(models),
        "gpu": "off",
    }
    return Target(**(values | changes))


def probe(to: Target, model: str, *levels: LoadLevel, **changes: Any) -> Probe:
    values: dict[str, Any] = {
        "target": to,
        "model": model,
        "levels": levels or (concurrency(1),),
        "measurement": MeasurementOptions(
            window_ns=100 * MS, stability_ratio=10.0, min_reached_ratio=0.1, request_timeout_ns=5 * NS
        ),
        "stop": StopRules(max_in_flight=16),
    }
    return make_probe(**(values | changes))


async def sweep(pool: WorkerPool, it: Probe) -> SweepResult:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await Sweep(it, []).run(lambda: pool.lend(it.workers))


async def sweeping(pool: WorkerPool, it: Probe) -> tuple[asyncio.Task[SweepResult], set[Path]]:
    """A sweep whose Triton runs by now, and the shared memory that this has with its models."""
    running = asyncio.create_task(sweep(pool, it))
    regions: set[Path] = set()
    while not (regions or running.done()):
        await asyncio.sleep(0.02)
        for worker in pool._busy:
            maps = Path(f"/proc/{worker.pid}/maps").read_text()
            regions = {Path(path) for path in re.findall(rf"{FOLDER}/{CLAIMED_PREFIX}\S*", maps)}
    return running, regions


def repository(folder: Path, *models: str) -> Path:
    for model in models:
        shutil.copytree(MODELS / model, folder / model, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


async def failure(worker: LocalWorker, it: Probe) -> tuple[Reason, str]:
    with pytest.raises(PreflightError) as caught:
        await worker.preflight(it)
    await worker.end_sweep()
    return caught.value.reason, str(caught.value)


# --- sweeps ----------------------------------------------------------------------------------------------------------


async def test_sweeps_one_after_the_other_in_one_worker(triton_installation: Path, pool: WorkerPool) -> None:
    """Levels of both kinds, statistics joined, every request accounted for; and then another model, loaded again."""
    result = await sweep(
        pool, probe(target(triton_installation), "addsub", concurrency(1), concurrency(4), request_rate(200))
    )
    assert (result.status, result.reason_text) == (SweepStatus.OK, "")
    assert result.facts is not None
    assert (result.facts.server_name, result.facts.backend, result.facts.version) == ("triton", "python", "1")
    assert result.facts.inputs == (TensorSpec("INPUT0", "FP32", (16,)), TensorSpec("INPUT1", "FP32", (16,)))
    assert set(result.outcomes) == {Outcome.OK}
    for measurement in result.measurements:
        assert measurement.server is not None
        assert measurement.foreign_requests == 0
        counted, seen = measurement.server.success.count, measurement.outcomes[Outcome.OK]
        assert abs(counted - seen) <= 5 + 0.05 * seen  # the edges are cut at a loop's pace
    assert result.connection.connect_ns is None
    assert result.connection.cold_first_request_ns is not None
    running, regions = await sweeping(pool, probe(target(triton_installation), "pipeline"))
    again = await running
    assert again.status is SweepStatus.OK, again.reason_text
    assert len(again.measurements[0].composing) >= 2
    assert pool.restarts == {"crash": 0, "deadline": 0, "worn": 0}  # this test is the first
    assert [path for path in regions if path.exists()] == []


async def test_values(triton_installation: Path, pool: WorkerPool, tmp_path: Path) -> None:
    """Outputs are compared with those that are expected, of which every other one is wrong."""
    row = list(range(16))
    expected = [{"OUTPUT0": [factor * value for value in row]} for factor in (2, 3)]
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"data": [{"INPUT0": row, "INPUT1": row}] * 2, "validation_data": expected}))
    it = probe(
        target(triton_installation),
        "addsub",
        input=InputOptions(source="files", paths=(str(path),)),
        measurement=MeasurementOptions(window_ns=200 * MS, request_count=20),
        stop=StopRules(max_error_ratio=1.0, error_min_requests=1000),
    )
    outcomes = (await sweep(pool, it)).outcomes
    assert set(outcomes) == {Outcome.OK, Outcome.WRONG_OUTPUT}
    assert sum(outcomes.values()) >= 20
    assert abs(outcomes[Outcome.OK] - outcomes[Outcome.WRONG_OUTPUT]) <= 2


async def test_a_reference_model_is_loaded_and_asked(triton_installation: Path, pool: WorkerPool) -> None:
    it = probe(
        target(triton_installation),
        "identity",
        input=InputOptions(shapes=(("INPUT0", (16,)),)),
        measurement=MeasurementOptions(window_ns=200 * MS, request_count=20),
        validation=Validation(reference_model="identity", absolute=0.0, relative=0.0),
    )
    result = await sweep(pool, it)
    assert result.status is SweepStatus.OK, result.reason_text
    checked = result.measurements[0].validated
    assert checked is not None


async def test_decoupled_responses(triton_installation: Path, worker: LocalWorker) -> None:
    """Three responses to each request, each after 20 ms, then an empty final one."""
    it = probe(target(triton_installation), "repeat", concurrency(2), streaming=True)
    facts = await worker.preflight(it)
    assert facts.decoupled
    columns, end = await run(worker, LevelPlan("sweep", it, facts, it.levels[0], 20, 20 * NS))
    await worker.end_sweep()
    assert end.sent == 20
    assert set(columns.outcome) == {Outcome.OK}
    assert set(columns.responses) == {3}
    responses = columns.response_ns.reshape(-1, 3)
    assert (responses[:, 0] == columns.first_ns).all()
    assert (responses[:, 2] - columns.sent_ns).min() > 40 * MS
    assert (columns.last_ns >= responses[:, 2]).all()


async def test_responses_to_a_request_are_counted() -> None:
    """As over gRPC's streams (transport/test_grpc_bounds)."""

    ended: list[Call] = []
    channel = InProcessChannel(InProcess(), ended.append, streaming=True, keep_responses=False)
    channel._library = cast(Any, SimpleNamespace(InferenceResponseError=lambda _response: 0))
    call = Call(0)
    call.response_ns = []
    channel._in_flight[call] = None
    for number in range(STREAM_RESPONSES):
        channel._take(call, 1, False, number, 0)
    assert ended == []
    channel._take(call, 1, False, 7, 0)
    assert ended == [call]
    assert (call.outcome, call.text) == (Outcome.PROTOCOL_ERROR, "more than 100000 responses to one request")


@pytest.mark.parametrize(
    ("case", "outcome", "text"),
    [
        (2, Outcome.SERVER_ERROR, "INTERNAL: broke 0"),
        (4, Outcome.SERVER_ERROR, "INTERNAL: broke 0"),
        (6, Outcome.TIMEOUT, "no final response after the error: INTERNAL: broke 0"),
    ],
)
async def test_an_error_whose_final_flag_is_apart(
    triton_installation: Path, worker: LocalWorker, tmp_path: Path, case: int, outcome: Outcome, text: str
) -> None:
    """As over gRPC's streams (engine/test_stream_errors_triton)."""
    shutil.copytree(ENGINE_MODELS / "stream_errors", tmp_path / "models" / "stream_errors")
    data = tmp_path / "data.json"
    data.write_text(json.dumps({"data": [{"CASE": [0, 1]}, {"CASE": [case, 2]}]}))
    it = probe(
        target(triton_installation, tmp_path / "models"),
        "stream_errors",
        streaming=True,
        input=InputOptions(source="files", paths=(str(data),)),
        measurement=MeasurementOptions(window_ns=100 * MS, request_timeout_ns=NS),
        stop=StopRules(max_error_ratio=1.0),
    )
    facts = await worker.preflight(it)
    plan = LevelPlan("sweep", it, facts, it.levels[0], 6, 20 * NS)
    async with asyncio.timeout(30):
        windows = [event async for event in worker.run_level(plan) if isinstance(event, Window)]
    await worker.end_sweep()
    columns = RecordColumns.concatenate([window.columns for window in windows])
    assert columns.outcome.tolist() == [Outcome.OK, outcome] * 3
    latency_ns = columns.last_ns - columns.sent_ns
    assert latency_ns.min() >= 30 * MS
    assert f"{outcome.label}: {text}" in {window.error_text for window in windows}


async def test_a_request_that_is_given_up_is_abandoned(triton_installation: Path, worker: LocalWorker) -> None:
    """The model takes 10 ms, and no caller waits for more than 3."""
    options = MeasurementOptions(window_ns=200 * MS, request_timeout_ns=3 * MS)
    rules = StopRules(max_error_ratio=1.0, error_min_requests=1000)
    it = probe(target(triton_installation), "delay", measurement=options, stop=rules)
    facts = await worker.preflight(it)
    columns, end = await run(worker, LevelPlan("sweep", it, facts, it.levels[0], 10, 20 * NS))
    assert (end.sent, set(columns.outcome)) == (10, {Outcome.TIMEOUT})
    # What came too late did no harm: the same server responds those who wait.
    patient = replace(it, measurement=replace(options, request_timeout_ns=5 * NS))
    columns, _ = await run(worker, LevelPlan("sweep", patient, facts, it.levels[0], 10, 20 * NS))
    assert set(columns.outcome) == {Outcome.OK}
    await worker.end_sweep()


async def run(worker: LocalWorker, plan: LevelPlan) -> tuple[RecordColumns, LevelEnd]:
    """Runs a level to the end of its budget of requests."""
    windows: list[Window] = []
    end: LevelEnd | None = None
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in worker.run_level(plan):
            if isinstance(event, Window):
                windows.append(event)
            elif isinstance(event, LevelEnd):
                end = event
    assert end is not None
    return RecordColumns.concatenate([window.columns for window in windows]), end


async def test_a_crash_is_an_outcome_of_the_sweep(triton_installation: Path, pool: WorkerPool) -> None:
    """The library's process is the worker: it ends as by an error of the library, and the next sweep is as ever."""
    it = probe(
        target(triton_installation), "addsub", measurement=MeasurementOptions(window_ns=200 * MS, max_windows=100)
    )
    running, regions = await sweeping(pool, replace(it, stop=StopRules(max_requests=10_000_000)))
    (worker,) = pool._busy
    os.kill(worker.pid, signal.SIGSEGV)
    result = await running
    assert (result.status, result.reason) == (SweepStatus.ABORTED, Reason.WORKER_CRASH)
    assert result.reason_text == "worker ended by signal 11 (SIGSEGV)"
    assert [path for path in regions if path.exists()] == []
    assert (await sweep(pool, probe(target(triton_installation), "addsub"))).status is SweepStatus.OK


# --- errors ----------------------------------------------------------------------------------------------------------


async def test_what_cannot_be_loaded_is_reported(
    triton_installation: Path, worker: LocalWorker, tmp_path: Path
) -> None:
    reason, text = await failure(worker, probe(target(tmp_path), "addsub"))
    assert reason is Reason.UNREACHABLE
    assert text == f"there is no {tmp_path}/lib/libtritonserver.so: server_directory must hold Triton itself"
    reason, text = await failure(worker, probe(target(triton_installation, tmp_path / "none"), "addsub"))
    assert (reason, text) == (Reason.UNREACHABLE, f"target here: model_repository '{tmp_path}/none' is not a folder")
    broken = tmp_path / "broken"
    (broken / "lib").mkdir(parents=True)
    (broken / "lib" / "libtritonserver.so").write_text("no library")
    reason, text = await failure(worker, probe(target(broken), "addsub"))
    assert reason is Reason.UNREACHABLE
    assert "cannot be loaded: " in text
    assert "libtritonserver.so" in text
    (broken / "lib" / "libtritonserver.so").unlink()
    (broken / "lib" / "libtritonserver.so").symlink_to(_some_other_library())
    reason, text = await failure(worker, probe(target(broken), "addsub"))
    assert reason is Reason.UNSUPPORTED
    assert "lacks TRITONSERVER_ServerOptionsNew, " in text


def _some_other_library() -> str:
    """A shared library that is no Triton: the one that this process has its numbers from."""
    import _ctypes

    return str(_ctypes.__file__)


FAILS = """
class TritonPythonModel:
    def initialize(self, args):
        with open("{path}", "a") as file:
            file.write(".")
        raise OSError("no such weights")
"""


async def test_a_model_that_does_not_load_states_why(
    triton_installation: Path, worker: LocalWorker, tmp_path: Path
) -> None:
    """A model that fails is tried once: it would fail again, and may have taken long."""
    models = repository(tmp_path / "models", "addsub", "identity", "delay")
    config = models / "identity" / "config.pbtxt"
    config.write_text(config.read_text().replace('backend: "python"', 'backend: "nonesuch"'))
    (models / "delay" / "1" / "model.py").write_text(FAILS.format(path=tmp_path / "tries"))
    reason, text = await failure(worker, probe(target(triton_installation, models), "identity"))
    assert reason is Reason.MODEL_NOT_READY
    assert "nonesuch" in text
    reason, text = await failure(worker, probe(target(triton_installation, models), "delay"))
    assert reason is Reason.MODEL_NOT_READY
    assert "no such weights" in text
    assert (tmp_path / "tries").read_text() == "."
    reason, text = await failure(worker, probe(target(triton_installation, models), "missing"))
    assert reason is Reason.MODEL_UNKNOWN
    assert f"model 'missing' is not known to file://{models}; it knows: addsub, delay, identity" in text
    reason, text = await failure(worker, probe(target(triton_installation, models), "addsub", version="7"))
    assert reason is Reason.MODEL_UNKNOWN
    # The broken ones do not keep the others from being measured.
    assert (await worker.preflight(probe(target(triton_installation, models), "addsub"))).name == "addsub"
    await worker.end_sweep()


async def test_a_load_that_takes_too_long_is_given_up(triton_installation: Path, worker: LocalWorker) -> None:
    it = probe(target(triton_installation, connect_timeout_ns=10 * MS), "addsub")
    reason, text = await failure(worker, it)
    assert reason is Reason.PREFLIGHT_TIMEOUT
    assert "model 'addsub' was not loaded within 0.01 s, target.connect_timeout" in text
    assert (await worker.preflight(probe(target(triton_installation), "addsub"))).name == "addsub"


@pytest.mark.parametrize("version", [(2, 31), (1, 30), (0, 99)])
async def test_another_api_is_refused(version: tuple[int, int]) -> None:
    with pytest.raises(PreflightError, match=r"version .* of Triton's C API; needed is 1\.31 or a later 1\.x"):
        check_version(version, Path("x"))


async def test_later_minor_versions_are_fine() -> None:
    check_version((1, 31), Path("x"))
    check_version((1, 99), Path("x"))
