"""Shared memory with the real Triton: the values that come back by it, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tritonclient.http.aio

from exporter.core.errors import InputError, PreflightError
from exporter.core.facts import TensorSpec
from exporter.core.outcome import Outcome, Reason, SweepStatus
from exporter.core.probe import InputOptions, LoadLevel, MeasurementOptions, Probe, SequenceOptions, StopRules
from exporter.core.result import SweepResult
from exporter.core.target import Header
from exporter.core.units import MS, NS
from exporter.core.window import LevelEnd, Window
from exporter.demo.triton import EmbeddedTriton
from exporter.engine.plan import LevelPlan
from exporter.payload import make_steps
from exporter.payload.regions import SystemRegion
from exporter.payload.values import dtype_of
from exporter.services.triton.service import TritonService
from exporter.services.triton.shared_memory import SharedMemory, output_size
from exporter.services.triton.shared_requests import share
from exporter.sweep import conductor
from exporter.sweep.conductor import Sweep
from exporter.sweep.leftovers import Leftovers
from exporter.transport.call import Call, EncodedRequest
from exporter.worker.local import LocalWorker
from exporter.worker.pool import WorkerPool
from tests import regions
from tests.builders import concurrency, make_facts, make_probe, make_target
from tests.conftest import TritonFactory
from tests.engine.fakes import request_rate
from tests.transport.scripted import Ended
from tests.waiting import PATIENCE_SECONDS

ENDPOINTS = ["http", "grpc"]


def probe_of(triton: EmbeddedTriton, scheme: str, model: str = "addsub", **changes: Any) -> Probe:
    port = triton.grpc_port if scheme == "grpc" else triton.http_port
    values: dict[str, Any] = {
        "target": make_target(scheme=scheme, port=port),
        "model": model,
        "input": InputOptions(batch_size=2, shared_memory="system"),
        "measurement": MeasurementOptions(window_ns=200 * MS, request_timeout_ns=5 * NS),
        "stop": StopRules(max_in_flight=16),
    }
    return make_probe(**(values | changes))


async def regions_at_server(triton: EmbeddedTriton) -> set[str]:
    client = tritonclient.http.aio.InferenceServerClient(f"127.0.0.1:{triton.http_port}")
    found = {region["name"] for region in await client.get_system_shared_memory_status()}
    await client.close()
    return found


@pytest.fixture(autouse=True)
def before() -> set[str]:
    """The regions of others, at the test's begin."""
    return regions.present()


async def check_nothing_is_left(triton: EmbeddedTriton, before: set[str]) -> None:
    assert await asyncio.to_thread(regions.left, before) == set()
    assert await regions_at_server(triton) == set()


