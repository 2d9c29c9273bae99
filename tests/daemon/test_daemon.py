"""The daemon as a whole, against the real Triton: what it reports agrees in all places, and it ends in order."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.cli import run
from exporter.demo.triton import EmbeddedTriton
from tests.daemon.running import RunningDaemon
from tests.waiting import PATIENCE_SECONDS


def configuration(triton: EmbeddedTriton) -> dict[str, Any]:
    return {
        "targets": [
            {"name": "http", "url": triton.http_url, "metrics_url": triton.metrics_url},
            {"name": "grpc", "url": triton.grpc_url},
        ],
        "probes": [
            {
                "name": "delay-http",
                "target": "http",
                "model": "delay",
                "load": {"concurrency": [1, 2]},
                "schedule": {"every": "1h"},
                "unit": {"name": "seconds_of_audio", "per_inference": 0.3},
            },
            {
                "name": "delay-grpc",
                "target": "grpc",
                "model": "delay",
                "load": {"concurrency": "1:2"},
                "schedule": {"every": "1h"},
            },
        ],
    }


def test_the_figures_of_analyze_are_the_daemons(
    triton: EmbeddedTriton, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One probe on two ways: measured by a command line, and printed by it for the daemon. Counts and labels are the
    same; times are the model's 10 ms and what the machine adds to each run."""
    line = f"-m delay -u {triton.http_url} --concurrency-range 1:2 --request-count 60 --warmup-request-count 4"
    words = ["analyze", *line.split(), "--percentile=97.5"]
    assert run([*words, "--print-probe"]) == 0
    printed = capsys.readouterr().out
    command = [sys.executable, "-m", "exporter", *words, "--json", str(tmp_path / "own.json")]
    subprocess.run(command, check=True, capture_output=True)
    own = {each["level"]["label"]: each for each in json.loads((tmp_path / "own.json").read_text())["measurements"]}
    with RunningDaemon(tmp_path, yaml.safe_load(printed)) as daemon:
        status = daemon.wait_for_state("delay", "")
        daemon.wait_for(lambda: list((tmp_path / "data").rglob("*.levels.csv")))
        rows = {row["level"]: row for row in read_rows(tmp_path, "server", "delay")}
    levels = {each["level"]: each for each in status["levels"]}
    assert list(own) == list(levels) == list(rows) == ["1", "2"]
    for label, ours in own.items():
        theirs, row = levels[label], rows[label]
        assert (ours["outcomes"], int(row["outcome_ok"])) == ({"ok": 60}, 60)
        assert ours["warm_up_requests"] == int(row["warm_up_requests"]) == 5
        percentiles = {f"{each['percentile']:g}": each["value_seconds"] for each in ours["latency"]["percentiles"]}
        assert set(theirs["percentiles"]) == set(percentiles)
        assert "97.5" in percentiles
        for p50_seconds, throughput in (
            (theirs["percentiles"]["50"], theirs["throughput"]),
            (percentiles["50"], ours["inferences_per_second"]),
        ):
            assert 0.010 <= p50_seconds < 1
            # One instance, and two requests may meet in one batch; the window's edges are responses.
            assert 1 < throughput < 100 * float(label) * 60 / 59 + 1


def read_rows(folder: Path, target: str, probe: str) -> list[dict[str, str]]:
    (path,) = (folder / "data" / "archive" / target / probe).glob("*.levels.csv")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_metrics_page_and_archive_agree(triton: EmbeddedTriton, tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, configuration(triton)) as daemon:
        for name, target in (("delay-http", "http"), ("delay-grpc", "grpc")):
            status = daemon.wait_for_state(name, "", "unstable")
            daemon.wait_for(lambda: len(list((tmp_path / "data").rglob("*.levels.csv"))) == 2)
            rows = {row["level"]: row for row in read_rows(tmp_path, target, name)}
            assert list(rows) == ["1", "2"]
            for level in status["levels"]:
                labels = {"target": target, "probe": name, "model": "delay", "level": level["level"]}
                row = rows[level["level"]]
                p50 = daemon.value("triton_canary_latency_seconds", percentile="50", **labels)
                throughput = daemon.value("triton_canary_throughput_inferences_per_second", **labels)
                assert p50 == level["percentiles"]["50"]
                assert p50 is not None
                assert throughput == level["throughput"]
                assert int(row["p50 latency"]) == int(p50 * 1e6)
                assert float(row["Inferences/Second"]) == pytest.approx(throughput, rel=1e-5)
                # The model takes 10 ms, whatever the machine adds to it.
                assert p50 >= 0.010
                infer = daemon.value("triton_canary_latency_breakdown_seconds", component="compute_infer", **labels)
                assert infer is not None
                assert infer >= 0.0099
        queued = daemon.value(
            "triton_canary_latency_breakdown_seconds", probe="delay-http", level="2", component="queue"
        )
        assert queued is not None
        assert 0.001 < queued < 1  # two at once on one instance: one of them waits, for 10 ms on a machine at ease
        units = daemon.value("triton_canary_throughput_units_per_second", probe="delay-http", level="1")
        inferences = daemon.value("triton_canary_throughput_inferences_per_second", probe="delay-http", level="1")
        assert inferences is not None
        assert units == pytest.approx(inferences * 0.3)


