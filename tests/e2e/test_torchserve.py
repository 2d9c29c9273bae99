"""The kind `torchserve` against TorchServe: values, statistics, tokens, workers, and how it fails."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.demo.triton import free_ports
from exporter.errors import PreflightError
from exporter.facts import ModelFacts
from exporter.outcome import Outcome, Reason
from exporter.probe import InputOptions, Probe
from exporter.server.statistics import difference
from exporter.services.torchserve import BODY, FILE, OUTPUT, TorchServeService
from exporter.target import Header
from exporter.units import NS
from tests.builders import make_probe, make_target
from tests.servers.process import running
from tests.services.asking import TIMEOUT_NS, answer_to, facts_of

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("java") is None and os.environ.get("CI") != "true", reason="TorchServe needs java"),
]

SERVICE = TorchServeService()

HANDLER = """
import asyncio
import json
import os

import torch
from ts.torch_handler.base_handler import BaseHandler


class Double(BaseHandler):
    def initialize(self, context):
        self.initialized = True

    def handle(self, data, context):
        answers = []
        for row in data:
            content = row.get("data") or row.get("body")
            if isinstance(content, (bytes, bytearray)):
                content = json.loads(bytes(content))
            if content == "fail":
                raise RuntimeError("as asked")
            answers.append((torch.tensor(content) * 2).tolist())
        return answers
"""
CONFIG = """\
inference_address=http://127.0.0.1:{inference}
management_address=http://127.0.0.1:{management}
metrics_address=http://127.0.0.1:{metrics}
default_workers_per_model=1
load_models=double.mar
metrics_mode=prometheus
"""


@dataclass(frozen=True)
class Server:
    inference: int
    management: int
    metrics: int
    folder: Path
    tokens: bool

    def probe(self, model: str = "double", token: str = "inference", **changes: Any) -> Probe:
        target = make_target(
            kind="torchserve",
            port=self.inference,
            metrics_url=f"http://127.0.0.1:{self.metrics}/metrics",
            management_url=f"http://127.0.0.1:{self.management}",
            headers=self._headers(token),
            management_headers=self._headers("management"),
        )
        return make_probe(**{"target": target, "model": model, **changes})

    def _headers(self, token: str) -> tuple[Header, ...]:
        if not self.tokens:
            return ()
        keys = json.loads((self.folder / "key_file.json").read_text())
        return (Header("Authorization", f"Bearer {keys[token]['key']}"),)


@pytest.fixture(scope="module", params=["open", "tokens"])
def server(
    request: pytest.FixtureRequest, torchserve: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("torchserve")
    inference, management, metrics = free_ports(3)
    found = Server(inference, management, metrics, folder, request.param == "tokens")
    (folder / "handler.py").write_text(HANDLER)
    (folder / "config.properties").write_text(
        CONFIG.format(inference=found.inference, management=found.management, metrics=found.metrics)
    )
    programs = torchserve / "bin"
    arguments = ["--model-name", "double", "--version", "1.0", "--handler", "handler.py", "--export-path", "."]
    subprocess.run([str(programs / "torch-model-archiver"), *arguments], cwd=folder, check=True)
    command = [str(programs / "torchserve"), "--start", "--foreground", "--ncs", "--model-store", "."]
    command += ["--ts-config", "config.properties", *([] if found.tokens else ["--disable-token-auth"])]
    ports = (found.inference, found.management, found.metrics)
    with running(command, ports, folder, {"PATH": f"{programs}:{os.environ['PATH']}", "TEMP": str(folder)}):
        yield found


async def ready(server: Server, **changes: Any) -> tuple[Probe, ModelFacts]:
    """A probe of the model, and its facts. Importing torch takes the worker long: until then the model is not ready."""
    probe = server.probe(**changes)
    deadline = time.monotonic() + 60
    while True:
        try:
            return probe, await facts_of(SERVICE, probe.target, probe)
        except PreflightError as error:
            if error.reason is not Reason.MODEL_NOT_READY or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)


def strings(word: str) -> Any:
    return np.array([word.encode()], np.object_)


async def test_bodies_and_files(server: Server, tmp_path: Path) -> None:
    probe, facts = await ready(server)
    assert facts.version == "1.0"
    outputs = await answer_to(SERVICE, probe, facts, {BODY: strings("[1, 2.5]")})
    assert json.loads(outputs[OUTPUT][0]) == [2, 5]
    (tmp_path / "input.json").write_text("[[3]]")
    outputs = await answer_to(SERVICE, probe, facts, {FILE: strings(str(tmp_path / "input.json"))})
    assert json.loads(outputs[OUTPUT][0]) == [[6]]
    plain = server.probe(input=InputOptions(content_type="application/octet-stream"))
    outputs = await answer_to(SERVICE, plain, facts, {BODY: strings("[4]")})
    assert json.loads(outputs[OUTPUT][0]) == [8]


@pytest.mark.parametrize("version", ["", "1.0"])
async def test_statistics_from_the_metrics_page(server: Server, version: str) -> None:
    probe, facts = await ready(server, version=version)
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


async def test_failures(server: Server) -> None:
    probe, facts = await ready(server)
    outcome, text = await answer_to(SERVICE, probe, facts, {BODY: strings('"fail"')})
    assert outcome is Outcome.OVERLOAD
    assert "Prediction failed" in text
    unknown = server.probe("nope")
    with pytest.raises(PreflightError, match="Model not found: nope") as caught:
        await facts_of(SERVICE, unknown.target, unknown)
    assert caught.value.reason is Reason.MODEL_UNKNOWN


async def test_a_token_that_is_not_accepted(server: Server) -> None:
    if not server.tokens:
        pytest.skip("this server asks for none")
    probe = server.probe(token="management")
    with pytest.raises(PreflightError, match="Token Authorization failed") as caught:
        await facts_of(SERVICE, probe.target, probe)
    assert caught.value.reason is Reason.AUTH
