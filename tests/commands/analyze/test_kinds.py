"""`triton-canary analyze` on servers of other kinds: by its report, its files and its exit code."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exporter.commands.analyze.command import run_analyze
from exporter.demo.triton import MODELS
from tests.servers.mlserver import MlServer
from tests.servers.pythie_serving import PythieServing
from tests.waiting import patient

QUICK = f"-p {patient(100):.0f} -s 1000"
"""Windows as short as they can be, and the first three are stable."""

FILES = "-f perf.csv --json perf.json --profile-export-file export.json"


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Files are written where the command runs; it sends the log to its own stderr, which ends with the test."""
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def write_data(data: list[Any], expected: list[Any] | None = None) -> None:
    Path("data.json").write_text(json.dumps({"data": data} | ({"validation_data": expected} if expected else {})))


def measurement() -> dict[str, Any]:
    [found] = json.loads(Path("perf.json").read_text())["measurements"]
    assert isinstance(found, dict)
    return found


def exported() -> dict[str, Any]:
    [found] = json.loads(Path("export.json").read_text())["experiments"]
    assert isinstance(found, dict)
    return found


def table() -> list[dict[str, str]]:
    with Path("perf.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# --- TensorFlow Serving's protocol ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def port(pythie_serving: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    server = PythieServing.prepared(pythie_serving, tmp_path_factory.mktemp("pythie"))
    with server.running():
        yield server.port


TYPES = "--tensor-datatype size:INT64 --tensor-datatype fruit:BYTES --shape size:3,1 --shape fruit:3,1"


def test_tensorflow_serving(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that reports nothing of its models, and nothing of itself: no server's columns, no server's block."""
    write_data([{"size": [1, 2, 1], "fruit": ["apple", "apple", "none"]}])
    line = f"-m prices --service-kind tfserving -i grpc -b 1 -u localhost:{port} --input-data data.json {TYPES}"
    assert run_analyze([*line.split(), *FILES.split(), *QUICK.split()]) == 0
    out = capsys.readouterr().out
    assert "Avg gRPC time: " in out
    assert "  Server: " not in out
    assert list(table()[0])[:4] == ["Concurrency", "Inferences/Second", "Client Send", "Client Recv"]
    found, export = measurement(), exported()
    assert set(found["outcomes"]) == {"ok"}
    assert found.get("server") is None
    assert float(table()[0]["Inferences/Second"]) == pytest.approx(found["inferences_per_second"], rel=1e-5)
    assert len(export["requests"]) >= found["outcomes"]["ok"] > 0
    assert json.loads(Path("export.json").read_text())["service_kind"] == "tfserving"


def test_a_server_that_does_not_report_the_inputs(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    line = f"-m prices --service-kind tfserving -i grpc -u localhost:{port}"
    assert run_analyze([*line.split(), *QUICK.split()]) == 4
    assert "does not report the inputs of model 'prices'" in capsys.readouterr().err


# --- the Open Inference Protocol --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def oip(mlserver: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlServer]:
    server = MlServer.prepared(mlserver, tmp_path_factory.mktemp("mlserver"))
    with server.running():
        yield server


@pytest.mark.parametrize("endpoint", ["http", "grpc"])
def test_mlserver(oip: MlServer, endpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Through both endpoints, with values that are right; its page shows how long requests took, and no parts of
    that."""
    a, b = [list(range(start, start + 4)) for start in (0, 10)]
    content = {name: {"content": row, "shape": [1, 4]} for name, row in {"A": a, "B": b}.items()}
    expected = {
        name: {"content": row, "shape": [1, 4]}
        for name, row in {"SUM": [10, 12, 14, 16], "DIFFERENCE": [-10, -10, -10, -10]}.items()
    }
    write_data([content], [expected])
    line = (
        f"-m addsub --service-kind oip -i {endpoint} -b 1 -u localhost:{getattr(oip, endpoint)} --input-data data.json"
    )
    page = f"--collect-metrics --metrics-url {oip.metrics_url} -p 500 -s 1000"
    assert run_analyze([*line.split(), *page.split(), *FILES.split()]) == 0
    out = capsys.readouterr().out
    assert "  Server: \n    Successful request count: " in out, out
    assert "Execution count" not in out
    found = measurement()
    assert found["validated"] == found["outcomes"]["ok"] > 0
    server = found["server"]
    assert server["success"]["count"] == pytest.approx(found["outcomes"]["ok"], rel=0.5)
    assert 0 < server["success"]["seconds"] / server["success"]["count"] < found["latency"]["mean_seconds"]
    assert (server["inference_count"], server["execution_count"], server["fail"]["count"]) == (None, None, 0)


# --- Triton in this process -------------------------------------------------------------------------------------------


def in_process(installation: Path, line: str) -> int:
    place = f"--service-kind=triton_c_api --triton-server-directory={installation} --model-repository={MODELS}"
    return run_analyze([*line.split(), *place.split(), *FILES.split(), *QUICK.split()])


def test_triton_c_api(triton_installation: Path, triton_variables: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Values right, the server's statistics joined, no line of an endpoint that is not there."""
    row = list(range(16))
    write_data([{"INPUT0": row, "INPUT1": row}], [{"OUTPUT0": [2 * value for value in row], "OUTPUT1": [0] * 16}])
    assert in_process(triton_installation, "-m addsub --concurrency-range 2 --input-data data.json") == 0
    out = capsys.readouterr().out
    assert "Avg HTTP time" not in out
    assert "Avg gRPC time" not in out
    assert "  Server: \n    Inference count: " in out
    found = measurement()
    assert found["validated"] == found["outcomes"]["ok"] > 0
    assert float(table()[0]["Server Compute Infer"]) > 0
    assert json.loads(Path("export.json").read_text())["service_kind"] == "triton_c_api"


def test_triton_c_api_with_sequences(triton_installation: Path, triton_variables: None) -> None:
    """The model adds up what came in each sequence, so that each response shows whether its request was in its
    place."""
    write_data([[{"INPUT0": [value]} for value in (1, 2, 3)]], [[{"OUTPUT0": [value]} for value in (1, 3, 6)]])
    assert in_process(triton_installation, "-m accumulator --concurrency-range 2 --input-data data.json") == 0
    found = measurement()
    assert set(found["outcomes"]) == {"ok"}
    assert found["validated"] > 0
    assert found["sequences"] > 0
    assert 0 not in {request["sequence_id"] for request in exported()["requests"]}


def test_triton_c_api_with_several_responses(triton_installation: Path, triton_variables: None) -> None:
    """Three responses to each request, 1 ms apart, each as expected, and an empty final one that counts for nothing."""
    row = [0.5] * 16
    write_data([{"INPUT0": row}], [{"responses": [{"OUTPUT0": row, "INDEX": [index]} for index in range(3)]}])
    line = "-m repeat --streaming --request-parameter interval_ms:1:int --input-data data.json"
    assert in_process(triton_installation, line) == 0
    found = measurement()
    assert found["validated"] == found["outcomes"]["ok"] > 0
    assert found["responses"] == 3 * found["outcomes"]["ok"]
    stamps = [request["response_timestamps"] for request in exported()["requests"]]
    assert {len(each) for each in stamps} == {3}
    assert all(each == sorted(each) for each in stamps)
    assert float(table()[0]["Response Throughput"]) == pytest.approx(3 * found["inferences_per_second"], rel=1e-4)
