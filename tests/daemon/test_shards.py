"""Two daemons with one file, each with its shard of the groups."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exporter import cli
from exporter.demo.triton import free_ports
from exporter.schedule.sharding import Shard
from tests.daemon.running import RunningDaemon


def measured(daemon: RunningDaemon) -> dict[str, str]:
    """The target of each probe."""
    probes = json.loads(daemon.get("/api/status")[1])["probes"]
    return {probe["name"]: probe["target"] for probe in probes}


def test_each_server_is_measured_by_one_daemon_through_all_its_endpoints(tmp_path: Path) -> None:
    (closed,) = free_ports(1)
    groups = [f"127.0.0.{number}" for number in range(1, 9)]
    endpoints = {f"{scheme}-{group}": f"{scheme}://{group}:{closed}" for group in groups for scheme in ("http", "grpc")}
    configuration = {
        "targets": [{"name": name, "url": url} for name, url in endpoints.items()],
        "probes": [
            {
                "name": f"on-{name}",
                "target": name,
                "model": "m",
                "schedule": {"every": "1h"},
                "load": {"concurrency": 1},
            }
            for name in endpoints
        ],
    }
    folders = [tmp_path / str(index) for index in range(2)]
    for folder in folders:
        folder.mkdir()
    with (
        RunningDaemon(folders[0], configuration, "--shard", "0/2") as first,
        RunningDaemon(folders[1], configuration, "--shard=1/2") as second,
    ):
        parts = [measured(first), measured(second)]
        assert [daemon.wait_for_log("ready")["shard"] for daemon in (first, second)] == ["0/2", "1/2"]
    for index, part in enumerate(parts):
        expected = {
            f"on-{endpoint}": endpoint for endpoint in endpoints if Shard(index, 2).has(endpoint.partition("-")[2])
        }
        assert part == expected
        assert part
    assert len(parts[0]) + len(parts[1]) == len(endpoints)


def test_what_is_no_shard_is_a_bad_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["serve", "--config", str(tmp_path / "none.yaml"), "--shard", "2/2"]) == 3
    assert capsys.readouterr().err == "--shard: '2/2': of 2 shards the last one is 1/2\n"
