"""Input data against a real Triton: what its models got is what the files state, for each datatype, by HTTP and gRPC;
and wrong responses are seen."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ml_dtypes
import numpy as np
import pytest

from exporter.core.errors import PreflightError
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import InputOptions, MeasurementOptions, Probe, StopRules, Validation
from exporter.core.units import MS, NS
from exporter.core.window import Checked, LevelEnd, Window
from exporter.demo.triton import EmbeddedTriton
from exporter.demo.triton_environment import TritonEnvironment
from exporter.engine.plan import LevelPlan
from exporter.worker.local import LocalWorker
from tests.builders import concurrency, make_probe, make_target
from tests.waiting import PATIENCE_SECONDS

MODELS = Path(__file__).parent / "models"
SCHEMES = ("http", "grpc")


@pytest.fixture(scope="module")
def server(numpy_1_environment: TritonEnvironment) -> Iterator[EmbeddedTriton]:
    with EmbeddedTriton(numpy_1_environment, models=MODELS) as server:
        yield server
        server.kill()


def probe_of(triton: EmbeddedTriton, scheme: str, model: str, options: InputOptions, **changes: Any) -> Probe:
    url = urlsplit(triton.http_url if scheme == "http" else triton.grpc_url)
    return make_probe(
        target=make_target(scheme=scheme, host=url.hostname, port=url.port),
        model=model,
        input=options,
        measurement=MeasurementOptions(window_ns=100 * MS, request_timeout_ns=5 * NS),
        stop=StopRules(max_in_flight=8, max_error_ratio=1.0),
        **changes,
    )


async def run(worker: LocalWorker, probe: Probe, requests: int) -> tuple[Counter[Outcome], Checked, str]:
    """What became of so many requests, one after the other (and of a first one), and the last error's text."""
    facts = await worker.preflight(probe)
    outcomes: Counter[Outcome] = Counter()
    checked, text = Checked(), ""
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in worker.run_level(LevelPlan("sweep", probe, facts, concurrency(1), requests, 20 * NS)):
            if isinstance(event, Window):
                outcomes.update(Outcome(code) for code in event.columns.outcome.tolist())
                checked += event.checked or Checked()
                text = event.error_text or text
            elif isinstance(event, LevelEnd):
                assert event.reason is Reason.REQUEST_BUDGET, event.text
    await worker.end_sweep()
    return outcomes, checked, text


def write(path: Path, data: list[Any], expected: list[Any] | None = None) -> InputOptions:
    path.write_text(json.dumps({"data": data} | ({"validation_data": expected} if expected else {})))
    return InputOptions(source="files", paths=(str(path),))


VALUES: dict[str, list[Any]] = {
    "BOOL": [True, False, True],
    "INT8": [-128, 0, 127],
    "INT16": [-32768, 0, 32767],
    "INT32": [-(2**31), 0, 2**31 - 1],
    "INT64": [-(2**63), 0, 2**63 - 1],
    "UINT8": [0, 1, 255],
    "UINT16": [0, 1, 65535],
    "UINT32": [0, 1, 2**32 - 1],
    "UINT64": [0, 1, 2**64 - 1],
    "FP16": [0, -1.5, 65504.0],
    "FP32": [0.1, -1, 3.4e38],
    "FP64": [0.1, -1, 1.7e308],
    "BF16": [0, -1.5, 3.38e38],
    "BYTES": ["", "é", "a\0b"],
}
HALVES = ("FP16", "BF16")


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_each_datatype(worker: LocalWorker, server: EmbeddedTriton, tmp_path: Path, scheme: str) -> None:
    """What is sent as numbers is expected as bytes, so that both forms are checked against each other, too."""
    numpy_types = {"FP16": np.float16, "BF16": ml_dtypes.bfloat16, "UINT16": np.uint16, "FP32": np.float32}
    expected: dict[str, Any] = {f"OUT_{name}": values for name, values in VALUES.items()}
    for name, numpy_type in numpy_types.items():
        raw = np.array(VALUES[name], np.float64).astype(numpy_type).tobytes()
        expected[f"OUT_{name}"] = {"b64": base64.b64encode(raw).decode()}
    options = write(tmp_path / "a.json", [{f"IN_{name}": values for name, values in VALUES.items()}], [expected])
    outcomes, checked, text = await run(worker, probe_of(server, scheme, "types", options), 5)
    assert outcomes == {Outcome.OK: 5}, text
    assert checked.responses == 5
    wrong = expected | {"OUT_UINT64": [0, 1, 2**64 - 2]}
    options = write(tmp_path / "b.json", [{f"IN_{name}": values for name, values in VALUES.items()}], [wrong])
    outcomes, checked, text = await run(worker, probe_of(server, scheme, "types", options), 5)
    assert outcomes == {Outcome.WRONG_OUTPUT: 5}
    place = f"{tmp_path}/b.json: stream 0, step 0"
    assert checked.difference == (f"{place}: tensor 'OUT_UINT64', index [2]: expected {2**64 - 2}, got {2**64 - 1}")
    assert text == f"wrong_output: {checked.difference}"


@pytest.mark.parametrize(("form", "output_form"), [("json", "json"), ("json", "binary"), ("binary", "json")])
async def test_tensors_as_json(
    worker: LocalWorker, server: EmbeddedTriton, tmp_path: Path, form: str, output_form: str
) -> None:
    values = {name: given for name, given in VALUES.items() if name not in HALVES}
    data = {f"IN_{name}": given for name, given in values.items()}
    options = write(tmp_path / "a.json", [data], [{f"OUT_{name}": given for name, given in values.items()}])
    options = replace(options, format=form, output_format=output_form)
    outcomes, checked, text = await run(worker, probe_of(server, "http", "json_types", options), 5)
    assert outcomes == {Outcome.OK: 5}, text
    assert checked.responses == 5


