"""Stop everything: running sweeps end within two seconds, also of a server that does not respond, and nothing starts
again after a restart."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from exporter.cli import run as run_cli
from exporter.demo.triton import EmbeddedTriton
from tests.daemon.running import RunningDaemon

LIMIT_SECONDS = 2.0


@pytest.mark.parametrize("delay_ms", ["5", "60000"], ids=["at-full-load", "while-no-response-comes"])
def test_pause_all(triton: EmbeddedTriton, tmp_path: Path, capsys: pytest.CaptureFixture[str], delay_ms: str) -> None:
    token = tmp_path / "token"
    token.write_text("open sesame")
    probe: dict[str, Any] = {
        "name": "p",
        "target": "t",
        "model": "delay",
        "load": {"concurrency": [4]},
        "schedule": {"every": "10m"},
        "input": {"parameters": {"delay_ms": delay_ms}},
        "measurement": {"window": "5s", "request_timeout": "60s", "warm_up": "0s"},
        "stop": {"max_duration": "5m"},
    }
    configuration = {
        "targets": [{"name": "t", "url": triton.http_url}],
        "probes": [probe],
        "web": {"listen": "127.0.0.1:0", "api_token_file": str(token)},
    }
    with RunningDaemon(tmp_path, configuration) as daemon:
        options = ["--url", f"http://{daemon.address}", "--token-file", str(token)]
        daemon.wait_for(lambda: daemon.status("p")["running"])
        time.sleep(1.5)
        assert run_cli(["pause", "--all", *options]) == 0
        assert capsys.readouterr().out == "everything is paused; running sweeps that end now: 1\n"
        event = daemon.wait_for_log("sweep ended")
        assert seconds_between(daemon.wait_for_log("pause", logger="audit"), event) < LIMIT_SECONDS
        time.sleep(0.5)
        sent = inferences(triton)
        assert (event["status"], event["reason"], event["detail"]) == ("aborted", "shutdown", "paused by hand")
        assert daemon.value("triton_canary_exporter_pauses", scope="all") == 1
        assert daemon.value("triton_canary_paused", probe="p") == 1
        assert b"Everything is paused by hand" in daemon.get("/")[1]
        assert "Everything is paused" in json.loads(daemon.get("/api/status")[1])["config_notices"][0]
        assert inferences(triton) == sent
        daemon.stop(signal.SIGKILL)
        daemon.start()
        options[1] = f"http://{daemon.address}"
        assert daemon.value("triton_canary_exporter_pauses", scope="all") == 1
        headers = {"Authorization": "Bearer open sesame"}
        assert daemon.get("/api/probes/p/sweep-now", headers, "POST")[0] == 409
        assert run_cli(["resume", "--all", *options]) == 0
        assert daemon.get("/api/probes/p/sweep-now", headers, "POST")[0] == 202


def seconds_between(earlier: dict[str, str], later: dict[str, str]) -> float:
    begin, end = (datetime.fromisoformat(event["time"]) for event in (earlier, later))
    return (end - begin).total_seconds()


def inferences(triton: EmbeddedTriton) -> int:
    """Requests that the server has begun, or ended, of all that it got."""
    with urllib.request.urlopen(f"{triton.http_url}/v2/models/delay/stats", timeout=10) as response:
        stats = json.load(response)["model_stats"][0]["inference_stats"]
    return int(stats["success"]["count"]) + int(stats["fail"]["count"])
