"""A gate in a real daemon on a real Triton: in turn with the scheduled sweeps, and after a kill."""

from __future__ import annotations

import json
import signal
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from exporter.demo.triton import EmbeddedTriton
from tests.daemon.running import RunningDaemon

TOKEN = "open sesame"
REQUEST = {"id": "r1", "stable": "old", "candidate": "new", "margins": ["p50=50%"], "window": "300ms"}


@pytest.fixture
def configuration(triton: EmbeddedTriton, tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "token").write_text(TOKEN)
    shape = {"input": {"shapes": {"INPUT0": [16]}}, "schedule": {"every": "5s"}}
    return {
        "targets": [{"name": "t", "url": triton.grpc_url}],
        "probes": [
            {"name": "old", "target": "t", "model": "identity", "load": {"concurrency": 1}, **shape},
            {"name": "new", "target": "t", "model": "delay", "load": {"concurrency": 1}, **shape},
        ],
        "web": {"listen": "127.0.0.1:0", "api_token_file": str(tmp_path / "token")},
        "limits": {"group_duty": "100%"},
    }


def ask(daemon: RunningDaemon, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://{daemon.address}{path}",
        headers={"Authorization": f"Bearer {TOKEN}"},
        data=None if body is None else json.dumps(body).encode(),
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as response:
        document: dict[str, Any] = json.load(response)
        return document


def intervals(daemon: RunningDaemon, message: str) -> list[tuple[float, float]]:
    """When each sweep with such a line began and ended."""
    found = []
    for event in daemon.log_events():
        if event.get("msg") == message and event["reason"] in ("", "unstable"):
            ended = datetime.fromisoformat(event["time"]).timestamp()
            found.append((ended - float(event["duration_seconds"]), ended))
    return found


def test_a_gate_in_turn_with_the_sweeps_and_its_result_after_a_kill(
    configuration: dict[str, Any], tmp_path: Path
) -> None:
    with RunningDaemon(tmp_path, configuration) as daemon:
        daemon.wait_for(lambda: daemon.status("old")["running"] or daemon.status("new")["running"])
        assert ask(daemon, "/api/v1/gates", REQUEST)["state"] == "running"
        ended = daemon.wait_for(lambda: (found := ask(daemon, "/api/v1/gates/r1"))["running"] is False and found)
        assert (ended["verdict"], ended["passed"], ended["component"]) == ("worse", False, "compute_infer")
        assert daemon.value("triton_canary_exporter_gate_verdict", verdict="worse") == 1
        ratio = daemon.value("triton_canary_exporter_gate_ratio", stable="old", candidate="new", figure="p50")
        assert ratio == pytest.approx(ended["figures"][0]["ratio"])
        halves, sweeps = intervals(daemon, "sweep on demand"), intervals(daemon, "sweep ended")
        assert len(halves) >= 20
        assert len(sweeps) >= 2
        # Their lines are written some milliseconds after their ends.
        overlaps = [(a, b) for a in halves for b in sweeps if min(a[1], b[1]) - max(a[0], b[0]) > 0.1]
        assert overlaps == []

        assert ask(daemon, "/api/v1/gates", REQUEST | {"id": "r2", "min_pairs": 100, "max_pairs": 200})["running"]
        daemon.wait_for(lambda: len(intervals(daemon, "sweep on demand")) > len(halves))
        daemon.stop(signal.SIGKILL)
        daemon.start()
        assert ask(daemon, "/api/v1/gates/r1") == ended
        cut = ask(daemon, "/api/v1/gates/r2")
        assert (cut["state"], cut["passed"]) == ("undecided", False)
        assert daemon.value("triton_canary_exporter_gate_verdict", verdict="undecided") == 1
        assert cut["text"] == "undecided: the daemon ended during the gate"
