"""The kind `oip` against MLServer: facts, values and statistics, over HTTP and gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.core.errors import PreflightError
from exporter.core.facts import TensorSpec
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import InputOptions, MeasurementOptions, Probe
from exporter.core.units import NS
from exporter.core.window import Window
from exporter.engine.plan import LevelPlan
from exporter.payload import make_steps
from exporter.server.statistics import difference
from exporter.services.oip.service import OipService
from exporter.worker.local import LocalWorker
from tests.builders import concurrency, make_probe, make_target
from tests.servers.mlserver import MlServer
from tests.services.asking import TIMEOUT_NS, facts_of, response_to
from tests.waiting import patient

SERVICE = OipService()
SCHEMES = ["http", "grpc"]


@pytest.fixture(scope="module")
def server(mlserver: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlServer]:
    server = MlServer.prepared(mlserver, tmp_path_factory.mktemp("mlserver"))
    with server.running():
        yield server


def probe_of(server: MlServer, scheme: str, model: str = "addsub", **changes: Any) -> Probe:
    target = make_target(
        name="mlserver",
        kind="oip",
        scheme=scheme,
        port=server.grpc if scheme == "grpc" else server.http,
        metrics_url=server.metrics_url,
    )
    return make_probe(**{"target": target, "model": model, **changes})


OPTIONS = InputOptions(shapes=(("A", (2, 4)), ("B", (2, 4))))


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_facts_and_values(server: MlServer, scheme: str) -> None:
    probe = probe_of(server, scheme, input=OPTIONS)
    facts = await facts_of(SERVICE, probe.target, probe)
    assert facts.inputs == (TensorSpec("A", "FP32", (-1, 4)), TensorSpec("B", "FP32", (-1, 4)))
    assert (facts.name, facts.server_name, facts.server_version, facts.max_batch_size) == (
        "addsub",
        "mlserver",
        "1.7.1",
        0,
    )
    (tensors,) = make_steps(facts, OPTIONS)
    inputs: Any = tensors
    outputs = await response_to(SERVICE, probe, facts, inputs)
    assert outputs["SUM"].dtype == np.float32
    np.testing.assert_allclose(outputs["SUM"], inputs["A"] + inputs["B"], rtol=1e-6)
    np.testing.assert_allclose(outputs["DIFFERENCE"], inputs["A"] - inputs["B"], rtol=1e-6)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_model_that_reports_no_inputs(server: MlServer, scheme: str) -> None:
    options = InputOptions(datatypes=(("WORDS", "BYTES"),), shapes=(("WORDS", (2, 1)),), string_data="hällo")
    probe = probe_of(server, scheme, "shout", input=options)
    facts = await facts_of(SERVICE, probe.target, probe)
    outputs = await response_to(SERVICE, probe, facts, make_steps(facts, options)[0])
    assert outputs["LOUD"].ravel().tolist() == ["HÄLLO".encode()] * 2
    with pytest.raises(PreflightError, match="does not report the inputs of model 'shout'") as caught:
        await facts_of(SERVICE, probe.target, probe_of(server, scheme, "shout"))
    assert caught.value.reason is Reason.BAD_INPUT


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_model_that_it_is_not_known(server: MlServer, scheme: str) -> None:
    probe = probe_of(server, scheme, "nope", version="3")
    with pytest.raises(PreflightError, match="model 'nope' version 3 is not known to") as caught:
        await facts_of(SERVICE, probe.target, probe)
    assert caught.value.reason is Reason.MODEL_UNKNOWN


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_request_that_the_server_refuses(server: MlServer, scheme: str) -> None:
    probe = probe_of(server, scheme, input=OPTIONS)
    facts = await facts_of(SERVICE, probe.target, probe)
    outcome, text = await response_to(SERVICE, probe, facts, {"A": np.zeros((1, 4), np.float32)})
    assert outcome in (Outcome.CLIENT_ERROR, Outcome.SERVER_ERROR)
    assert text


async def test_statistics_from_the_metrics_page(server: MlServer) -> None:
    probe = probe_of(server, "grpc", input=OPTIONS)
    control = SERVICE.control(probe.target, TIMEOUT_NS)
    facts = await control.preflight("addsub", "", (), OPTIONS)
    assert facts.has_statistics
    before = await control.snapshot(facts)
    for _ in range(3):
        await response_to(SERVICE, probe, facts, make_steps(facts, OPTIONS)[0])
    while (
        moved := difference([before, await control.snapshot(facts)], facts).model
    ) is None or moved.success.count < 3:
        await asyncio.sleep(0.01)  # a request may be counted a moment after its response
    await control.close()
    assert moved.success.count == 3
    assert 0 < moved.success.ns < patient(3) * NS


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_level_by_a_worker(server: MlServer, scheme: str) -> None:
    probe = probe_of(server, scheme, input=OPTIONS, measurement=MeasurementOptions(window_ns=NS // 4))
    worker = await LocalWorker.spawn()
    facts = await worker.preflight(probe)
    outcomes: list[int] = []
    async for event in worker.run_level(LevelPlan("sweep", probe, facts, concurrency(2), 1_000_000, 20 * NS)):
        if isinstance(event, Window) and not event.warm_up:
            outcomes += event.columns.outcome.tolist()
            await worker.stop_level()
    await worker.kill()
    assert outcomes
    assert {*outcomes} <= {int(Outcome.OK), int(Outcome.CANCELLED)}
    assert int(Outcome.OK) in outcomes
