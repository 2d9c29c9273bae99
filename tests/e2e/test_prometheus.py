"""A real Prometheus scrapes the real daemon that probes the real Triton, for some minutes: no gap, no duplicate, and
what is removed from the configuration is gone with the next scrape."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.demo.triton import EmbeddedTriton, free_ports
from tests.daemon.running import RunningDaemon
from tests.e2e.prometheus import SCRAPE_SECONDS, Prometheus, running_prometheus
from tests.programs import need

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

WATCHED_SECONDS = 150


def configuration(triton: EmbeddedTriton, *probes: str) -> dict[str, Any]:
    endpoints = {"http": triton.http_url, "grpc": triton.grpc_url}
    (port,) = free_ports(1)
    return {
        "targets": [{"name": name, "url": url} for name, url in endpoints.items()],
        "probes": [
            {"name": name, "target": name.partition("-")[0], "model": "delay", "load": {"concurrency": [1, 2]}}
            for name in probes
        ],
        "defaults": {
            "schedule": {"every": "10s"},
            "measurement": {"window": "300ms", "stability": "50%", "max_windows": 4},
        },
        "web": {"listen": f"127.0.0.1:{port}"},
    }


def test_no_gap_no_duplicate_and_nothing_stale(triton: EmbeddedTriton, tmp_path: Path) -> None:
    need("prometheus")
    settings = configuration(triton, "http-delay", "grpc-delay")
    with RunningDaemon(tmp_path, settings) as daemon, running_prometheus(tmp_path, daemon.address) as prometheus:
        for probe in ("http-delay", "grpc-delay"):
            daemon.wait_for_state(probe, "", "unstable")
        time.sleep(3 * SCRAPE_SECONDS)
        time.sleep(WATCHED_SECONDS)
        _assert_no_gap(prometheus)
        _assert_it_agrees(prometheus, daemon)

        fewer = {**settings, "probes": settings["probes"][:1]}
        daemon.stop()
        daemon.config_path.write_text(yaml.safe_dump(yaml.safe_load(daemon.config_path.read_text()) | fewer))
        daemon.start()
        time.sleep(2.5 * SCRAPE_SECONDS)
        left = {sample["metric"].get("probe") for sample in prometheus.query('{job="triton-canary"}')} - {None}
        assert left == {"http-delay"}


def _assert_no_gap(prometheus: Prometheus) -> None:
    watched = f"[{WATCHED_SECONDS}s]"
    scrapes = prometheus.value(f'count_over_time(up{{job="triton-canary"}}{watched})')
    assert scrapes >= WATCHED_SECONDS / SCRAPE_SECONDS - 2
    assert prometheus.value(f'min_over_time(up{{job="triton-canary"}}{watched})') == 1.0
    # Once there, a series of the results is in every scrape, through all the sweeps in between.
    series = prometheus.query(f"count_over_time(triton_canary_latency_seconds{watched})")
    assert len(series) == 2 * 2 * 5  # probes, levels, percentiles
    assert min(float(sample["value"][1]) for sample in series) >= scrapes - 1
    assert prometheus.value(f"max(changes(triton_canary_last_run_timestamp_seconds{watched}))") >= 5
    # Prometheus's own account of what it found wrong with a page.
    for problem in ("duplicate_timestamp", "out_of_order", "out_of_bounds"):
        assert prometheus.value(f"prometheus_target_scrapes_sample_{problem}_total") == 0.0
    assert prometheus.value("prometheus_target_scrapes_exceeded_sample_limit_total") == 0.0
    assert prometheus.value(f'max_over_time(scrape_duration_seconds{{job="triton-canary"}}{watched})') < SCRAPE_SECONDS
    # Counters only go up.
    assert prometheus.query(f"resets(triton_canary_requests_total{watched}) > 0") == []


def _assert_it_agrees(prometheus: Prometheus, daemon: RunningDaemon) -> None:
    """What Prometheus stored is what the page reports, for a counter that is stuck between two sweeps."""
    name, labels = "triton_canary_sweeps_total", {"probe": "http-delay", "status": "ok"}

    def same() -> bool:
        reported = daemon.value(name, **labels)
        time.sleep(1.5 * SCRAPE_SECONDS)
        stored = prometheus.value(f'{name}{{probe="http-delay",status="ok"}}')
        return reported == stored and daemon.value(name, **labels) == reported

    daemon.wait_for(same)


def test_promtool_finds_nothing(triton: EmbeddedTriton, tmp_path: Path) -> None:
    need("promtool")
    with RunningDaemon(tmp_path, configuration(triton, "http-delay", "grpc-delay")) as daemon:
        for probe in ("http-delay", "grpc-delay"):
            daemon.wait_for_state(probe, "", "unstable")
        page = daemon.get("/metrics")[1]
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
