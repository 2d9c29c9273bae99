"""A real Prometheus, as a child of the tests."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from exporter.demo.triton import free_ports
from tests.waiting import PATIENCE_SECONDS

SCRAPE_SECONDS = 1


class Prometheus:
    """A Prometheus server's query API."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The instant vector of an expression."""
        status, body = self.get(f"/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
        assert status == 200, body
        result: list[dict[str, Any]] = json.loads(body)["data"]["result"]
        return result

    def query_range(self, expression: str, begin: float, end: float, step_seconds: float) -> list[dict[str, Any]]:
        """The matrix of an expression over a time."""
        asked = {"query": expression, "start": begin, "end": end, "step": step_seconds}
        status, body = self.get(f"/api/v1/query_range?{urllib.parse.urlencode(asked)}")
        assert status == 200, body
        result: list[dict[str, Any]] = json.loads(body)["data"]["result"]
        return result

    def label_values(self, selector: str, label: str) -> list[str]:
        """The values of a label that a selector's series have now."""
        return sorted({series["metric"][label] for series in self.query(selector) if label in series["metric"]})

    def value(self, expression: str) -> float:
        """The one value of an expression."""
        (sample,) = self.query(expression)
        return float(sample["value"][1])


@contextmanager
def running_prometheus(
    folder: Path, daemon_address: str, *, more_jobs: Sequence[dict[str, Any]] = (), rules: Sequence[Path] = ()
) -> Iterator[Prometheus]:
    """It scrapes the daemon, itself and what `more_jobs` state, and evaluates these files of rules."""
    (port,) = free_ports(1)
    interval = f"{SCRAPE_SECONDS}s"
    jobs = [
        {"job_name": "triton-canary", "static_configs": [{"targets": [daemon_address]}]},
        {"job_name": "prometheus", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]},
        *more_jobs,
    ]
    configuration = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "scrape_configs": jobs,
        "rule_files": [str(rule) for rule in rules],
    }
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(configuration))
    command = [
        "prometheus",
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log)
    try:
        prometheus = Prometheus(port)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not _is_ready(prometheus):
            assert time.monotonic() < deadline, (folder / "prometheus.log").read_text()
            time.sleep(0.1)
        yield prometheus
    finally:
        process.terminate()
        process.wait()


def _is_ready(prometheus: Prometheus) -> bool:
    try:
        return prometheus.get("/-/ready")[0] == 200
    except OSError:
        return False
