"""Each command whose standard output takes nothing: one line on standard error and exit status 1, never a traceback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from exporter import cli
from tests.builders import concurrency
from tests.commands.compare.test_command import FAST, SLOW, measured, save_archive, save_result, sweep
from tests.waiting import PATIENCE_SECONDS

CONFIG = """
data_directory: data
targets: [{name: t, url: "http://127.0.0.1:1"}]
probes: [{name: p, target: t, model: m, schedule: {every: 10m}, load: {concurrency: [1]}}]
"""
COMPARE = "compare a.json b.json --min-sweeps 1"
LINES = [
    *("--help", "--version", "serve --help", "try --help", "gate --help", "demo --help", "demo --check"),
    *("analyze --help", "analyze --version", "analyze -m m --print-probe"),
    *("check-config canary.yaml", COMPARE, "changes archive", "changes archive --json"),
    *("completion bash", "completion zsh", "assets --to assets"),
    *("health --url URL", "baseline export p --url URL", "baseline show p --json --url URL"),
    *("pause --all --url URL", "resume --probe p --url URL"),
]


class _Daemon(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"done": "done"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Standard error belongs to the commands."""


@pytest.fixture(scope="module")
def daemon_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Daemon) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("canary.yaml").write_text(CONFIG)
    for name, throughputs in (("a", SLOW), ("b", FAST)):
        save_result(Path(f"{name}.json"), sweep(measured(concurrency(1), throughputs)))
    save_archive(Path("archive"), sweep(measured(concurrency(1), SLOW)))
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("line", LINES)
def test_a_full_disk_is_one_line(
    line: str, daemon_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("exporter.demo.machine.Machine.triton_lacks", lambda _: [])
    monkeypatch.setattr("exporter.demo.machine.space_lacks", lambda _: [])
    monkeypatch.setattr("exporter.demo.machine.index_lacks", lambda _: [])
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        code = cli.run(line.replace("URL", daemon_url).split())
        monkeypatch.undo()
    command = "triton-canary analyze" if line.startswith("analyze") else "triton-canary"
    assert (code, capsys.readouterr().err) == (1, f"{command}: cannot write: No space left on device\n")


def test_each_command_is_there() -> None:
    [commands] = [action.choices for action in cli.make_parser()._actions if isinstance(action.choices, dict)]
    assert {line.split()[0] for line in LINES if line[0] != "-"} == set(commands)


def test_a_comparison_that_is_not_shown_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert cli.run([*COMPARE.split(), "--markdown", "pr.md"]) == 1
    assert "| concurrency 1 | inferences/s" in (folder / "pr.md").read_text()


def shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", f'"$0" -m exporter {line}', sys.executable],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )


@pytest.mark.parametrize(
    ("redirection", "reported"),
    [
        (">/dev/full", "No space left on device"),
        (">&-", "Bad file descriptor"),
        (">&- <&-", "Bad file descriptor"),
        (">&- 2>&-", ""),
    ],
)
@pytest.mark.parametrize(
    ("line", "command"), [("completion zsh", "triton-canary"), ("analyze --help", "triton-canary analyze")]
)
def test_the_process_ends_with_the_code(line: str, command: str, redirection: str, reported: str) -> None:
    """Nothing is tried again as Python ends, which would be status 120."""
    done = shell(f"{line} {redirection}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (f"{command}: cannot write: {reported}\n" if reported else "")


@pytest.mark.parametrize("line", ["--help", "completion bash", "demo --help", "analyze --help"])
def test_a_reader_that_wants_no_more_is_no_news(line: str) -> None:
    assert shell(f"{line} | true").stderr == ""
