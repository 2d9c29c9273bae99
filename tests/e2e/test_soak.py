"""Ten minutes with a real Prometheus: no scrape fails through sweeps and a change of the configuration, and what it
adds up from the counters is what the archive holds. `make soak`, outside CI."""

from __future__ import annotations

import csv
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.demo.triton import EmbeddedTriton
from tests.daemon.running import RunningDaemon
from tests.e2e.prometheus import SCRAPE_SECONDS, Prometheus, running_prometheus
from tests.e2e.test_prometheus import configuration

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]

INTERVAL_SECONDS = 120
SWEEPS = 3
WATCHED_SECONDS = 600
SETTLE_SECONDS = 20
"""After the last sweep of the first configuration, before it is added up."""


def settings(triton: EmbeddedTriton, *probes: str) -> dict[str, Any]:
    values = configuration(triton, *probes)
    values["defaults"]["schedule"] = {"every": f"{INTERVAL_SECONDS}s"}
    values["defaults"]["measurement"]["window"] = "2s"
    for target in values["targets"]:
        target["metrics_url"] = triton.metrics_url
    return values


def archived_requests(folder: Path) -> Counter[tuple[str, str]]:
    """Ok requests of all measured windows, by probe and level."""
    counts: Counter[tuple[str, str]] = Counter()
    for path in folder.rglob("*.windows.csv"):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                counts[row["probe"], row["level"]] += int(row["outcome_ok"])
    return counts


def test_ten_minutes_of_scrapes(triton: EmbeddedTriton, tmp_path: Path) -> None:
    # A soak is run on purpose: without it a green run would claim what was never tested.
    assert shutil.which("prometheus") is not None, "make soak needs prometheus on the PATH"
    probes = ("http-delay", "grpc-delay")
    began = time.monotonic()
    with (
        RunningDaemon(tmp_path, settings(triton, *probes)) as daemon,
        running_prometheus(tmp_path, daemon.address) as prometheus,
    ):
        while time.monotonic() - began < SWEEPS * INTERVAL_SECONDS + SETTLE_SECONDS:
            time.sleep(SCRAPE_SECONDS)
        while any(daemon.status(probe)["state"] == "running" for probe in probes):
            time.sleep(SCRAPE_SECONDS)
        time.sleep(SETTLE_SECONDS)
        seconds = round(time.monotonic() - began)
        check_scrapes(prometheus, seconds)
        check_counts(prometheus, seconds, archived_requests(tmp_path / "data"))

        changed = yaml.safe_load(daemon.config_path.read_text())
        changed["probes"] = changed["probes"][:1]
        daemon.config_path.write_text(yaml.safe_dump(changed))
        event = daemon.wait_for_log("probes changed")
        assert (event["removed"], event["unchanged"]) == ("1", "1")
        while time.monotonic() - began < WATCHED_SECONDS:
            time.sleep(SCRAPE_SECONDS)
        check_scrapes(prometheus, round(time.monotonic() - began))
        left = {sample["metric"].get("probe") for sample in prometheus.query('{job="triton-canary"}')} - {None}
        assert left == {"http-delay"}


def check_scrapes(prometheus: Prometheus, seconds: int) -> None:
    """None failed in that time, but for those before both were up."""
    up = f'up{{job="triton-canary"}}[{seconds - 5}s]'
    assert prometheus.value(f"min_over_time({up})") == 1.0
    assert prometheus.value(f"count_over_time({up})") >= (seconds - 5) / SCRAPE_SECONDS * 0.98
    for problem in ("duplicate_timestamp", "out_of_order", "out_of_bounds"):
        assert prometheus.value(f"prometheus_target_scrapes_sample_{problem}_total") == 0.0
    assert prometheus.query('triton_canary_server_metrics_up{job="triton-canary"} != 1') == []


def check_counts(prometheus: Prometheus, seconds: int, archived: Counter[tuple[str, str]]) -> None:
    """`rate` over all the time is what the archive holds; it extrapolates by up to a scrape at both ends, and the first
    sweep may have begun before the first scrape: so it is over the time that was scraped."""
    assert len(archived) == 4  # probes, levels
    name = "triton_canary_request_duration_seconds_count"
    for (probe, level), requests in archived.items():
        series = f'{name}{{probe="{probe}",level="{level}"}}'
        first = prometheus.value(f"min_over_time({series}[{seconds}s])")
        added = prometheus.value(f"rate({series}[{seconds}s])") * seconds
        assert first + added == pytest.approx(requests, rel=0.02)
        assert prometheus.value(series) == requests
