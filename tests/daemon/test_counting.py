"""What a server receives is what the daemon counts, whatever happens to daemon and workers; and budgets hold."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.engine.guard import CHARGED_AHEAD
from tests.daemon.counting_server import CountingServer
from tests.daemon.running import RunningDaemon
from tests.waiting import PATIENCE_SECONDS, patient

BUDGET = 2000


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with CountingServer() as serving:
        yield serving


def configuration(server: CountingServer, budget: int = 1_000_000, label: str = "a") -> dict[str, Any]:
    measurement = {"window": "3s", "stability": "100%", "max_windows": 4, "request_timeout": "5s"}
    probe = {"name": "p", "target": "t", "model": "m", "load": {"concurrency": 4}, "schedule": {"every": "1s"}}
    return {
        "targets": [{"name": "t", "kind": "oip", "url": f"http://127.0.0.1:{server.port}"}],
        "probes": [{**probe, "labels": {"x": label}, "measurement": measurement, "stop": {"max_duration": "100s"}}],
        "limits": {"group_requests_per_hour": budget},
    }


def await_requests(server: CountingServer, more: int, seconds: float = PATIENCE_SECONDS) -> None:
    enough, ends = server.requests + more, time.monotonic() + seconds
    while server.requests < enough and time.monotonic() < ends:
        time.sleep(0.01)


def workers_of(daemon: RunningDaemon) -> list[int]:
    children = (path.read_text() for path in Path(f"/proc/{daemon.pid}/task").glob("*/children"))
    return [int(pid) for pid in " ".join(children).split()]


def test_killed_workers(server: CountingServer, tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, configuration(server)) as daemon:
        for ended in range(1, 4):
            await_requests(server, 200)
            assert daemon.get("/")[0] == 200
            for pid in workers_of(daemon):
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.2)
            received = server.requests
            counted = sum(v for (name, _), v in daemon.metrics().items() if name == "triton_canary_requests_total")
            if received == server.requests:  # no sweep has begun meanwhile
                # The server may not have read what was sent as the workers died; and each has some charged ahead.
                assert received <= counted <= received + ended * (4 + CHARGED_AHEAD)


def test_a_stopped_daemon(server: CountingServer, tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, configuration(server)) as daemon:
        await_requests(server, 100)
        os.kill(daemon.pid, signal.SIGSTOP)
        try:
            time.sleep(patient(5))
            received = server.requests
            time.sleep(2)
            assert server.requests == received
        finally:
            os.kill(daemon.pid, signal.SIGCONT)
        daemon.wait_for_log("sweep ended", reason="daemon_stalled")


def test_a_budget_over_reloads(server: CountingServer, tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, configuration(server, BUDGET)) as daemon:
        for number in range(6):
            await_requests(server, 400, seconds=patient(4))
            changed = yaml.safe_load(daemon.config_path.read_text())
            changed["probes"][0]["labels"]["x"] = f"v{number}"
            daemon.config_path.write_text(yaml.safe_dump(changed))
            os.kill(daemon.pid, signal.SIGHUP)
            time.sleep(0.5)
        assert 800 < server.requests <= BUDGET


def test_a_budget_over_crashes(server: CountingServer, tmp_path: Path) -> None:
    daemon = RunningDaemon(tmp_path, configuration(server, BUDGET))
    daemon.start()
    try:
        for _ in range(3):
            await_requests(server, 300)
            daemon.stop(signal.SIGKILL)
            daemon.start()
        daemon.wait_for_log("sweep skipped", reason="budget")
        assert 900 <= server.requests <= BUDGET
    finally:
        daemon.stop()


def test_the_end_of_a_daemon_whose_worker_is_stopped(server: CountingServer, tmp_path: Path) -> None:
    """The worker can be killed, and is: nothing of its 16 s for what is under way is waited for."""
    daemon = RunningDaemon(tmp_path, configuration(server))
    daemon.start()
    try:
        await_requests(server, 200)
        for pid in workers_of(daemon):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(1)
        received = server.requests
        assert daemon.stop() == 0
        seconds = float(daemon.wait_for_log("stopped")["seconds"])
        print(f"ended in {seconds} s")
        assert seconds < patient(10)
        assert daemon.wait_for_log("sweep ended")["reason"] == "shutdown"
        assert server.requests == received
    finally:
        daemon.stop()
