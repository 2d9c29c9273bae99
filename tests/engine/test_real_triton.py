"""The real worker and the real services against a real Triton: each request is accounted for, on both sides."""

from __future__ import annotations

import asyncio
import dataclasses
from urllib.parse import urlsplit

import numpy as np
import pytest

from exporter.core.errors import PreflightError
from exporter.core.facts import ServerSnapshot
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import LoadLevel, MeasurementOptions, Probe, StopRules
from exporter.core.units import MS, NS
from exporter.core.window import LevelEnd, Window
from exporter.demo.triton import EmbeddedTriton
from exporter.engine.plan import LevelEvent, LevelPlan, LevelStarted, Worker
from exporter.worker.local import LocalWorker
from exporter.worker.pool import WorkerPool
from tests.builders import concurrency, make_probe, make_target
from tests.engine.fakes import request_rate
from tests.waiting import PATIENCE_SECONDS


def probe_of(triton: EmbeddedTriton, scheme: str, model: str) -> Probe:
    url = urlsplit(triton.http_url if scheme == "http" else triton.grpc_url)
    assert url.hostname is not None
    assert url.port is not None
    return make_probe(
        target=make_target(scheme=scheme, host=url.hostname, port=url.port),
        model=model,
        measurement=MeasurementOptions(window_ns=300 * MS, request_timeout_ns=5 * NS),
        stop=StopRules(max_in_flight=64),
    )


async def run(worker: Worker, probe: Probe, level: LoadLevel, windows: int) -> list[LevelEvent]:
    facts = await worker.preflight(probe)
    events: list[LevelEvent] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in worker.run_level(LevelPlan("sweep", probe, facts, level, 1_000_000, 20 * NS)):
            events.append(event)
            if isinstance(event, Window) and event.index == windows:
                await worker.stop_level()
    await worker.end_sweep()
    return events


def succeeded(snapshot: ServerSnapshot | None) -> int:
    assert snapshot is not None
    return sum(model.success.count for model in snapshot.models)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
@pytest.mark.parametrize("level", [concurrency(1), concurrency(4), request_rate(200)])
async def test_every_request_is_accounted_for(
    worker: LocalWorker, triton: EmbeddedTriton, scheme: str, level: LoadLevel
) -> None:
    check_accounts(await run(worker, probe_of(triton, scheme, "addsub"), level, windows=3))


@pytest.mark.parametrize("level", [concurrency(4), request_rate(200)])
async def test_so_it_is_of_several_workers(triton: EmbeddedTriton, level: LoadLevel) -> None:
    pool = WorkerPool(1)
    try:
        async with pool.lend(2) as group:
            check_accounts(await run(group, probe_of(triton, "grpc", "addsub"), level, windows=3))
    finally:
        await pool.close()


def check_accounts(events: list[LevelEvent]) -> None:
    started, *_, end = events
    windows = [event for event in events if isinstance(event, Window)]
    measured = [window for window in windows if not window.warm_up]
    assert isinstance(started, LevelStarted)
    assert started.connection.connect_ns is not None
    assert started.connection.cold_first_request_ns is not None
    assert isinstance(end, LevelEnd)
    assert (end.reason, end.text, end.abandoned) == (Reason.NONE, "", 0)
    assert end.sent == sum(window.sent for window in windows) == sum(len(window.columns) for window in windows) > 30
    for window in windows:
        columns = window.columns
        assert set(columns.outcome.tolist()) <= {Outcome.OK}
        assert np.all(columns.intended_ns <= columns.sent_ns)
        assert np.all(columns.sent_ns <= columns.send_done_ns)
        assert np.all(columns.send_done_ns <= columns.last_ns)
        assert np.all(columns.sent_ns < columns.first_ns)
        assert np.all(columns.first_ns <= columns.last_ns)
        assert set(columns.responses.tolist()) <= {1}
        assert np.all(columns.bytes_in > 0)
    # The server counted what we counted, but for what was in flight at the edges.
    server = succeeded(measured[-1].after) - succeeded(measured[0].before)
    ours = sum(len(window.columns) for window in measured)
    assert abs(server - ours) <= 2 * max(window.in_flight for window in measured) + 0.05 * ours


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_time_outs_on_a_slow_model(worker: LocalWorker, triton: EmbeddedTriton, scheme: str) -> None:
    probe = probe_of(triton, scheme, "delay")  # 10 ms
    probe = dataclasses.replace(
        probe,
        measurement=MeasurementOptions(window_ns=300 * MS, request_timeout_ns=3 * MS),
        stop=StopRules(max_in_flight=2, max_error_ratio=1.0),
    )
    facts = await worker.preflight(probe)
    plan = LevelPlan("sweep", probe, facts, concurrency(2), 12, 10 * NS)
    *_, window, end = [event async for event in worker.run_level(plan)]
    assert isinstance(window, Window)
    assert isinstance(end, LevelEnd)
    assert (end.reason, end.sent) == (Reason.REQUEST_BUDGET, 12)
    assert window.error_text.startswith("timeout: ")
    assert end.abandoned <= 2


async def test_a_model_that_is_not_there(worker: LocalWorker, triton: EmbeddedTriton) -> None:
    with pytest.raises(PreflightError) as caught:
        await worker.preflight(probe_of(triton, "http", "nosuch"))
    assert caught.value.reason is Reason.MODEL_UNKNOWN


async def test_nothing_listens(worker: LocalWorker, triton: EmbeddedTriton, unused_tcp_port: int) -> None:
    probe = probe_of(triton, "http", "addsub")
    facts = await worker.preflight(probe)
    gone = dataclasses.replace(probe, target=dataclasses.replace(probe.target, port=unused_tcp_port))
    events = [event async for event in worker.run_level(LevelPlan("sweep", gone, facts, concurrency(2), 100, NS))]
    (end,) = events
    assert isinstance(end, LevelEnd)
    assert (end.reason, end.sent) == (Reason.UNREACHABLE, 0)
    assert str(unused_tcp_port) in end.text
