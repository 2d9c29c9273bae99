"""The kind `torchserve` against TorchServe: values, statistics, tokens, workers, and how it fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.commands.analyze.command import run_analyze
from exporter.core.errors import PreflightError
from exporter.core.outcome import Outcome, Reason, SweepStatus
from exporter.core.probe import InputOptions, MeasurementOptions, Probe
from exporter.core.result import SweepResult
from exporter.core.target import Header
from exporter.core.units import NS
from exporter.server.statistics import difference
from exporter.services.torchserve import BODY, FILE, OUTPUT, TorchServeService
from exporter.sweep.conductor import Sweep
from exporter.worker.pool import WorkerPool
from tests.builders import make_probe, make_target
from tests.servers.torchserve import TorchServe
from tests.services.asking import TIMEOUT_NS, facts_of, response_to
from tests.waiting import becomes_true

pytestmark = pytest.mark.e2e

SERVICE = TorchServeService()


def probe_of(server: TorchServe, model: str = "double", token: str = "inference", **changes: Any) -> Probe:
    target = make_target(
        kind="torchserve",
        port=server.inference,
        metrics_url=server.metrics_url,
        management_url=server.management_url,
        headers=headers(server, token),
        management_headers=headers(server, "management"),
    )
    return make_probe(**{"target": target, "model": model, **changes})


def headers(server: TorchServe, endpoint: str) -> tuple[Header, ...]:
    return (Header("Authorization", f"Bearer {server.token(endpoint)}"),) if server.tokens else ()


@pytest.fixture(scope="module", params=["open", "tokens"])
def server(
    request: pytest.FixtureRequest, torchserve: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TorchServe]:
    folder = tmp_path_factory.mktemp("torchserve")
    server = TorchServe.prepared(torchserve, folder, tokens=request.param == "tokens")
    with server.running():
        yield server


def strings(word: str) -> Any:
    return np.array([word.encode()], np.object_)


async def test_bodies_and_files(server: TorchServe, tmp_path: Path) -> None:
    probe = probe_of(server)
    facts = await facts_of(SERVICE, probe.target, probe)
    assert facts.version == "1.0"
    outputs = await response_to(SERVICE, probe, facts, {BODY: strings("[1, 2.5]")})
    assert json.loads(outputs[OUTPUT][0]) == [2, 5]
    (tmp_path / "input.json").write_text("[[3]]")
    outputs = await response_to(SERVICE, probe, facts, {FILE: strings(str(tmp_path / "input.json"))})
    assert json.loads(outputs[OUTPUT][0]) == [[6]]
    plain = probe_of(server, input=InputOptions(content_type="application/octet-stream"))
    outputs = await response_to(SERVICE, plain, facts, {BODY: strings("[4]")})
    assert json.loads(outputs[OUTPUT][0]) == [8]


@pytest.mark.parametrize("version", ["", "1.0"])
async def test_statistics_from_the_metrics_page(server: TorchServe, version: str) -> None:
    probe = probe_of(server, version=version)
    facts = await facts_of(SERVICE, probe.target, probe)
    control = SERVICE.control(probe.target, TIMEOUT_NS)
    before = await control.snapshot(facts)
    for _ in range(3):
        await response_to(SERVICE, probe, facts, {BODY: strings("[1]")})
    after = await control.snapshot(facts)
    await control.close()
    moved = difference([before, after], facts).model
    assert moved is not None
    assert (moved.version, moved.success.count) == (version or "default", 3)
    assert 0 <= moved.queue.ns <= moved.success.ns < 30 * NS


async def test_failures(server: TorchServe) -> None:
    probe = probe_of(server)
    facts = await facts_of(SERVICE, probe.target, probe)
    outcome, text = await response_to(SERVICE, probe, facts, {BODY: strings('"fail"')})
    assert outcome is Outcome.OVERLOAD
    assert "Prediction failed" in text
    unknown = probe_of(server, "nope")
    with pytest.raises(PreflightError, match="Model not found: nope") as caught:
        await facts_of(SERVICE, unknown.target, unknown)
    assert caught.value.reason is Reason.MODEL_UNKNOWN


async def test_a_token_that_is_not_accepted(server: TorchServe) -> None:
    if not server.tokens:
        pytest.skip("this server asks for none")
    probe = probe_of(server, token="management")
    with pytest.raises(PreflightError, match="Token Authorization failed") as caught:
        await facts_of(SERVICE, probe.target, probe)
    assert caught.value.reason is Reason.AUTH


# --- a model that is broken -------------------------------------------------------------------------------------------


async def test_another_model_that_is_broken(torchserve: Path, tmp_path: Path) -> None:
    """The server's health is that of all its models: this one is measured all the same, where its workers are
    reported."""
    server = TorchServe.prepared(torchserve, tmp_path, broken=True)
    with server.running():
        assert becomes_true(lambda: not server.reports_healthy(), 60)
        probe = probe_of(server)
        facts = await facts_of(SERVICE, probe.target, probe)
        outputs = await response_to(SERVICE, probe, facts, {BODY: strings("[1, 2.5]")})
        alone = replace(probe.target, management_url="")
        with pytest.raises(PreflightError, match="'Unhealthy', which can be of any of its models; give management_url"):
            await facts_of(SERVICE, alone, probe)
        broken = probe_of(server, "broken")
        with pytest.raises(PreflightError, match="model 'broken' has no worker that is ready") as caught:
            await facts_of(SERVICE, broken.target, broken)
    assert json.loads(outputs[OUTPUT][0]) == [2, 5]
    assert caught.value.reason is Reason.MODEL_NOT_READY


@pytest.fixture(scope="module")
def hanging(torchserve: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    """Its workers can't import yaml, which TorchServe does not install by itself."""
    server = TorchServe.prepared(torchserve, tmp_path_factory.mktemp("hanging"), hidden="yaml")
    with server.running():
        yield server