def outputs_of(regions: Sequence[Any], place: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Both outputs of addsub, batch 2, at this place: 128 bytes each."""
    data = regions[1].read(256 * place, 256)
    both = np.frombuffer(data, np.float32).reshape(2, 2, 16)
    return both[0], both[1]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("scheme", ENDPOINTS)
async def test_values_come_back_at_each_place(
    triton: EmbeddedTriton, scheme: str, streaming: bool, before: set[str]
) -> None:
    if streaming and scheme == "http":
        pytest.skip("streams are gRPC's")
    service, probe = TritonService(), probe_of(triton, scheme, streaming=streaming)
    control = service.control(probe.target, 5 * NS)
    facts = await control.preflight("addsub", "")
    await control.close()
    steps = [make_steps(facts, replace(probe.input, seed=seed))[0] for seed in range(3)]
    shared = await share(service.encode, probe, facts, steps, "sweep", places=4)
    assert [len(requests) for requests in shared.by_place] == [3] * 4
    assert await regions_at_server(triton) == {region.name for region in shared.memory._regions} == regions.held()
    ended = Ended()
    channel = service.channel(probe.target, ended, streaming=streaming)
    await channel.open()
    for count, (place, step) in enumerate([(0, 0), (3, 2), (1, 1), (0, 2)], 1):
        call = Call(place)
        call.deadline_ns = time.monotonic_ns() + 5 * NS
        channel.send(call, shared.by_place[place][step])
        assert await ended.wait(count) == (Outcome.OK, "")
        total, difference = outputs_of(shared.memory._regions, place)
        first: Any = steps[step]["INPUT0"]
        second: Any = steps[step]["INPUT1"]
        assert np.array_equal(total, first + second)
        assert np.array_equal(difference, first - second)
        assert call.bytes_in < 1000
    await channel.close()
    await shared.close()
    await check_nothing_is_left(triton, before)


@pytest.mark.parametrize("scheme", ENDPOINTS)
async def test_tensors_without_elements(triton: EmbeddedTriton, scheme: str) -> None:
    """Triton refuses an offset at a region's end, also of nothing."""
    service = TritonService()
    probe = replace(probe_of(triton, scheme), model="identity")
    control = service.control(probe.target, 5 * NS)
    facts = await control.preflight("identity", "")
    await control.close()
    spec = facts.inputs[0]
    batch = (1,) if facts.max_batch_size else ()
    steps: list[Any] = [{spec.name: np.empty((*batch, 0), dtype_of(spec.datatype))}]
    shared = await share(service.encode, probe, facts, steps, "sweep", places=2)
    ended = Ended()
    channel = service.channel(probe.target, ended)
    for count in (1, 2):
        channel.send(Call(0), shared.by_place[count - 1][0])
        assert await ended.wait(count) == (Outcome.OK, "")
    await channel.close()
    await shared.close()


async def test_outputs_have_a_limit_together() -> None:
    memory = SharedMemory(make_target(), "system")
    with pytest.raises(InputError, match="outputs of 67108864 bytes, for each of 65 requests in flight"):
        await memory.place_outputs([64 << 20], 65)
    await memory.close()


async def test_a_request_that_cannot_be_made_leaves_nothing(triton: EmbeddedTriton, before: set[str]) -> None:
    """The regions are there by then: a header's secret that cannot be read is reported as late as that."""
    probe = probe_of(triton, "http")
    control = TritonService().control(probe.target, 5 * NS)
    facts = await control.preflight("addsub", "")
    await control.close()
    target = replace(probe.target, headers=(Header("X-Token", env="NO_SUCH_TOKEN"),))
    steps = make_steps(facts, probe.input)

    class Unmarked(TritonService):
        def encode(self, *_: Any) -> list[EncodedRequest]:
            assert len(regions.held()) == 2
            return super().encode(replace(probe, target=target), facts, steps, "sweep")

    with pytest.raises(PreflightError, match="NO_SUCH_TOKEN"):
        await share(Unmarked().encode, probe, facts, steps, "sweep", places=4)
    await check_nothing_is_left(triton, before)


async def run_level(worker: LocalWorker, probe: Probe, level: LoadLevel) -> tuple[list[Window], LevelEnd]:
    facts = await worker.preflight(probe)
    windows: list[Window] = []
    end: LevelEnd | None = None
    async for event in worker.run_level(LevelPlan("sweep", probe, facts, level, 1_000_000, 20 * NS)):
        if isinstance(event, Window):
            windows.append(event)
            if event.index == 2:
                await worker.stop_level()
        elif isinstance(event, LevelEnd):
            end = event
    await worker.end_sweep()
    assert end is not None
    return windows, end


async def test_levels_leave_nothing(triton: EmbeddedTriton, before: set[str]) -> None:
    worker = await LocalWorker.spawn()
    for scheme in ENDPOINTS:
        sequences = probe_of(
            triton, scheme, "accumulator", input=InputOptions(shared_memory="system"), sequences=SequenceOptions()
        )
        for probe, level in (
            (probe_of(triton, scheme), concurrency(8)),
            (probe_of(triton, scheme), request_rate(200)),
            (sequences, concurrency(3)),
        ):
            windows, end = await run_level(worker, probe, level)
            assert end.reason is Reason.NONE
            outcomes = {outcome for window in windows for outcome in window.columns.outcome.tolist()}
            assert outcomes == {Outcome.OK}
            await check_nothing_is_left(triton, before)
    await worker.kill()


async def test_a_killed_worker_leaves_nothing(triton: EmbeddedTriton, pool: WorkerPool, before: set[str]) -> None:
    """kill -9 in the middle of a level: the sweep ends as a crash, and what was left is gone with it."""
    probe = probe_of(triton, "http", levels=(concurrency(4),))
    victim: list[int] = []

    class Killer:
        def sweep_started(self, *_: object) -> None: ...

        def window_ended(self, *_: object) -> None:
            if not victim:
                (worker,) = pool._busy
                victim.append(worker.pid)
                assert len(regions.held()) == 2
                os.kill(worker.pid, signal.SIGKILL)

        def sweep_ended(self, *_: object) -> None: ...

        def sweep_skipped(self, *_: object) -> None: ...

    result: SweepResult = await Sweep(probe, [Killer()]).run(lambda: pool.lend(1))
    assert (result.status, result.reason) == (SweepStatus.ABORTED, Reason.WORKER_CRASH)
    await check_nothing_is_left(triton, before)
    await pool.close()


@pytest.mark.parametrize(
    ("shared_memory", "margin_seconds"),
    [pytest.param("none", 20, id="another probe"), ("system", 20), pytest.param("none", 1, id="deadline")],
)
async def test_a_server_that_freezes_has_nothing_left_once_it_responds(
    triton_factory: TritonFactory,
    pool: WorkerPool,
    before: set[str],
    monkeypatch: pytest.MonkeyPatch,
    shared_memory: str,
    margin_seconds: int,
) -> None:
    """The regions cannot be taken back while it is frozen. The next sweep of the server does it, whichever probe's."""
    monkeypatch.setattr(conductor, "PREFLIGHT_MARGIN_NS", margin_seconds * NS)
    own = triton_factory()
    own.start()
    assert own.pid is not None
    target = make_target(port=own.http_port, connect_timeout_ns=NS // 2)
    measurement = MeasurementOptions(window_ns=200 * MS, request_timeout_ns=NS, max_windows=100, stability_windows=100)
    stop = StopRules(max_in_flight=16, max_duration_ns=3 * NS)
    probe = probe_of(own, "http", target=target, measurement=measurement, stop=stop, levels=(concurrency(4),))
    leftovers = Leftovers()
    sweep = asyncio.create_task(Sweep(probe, [], leftovers=leftovers).run(lambda: pool.lend(1)))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(regions.held()) < 2:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.5)
    os.kill(own.pid, signal.SIGSTOP)
    try:
        result = await sweep
    finally:
        os.kill(own.pid, signal.SIGCONT)
    assert (result.reason is Reason.DEADLINE) == (margin_seconds == 1), result.reason_text
    assert len(await regions_at_server(own)) == 2
    other = probe_of(own, "http", name="other", input=InputOptions(shared_memory=shared_memory))
    await Sweep(other, [], leftovers=leftovers).run(lambda: pool.lend(1))
    await check_nothing_is_left(own, before)
    assert leftovers.shared(probe) == ()
    await pool.close()


async def test_closing_the_pool_leaves_nothing(triton: EmbeddedTriton, pool: WorkerPool, before: set[str]) -> None:
    """As when the daemon is stopped in the middle of a sweep."""
    sweep = asyncio.create_task(Sweep(probe_of(triton, "grpc"), []).run(lambda: pool.lend(1)))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(regions.held()) < 2:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)
    sweep.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sweep
    await pool.close()
    await check_nothing_is_left(triton, before)


