"""The example of docs/service-kinds.md, as it is there: a service kind for a server that takes the raw tensor."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import subprocess
import sys
from asyncio import StreamReader, StreamWriter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.core.errors import PreflightError, ProtocolError
from exporter.core.facts import TensorSpec
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import InputOptions, MeasurementOptions, Probe
from exporter.core.units import NS
from exporter.core.window import LevelEnd, Window
from exporter.engine.plan import LevelPlan, MemberEvent
from exporter.payload import make_steps
from exporter.services.base import Service
from exporter.transport.call import Response
from exporter.worker.session import Session
from tests.builders import concurrency, make_facts, make_probe, make_target
from tests.services.asking import facts_of, response_to
from tests.transport.scripted import serving

ROOT = Path(__file__).parents[2]
MAX_LINES = 60

OPTIONS = InputOptions(datatypes=(("x", "FP32"),), shapes=(("x", (3,)),))


@pytest.fixture(scope="module")
def blocks() -> list[str]:
    """The entry of the table, and the module."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "service-kinds.md").read_text(), re.DOTALL | re.M)


@pytest.fixture(scope="module")
def text(blocks: list[str]) -> str:
    _, found = blocks
    return found


@pytest.fixture(scope="module")
def service(text: str, tmp_path_factory: pytest.TempPathFactory) -> Service:
    path = tmp_path_factory.mktemp("example") / "raw_example.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: Service = module.RawService()
    return made


async def doubling(reader: StreamReader, writer: StreamWriter) -> None:
    """A server that has one model, `a b`, which doubles its tensor."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        tensor = np.frombuffer(await reader.readexactly(int(length[1]) if length else 0), np.float32)
        status, body = (b"200", (tensor * 2).tobytes()) if b" /models/a%20b " in head else (b"404", b"no such model")
        writer.write(b"HTTP/1.1 %s x\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))


def probe_of(port: int, model: str = "a b") -> Probe:
    return make_probe(
        target=make_target(kind="raw", port=port),
        model=model,
        input=OPTIONS,
        measurement=MeasurementOptions(window_ns=NS // 10),
    )


def test_it_is_as_short_as_documented_and_as_clean_as_the_rest(text: str) -> None:
    assert text.count("\n") <= MAX_LINES
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["check"], ["format", "--check"]):
        arguments = ["--stdin-filename", "exporter/services/raw.py", "-"]
        done = subprocess.run([*ruff, *command, *arguments], cwd=ROOT, input=text, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


async def test_facts_and_values(service: Service) -> None:
    async with serving(doubling) as port:
        probe = probe_of(port)
        facts = await facts_of(service, probe.target, probe)
        (tensors,) = make_steps(facts, OPTIONS)
        outputs = await response_to(service, probe, facts, tensors)
    assert facts.inputs == (TensorSpec("x", "FP32", (3,)),)
    np.testing.assert_array_equal(outputs["OUTPUT"], tensors["x"].astype(np.float32) * 2)


async def test_failures(service: Service) -> None:
    async with serving(doubling) as port:
        probe = probe_of(port, "nope")
        with pytest.raises(PreflightError, match="HTTP 404: no such model") as caught:
            await facts_of(service, probe.target, probe)
        tensors = {"x": np.zeros(3, np.float32)}
        assert await response_to(service, probe, make_facts(inputs=(TensorSpec("x", "FP32", (3,)),)), tensors) == (
            Outcome.CLIENT_ERROR,
            "HTTP 404: no such model",
        )
    assert caught.value.reason is Reason.MODEL_UNKNOWN
    with pytest.raises(ProtocolError, match="the response is not a tensor"):
        service.decode_response(make_facts(), Response((b"abc",)))


async def test_a_level(service: Service) -> None:
    """The engine runs it with no more than that."""
    events: list[MemberEvent] = []

    async def publish(event: MemberEvent) -> None:
        events.append(event)

    async with serving(doubling) as port:
        probe = probe_of(port)
        session = Session({"raw": service})
        facts = await session.preflight(probe)
        await session.run_level(LevelPlan("sweep", probe, facts, concurrency(2), 200, 20 * NS), publish)
        await session.end_sweep()
    outcomes = [code for event in events if isinstance(event, Window) for code in event.columns.outcome.tolist()]
    assert len(outcomes) == 200
    assert set(outcomes) == {int(Outcome.OK)}
    assert isinstance(events[-1], LevelEnd)


CONFIGURED = """
import asyncio, importlib.util, json, sys
from pathlib import Path

from exporter.core.kinds import KINDS, PLAIN, Kind

KINDS.update(eval("{" + sys.argv[1] + "}"))

from exporter.config.loading import load
from exporter.config.probes import build_probes
from exporter.core.errors import ConfigError
from exporter.engine.plan import LevelPlan
from exporter.worker.session import Session

spec = importlib.util.spec_from_file_location("raw_example", sys.argv[2])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)


async def run(probe):
    session = Session({"raw": module.RawService()})
    plan = LevelPlan("s", probe, await session.preflight(probe), probe.levels[0], 50, 10**10)
    outcomes = []

    async def publish(event):
        outcomes.extend(event.columns.outcome.tolist() if hasattr(event, "columns") else [])

    await session.run_level(plan, publish)
    await session.end_sweep()
    return outcomes


for name in sys.argv[3:]:
    try:
        probes = build_probes(load(Path(name), {}))
    except ConfigError as error:
        print(json.dumps(error.problems))
    else:
        print(json.dumps([probes[0].target.kind, asyncio.run(run(probes[0]))]))
"""


async def test_through_a_configuration(blocks: list[str], tmp_path: Path) -> None:
    """With the entry and the module, and nothing else, `kind: raw` is a target's, and its probes are checked."""
    entry, module = blocks
    (tmp_path / "raw_example.py").write_text(module)
    async with serving(doubling) as port:
        document: dict[str, Any] = {
            "targets": [{"name": "t", "kind": "raw", "url": f"http://127.0.0.1:{port}"}],
            "probes": [
                {
                    "name": "p",
                    "target": "t",
                    "model": "a b",
                    "schedule": {"every": "1m"},
                    "load": {"concurrency": 2},
                    "measurement": {"window": "100ms"},
                    "input": {"datatypes": {"x": "FP32"}, "shapes": {"x": [3]}},
                }
            ],
        }
        (tmp_path / "good.yaml").write_text(json.dumps(document))
        document["probes"][0]["streaming"] = True
        document["probes"][0]["input"] |= {"batch_size": 2, "signature": "s"}
        document["targets"][0]["url"] = f"grpc://127.0.0.1:{port}"
        (tmp_path / "bad.yaml").write_text(json.dumps(document))
        command = [sys.executable, "-c", CONFIGURED, entry, "raw_example.py", "good.yaml", "bad.yaml"]
        process = await asyncio.create_subprocess_exec(
            *command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
    assert process.returncode == 0
    (kind, outcomes), problems = map(json.loads, output.splitlines())
    assert (kind, outcomes) == ("raw", [int(Outcome.OK)] * 50)
    found = [problem.partition(": ")[2] for problem in problems]
    assert found == [
        "targets[0] (t).url: a target of kind raw is asked over http or https",
        "probes[0] (p).streaming: the target's kind is raw, which has no such thing",
        "probes[0] (p).input.batch_size: found 2: give whole shapes in input.shapes, and batch_size 1",
        "probes[0] (p).input.signature: is for targets of kind tfserving; this one's is raw",
    ]
