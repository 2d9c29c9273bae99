"""The whole chain behind the dashboards: a real Triton, the real daemon, a real Prometheus."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.demo.triton import MODELS, EmbeddedTriton, free_ports
from tests.daemon.running import RunningDaemon
from tests.e2e import recorded
from tests.e2e.prometheus import Prometheus, running_prometheus
from tests.waiting import PATIENCE_SECONDS, becomes_true

BASELINE_MS = {"1": (11.2, 16.0), "2": (21.5, 27.0), "4": (22.0, 27.5), "8": (22.5, 28.0)}
"""Of the probe of the delay model; recorded, see there."""


@dataclass(frozen=True, slots=True)
class Chain:
    daemon: RunningDaemon
    prometheus: Prometheus

    def start_gate(self, window: str, max_pairs: int) -> None:
        """Between both instances of one model."""
        body = {"id": "g", "stable": "delay-one", "candidate": "delay-two", "window": window, "max_pairs": max_pairs}
        request = urllib.request.Request(
            f"http://{self.daemon.address}/api/v1/gates",
            headers={"Authorization": f"Bearer {TOKEN}"},
            data=json.dumps(body).encode(),
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as response:
            assert json.load(response)["running"]

    def wait_for_gate(self) -> None:
        """It takes turns with all probes of its group, which fill a slow machine's time."""
        ended = "triton_canary_exporter_gate_end_timestamp_seconds"
        assert becomes_true(lambda: ended in self.daemon.get("/metrics")[1].decode(), 3 * PATIENCE_SECONDS)


TOKEN = "open sesame"


def write_models(folder: Path) -> Path:
    """The sample models that are probed, and one of them twice without batching: with one instance, and with two."""
    models = folder / "models"
    for name in ("addsub", "delay", "identity", "pipeline", "vad"):
        shutil.copytree(MODELS / name, models / name)
    for name, instances in (("one", 1), ("two", 2)):
        shutil.copytree(MODELS / "delay", models / f"delay_{name}")
        config = models / f"delay_{name}" / "config.pbtxt"
        text = config.read_text().replace("dynamic_batching { }\n", "").replace('"delay"', f'"delay_{name}"')
        config.write_text(text.replace("count: 1", f"count: {instances}"))
    return models


def configuration(folder: Path, triton: EmbeddedTriton, *, every: str, window: str) -> dict[str, Any]:
    (folder / "token").write_text(TOKEN)
    endpoints = {"triton-http": triton.http_url, "triton-grpc": triton.grpc_url}
    (port,) = free_ports(1)
    variants = [
        {
            "name": f"delay-{name}",
            "target": "triton-grpc",
            "model": f"delay_{name}",
            "load": {"concurrency": [1, 2, 4]},
            "variant": f"{name} instance{'s' if name == 'two' else ''}",
            "variant_group": "instances",
        }
        for name in ("one", "two")
    ]
    return {
        "targets": [
            {"name": name, "url": url, "metrics_url": triton.metrics_url, "metrics_interval": "100ms"}
            for name, url in endpoints.items()
        ],
        "probes": [
            {
                "name": "delay-http",
                "target": "triton-http",
                "model": "delay",
                "load": {"concurrency": [1, 2, 4, 8]},
                "slo": {"name": "interactive", "latency": "50ms", "percentile": 95, "levels": ["1"]},
            },
            *variants,
            {"name": "pipeline-http", "target": "triton-http", "model": "pipeline", "load": {"concurrency": [1, 2]}},
            {
                "name": "vad-rate",
                "target": "triton-grpc",
                "model": "vad",
                "load": {"request_rate": [20, 40]},
                "input": {"shapes": {"AUDIO": [4800]}},
            },
            {
                "name": "vad-streams",
                "target": "triton-grpc",
                "model": "vad",
                "load": {"streams": [1, 2], "step_interval": "100ms", "sequences": {"length": 5}},
                "input": {"shapes": {"AUDIO": [4800]}},
            },
        ],
        "defaults": {
            "schedule": {"every": every},
            "measurement": {"window": window, "stability": "20%", "max_windows": 4},
        },
        "web": {"listen": f"127.0.0.1:{port}", "api_token_file": str(folder / "token")},
        "limits": {"group_duty": "100%"},  # a gate needs its turns between the sweeps
    }


@contextmanager
def running_chain(folder: Path, triton: EmbeddedTriton, *, every: str, window: str) -> Iterator[Chain]:
    """Returns at once: no sweep has landed yet. The Triton serves the models of `write_models`."""
    settings = configuration(folder, triton, every=every, window=window)
    instance = settings["web"]["listen"]
    page = recorded.recorded_page(
        instance, target="triton-http", probe="delay-http", model="delay", latency_ms=BASELINE_MS
    )
    with (
        recorded.fake_driver(folder),
        RunningDaemon(folder, settings) as daemon,
        recorded.serving(page) as address,
        running_prometheus(
            folder,
            daemon.address,
            more_jobs=[recorded.scrape_job(address)],
            rules=[recorded.verdict_rules(folder)],
        ) as prometheus,
    ):
        yield Chain(daemon, prometheus)