async def swept(pool: WorkerPool, probe: Probe) -> SweepResult:
    measurement = MeasurementOptions(window_ns=NS, request_timeout_ns=2 * NS)
    body = InputOptions(shapes=((BODY, (1,)),), string_data="[1]")
    probe = replace(probe, measurement=measurement, input=body)
    return await Sweep(probe, []).run(lambda: pool.lend(probe.workers))


async def test_healthy_and_hanging(hanging: TorchServe, pool: WorkerPool) -> None:
    assert hanging.reports_healthy()
    probe = probe_of(hanging)
    result = await swept(pool, replace(probe, target=replace(probe.target, management_url="")))
    assert set(result.outcomes) <= {Outcome.TIMEOUT, Outcome.CANCELLED}
    assert (result.status, result.reason) == (SweepStatus.FAILED, Reason.NO_VALID_REQUESTS)
    assert result.reason_text.startswith("level 1: no request was ok (")
    assert result.reason_text.endswith("; last: timeout: no response within 2 s)")


async def test_healthy_and_hanging_as_the_management_endpoint_reports_it(hanging: TorchServe, pool: WorkerPool) -> None:
    result = await swept(pool, probe_of(hanging))
    assert (result.status, result.reason, result.sent) == (SweepStatus.FAILED, Reason.MODEL_NOT_READY, 0)
    assert result.reason_text.startswith("model 'double' has no worker that is ready at http://127.0.0.1:")


# --- by the command ---------------------------------------------------------------------------------------------------


def test_analyze_by_the_line_of_perf_analyzer(
    server: TorchServe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own file of input, a file on the disk in a form, and each response compared with what is expected."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "row.json").write_text("[1, 2]")
    data = {"data": [{FILE: ["row.json"]}], "validation_data": [{OUTPUT: ["[\n  2,\n  4\n]"]}]}
    (tmp_path / "data.json").write_text(json.dumps(data))
    line = f"-m double --service-kind torchserve -i http -u localhost:{server.inference} -b 1 -p 500"
    more = f"-s 1000 --json perf.json --collect-metrics --metrics-url {server.metrics_url}"
    token = ["-H", f"Authorization: Bearer {server.token('inference')}"] if server.tokens else []
    assert run_analyze([*line.split(), "--input-data", "data.json", *more.split(), *token]) == 0
    assert "Service Kind: TORCHSERVE" in capsys.readouterr().out
    [found] = json.loads((tmp_path / "perf.json").read_text())["measurements"]
    assert found["validated"] == found["outcomes"]["ok"] > 0
    # The page is read beside the load, a few requests late on a machine that is in use.
    assert found["server"]["success"]["count"] == pytest.approx(found["outcomes"]["ok"], abs=2, rel=0.03)
    assert found["server"]["fail"] is None
