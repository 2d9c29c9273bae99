"""The kind `oip` against KServe's own model server: values, what it does not report, and its page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.core.errors import PreflightError
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import InputOptions, Probe
from exporter.server.statistics import difference
from exporter.services.oip.service import OipService
from tests.builders import make_probe, make_target
from tests.servers.kserve import KServe
from tests.services.asking import TIMEOUT_NS, facts_of, response_to

pytestmark = pytest.mark.e2e

SERVICE = OipService()
OPTIONS = InputOptions(datatypes=(("A", "FP32"), ("B", "FP32")), shapes=(("A", (2, 3)), ("B", (2, 3))))
"""Its metadata name no inputs where the model does not."""


@pytest.fixture(scope="module")
def server(kserve: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KServe]:
    server = KServe.prepared(kserve, tmp_path_factory.mktemp("kserve"))
    with server.running():
        yield server


@pytest.fixture(params=["http", "grpc"])
def endpoint(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def probe_of(server: KServe, endpoint: str, **changes: Any) -> Probe:
    target = make_target(kind="oip", scheme=endpoint, port=getattr(server, endpoint), metrics_url=server.metrics_url)
    return make_probe(**{"target": target, "model": "addsub", "input": OPTIONS, **changes})


A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.full((2, 3), 0.5, np.float32)


async def test_values_and_facts(server: KServe, endpoint: str) -> None:
    probe = probe_of(server, endpoint)
    facts = await facts_of(SERVICE, probe.target, probe)
    outputs = await response_to(SERVICE, probe, facts, {"A": A, "B": B})
    np.testing.assert_array_equal(outputs["SUM"], A + B)
    np.testing.assert_array_equal(outputs["DIFFERENCE"], A - B)
    assert (facts.version, facts.server_name, facts.max_batch_size) == ("", "kserve", 0)


async def test_the_parts_of_a_request_by_its_page(server: KServe, endpoint: str) -> None:
    probe = probe_of(server, endpoint)
    facts = await facts_of(SERVICE, probe.target, probe)
    control = SERVICE.control(probe.target, TIMEOUT_NS)
    before = await control.snapshot(facts)
    for _ in range(3):
        await response_to(SERVICE, probe, facts, {"A": A, "B": B})
    after = await control.snapshot(facts)
    await control.close()
    moved = difference([before, after], facts).model
    assert moved is not None
    assert (moved.success.count, moved.compute_infer.count) == (3, 3)
    assert 0 < moved.compute_infer.ns <= moved.success.ns
    assert (moved.fail, moved.inference_count, moved.execution_count) == (None, None, None)


async def test_what_it_refuses(server: KServe, endpoint: str) -> None:
    silent = probe_of(server, endpoint, input=InputOptions())
    with pytest.raises(PreflightError, match="does not report the inputs of model 'addsub'"):
        await facts_of(SERVICE, silent.target, silent)
    unknown = probe_of(server, endpoint, model="nope")
    with pytest.raises(PreflightError, match="nope") as caught:
        await facts_of(SERVICE, unknown.target, unknown)
    assert caught.value.reason is Reason.MODEL_UNKNOWN
    probe = probe_of(server, endpoint)
    facts = await facts_of(SERVICE, probe.target, probe)
    outcome, _ = await response_to(SERVICE, probe, facts, {"A": A})
    assert outcome is Outcome.SERVER_ERROR