def test_health_and_readiness(triton: EmbeddedTriton, tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, configuration(triton)) as daemon:
        assert daemon.get("/-/healthy")[0] == 200
        assert daemon.get("/-/ready")[0] == 200
        assert daemon.get("/nosuch")[0] == 404


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(triton: EmbeddedTriton, tmp_path: Path, number: int) -> None:
    slow = configuration(triton)
    slow["probes"][0]["measurement"] = {"window": "5s"}
    slow["probes"][1]["measurement"] = {"window": "5s"}
    daemon = RunningDaemon(tmp_path, slow)
    daemon.start()
    running = daemon.wait_for(lambda: next((p for p in slow["probes"] if daemon.status(p["name"])["running"]), None))
    pid = daemon.pid
    assert daemon.stop(number) == 0
    event = daemon.wait_for_log("sweep ended")
    assert (event["probe"], event["status"], event["reason"]) == (running["name"], "aborted", "shutdown")
    (row,) = read_rows(tmp_path, running["target"], running["name"])
    assert row["reason"] == "shutdown"
    assert daemon.log_events()[-1]["msg"] == "stopped"
    assert not Path(f"/proc/{pid}").exists()


def test_times_are_kept_over_a_restart_and_a_removed_probe_vanishes(triton: EmbeddedTriton, tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, configuration(triton)) as daemon:
        daemon.wait_for_state("delay-http", "", "unstable")
        before = daemon.value("triton_canary_last_success_timestamp_seconds", probe="delay-http")
        day = _history(daemon)
        assert day["started_unix_s"]
    fewer = configuration(triton)
    del fewer["probes"][1]
    with RunningDaemon(tmp_path, fewer) as daemon:
        after = daemon.value("triton_canary_last_success_timestamp_seconds", probe="delay-http")
        assert after == pytest.approx(before)
        kept = _history(daemon)
        assert kept["started_unix_s"][0] == pytest.approx(day["started_unix_s"][0], abs=0.001)
        level = next(iter(day["levels"]))
        assert kept["levels"][level]["p99"][0] == pytest.approx(day["levels"][level]["p99"][0], rel=1e-5)
        names = {dict(labels).get("probe") for _, labels in daemon.metrics()} - {None}
        assert names == {"delay-http"}


def _history(daemon: RunningDaemon) -> Any:
    return json.loads(daemon.get("/api/v1/probes/delay-http/history")[1])


def test_a_broken_configuration_states_all_and_ends_with_1(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("targets: [{name: a, url: 'ftp://x'}]\nprobes: [{name: p, target: b, model: m, lod: 1}]\n")
    command = [sys.executable, "-m", "exporter", "serve", "--config", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert ended.returncode == 1
    assert "ftp" in ended.stderr
    assert "lod" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_taken_address_is_reported(triton: EmbeddedTriton, tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, configuration(triton)) as daemon:
        (tmp_path / "second").mkdir()
        second = RunningDaemon(tmp_path / "second", configuration(triton) | {"web": {"listen": daemon.address}})
        command = [sys.executable, "-m", "exporter", "serve", "--config", str(second.config_path)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert ended.returncode == 1
    assert "already in use" in ended.stderr
    assert "Traceback" not in ended.stderr