@pytest.mark.parametrize("scheme", ENDPOINTS)
async def test_regions_that_the_server_still_uses_are_waited_for(
    triton: EmbeddedTriton, scheme: str, before: set[str]
) -> None:
    """Triton refuses to let go of them while a request is under way: here one of 400 ms."""
    service = TritonService()
    probe = probe_of(
        triton, scheme, "delay", input=InputOptions(shared_memory="system", parameters=(("delay_ms", "400"),))
    )
    control = service.control(probe.target, 5 * NS)
    facts = await control.preflight("delay", "")
    await control.close()
    shared = await share(service.encode, probe, facts, make_steps(facts, probe.input), "sweep", places=1)
    ended = Ended()
    channel = service.channel(probe.target, ended)
    await channel.open()
    call = Call(0)
    call.deadline_ns = time.monotonic_ns() + 5 * NS
    channel.send(call, shared.by_place[0][0])
    await asyncio.sleep(0.03)
    closing = asyncio.create_task(shared.close())
    await asyncio.sleep(0.02)
    assert len(await regions_at_server(triton)) == 2
    assert await ended.wait() == (Outcome.OK, "")
    await closing
    await channel.close()
    await check_nothing_is_left(triton, before)


@pytest.mark.parametrize("scheme", ENDPOINTS)
async def test_orphans_at_the_server_are_removed_and_those_in_use_are_not(
    triton: EmbeddedTriton, scheme: str, before: set[str]
) -> None:
    orphan, other = SystemRegion(64), SystemRegion(64)
    client = tritonclient.http.aio.InferenceServerClient(f"127.0.0.1:{triton.http_port}")
    for region in (orphan, other):
        await client.register_system_shared_memory(region.name, region.key, 64)
    orphan.close()
    await TritonService().check_shared_memory(probe_of(triton, scheme))
    assert await regions_at_server(triton) == {other.name}
    await client.unregister_system_shared_memory(other.name)
    await client.close()
    other.close()
    await check_nothing_is_left(triton, before)


async def test_a_server_that_cannot_open_it_is_refused(
    triton: EmbeddedTriton, monkeypatch: pytest.MonkeyPatch, before: set[str]
) -> None:
    """As one on another machine."""
    monkeypatch.setattr(SystemRegion, "key", "/no-such-region")
    for scheme in ENDPOINTS:
        with pytest.raises(PreflightError) as caught:
            await TritonService().check_shared_memory(probe_of(triton, scheme))
        assert caught.value.reason is Reason.UNSUPPORTED
        assert str(caught.value).startswith("input.shared_memory: system needs a server that shares it with us: ")
    await check_nothing_is_left(triton, before)


async def test_cuda_is_refused_where_there_is_no_gpu(triton: EmbeddedTriton) -> None:
    probe = probe_of(triton, "grpc", input=InputOptions(shared_memory="cuda"))
    with pytest.raises(PreflightError) as caught:
        await TritonService().check_shared_memory(probe)
    assert caught.value.reason is Reason.UNSUPPORTED
    assert str(caught.value).startswith("input.shared_memory: cuda, and no GPU can be used: ")


@pytest.mark.parametrize(
    ("datatype", "shape", "batch", "bytes_"),
    [
        ("FP32", (16,), 2, 128),
        ("BF16", (3, 5), 1, 30),
        ("BOOL", (), 4, 4),
        ("FP32", (-1, 4), 2, 2000),
        ("BYTES", (1,), 3, 3000),
    ],
)
def test_sizes_of_outputs(datatype: str, shape: tuple[int, ...], batch: int, bytes_: int) -> None:
    options = InputOptions(batch_size=batch, output_shared_memory_bytes=1000)
    assert output_size(TensorSpec("OUT", datatype, shape), make_facts(), options) == bytes_
