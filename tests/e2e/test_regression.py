"""A model gets 60 % slower: the alert fires, once, with the right words. It is pinned: the alert ends, and stays
silent. It gets slower again, and is mended.

Real Triton, real daemon, real Prometheus with the shipped rules, real Alertmanager, and a webhook.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.demo.triton import MODELS, free_ports
from tests.conftest import TritonFactory
from tests.daemon.running import RunningDaemon
from tests.programs import need

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

RULES = Path(__file__).parents[2] / "dashboards" / "rules"
SWEEP_SECONDS = 3
PATIENCE_SECONDS = 150.0
DELAY_MODEL = """
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        with open("{path}") as file:
            time.sleep(float(file.read()) / 1000)
        tensors = [pb_utils.get_input_tensor_by_name(request, "INPUT0") for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("OUTPUT0", tensor)]) for tensor in tensors]
"""


class Webhook:
    """Takes in what Alertmanager sends."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.extend(alert | {"at_s": time.monotonic()} for alert in json.loads(body)["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def find(self, name: str, status: str) -> dict[str, Any] | None:
        """The first alert of this name and status."""
        for alert in self.received:
            if (alert["labels"]["alertname"], alert["status"]) == (name, status):
                return alert
        return None


@contextmanager
def running(folder: Path, name: str, *command: str) -> Iterator[None]:
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def alerting(folder: Path, daemon_address: str) -> Iterator[Webhook]:
    """Prometheus with the shipped rules, evaluated every second, and Alertmanager with the shipped inhibitions."""
    (prometheus_port, alertmanager_port), webhook = free_ports(2), Webhook()
    example = yaml.safe_load((RULES / "alertmanager.example.yaml").read_text())
    hook = {"url": f"http://127.0.0.1:{webhook.port}/", "send_resolved": True}
    route = {"receiver": "hook", "group_by": ["alertname"], "group_wait": "0s", "group_interval": "1s"}
    (folder / "alertmanager.yml").write_text(
        yaml.safe_dump(
            {
                "route": route,
                "receivers": [{"name": "hook", "webhook_configs": [hook]}],
                "inhibit_rules": example["inhibit_rules"],
            }
        )
    )
    (folder / "prometheus.yml").write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(RULES / "triton-canary.rules.yaml")],
                "scrape_configs": [{"job_name": "triton-canary", "static_configs": [{"targets": [daemon_address]}]}],
                "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager_port}"]}]}]},
            }
        )
    )
    try:
        with (
            running(
                folder,
                "alertmanager",
                "prometheus-alertmanager",
                f"--config.file={folder / 'alertmanager.yml'}",
                f"--storage.path={folder / 'alertmanager'}",
                f"--web.listen-address=127.0.0.1:{alertmanager_port}",
                "--cluster.listen-address=",
            ),
            running(
                folder,
                "prometheus",
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{prometheus_port}",
            ),
        ):
            yield webhook
    finally:
        webhook.close()


def configuration(url: str, token_file: Path) -> dict[str, Any]:
    """Sweeps every three seconds, and tiers of a few of them: 3 of 4 page, 1 of 4 clears."""
    tier = {"bad": 3, "of": 4, "clear": 1, "noise_factor": 0.5}
    return {
        "web": {"listen": "127.0.0.1:0", "api_token_file": str(token_file)},
        "targets": [{"name": "triton", "url": url}],
        "probes": [
            {
                "name": "slowing",
                "target": "triton",
                "model": "slowing",
                "schedule": {"every": f"{SWEEP_SECONDS}s"},
                "load": {"concurrency": 1},
                "measurement": {"window": "400ms", "stability": "100%", "stability_windows": 2, "max_windows": 4},
                "baseline": {
                    "provisional_after": "30s",
                    "pin_after": "10m",
                    "counts_interval": f"{SWEEP_SECONDS}s",
                    **dict.fromkeys(("page", "warn", "slow"), tier),
                },
            }
        ],
    }


