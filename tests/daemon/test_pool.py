"""A daemon whose probe takes its workers from a Dask scheduler, and what happens to its sweeps when a part is lost."""

from __future__ import annotations

import csv
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.daemon.running import QUICK, RunningDaemon
from tests.standby.named_server import NamedServer
from tests.waiting import patient
from tests.worker.remote.cluster import Cluster

pytestmark = pytest.mark.e2e

SILENT_SECONDS = 3.0
"""The lease of 2 s, and a request on its way."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    folder = tmp_path / "dask"
    folder.mkdir()
    with Cluster(folder, 3) as cluster:
        yield cluster


@pytest.fixture
def server() -> Iterator[NamedServer]:
    with NamedServer() as server:
        yield server


def configuration(cluster: Cluster, server: NamedServer, **measurement: Any) -> dict[str, Any]:
    quick: dict[str, Any] = dict(QUICK)
    quick["measurement"] = quick["measurement"] | measurement
    return {
        "targets": [{"name": "t", "url": f"http://127.0.0.1:{server.port}", "kind": "oip"}],
        "defaults": quick,
        "limits": {"group_duty": "100%"},
        "archive": {"enabled": True},
        "probes": [
            {
                "name": "p",
                "target": "t",
                "model": "m",
                "load": {"request_rate": 60, "workers": 3, "pool": cluster.address},
            }
        ],
    }


LONG = {"window": "1s", "stability": "0.1%", "max_windows": 60}
"""A sweep that lasts until something ends it."""


def sweeping(daemon: RunningDaemon, server: NamedServer) -> None:
    """Waits until load runs."""
    before = len(server.arrivals)
    daemon.wait_for(lambda: len(server.arrivals) > before + 60)


def quiet_since(server: NamedServer, since_s: float) -> None:
    """No request came later than the lease allows."""
    time.sleep(SILENT_SECONDS + 2)
    late = [at_s - since_s for at_s, _ in server.arrivals if at_s > since_s + patient(SILENT_SECONDS)]
    assert not late


def test_sweeps_metrics_page_archive_reload_and_restart(cluster: Cluster, server: NamedServer, tmp_path: Path) -> None:
    values = configuration(cluster, server)
    with RunningDaemon(tmp_path, values) as daemon:
        daemon.wait_for_state("p", "", "unstable")
        labels = {"probe": "p", "level": "60"}
        assert daemon.value("triton_canary_up", probe="p") == 1
        assert daemon.value("triton_canary_offered_requests_per_second", **labels) == pytest.approx(60, rel=0.1)
        assert daemon.value("triton_canary_latency_seconds", percentile="50", **labels) > 0.002  # type: ignore[operator]
        assert b"60" in daemon.get("/probes/p")[1]
        values["probes"][0]["load"]["request_rate"] = 90
        daemon.config_path.write_text(yaml.safe_dump(yaml.safe_load(daemon.config_path.read_text()) | values))
        daemon.wait_for(lambda: daemon.value("triton_canary_offered_requests_per_second", probe="p", level="90"))
        assert daemon.stop() == 0
        tables = (path.read_text().splitlines() for path in (tmp_path / "data").rglob("*.levels.csv"))
        rows = [row for table in tables for row in csv.DictReader(table)]
        # What was aborted by the reload or at the end has no level.
        assert {row["level"] for row in rows if row["status"] in ("ok", "unstable")} == {"60", "90"}
        daemon.start()
        daemon.wait_for_state("p", "", "unstable")


def test_a_dask_worker_lost_in_mid_sweep_fails_it_and_the_next_takes_the_others(
    cluster: Cluster, server: NamedServer, tmp_path: Path
) -> None:
    with RunningDaemon(tmp_path, configuration(cluster, server, **LONG)) as daemon:
        sweeping(daemon, server)
        cluster.workers[1].kill()
        assert "worker tcp://" in daemon.wait_for_log("sweep ended", reason="worker_crash")["detail"]
        sweeping(daemon, server)
        scheduler = cluster.scheduler
        assert scheduler is not None
        killed_s = time.monotonic()
        scheduler.kill()
        scheduler.wait()
        quiet_since(server, killed_s)
        daemon.wait_for(lambda: cluster.address in daemon.status("p")["reason_text"])
        assert daemon.value("triton_canary_up", probe="p") == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP])
def test_a_daemon_that_ends_in_mid_sweep_leaves_no_load(
    number: signal.Signals, cluster: Cluster, server: NamedServer, tmp_path: Path
) -> None:
    with RunningDaemon(tmp_path, configuration(cluster, server, **LONG)) as daemon:
        sweeping(daemon, server)
        at_s = time.monotonic()
        if number is signal.SIGSTOP:
            os.kill(daemon.pid, number)
            quiet_since(server, at_s)
            os.kill(daemon.pid, signal.SIGCONT)
            stalled = daemon.wait_for_log("sweep ended", reason="daemon_stalled")
            assert "the daemon's lease ran out: it did not run, or was cut off" in stalled["detail"]
        else:
            status = daemon.stop(number)
            assert status == (0 if number is signal.SIGTERM else -signal.SIGKILL)
            quiet_since(server, at_s if number is signal.SIGKILL else time.monotonic() - SILENT_SECONDS)
            daemon.start()
        sweeping(daemon, server)