async def test_what_json_cannot_carry(worker: LocalWorker, server: EmbeddedTriton, tmp_path: Path) -> None:
    data = {f"IN_{name}": values for name, values in VALUES.items()}
    options = replace(write(tmp_path / "a.json", [data]), format="json")
    with pytest.raises(PreflightError, match="input 'IN_FP16': Triton takes FP16 only in binary form") as caught:
        await run(worker, probe_of(server, "http", "types", options), 1)
    assert caught.value.reason is Reason.BAD_INPUT


PARAMETERS: dict[str, Any] = {"flag": True, "count": -7, "name": "é", "part": 0.25}


def seen(x: list[int], extra: list[int] | None = None, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"SEEN": [json.dumps({"X": x, "EXTRA": extra, "parameters": parameters or {}}, sort_keys=True)]}


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_batches_optional_inputs_and_streams(
    worker: LocalWorker, server: EmbeddedTriton, tmp_path: Path, scheme: str
) -> None:
    data = [[{"X": [1, 2]}, {"X": [3, 4]}], [{"X": [5, 6]}]]
    expected = [[seen([1, 2]), seen([3, 4])], [seen([5, 6])]]
    options = replace(write(tmp_path / "a.json", data, expected), batch_size=2)
    outcomes, checked, text = await run(worker, probe_of(server, scheme, "look", options), 7)
    assert outcomes == {Outcome.OK: 7}, text
    assert checked.responses == 7
    steps = [{"X": [1]}, {"X": [1, 2], "EXTRA": [9]}]
    options = write(tmp_path / "b.json", steps, [seen([1]), seen([1, 2], [9])])
    outcomes, checked, text = await run(worker, probe_of(server, scheme, "look", options), 4)
    assert outcomes == {Outcome.OK: 4}, text
    with pytest.raises(PreflightError, match=r"step 0 and .*step 1: expected the same inputs in one batch"):
        await run(worker, probe_of(server, scheme, "look", replace(options, batch_size=2)), 4)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_request_parameters(worker: LocalWorker, server: EmbeddedTriton, tmp_path: Path, scheme: str) -> None:
    parameters = dict(PARAMETERS)
    options = write(tmp_path / "a.json", [{"X": [1]}], [seen([1], None, parameters)])
    options = replace(options, parameters=tuple(parameters.items()))
    outcomes, checked, text = await run(worker, probe_of(server, scheme, "look", options), 3)
    assert outcomes == {Outcome.OK: 3}, text
    assert checked.responses == 3


async def test_a_directory_with_expected_outputs(worker: LocalWorker, server: EmbeddedTriton, tmp_path: Path) -> None:
    (tmp_path / "X").write_bytes(np.array([1, 2, 3], np.int32).tobytes())
    (tmp_path / "SEEN").write_text(seen([1, 2, 3])["SEEN"][0] + "\n")
    options = InputOptions(source="files", paths=(str(tmp_path),), batch_size=3)
    outcomes, checked, text = await run(worker, probe_of(server, "grpc", "look", options), 3)
    assert outcomes == {Outcome.OK: 3}, text
    assert checked.responses == 3


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_reference_model(worker: LocalWorker, triton: EmbeddedTriton, scheme: str) -> None:
    options = InputOptions(batch_size=2)
    same = probe_of(triton, scheme, "addsub", options, validation=Validation("addsub"))
    outcomes, checked, text = await run(worker, same, 6)  # the one request to the reference is of the budget, too
    assert outcomes == {Outcome.OK: 5}, text
    assert checked.responses == 5
    assert checked.error is not None
    assert checked.error.absolute == 0.0
    with pytest.raises(PreflightError) as caught:
        await run(worker, replace(same, validation=Validation("nope")), 5)
    assert "nope" in str(caught.value)


async def test_bad_data_fails_the_sweep_with_its_errors(
    worker: LocalWorker, server: EmbeddedTriton, tmp_path: Path
) -> None:
    options = write(tmp_path / "a.json", [{"X": [1.5]}, {}, *[{"x": [1]}] * 10])
    with pytest.raises(PreflightError) as caught:
        await run(worker, probe_of(server, "http", "look", options), 1)
    assert caught.value.reason is Reason.BAD_INPUT
    place = f"{tmp_path}/a.json: stream 0, step"
    assert str(caught.value) == "; ".join(
        [
            f"{place} 0, tensor 'X': element 0: expected an integer from -2147483648 to 2147483647 (INT32), found 1.5",
            f"{place} 1: expected a tensor for input 'X', found none",
            f"{place} 2: 'x' is not an input of model 'look': it has 'X', 'EXTRA'",
            f"{place} 2: expected a tensor for input 'X', found none",
            f"{place} 3: 'x' is not an input of model 'look': it has 'X', 'EXTRA'",
            "and 17 more",
        ]
    )
    # For whoever sits before it: as many as check-config would report.
    assert len(caught.value.problems) == 21
    assert str(caught.value).split("; ")[:5] == list(caught.value.problems[:5])
    assert caught.value.problems[-2:] == (f"{place} 10: expected a tensor for input 'X', found none", "and 2 more")