def wait_for(condition: Callable[[], Any], daemon: RunningDaemon, what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: {daemon.get('/api/status')[1].decode()}"
        time.sleep(0.2)
    return found


def pin(daemon: RunningDaemon, token_file: Path, *more: str) -> str:
    """Runs the command as an operator would."""
    command = [sys.executable, "-m", "exporter", "baseline", "pin", "slowing", "--url", f"http://{daemon.address}"]
    done = subprocess.run(
        [*command, "--token-file", str(token_file), *more], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_regression_a_pin_silence_and_recovery(triton_factory: TritonFactory, tmp_path: Path) -> None:
    need("prometheus", "prometheus-alertmanager")
    delay, token = tmp_path / "delay_ms", tmp_path / "token"
    delay.write_text("20")
    token.write_text("open sesame")
    triton = triton_factory(models=slowing_model(tmp_path, delay))
    triton.start()
    page = "TritonCanaryRegressionPage"
    settings = configuration(triton.http_url, token)
    with RunningDaemon(tmp_path, settings) as daemon, alerting(tmp_path, daemon.address) as hook:

        def tier(name: str) -> float | None:
            return daemon.value("triton_canary_regression", tier=name)

        def sweeps() -> float:
            return sum(value for (name, _), value in daemon.metrics().items() if name == "triton_canary_sweeps_total")

        def state() -> str:
            found: str = json.loads(daemon.get("/api/status")[1])["probes"][0]["state"]
            return found

        def firing_after(delay_ms: int) -> tuple[dict[str, Any], float]:
            before = sweeps()
            hook.received.clear()
            delay.write_text(str(delay_ms))
            found = wait_for(lambda: hook.find(page, "firing"), daemon, "not firing")
            return found, sweeps() - before

        wait_for(lambda: tier("warn") == 0.0, daemon, "no baseline")
        assert tier("page") is None  # none from a provisional baseline
        assert hook.find(page, "firing") is None
        pin(daemon, token)
        wait_for(lambda: tier("page") == 0.0, daemon, "not pinned")

        firing, until_firing = firing_after(32)
        assert state() == "regressed"
        would = pin(daemon, token, "--dry-run")
        assert "would pin version 1" in would
        assert "(was 2" in would  # some 20 ms
        wait_for(lambda: tier("page") == 1.0, daemon, "the dry run changed something")
        assert "the next sweeps are compared with latency p50 3" in pin(daemon, token)
        resolved = wait_for(lambda: hook.find(page, "resolved"), daemon, "not silent after the pin")
        reported = [alert["status"] for alert in hook.received if alert["labels"]["alertname"] == page]
        begun = sweeps()
        wait_for(lambda: sweeps() > begun + 6, daemon, "no sweeps")
        assert (tier("page"), state()) == (0.0, "ok")

        again, _ = firing_after(52)
        before = sweeps()
        delay.write_text("32")
        wait_for(lambda: hook.find(page, "resolved"), daemon, "not resolved")
        until_resolved = sweeps() - before
    print(f"firing after {until_firing:.0f} sweeps, resolved after {until_resolved:.0f}: {firing['annotations']}")
    assert firing["labels"]["severity"] == "critical"
    assert firing["annotations"]["summary"] == "slowing on triton (probe slowing) is much slower than it was"
    assert firing["annotations"]["description"].startswith("latency_p50 at concurrency 1: ")
    assert "bad in 3 of the last 4 sweeps" in firing["annotations"]["description"]
    assert "The part that grew most is compute_infer" in firing["annotations"]["description"]
    assert firing["fingerprint"] == resolved["fingerprint"] == again["fingerprint"]
    assert set(reported) == {"firing", "resolved"}
    assert until_firing >= 3


def slowing_model(folder: Path, delay: Path) -> Path:
    """A repository with one model, which sleeps as long as a file states."""
    repository = folder / "models"
    (repository / "slowing" / "1").mkdir(parents=True)
    config = (MODELS / "identity" / "config.pbtxt").read_text()
    (repository / "slowing" / "config.pbtxt").write_text(
        config.replace('name: "identity"', 'name: "slowing"').replace("-1", "16")
    )
    (repository / "slowing" / "1" / "model.py").write_text(DELAY_MODEL.format(path=delay))
    return repository
