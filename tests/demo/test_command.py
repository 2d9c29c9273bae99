"""The demo as a user runs it: a process of its own, a real Triton, and a fake daemon in the daemon's place."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from exporter.demo import command
from exporter.demo.triton import free_ports
from exporter.demo.triton_environment import EmbeddedTritonError, TritonEnvironment
from tests.demo.processes import alive, descendants
from tests.waiting import PATIENCE_SECONDS, becomes_true, patient

RUN_DEMO = """
import sys
from pathlib import Path
from exporter.demo.command import run_demo
daemon = [sys.executable, "tests/demo/fake_daemon.py", sys.argv[3]]
sys.exit(run_demo(listen=sys.argv[1], data_directory=Path(sys.argv[2]), daemon=daemon))
"""


class RunningDemo:
    def __init__(self, folder: Path, mode: str) -> None:
        self.folder = folder
        self.listen = f"127.0.0.1:{free_ports(1)[0]}"
        self._output = (folder / "output").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN_DEMO, self.listen, str(folder), mode],
            stdout=self._output,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "COLUMNS": "120"},
        )

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    def wait_for(self, text: str) -> None:
        assert becomes_true(lambda: text in self.output or self.process.poll() is not None)
        assert text in self.output

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._output.close()


@pytest.fixture
def run_demo(tmp_path: Path, triton_environment: TritonEnvironment) -> Iterator[Callable[[str], RunningDemo]]:
    demos: list[RunningDemo] = []

    def run(mode: str) -> RunningDemo:
        demos.append(RunningDemo(tmp_path, mode))
        return demos[-1]

    yield run
    for demo in demos:
        demo.close()


@pytest.mark.parametrize(("mode", "number"), [("good", signal.SIGINT), ("stubborn", signal.SIGTERM)])
def test_it_shows_the_first_sweeps_and_ends_without_a_trace(
    run_demo: Callable[[str], RunningDemo], mode: str, number: signal.Signals
) -> None:
    demo = run_demo(mode)
    demo.wait_for("running until Ctrl-C")
    assert "7/7 pipeline-http: 1234 inferences/s, p50 0.50 ms at concurrency 1" in demo.output
    assert re.search(r"\n delay-grpc +1 +1234 +0.50 ", demo.output)
    assert re.search(rf"metrics +http://{demo.listen}/metrics\n", demo.output)
    assert re.search(rf"archive +{demo.folder}/archive\n", demo.output)
    tree = descendants(demo.process.pid)
    assert len(tree) > 10
    begin = time.monotonic()
    demo.process.send_signal(number)
    assert demo.process.wait(PATIENCE_SECONDS) == 0
    assert time.monotonic() - begin < patient(5)
    assert not alive(tree)
    assert demo.output.endswith("stopping\n")


def test_a_daemon_that_ends_by_itself_ends_the_demo(run_demo: Callable[[str], RunningDemo]) -> None:
    demo = run_demo("dies")
    demo.wait_for("running until Ctrl-C")
    # It dies at the next request, which is ours.
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://{demo.listen}/api/status", timeout=PATIENCE_SECONDS)
    assert demo.process.wait(PATIENCE_SECONDS) == 1
    assert "The daemon ended by itself, with status 3. Its log ends with:" in demo.output
    assert "  the last words of the daemon\n" in demo.output


def test_a_triton_that_ends_by_itself_ends_the_demo(run_demo: Callable[[str], RunningDemo]) -> None:
    demo = run_demo("good")
    demo.wait_for("running until Ctrl-C")
    tree = descendants(demo.process.pid)
    servers = [pid for pid in tree if Path(f"/proc/{pid}/comm").read_text() == "tritonserver\n"]
    assert len(servers) == 1
    os.kill(servers[0], signal.SIGKILL)
    assert demo.process.wait(PATIENCE_SECONDS) == 1
    assert "Triton ended by itself. Its log ends with:" in demo.output
    assert not alive(tree)


def test_a_platform_without_triton_is_reported_and_nothing_is_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def refuse(progress: object) -> TritonEnvironment:
        raise EmbeddedTritonError("The embedded Triton runs on Linux x86_64 only, and this is Darwin arm64.")

    monkeypatch.setattr(command, "make_environment", refuse)
    handler = signal.getsignal(signal.SIGTERM)
    assert command.run_demo(data_directory=tmp_path) == 1
    assert "runs on Linux x86_64 only" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) == handler


def test_the_usual_port_is_taken_only_if_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        monkeypatch.setattr(command, "DEFAULT_PORT", taken)
        assert command._default_listen() != f"127.0.0.1:{taken}"
    assert command._default_listen() == f"127.0.0.1:{taken}"
