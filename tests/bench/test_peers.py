"""What is given to the peers and what is read from their reports."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from bench import own_load, perf_analyzer, wrk
from bench.compare import SECTIONS, parse
from bench.models import identity_models
from bench.programs import BenchError, run_program
from exporter.transport.call import EncodedRequest

WRK_REPORT = """Running 1s test @ http://127.0.0.1:1/
  1 threads and 8 connections
  15000 requests in 1.00s, 3.00MB read
Requests/sec:  14987.25
Transfer/sec:      3.00MB
"""


def test_wrk_script_holds_the_very_bytes() -> None:
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: h:1\r\nX-A: 1\r\nContent-Length: 3\r\n\r\n"
    assert wrk.script(EncodedRequest(head, b'\x00"\xff')) == (
        'wrk.method = "POST"\nwrk.body = "\\000\\034\\255"\nwrk.headers["\\088\\045\\065"] = "\\049"\n'
    )


def test_wrk_report() -> None:
    assert wrk.parse(WRK_REPORT) == 14987.25


@pytest.mark.parametrize(
    "printed",
    [
        "Non-2xx or 3xx responses: 7\n" + WRK_REPORT,
        "  Socket errors: connect 0, read 3, write 0, timeout 0\n" + WRK_REPORT,
        "unable to connect",
    ],
)
def test_wrk_report_with_failures_is_no_figure(printed: str) -> None:
    with pytest.raises(BenchError):
        wrk.parse(printed)


def test_perf_analyzer_report_has_one_level() -> None:
    text = "Concurrency,Inferences/Second,p99 latency,Avg latency\n8,3130.81,2500000,2265\n"
    report = perf_analyzer.Report(perf_analyzer.parse_report(text), "", 0.0, 0)
    assert (report.throughput, report.mean_latency_us, report.p99_latency_seconds) == (3130.81, 2265, 2.5)
    with pytest.raises(BenchError, match="exactly one level"):
        perf_analyzer.parse_report(text + "9,1,1\n")


def test_perf_analyzer_export() -> None:
    requests = [{"timestamp": 200, "response_timestamps": [210, 230]}, {"timestamp": 100, "response_timestamps": [110]}]
    text = json.dumps({"experiments": [{"requests": requests}]})
    assert perf_analyzer.parse_export(text) == perf_analyzer.Exported(100, 230, 20.0)
    with pytest.raises(BenchError):
        perf_analyzer.parse_export('{"experiments": []}')


async def test_run_program_reports_output_and_cpu_time(tmp_path: Path) -> None:
    burn = "import time, os\nwhile time.process_time() < 0.1: pass\nprint(os.getcwd())"
    ended = await run_program([sys.executable, "-c", burn], tmp_path)
    assert ended.printed.strip() == str(tmp_path)
    assert 0.09 <= ended.cpu_seconds < 5
    assert ended.peak_bytes > 1_000_000


async def test_run_program_failures() -> None:
    with pytest.raises(BenchError, match="status 3:\nwhy"):
        await run_program([sys.executable, "-c", "print('why'); raise SystemExit(3)"])
    with pytest.raises(BenchError, match="did not end within"):
        await run_program([sys.executable, "-c", "import time; time.sleep(60)"], limit_seconds=0.2)


def test_process_cpu_clock_is_that_of_the_process() -> None:
    before = time.process_time_ns()
    measured = own_load.process_cpu_ns(os.getpid())
    assert before <= measured <= time.process_time_ns()


def test_models_are_the_shipped_one_and_the_same_with_the_cache() -> None:
    with identity_models() as folder:
        plain = (folder / "identity" / "config.pbtxt").read_text()
        cached = (folder / "cached_identity" / "config.pbtxt").read_text()
        assert (folder / "cached_identity" / "1" / "model.py").exists()
    assert "response_cache" not in plain
    assert cached == plain.replace('"identity"', '"cached_identity"') + "\nresponse_cache { enable: true }\n"


@pytest.mark.parametrize(
    ("arguments", "is_saved", "only"),
    [
        ([], True, list(SECTIONS)),
        (["--quick"], False, ["throughput", "large", "cpu", "layers"]),
        (["--quick", "--only", "wire"], False, ["wire"]),
        (["--only", "wire,cpu"], False, ["wire", "cpu"]),
        (["--only", "cpu", "--output", "x.md"], True, ["cpu"]),
    ],
)
def test_only_a_whole_run_is_saved_unasked(arguments: list[str], is_saved: bool, only: list[str]) -> None:
    options = parse(arguments)
    assert (options.output is not None, options.only) == (is_saved, only)


def test_unknown_section(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--only", "cpu,speed"])
    assert "no section speed" in capsys.readouterr().err
