"""Discovery, pauses and budgets in the daemon as a whole, against the real Triton behind two addresses."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from exporter.demo.triton import EmbeddedTriton
from tests.daemon.running import RunningDaemon
from tests.waiting import PATIENCE_SECONDS

TOKEN = "open sesame"


def post(daemon: RunningDaemon, path: str) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(f"http://{daemon.address}{path}", b"", headers, method="POST")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=PATIENCE_SECONDS) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def names(daemon: RunningDaemon) -> set[str]:
    return {probe["name"] for probe in json.loads(daemon.get("/api/status")[1])["probes"]}


def write_list(path: Path, *addresses: str) -> None:
    path.write_text(json.dumps([{"targets": list(addresses), "labels": {"rack": "r1", "__meta_x": "y"}}]))


def configuration(folder: Path, triton: EmbeddedTriton) -> dict[str, Any]:
    """A fleet whose replicas are in the folder's lists, and a server all of whose models are in maintenance."""
    return {
        "web": {"listen": "127.0.0.1:0", "api_token_file": str(folder / "token")},
        "targets": [
            {
                "name": "fleet",
                "url": "http://pattern",
                "discover": {"file_sd": [str(folder / "*.json")], "labels": ["rack"], "refresh": "1s"},
            },
            {"name": "alone", "url": triton.grpc_url, "group": "127.0.0.1"},
        ],
        "probes": [
            {"name": "delay", "target": "fleet", "model": "delay", "load": {"concurrency": 1}},
            {"name": "every", "target": "alone", "models": "all-ready", "load": {"concurrency": 1}},
        ],
        "maintenance": [{"cron": "* * * * *", "duration": "1m", "probes": ["every"]}],
        "defaults": {
            "schedule": {"every": "1h"},
            "measurement": {"window": "100ms", "stability": "100%", "max_windows": 3},
        },
    }


def test_replicas_models_pauses_and_budgets(triton: EmbeddedTriton, tmp_path: Path) -> None:
    port = urlsplit(triton.http_url).port
    one, two = f"127.0.0.1:{port}", f"localhost:{port}"
    found = tmp_path / "replicas.json"
    write_list(found, one, two)
    (tmp_path / "token").write_text(TOKEN)
    first, second = f"delay/{one}", f"delay/{two}"
    with RunningDaemon(tmp_path, configuration(tmp_path, triton)) as daemon:
        daemon.wait_for(lambda: {first, second, "every/delay", "every/vad"} < names(daemon))
        for name in (first, second):
            daemon.wait_for_state(name, "", "unstable")
        assert daemon.value("triton_canary_replicas", target="fleet", probe="delay") == 2
        assert daemon.value("triton_canary_replicas_up", target="fleet", probe="delay") == 2
        middle = daemon.value("triton_canary_replicas_latency_median_seconds", target="fleet", level="1")
        assert middle is not None
        assert middle >= 0.010
        assert daemon.value("triton_canary_probe_info", probe=first, rack="r1") == 1
        assert daemon.value("triton_canary_exporter_discovery_found", source="addresses of fleet") == 2
        load = daemon.status(first)["load_last_hour"]
        assert load["requests"] > 0
        assert daemon.value("triton_canary_sweep_seconds_total", probe=first) == pytest.approx(
            load["seconds"], abs=0.001
        )

        # The models are in maintenance; what runs, runs by hand or not at all.
        assert daemon.value("triton_canary_paused", probe="every/delay") == 1
        assert daemon.status("every/delay")["pause"].startswith("in maintenance until")
        assert post(daemon, "/api/probes/every/delay/sweep-now")[0] == 409
        assert daemon.value("triton_canary_requests_total", probe="every/delay", outcome="ok") == 0
        status, text = post(daemon, f"/api/probes/{first}/sweep-now")
        assert (status, json.loads(text)) == (202, {"done": "the sweep begins"})
        daemon.wait_for(lambda: daemon.status(first)["load_last_hour"]["requests"] > load["requests"])
        assert post(daemon, f"/api/probes/{second}/pause")[0] == 200
        assert post(daemon, f"/api/probes/{second}/sweep-now")[0] == 409

        # A broken list changes nothing; a shorter one takes its probe away.
        found.write_text("[{")
        daemon.wait_for(lambda: daemon.value("triton_canary_exporter_discovery_up", source="addresses of fleet") == 0)
        assert {first, second} < names(daemon)
        write_list(found, two)
        daemon.wait_for(lambda: first not in names(daemon))
        assert daemon.value("triton_canary_up", probe=first) is None
        assert daemon.value("triton_canary_paused", probe=second) == 1
        daemon.stop()
        daemon.start()
        daemon.wait_for(lambda: second in names(daemon))
        assert daemon.value("triton_canary_paused", probe=second) == 1  # over a restart

        # The pattern's own name is for what comes later, too.
        assert post(daemon, f"/api/probes/{second}/resume")[0] == 200
        assert daemon.value("triton_canary_paused", probe=second) == 0
        assert post(daemon, "/api/probes/delay/pause")[0] == 200
        write_list(found, one, two)
        daemon.wait_for(lambda: first in names(daemon))
        assert [daemon.value("triton_canary_paused", probe=name) for name in (first, second)] == [1, 1]
        assert daemon.status(first)["pause"] == "paused by hand, with all of delay"
