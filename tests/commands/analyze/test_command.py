"""`triton-canary analyze` as its users run it: against a real Triton, judged by what it prints and by its exit code."""

from __future__ import annotations

import base64
import csv
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.commands.analyze.command import run_analyze
from exporter.commands.analyze.flags import RunOptions
from exporter.commands.analyze.flags.assembly import PLOT_ENDINGS
from exporter.commands.analyze.flags.fail_on import parse_condition
from exporter.commands.analyze.report.plot import SUFFIXES
from exporter.commands.analyze.running import exit_code
from exporter.core.outcome import Outcome, Reason, SweepStatus
from exporter.demo.triton import EmbeddedTriton
from exporter.demo.triton_environment import TritonEnvironment
from tests.builders import concurrency, make_probe
from tests.metrics.results import make_measurement, make_result
from tests.waiting import patient

QUICK = f"-p {patient(100):.0f} -s 1000"
"""Windows as short as they can be, and the first three are stable: longer on a busy machine, which responds less."""

CONFIG = """
name: "{name}"
backend: "python"
max_batch_size: 8
input [ {{ name: "input" data_type: TYPE_FP32 dims: [ {dims} ] }} ]
output [ {{ name: "output" data_type: TYPE_FP32 dims: [ 1 ] }} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
{more}
"""
CODE = """
import time
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.002)
        return [self._respond(request) for request in requests]

    def _respond(self, request):
        rows = np.from_dlpack(pb_utils.get_input_tensor_by_name(request, "input")).shape[0]
        return pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("output", np.zeros((rows, 1), np.float32))])
"""
SEQUENCES = "sequence_batching { oldest { max_candidate_sequences: 64 } }"
MODELS = {
    "wav2vec_general_v2": ("-1, -1", ""),
    "inception_graphdef": ("3, 8, 8", ""),
    "sifigan-pt-fp32": ("80, -1", ""),
    "resnet50_libtorch": ("3, 8, 8", ""),
    "streaming_acoustic": ("160", SEQUENCES),
}


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command sends the log to its own stderr, which ends with the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="module")
def server(triton_environment: TritonEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    """Models of the names that are in people's command lines."""
    repository = tmp_path_factory.mktemp("models")
    for name, (dims, more) in MODELS.items():
        folder = repository / name / "1"
        folder.mkdir(parents=True)
        (folder / "model.py").write_text(CODE)
        (folder.parent / "config.pbtxt").write_text(CONFIG.format(name=name, dims=dims, more=more))
    with EmbeddedTriton(triton_environment, models=repository) as server:
        yield server


def analyze(line: str, server: EmbeddedTriton) -> int:
    return run_analyze([*line.split(), "-u", f"localhost:{server.http_port}", *QUICK.split()])


def test_a_range_with_a_percentile_and_a_shape(server: EmbeddedTriton, capsys: pytest.CaptureFixture[str]) -> None:
    line = "-m wav2vec_general_v2 --percentile=95 --concurrency-range 1:8 --shape input:1,320000"
    assert analyze(line, server) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "*** Measurement Settings ***"
    assert [text for text in lines if text.startswith("Request concurrency")] == [
        f"Request concurrency: {level}" for level in range(1, 9)
    ]
    summary = lines[lines.index("Inferences/Second vs. Client p95 Batch Latency") + 1 :]
    assert [text.split(",")[0] for text in summary] == [f"Concurrency: {level}" for level in range(1, 9)]


def test_the_shortest_line(server: EmbeddedTriton, capsys: pytest.CaptureFixture[str]) -> None:
    assert analyze("-m inception_graphdef --percentile=95 -v", server) == 0
    out, error = capsys.readouterr()
    assert error == (
        "triton-canary analyze: limits: 1000000000 requests, 1d, 1024 in flight, 1m for a request, 10% of the "
        "requests may fail (see --print-probe)\n"
    )
    assert "p95 latency: " in out
    assert "Avg latency" not in out


def test_a_csv(server: EmbeddedTriton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert analyze("-m inception_graphdef --concurrency-range 1:4 -f perf.csv", server) == 0
    with Path("perf.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == [
        *("Concurrency", "Inferences/Second", "Client Send", "Network+Server Send/Recv", "Server Queue"),
        *("Server Compute Input", "Server Compute Infer", "Server Compute Output", "Client Recv"),
        *("p50 latency", "p90 latency", "p95 latency", "p99 latency"),
    ]
    assert sorted(row[0] for row in rows[1:]) == ["1", "2", "3", "4"]
    rates = [float(row[1]) for row in rows[1:]]
    assert rates == sorted(rates)


def test_real_data(server: EmbeddedTriton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("measurement_data").mkdir()
    steps = [{"input": {"content": [0.5] * 80 * frames, "shape": [80, frames]}} for frames in (3, 1, 2)]
    expected = [{"output": [0]} for _ in steps]
    document = {"data": steps, "validation_data": expected}
    Path("measurement_data/real_data_fp32.json").write_text(json.dumps(document))
    line = "-m sifigan-pt-fp32 --input-data measurement_data/real_data_fp32.json"
    assert analyze(f"{line} --json perf.json", server) == 0
    [measurement] = json.loads(Path("perf.json").read_text())["measurements"]
    assert measurement["validated"] == measurement["outcomes"]["ok"] > 0


def test_a_fixed_schedule(server: EmbeddedTriton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    steps = [{"input": {"b64": base64.b64encode(bytes(768)).decode()}, "timestamp": ms} for ms in (0, 300, 300, 900)]
    Path("timed.json").write_text(json.dumps({"data": steps}))
    line = "-m inception_graphdef --fixed-schedule --input-data timed.json --profile-export-file export.json"
    assert analyze(line, server) == 0
    [experiment] = json.loads(Path("export.json").read_text())["experiments"]
    sent = sorted(request["timestamp"] for request in experiment["requests"])
    assert len(sent) == 4
    assert sent[3] - sent[0] >= 500_000_000  # the first may be late, on a busy machine by much; none is early


def test_a_streaming_model(
    server: EmbeddedTriton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As documented, with flags appended that make it quick: the last flag counts."""
    monkeypatch.chdir(tmp_path)
    line = (
        "-u localhost:8001 -i grpc -a -m streaming_acoustic --streaming --sequence-length=50 "
        "--measurement-mode=count_windows --measurement-request-count=5000 --request-rate-range=2048:4096:256 "
        "--stability-percentage=100 --latency-threshold=100"
    )
    quick = f"-u localhost:{server.grpc_port} --measurement-request-count=40 --request-rate-range=100:200:100 -s 1000"
    quick += " --num-of-sequences=32 --sequence-length=5 --profile-export-file=export.json"
    assert run_analyze([*line.split(), *quick.split()]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[lines.index("Request Rate: 100 inference requests per second") + 1] == "  Client: "
    count = next(text for text in lines if text.startswith("    Sequence count: "))
    assert int(count.split()[2]) > 0
    assert count.endswith(" seq/sec)")
    assert "Inferences/Second vs. Client Average Batch Latency" in lines
    experiment = json.loads(Path("export.json").read_text())["experiments"][0]
    requests = Counter(request["sequence_id"] for request in experiment["requests"])
    assert 0 not in requests
    assert max(requests.values()) <= 6  # 5, more or less by 20 %
    assert all(len(request["response_timestamps"]) == 1 for request in experiment["requests"])


def test_metrics_and_a_verbose_csv(server: EmbeddedTriton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = f"--metrics-url localhost:{server.metrics_port}/metrics"
    line = f"-m resnet50_libtorch --collect-metrics {page} -f output.csv --verbose-csv"
    assert analyze(line, server) == 0
    header, row = (line.split(",") for line in Path("output.csv").read_text().splitlines())
    begin = header.index("Avg latency")
    assert header[begin:] == [
        *("Avg latency", "request/response", "response wait"),
        *("Avg GPU Utilization", "Avg GPU Power Usage", "Max GPU Memory Usage", "Total GPU Memory"),
        *("Max GPU Temperature (celsius)", "Avg GPU Clock (hertz)", "GPU Energy (joules)"),
        *("Energy per Inference (joules)", "Max Pending Requests", "Avg Server CPU Utilization (ratio)"),
        *("Max Server Memory (bytes)", "Foreign Requests (ratio)", "Batch Executions"),
    ]
    cells = dict(zip(header, row, strict=True))
    assert 0 <= float(cells["Avg Server CPU Utilization (ratio)"]) <= 1
    assert int(cells["Max Server Memory (bytes)"]) > 1 << 20
    assert cells["Foreign Requests (ratio)"] == "0"
    assert cells["Batch Executions"].startswith("1:")


def test_all_files_of_one_run(server: EmbeddedTriton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    line = "-m inception_graphdef -f perf.png --json perf.json --profile-export-file export.json"
    assert analyze(line, server) == 0
    assert Path("perf.png").read_bytes().startswith(b"\x89PNG")
    result = json.loads(Path("perf.json").read_text())
    assert result["probe"]["model"] == "inception_graphdef"
    [measurement] = result["measurements"]
    [experiment] = json.loads(Path("export.json").read_text())["experiments"]
    assert experiment["experiment"] == {"mode": "concurrency", "value": 1}
    # Each window is in the export, so each request that was measured is.
    assert len(experiment["requests"]) >= measurement["outcomes"]["ok"] > 0
    assert analyze(line, server) == 3  # an export is never overwritten


def test_a_search_ends_at_the_threshold(server: EmbeddedTriton, capsys: pytest.CaptureFixture[str]) -> None:
    # One instance of 2 ms: 64 at once take 128 ms at least, and one alone not half of that on a busy machine.
    assert analyze("-m inception_graphdef --concurrency-range 1:0:63 -l 60", server) == 0
    out = capsys.readouterr().out
    assert [text for text in out.splitlines() if text.startswith("Request concurrency")] == [
        "Request concurrency: 1",
        "Request concurrency: 64",
    ]
    assert "Best within 60 msec: Concurrency: 1" in out


def test_a_limit_that_the_first_level_is_above(
    server: EmbeddedTriton, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The level is reported and why it fell out, and a search ends there. The model takes 2 ms at least."""
    line = f"-m inception_graphdef --concurrency-range 1:8 --percentile 95 -l 1 --json {tmp_path / 'perf.json'}"
    assert analyze(line, server) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [text for text in lines if text.startswith("Request concurrency")] == ["Request concurrency: 1"]
    [measurement] = json.loads((tmp_path / "perf.json").read_text())["measurements"]
    assert measurement["threshold_met"] is False
    [p95] = [each["value_seconds"] for each in measurement["latency"]["percentiles"] if each["percentile"] == 95]
    assert p95 > 0.002
    assert f"[WARNING] Above the latency limit: latency p95 {round(p95 * 1e9) // 1000} usec" in lines
    assert lines[-1] == "Best within 1 msec: no level"


def test_throughput_in_a_unit_of_ones_own(
    server: EmbeddedTriton, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    line = f"-m inception_graphdef --unit seconds_of_audio:0.3 --json {tmp_path / 'perf.json'}"
    assert analyze(line, server) == 0
    [measurement] = json.loads((tmp_path / "perf.json").read_text())["measurements"]
    in_unit = measurement["throughput_in_unit"]
    assert in_unit["unit"] == "seconds_of_audio"
    assert in_unit["units_per_second"] == pytest.approx(0.3 * measurement["inferences_per_second"])
    assert f"    Throughput: {in_unit['units_per_second']:g} seconds_of_audio/sec" in capsys.readouterr().out


def test_one_output_that_can_not_be_written_costs_no_other(
    server: EmbeddedTriton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = "-m inception_graphdef -f /dev/full --plot perf.png --json perf.json"
    assert analyze(f"{line} --profile-export-file export.json", server) == 1
    error = capsys.readouterr().err
    assert error == "triton-canary analyze: /dev/full: cannot write: No space left on device\n"
    assert Path("perf.png").stat().st_size > 0
    assert json.loads(Path("perf.json").read_text())["status"] == "ok"
    assert len(json.loads(Path("export.json").read_text())["experiments"]) == 1


@pytest.mark.parametrize(("closed", "more", "code"), [(True, "--fail-on p50>1us", 5), (False, "", 1)])
def test_an_unread_report_loses_no_file(
    server: EmbeddedTriton, tmp_path: Path, closed: bool, more: str, code: int
) -> None:
    """A pipe that was closed, as by `head`, and a full disk."""
    words = f"-m inception_graphdef -f x.csv --json y.json --profile-export-file e.json {QUICK} {more}".split()
    command = [sys.executable, "-m", "exporter", "analyze", *words, "-u", f"localhost:{server.http_port}"]
    path = [str(Path(__file__).parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
    with Path("/dev/full").open("wb") as full:
        stdout = subprocess.PIPE if closed else full
        with subprocess.Popen(
            command, stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
        ) as process:
            if process.stdout is not None:
                process.stdout.close()
            assert process.stderr is not None
            reported = [text for text in process.stderr if "--fail-on" not in text]
    assert process.returncode == code
    full_disk = "triton-canary analyze: the report: cannot write: No space left on device\n"
    assert reported == ([] if closed else [full_disk])
    assert (tmp_path / "x.csv").read_text().startswith("Concurrency,Inferences/Second,")
    assert json.loads((tmp_path / "y.json").read_text())["status"] == "ok"
    assert len(json.loads((tmp_path / "e.json").read_text())["experiments"]) == 1


def test_a_plot_in_each_of_two_places(server: EmbeddedTriton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert analyze("-m inception_graphdef -f a.png --plot b.svg", server) == 0
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in Path("b.svg").read_bytes()


def test_a_condition_for_pipelines(server: EmbeddedTriton, capsys: pytest.CaptureFixture[str]) -> None:
    assert analyze("-m inception_graphdef --fail-on p50>1us --fail-on error_ratio>0%", server) == 5
    error = capsys.readouterr().err
    assert error.startswith("triton-canary analyze: --fail-on: p50>1us: level 1 has ")
    assert "error_ratio" not in error


def test_nothing_measured(server: EmbeddedTriton, capsys: pytest.CaptureFixture[str]) -> None:
    assert analyze("-m no_such_model", server) == 4
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith(
        "triton-canary analyze: nothing measured: model_unknown: model 'no_such_model' is not known"
    )


def test_interrupted(server: EmbeddedTriton) -> None:
    words = f"-m inception_graphdef --concurrency-range 1:8 -u localhost:{server.http_port} {QUICK}".split()
    command = [sys.executable, "-m", "exporter", "analyze", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        seen = []
        for text in process.stdout:
            seen.append(text)
            if text.startswith("Request concurrency: 1"):
                process.send_signal(signal.SIGINT)
        error = process.stderr.read()
    assert process.returncode == 130
    assert any(text.startswith("Concurrency: 1, throughput: ") for text in seen)
    assert not any(text.startswith("Concurrency: 8") for text in seen)
    assert "Not stable" not in "".join(seen)
    assert re.search(
        r"^triton-canary analyze: level \d: interrupted after \d of 3 windows; \d level\(s\) measured$", error, re.M
    )


# --- without a server -------------------------------------------------------------------------------------------------


def test_a_run_that_measured_nothing_does_not_bar_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run_analyze(["-m", "m", "-u", "localhost:1", "--profile-export-file", "e.json"]) == 4
        assert not Path("e.json").exists()


def test_bad_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_analyze(["--precentile=95", "-p", "0"]) == 3
    assert capsys.readouterr().err.splitlines() == [
        "triton-canary analyze: --precentile: unknown flag; did you mean --percentile?",
        "triton-canary analyze: -p: found '0': must be a whole number from 100 to 3600000 (milliseconds)",
        "triton-canary analyze: -m: is required: the model to measure",
    ]


@pytest.mark.parametrize(
    ("line", "begin"),
    [
        ("--help", "usage: triton-canary analyze -m MODEL [flags]\n"),
        ("-h -q", "usage: "),
        ("--version", "triton-canary "),
        ("-m m --print-probe", "# The same measurement for the daemon."),
    ],
)
def test_what_measures_nothing(line: str, begin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_analyze(line.split()) == 0
    out, error = capsys.readouterr()
    assert out.startswith(begin)
    assert error == ""


def test_what_is_reported_about_a_printed_probe_is_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_analyze(["-m", "m", "--print-probe", "-z", "--max-threads", "4"]) == 0
    out, error = capsys.readouterr()
    assert out.startswith("# The same measurement for the daemon.")
    assert [text.split(": ")[1] for text in error.splitlines()] == ["-z", "--max-threads"]


def test_what_ends_like_a_picture_is_one() -> None:
    assert PLOT_ENDINGS == SUFFIXES


def test_a_reader_that_goes_away() -> None:
    command = [sys.executable, "-m", "exporter", "analyze", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


STABLE = make_measurement(concurrency(1))
SHAKY = make_measurement(concurrency(2), stable=False, threshold_met=False, reason_text="level 2: not the same twice")
NO_RESPONSE = make_measurement(concurrency(2), latency=None, outcomes={Outcome.TIMEOUT: 5}, stable=False)
P50_IS_4MS = RunOptions(fail_on=(parse_condition("p50>=4ms"),))


@pytest.mark.parametrize(
    ("status", "reason", "measurements", "options", "code"),
    [
        (SweepStatus.OK, Reason.NONE, (STABLE,), RunOptions(), 0),
        (SweepStatus.OK, Reason.NONE, (STABLE,), P50_IS_4MS, 5),
        (SweepStatus.OK, Reason.NONE, (STABLE, SHAKY), RunOptions(), 2),
        (SweepStatus.OK, Reason.NONE, (STABLE, SHAKY), P50_IS_4MS, 5),
        (SweepStatus.UNSTABLE, Reason.UNSTABLE, (STABLE,), RunOptions(), 2),
        (SweepStatus.UNSTABLE, Reason.UNSTABLE, (STABLE,), P50_IS_4MS, 5),
        (SweepStatus.ABORTED, Reason.ERROR_RATIO, (STABLE, NO_RESPONSE), RunOptions(), 2),
        (SweepStatus.ABORTED, Reason.ERROR_RATIO, (NO_RESPONSE,), P50_IS_4MS, 4),
        (SweepStatus.FAILED, Reason.UNREACHABLE, (), RunOptions(), 4),
        (SweepStatus.ABORTED, Reason.SHUTDOWN, (), P50_IS_4MS, 130),
        (SweepStatus.ABORTED, Reason.SHUTDOWN, (STABLE,), P50_IS_4MS, 130),
    ],
)
def test_exit_codes(
    status: SweepStatus, reason: Reason, measurements: tuple[object, ...], options: RunOptions, code: int
) -> None:
    result = make_result(make_probe(), status, reason=reason, reason_text="why", measurements=measurements)
    assert exit_code(result, options) == code
    # What could not be written is worse than being unstable, and no more.
    assert exit_code(result, options, written=False) == (code if code > 2 else 1)


def test_which_level_of_a_search_is_unstable_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(make_result(make_probe(), measurements=(STABLE, SHAKY)), RunOptions()) == 2
    assert capsys.readouterr().err == "triton-canary analyze: unstable: level 2: not the same twice\n"


def test_all_errors_of_a_file_are_reported_one_a_line(
    server: EmbeddedTriton, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"data": [{"input": ["x"]}] * 8}))
    assert analyze(f"-m streaming_acoustic --input-data {path}", server) == 4
    prefix = f"triton-canary analyze: nothing measured: bad_input: {path}: stream 0, step "
    reported = [line for line in capsys.readouterr().err.splitlines() if line.startswith(prefix)]
    assert [line.removeprefix(prefix).split(",")[0] for line in reported] == [str(step) for step in range(8)]
