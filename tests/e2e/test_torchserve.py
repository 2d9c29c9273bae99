"""The kind `torchserve` against TorchServe: values, statistics, tokens, workers, and how it fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.errors import PreflightError
from exporter.outcome import Outcome, Reason
from exporter.probe import InputOptions, Probe
from exporter.server.statistics import difference
from exporter.services.torchserve import BODY, FILE, OUTPUT, TorchServeService
from exporter.target import Header
from exporter.units import NS
from tests.builders import make_probe, make_target
from tests.servers.torchserve import TorchServe
from tests.services.asking import TIMEOUT_NS, answer_to, facts_of

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


def headers(server: TorchServe, door: str) -> tuple[Header, ...]:
    return (Header("Authorization", f"Bearer {server.token(door)}"),) if server.tokens else ()


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
    outputs = await answer_to(SERVICE, probe, facts, {BODY: strings("[1, 2.5]")})
    assert json.loads(outputs[OUTPUT][0]) == [2, 5]
    (tmp_path / "input.json").write_text("[[3]]")
    outputs = await answer_to(SERVICE, probe, facts, {FILE: strings(str(tmp_path / "input.json"))})
    assert json.loads(outputs[OUTPUT][0]) == [[6]]
    plain = probe_of(server, input=InputOptions(content_type="application/octet-stream"))
    outputs = await answer_to(SERVICE, plain, facts, {BODY: strings("[4]")})
    assert json.loads(outputs[OUTPUT][0]) == [8]


@pytest.mark.parametrize("version", ["", "1.0"])
async def test_statistics_from_the_metrics_page(server: TorchServe, version: str) -> None:
    probe = probe_of(server, version=version)
    facts = await facts_of(SERVICE, probe.target, probe)
    control = SERVICE.control(probe.target, TIMEOUT_NS)
    before = await control.snapshot(facts)
    for _ in range(3):
        await answer_to(SERVICE, probe, facts, {BODY: strings("[1]")})
    after = await control.snapshot(facts)
    await control.close()
    moved = difference([before, after], facts).model
    assert moved is not None
    assert (moved.version, moved.success.count) == (version or "default", 3)
    assert 0 <= moved.queue.ns <= moved.success.ns < 30 * NS


async def test_failures(server: TorchServe) -> None:
    probe = probe_of(server)
    facts = await facts_of(SERVICE, probe.target, probe)
    outcome, text = await answer_to(SERVICE, probe, facts, {BODY: strings('"fail"')})
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
