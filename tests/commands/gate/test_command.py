"""The command as a pipeline runs it, against a real Triton: exit codes and what is written."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from exporter.core.exit_code import ExitCode
from exporter.demo.triton import EmbeddedTriton
from tests.waiting import PATIENCE_SECONDS

SHAPE = ("--set", "input.shapes.INPUT0=[16]")
FAST = (*SHAPE, "--window", "300ms", "--margin", "p50=50%", "--max-pairs", "30")
"""Wide margins: other work may run on the tests' machine."""


@pytest.fixture
def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def side(triton: EmbeddedTriton, model: str) -> str:
    return f"{triton.grpc_url}/{model}"


def gate(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "exporter", "gate", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)


def test_worse_as_junit_and_text(triton: EmbeddedTriton, tmp_path: Path) -> None:
    report = tmp_path / "gate.xml"
    done = gate(
        *("--stable", side(triton, "identity"), "--candidate", side(triton, "delay")),
        *(*FAST, "--format", "junit", "--output", report),
    )
    assert done.returncode == ExitCode.WORSE, done.stderr
    assert done.stdout.startswith("worse: p50: worse by more than 50 %; compute_infer grew most\n")
    assert "10 pairs, " in done.stderr
    suite = ET.fromstring(report.read_text())
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")


def test_better_as_json(triton: EmbeddedTriton) -> None:
    done = gate(
        *("--stable", side(triton, "delay"), "--candidate", side(triton, "identity"), *FAST, "--format", "json")
    )
    assert done.returncode == ExitCode.OK, done.stderr
    document = json.loads(done.stdout)
    assert (document["verdict"], document["passed"]) == ("better", True)
    assert document["figures"][0]["high"] < 1 / 1.5
    assert document["outputs"] == "equal in 20 requests"


@pytest.mark.parametrize(("on_undecided", "code"), [("fail", ExitCode.UNDECIDED), ("pass", ExitCode.OK)])
def test_a_server_that_is_not_there_is_undecided(free_port: int, on_undecided: str, code: ExitCode) -> None:
    nothing = f"http://127.0.0.1:{free_port}"
    done = gate(
        *("--stable", f"{nothing}/old", "--candidate", f"{nothing}/new", *FAST),
        *("--on-undecided", on_undecided, "--format", "markdown"),
    )
    assert done.returncode == code, done.stderr
    assert done.stdout.startswith("**Rollout gate: undecided: ")
    assert " side cannot be measured: unreachable: " in done.stdout


def test_a_file_that_cannot_be_written_is_no_pass(triton: EmbeddedTriton, tmp_path: Path) -> None:
    done = gate(
        *("--stable", side(triton, "delay"), "--candidate", side(triton, "identity"), *FAST),
        *("--output", tmp_path / "none" / "x"),
    )
    assert done.returncode == ExitCode.ERROR
    assert "cannot write: No such file or directory" in done.stderr


def test_bad_options_are_all_reported_before_any_load() -> None:
    done = gate("--stable", "x", "--candidate", "grpc://127.0.0.1:9/m", "--min-pairs", "2", "--window", "1ms")
    assert done.returncode == ExitCode.BAD_OPTIONS
    lines = done.stderr.splitlines()
    assert [line.removeprefix("triton-canary gate: ").partition(":")[0] for line in lines] == [
        "--min-pairs",
        "--window",
        "--stable",
    ]


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (
            "--margin p99=0% --margin foo=1% --min-pairs 1 --max-pairs 0 --max-error-ratio 2 --window 5 "
            "--max-duration x --output-tolerance x",
            [
                "--margin: the margin of p99 must be above 0%",
                "--margin: unknown figure 'foo'",
                "--max-duration: ",
                "--window: must be a duration",
                "--max-error-ratio: must be from 0%",
                "--min-pairs: must be from 5 to 1000",
                "--max-pairs: must be from ",
                "--output-tolerance: must be a number",
            ],
        ),
        ("--margin p99=5% --margin p99=50%", ["--margin: 'p99' is given twice"]),
        ("--margin p_x=ten --max-pairs ten", ["--margin: 'ten' is not a ratio", "--max-pairs: must be a whole number"]),
        ("--margin p50=10% --min-pairs 5 --max-pairs 6", ["--max-pairs: 6 pairs are too few for an interval"]),
    ],
)
def test_each_bad_option_has_a_line_under_its_flag(words: str, lines: list[str]) -> None:
    done = gate("--stable", "http://127.0.0.1:9/m", "--candidate", "http://127.0.0.1:9/n", *words.split())
    assert done.returncode == ExitCode.BAD_OPTIONS
    found = [line.removeprefix("triton-canary gate: ") for line in done.stderr.splitlines()]
    assert len(found) == len(lines), found
    for line, start in zip(found, lines, strict=True):
        assert line.startswith(start)


def test_ctrl_c_ends_it_with_what_was_measured(triton: EmbeddedTriton, tmp_path: Path) -> None:
    words = ("--stable", side(triton, "delay"), "--candidate", side(triton, "identity"), *SHAPE, "--max-pairs", "1000")
    command = [sys.executable, "-m", "exporter", "gate", *words, "--min-pairs", "500", "--window", "300ms"]
    out = tmp_path / "out"
    with out.open("w") as file:
        running = subprocess.Popen(command, stdout=file, stderr=subprocess.PIPE, text=True)
        assert running.stderr is not None
        assert "500 to 1000 pairs of 300ms windows" in running.stderr.readline()
        os.kill(running.pid, signal.SIGINT)
        running.communicate(timeout=PATIENCE_SECONDS)
    assert running.returncode == ExitCode.INTERRUPTED
    assert "ended by a signal" in out.read_text()
