"""A daemon that measures one server from places: Dask workers that an operator labels by a resource."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from exporter.core.errors import WorkerLostError
from exporter.core.outcome import Reason
from exporter.worker.remote.member import RemoteWorker
from exporter.worker.remote.pool import lend_remote
from tests.daemon.counting_server import CountingServer
from tests.daemon.running import QUICK, RunningDaemon
from tests.waiting import PATIENCE_SECONDS, becomes_true
from tests.worker.remote.cluster import Cluster
from tests.worker.test_local import FAKE_WORKER

pytest.importorskip("distributed")


async def test_the_workers_of_a_place_and_of_no_other(tmp_path: Path) -> None:
    with Cluster(tmp_path, 2, ["zone-a", "zone-b"]) as cluster:
        names = set()
        for place in ("zone-a", "zone-b", "zone-a"):
            async with lend_remote(cluster.address, 1, place=place, module=FAKE_WORKER) as worker:
                assert isinstance(worker, RemoteWorker)
                names.add((place, worker.name))
        assert len(names) == len({name for _, name in names}) == 2
        with pytest.raises(
            WorkerLostError, match=r"no workers in 'zone-c' .*; its 2 workers have zone-a, zone-b"
        ) as no:
            async with lend_remote(cluster.address, 1, place="zone-c", module=FAKE_WORKER):
                pass
        assert no.value.reason is Reason.NO_WORKER


def test_a_probe_from_three_places_one_of_them_without_a_worker(tmp_path: Path) -> None:
    with CountingServer(0.002) as server, Cluster(tmp_path, 2, ["zone-a", "zone-b"]) as cluster:
        configuration = {
            "targets": [{"name": "t", "kind": "oip", "url": f"http://127.0.0.1:{server.port}"}],
            "defaults": QUICK,
            "probes": [
                {
                    "name": "p",
                    "target": "t",
                    "model": "m",
                    "from": ["zone-a", "zone-b", "zone-c"],
                    "load": {"concurrency": 1, "pool": cluster.address},
                }
            ],
        }
        with RunningDaemon(tmp_path, configuration) as daemon:
            for place in ("zone-a", "zone-b"):
                named = {"probe": f"p/{place}", "place": place}
                daemon.wait_for(partial(_is_measured, daemon, named))
            no_worker = {"place": "zone-c", "status": "failed", "reason": "no_worker"}
            daemon.wait_for(lambda: daemon.value("triton_canary_sweeps_total", **no_worker))
            assert daemon.value("triton_canary_up", place="zone-c") == 0
            # Due at one time: the first two are done before any is due again, or wait for each other.
            due = {daemon.value("triton_canary_interval_seconds", place=place) for place in ("zone-a", "zone-b")}
            assert due == {2.0}
            report = json.loads(daemon.get("/api/v1/probes/p%2Fzone-c")[1])["probe"]
            assert (report["place"], report["reason"]) == ("zone-c", "no_worker")
            assert "dask worker --resources 'zone-c=1'" in report["reason_text"]
        rows = (tmp_path / "data" / "archive").rglob("*.levels.csv")
        assert {row.parent.name for row in rows} >= {"p%2Fzone-a", "p%2Fzone-b"}


def test_analyze_from_a_place(tmp_path: Path) -> None:
    """The process that makes the load is beside the Dask worker of the place."""
    with CountingServer(0.002) as server, Cluster(tmp_path, 2, ["zone-a", "zone-b"]) as cluster:
        result = tmp_path / "result.json"
        command = [
            *(sys.executable, "-m", "exporter", "analyze", "-m", "m", "-u", f"127.0.0.1:{server.port}"),
            *("--service-kind", "oip", "-p", "200", "-s", "100", "-r", "4", "--json", str(result)),
            *("--workers", cluster.address, "--from"),
        ]
        with subprocess.Popen([*command, "zone-b"], stdout=subprocess.DEVNULL) as analyze:
            assert becomes_true(lambda: server.requests > 50 or analyze.poll() is not None)
            processes = [len(_children(worker.pid)) for worker in cluster.workers]
        assert analyze.returncode == 0
        assert processes == [0, 1]
        probe = json.loads(result.read_text())["probe"]
        assert (probe["name"], probe["place"]) == ("m/zone-b", "zone-b")
        done = subprocess.run([*command, "zone-c"], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        assert done.returncode == 4
        assert "has no workers in 'zone-c'" in done.stderr


def _children(pid: int) -> list[int]:
    threads = (path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(child) for child in " ".join(threads).split()]


def _is_measured(daemon: RunningDaemon, named: dict[str, str]) -> bool:
    return daemon.value("triton_canary_up", **named) == 1 and bool(
        daemon.value("triton_canary_measured_requests", **named)
    )
