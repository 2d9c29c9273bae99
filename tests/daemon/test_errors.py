"""What happens when something goes wrong: each error is a clear reason in metrics, page and log, and when it is over
the next sweep works again by itself. The table of docs/operations.md is what these tests see."""

from __future__ import annotations

import contextlib
import html
import http.client
import json
import os
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from exporter.baseline.file_format import decode
from exporter.demo.triton import EmbeddedTriton
from tests.conftest import TritonFactory
from tests.daemon.running import RunningDaemon
from tests.waiting import PATIENCE_SECONDS

COLLECTOR_ERRORS = "triton_canary_exporter_collector_errors_total"
FINE = ("", "unstable")
"""A sweep that gave usable data: on a busy machine figures may well differ from window to window."""


def configuration(triton: EmbeddedTriton | None = None, url: str = "", **probe: Any) -> dict[str, Any]:
    """One probe of the add/sub model over HTTP."""
    values = {"name": "probe", "target": "triton", "model": "addsub", "load": {"concurrency": 2}}
    endpoint = triton.http_url if triton else url
    return {"targets": [{"name": "triton", "url": endpoint, "connect_timeout": "1s"}], "probes": [values | probe]}


def assert_reported(daemon: RunningDaemon, status: str, reason: str, text: str) -> None:
    """The last sweep's reason is the same everywhere."""
    reported = daemon.wait_for_state("probe", reason)
    assert reported["state"] == status
    assert text in reported["reason_text"]
    assert daemon.value("triton_canary_up", probe="probe") == 0.0
    counted = daemon.value("triton_canary_sweeps_total", probe="probe", status=status, reason=reason)
    assert counted is not None
    assert counted >= 1
    assert text in daemon.wait_for_log("sweep ended", reason=reason)["detail"]
    page = daemon.get("/")[1].decode()
    assert reason in page or reason.replace("_", " ") in page


def assert_well(daemon: RunningDaemon) -> None:
    """The last sweep gave usable data."""
    daemon.wait_for_state("probe", *FINE)
    assert daemon.value("triton_canary_up", probe="probe") == 1.0
    assert daemon.value("triton_canary_throughput_inferences_per_second", probe="probe", level="2")


@pytest.fixture
def own_triton(triton_factory: TritonFactory) -> EmbeddedTriton:
    server = triton_factory(model_control=True)
    server.start()
    return server


def test_server_down_at_start_then_up_then_killed_in_mid_sweep_then_up(
    own_triton: EmbeddedTriton, tmp_path: Path
) -> None:
    own_triton.stop()
    slow = {"window": "1s", "stability": "1%", "max_windows": 8, "request_timeout": "1s"}
    with RunningDaemon(tmp_path, configuration(own_triton, measurement=slow)) as daemon:
        assert_reported(daemon, "failed", "unreachable", "refused")
        own_triton.start()
        assert_well(daemon)
        daemon.wait_for(lambda: daemon.status("probe")["running"])
        sent = daemon.value("triton_canary_requests_total", probe="probe", outcome="ok") or 0.0
        # Two windows are over: the sweep is in its midst.
        daemon.wait_for(
            lambda: (daemon.value("triton_canary_requests_total", probe="probe", outcome="ok") or 0.0) > sent
        )
        own_triton.kill()
        assert_reported(daemon, "aborted", "error_ratio", "requests failed")
        refused = daemon.value("triton_canary_requests_total", probe="probe", outcome="connect_error")
        assert refused is not None
        assert 0 < refused <= 60, "a dead server is not hammered"
        own_triton.start()
        assert_well(daemon)


def test_model_unloaded_and_loaded_again(own_triton: EmbeddedTriton, tmp_path: Path) -> None:
    def repository(action: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", own_triton.http_port, timeout=PATIENCE_SECONDS)
        connection.request("POST", f"/v2/repository/models/addsub/{action}")
        assert connection.getresponse().status == 200
        connection.close()

    with RunningDaemon(tmp_path, configuration(own_triton)) as daemon:
        assert_well(daemon)
        repository("unload")
        reported = daemon.wait_for_state("probe", "model_not_ready", "error_ratio")
        assert_reported(daemon, "failed", "model_not_ready", "addsub")
        assert "addsub" in reported["reason_text"] or reported["reason"] == "error_ratio"
        repository("load")
        assert_well(daemon)


def test_model_unknown(triton: EmbeddedTriton, tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, configuration(triton, model="nosuch")) as daemon:
        assert_reported(daemon, "failed", "model_unknown", "nosuch")


def test_wrong_shape(triton: EmbeddedTriton, tmp_path: Path) -> None:
    wrong = {"shapes": {"INPUT0": [2, 2, 2, 2]}}
    with RunningDaemon(tmp_path, configuration(triton, model="identity", input=wrong)) as daemon:
        assert_reported(daemon, "failed", "bad_input", "INPUT0")


def test_a_server_that_accepts_and_never_responds(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with RunningDaemon(tmp_path, configuration(url=url)) as daemon:
            assert_reported(daemon, "failed", "preflight_timeout", "sent no response")


def test_a_worker_killed_in_mid_sweep(triton: EmbeddedTriton, tmp_path: Path) -> None:
    slow = {"window": "1s", "stability": "1%", "max_windows": 8}
    with RunningDaemon(tmp_path, configuration(triton, measurement=slow)) as daemon:
        daemon.wait_for(lambda: daemon.value("triton_canary_requests_total", probe="probe", outcome="ok"))
        (worker,) = _children(daemon.pid)
        os.kill(worker, 9)
        assert_reported(daemon, "aborted", "worker_crash", "SIGKILL")
        assert_well(daemon)
        assert daemon.value("triton_canary_exporter_worker_restarts_total", reason="crash") == 1.0


def test_two_daemons_on_one_archive(triton: EmbeddedTriton, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    shared = {"archive": {"directory": str(tmp_path / "archive")}}
    with (
        RunningDaemon(tmp_path / "one", configuration(triton) | shared) as first,
        RunningDaemon(tmp_path / "two", configuration(triton) | shared) as second,
    ):
        holder = _holder(first, second)
        other = second if holder is first else first
        other.wait_for(lambda: other.value("triton_canary_exporter_archive_write_errors_total"))
        assert other.value("triton_canary_up", probe="probe") == 1.0
        assert str(holder.pid) in other.wait_for_log("archive not written")["error"]
        assert str(holder.pid) in other.get("/")[1].decode()
        holder.stop()
        # The archive is free: the other one writes by itself.
        other.wait_for(lambda: other.value("triton_canary_exporter_archive_rows_total"))


def test_two_daemons_on_one_data_directory(triton: EmbeddedTriton, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    data = tmp_path / "data"
    shared = {"data_directory": str(data), "archive": {"directory": str(tmp_path / "archive")}}
    with (
        RunningDaemon(tmp_path / "one", configuration(triton) | shared) as first,
        RunningDaemon(tmp_path / "two", configuration(triton) | shared) as second,
    ):
        assert str(first.pid) in second.wait_for_log("data directory cannot be written")["error"]
        notice = f"State, pauses and baselines are not saved: another process writes this data directory: {first.pid} "
        assert notice in second.get("/")[1].decode()
        assert notice not in first.get("/")[1].decode()
        for daemon in (first, second):
            assert_well(daemon)
        for collector in ("state_file", "baselines"):
            second.wait_for(partial(second.value, COLLECTOR_ERRORS, collector=collector))
            assert first.value(COLLECTOR_ERRORS, collector=collector) == 0.0
        # What the alert TritonCanaryProbeInTwoExporters counts: one series in both, but for the instance.
        ours, theirs = (
            {key for key in daemon.metrics() if key[0] == "triton_canary_interval_seconds"}
            for daemon in (first, second)
        )
        assert ours == theirs != set()
        first.stop()
        # The folder is free: the other one keeps its state by itself.
        second.wait_for(lambda: "not saved" not in second.get("/")[1].decode())
        assert (data / ".daemon.lock").read_text().startswith(f"{second.pid} ")
    assert json.loads((data / "state.json").read_text())["probes"][0]["probe"] == "probe"
    decode((data / "baselines" / "probe.baseline").read_text(), "probe")
    assert sorted(path.name for path in data.iterdir()) == [
        ".daemon.lock",
        "accounts",
        "baselines",
        "gates.json",
        "history",
        "ledger.jsonl",
        "state.json",
    ]


def _holder(first: RunningDaemon, second: RunningDaemon) -> RunningDaemon:
    def found() -> RunningDaemon | None:
        for daemon in (first, second):
            if daemon.value("triton_canary_exporter_archive_rows_total"):
                return daemon
        return None

    holder: RunningDaemon = first.wait_for(found)
    return holder


def test_archive_on_a_full_disk(triton: EmbeddedTriton, small_disk: Path, tmp_path: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 252 * 1024)
    archive = {"archive": {"directory": str(small_disk / "archive")}}
    with RunningDaemon(tmp_path, configuration(triton) | archive) as daemon:
        daemon.wait_for(lambda: daemon.value("triton_canary_exporter_archive_write_errors_total"))
        assert_well(daemon)
        assert "No space left on device" in daemon.wait_for_log("archive not written")["error"]
        assert "No space left on device" in daemon.get("/")[1].decode()
        ballast.unlink()
        daemon.wait_for(lambda: daemon.value("triton_canary_exporter_archive_rows_total"))
        daemon.wait_for_log("archive can be written again")
        rows = [path.read_text() for path in (small_disk / "archive").rglob("*.levels.csv")]
        assert rows
        assert all(text.endswith("\n") for text in rows)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_state_and_baselines_on_a_full_disk(triton: EmbeddedTriton, small_disk: Path, tmp_path: Path) -> None:
    """What a restart would not find again is reported while it is so, on the page and in the API."""
    ballast = small_disk / "ballast"
    data = {"data_directory": str(small_disk / "data"), "archive": {"directory": str(tmp_path / "archive")}}
    document = configuration(triton) | data

    def data_error() -> str:
        return str(json.loads(daemon.get("/api/status")[1])["data_error"])

    with RunningDaemon(tmp_path, document) as daemon:
        assert_well(daemon)
        assert data_error() == ""
        ballast.write_bytes(bytes(1 << 10))
        with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(1 << 12))
        error = daemon.wait_for(data_error)
        assert "cannot be written: No space left on device" in error
        page = html.unescape(daemon.get("/")[1].decode())
        assert f"State, pauses and baselines are not saved: {error}" in page
        ballast.unlink()
        daemon.wait_for(lambda: data_error() == "")
