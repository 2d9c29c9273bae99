"""Servers of all kinds in one daemon, swept side by side; one of them is killed and started again, and the figures of
the others are what they were. `make soak`, outside CI; SOAK_SECONDS=90 makes a trial of it."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from exporter.demo.triton import MODELS, EmbeddedTriton
from tests.daemon.running import RunningDaemon
from tests.servers.mlserver import MlServer
from tests.servers.pythie_serving import PythieServing
from tests.servers.torchserve import TorchServe

SECONDS = int(os.environ.get("SOAK_SECONDS", "600"))
EVERY_SECONDS = 10
RATE = 20
WINDOWS = 3
POLL_SECONDS = 2.0
BAND = 4.0
"""How far the median latency may be from that of the time before: on a busy machine, with a server that starts."""

COUNT_TOLERANCE = 0.25
"""Of a sweep's 60 requests: those under way at the windows' edges, where a busy machine also reads a server's own count
late. What got a response wrong, refused or lost has no tolerance."""

KILLED = "mlserver"
COUNTED = ("triton", "in-process", "torchserve")
"""Probes whose servers count requests by themselves."""
VALIDATED = ("triton", "in-process", "torchserve")
"""Probes whose responses are compared with what is expected of them."""
OTHERS = ("triton", "in-process", "tfserving", "torchserve")

UP = "triton_canary_up"
RESTARTS = "triton_canary_exporter_worker_restarts_total"
CRASHES = ("crash", "deadline")

pytestmark = [pytest.mark.soak, pytest.mark.timeout(SECONDS + 600)]


@dataclass(frozen=True)
class Servers:
    """All of them, running; the one that is killed has a stack of its own."""

    triton: EmbeddedTriton
    tfserving: PythieServing
    torchserve: TorchServe
    mlserver: MlServer
    mlserver_runs: ExitStack

    def kill(self) -> None:
        """Ends MLServer as a crash would."""
        self.mlserver_runs.close()

    def start_again(self) -> None:
        """Returns when its endpoints are open."""
        self.mlserver_runs.enter_context(self.mlserver.running())


@pytest.fixture
def servers(
    triton: EmbeddedTriton,
    mlserver: Path,
    pythie_serving: Path,
    torchserve: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Servers]:
    with ExitStack() as stack:
        all_of_them = Servers(
            triton=triton,
            tfserving=PythieServing.prepared(pythie_serving, tmp_path_factory.mktemp("pythie")),
            torchserve=TorchServe.prepared(torchserve, tmp_path_factory.mktemp("torchserve")),
            mlserver=MlServer.prepared(mlserver, tmp_path_factory.mktemp("mlserver")),
            mlserver_runs=stack.enter_context(ExitStack()),
        )
        stack.enter_context(all_of_them.tfserving.running())
        stack.enter_context(all_of_them.torchserve.running())
        all_of_them.start_again()
        yield all_of_them


def targets(servers: Servers, installation: Path) -> list[dict[str, Any]]:
    """Each a group of its own, so that they are swept side by side."""
    found = [
        {"name": "triton", "url": servers.triton.http_url},
        {
            "name": "in-process",
            "kind": "triton_in_process",
            "server_directory": str(installation),
            "model_repository": str(MODELS),
        },
        {"name": "tfserving", "kind": "tfserving", "url": f"grpc://127.0.0.1:{servers.tfserving.port}"},
        {
            "name": "torchserve",
            "kind": "torchserve",
            "url": servers.torchserve.url,
            "management_url": servers.torchserve.management_url,
            "metrics_url": servers.torchserve.metrics_url,
        },
        {
            "name": "mlserver",
            "kind": "oip",
            "url": f"grpc://127.0.0.1:{servers.mlserver.grpc}",
            "metrics_url": servers.mlserver.metrics_url,
        },
    ]
    return [{**target, "group": target["name"], "gpu": "off"} for target in found]


def inputs(folder: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """By target: the model, and what is sent to it."""
    row = list(range(16))
    tensors = {
        "data": [{"INPUT0": row, "INPUT1": row}],
        "validation_data": [{"OUTPUT0": [2 * value for value in row], "OUTPUT1": [0] * 16}],
    }
    body = {
        "data": [{"TORCHSERVE_BODY": ["[1, 2]"]}],
        "validation_data": [{"TORCHSERVE_OUTPUT": ["[\n  2,\n  4\n]"]}],
    }
    table = {"data": [{"size": [1, 2, 1], "fruit": ["apple", "apple", "none"]}]}
    files = {}
    for name, content in {"tensors": tensors, "body": body, "table": table}.items():
        path = folder / f"{name}.json"
        path.write_text(json.dumps(content))
        files[name] = {"source": "files", "paths": [str(path)]}
    prices = {"datatypes": {"fruit": "BYTES", "size": "INT64"}, "shapes": {"fruit": [3, 1], "size": [3, 1]}}
    return {
        "triton": ("addsub", files["tensors"]),
        "in-process": ("addsub", files["tensors"]),
        "tfserving": ("prices", files["table"] | prices),
        "torchserve": ("double", files["body"]),
        "mlserver": ("addsub", {"shapes": {"A": [2, 4], "B": [2, 4]}}),
    }


def configuration(servers: Servers, installation: Path, folder: Path) -> dict[str, Any]:
    return {
        "targets": targets(servers, installation),
        "probes": [
            {"name": name, "target": name, "model": model, "input": given}
            for name, (model, given) in inputs(folder).items()
        ],
        "defaults": {
            "schedule": {"every": f"{EVERY_SECONDS}s"},
            "load": {"request_rate": RATE},
            "measurement": {
                "window": "1s",
                "stability": "1000%",
                "stability_windows": WINDOWS,
                "max_windows": WINDOWS,
                "request_timeout": "5s",
            },
        },
        "limits": {"concurrent_sweeps": 5, "group_duty": "100%"},
    }


Row = dict[str, str]


def archived(folder: Path) -> list[Row]:
    """All sweeps of all probes, by the time at which they began, but for those that ended with the daemon."""
    rows: list[Row] = []
    for path in folder.rglob("*.levels.csv"):
        with path.open(newline="") as file:
            rows += csv.DictReader(file)
    return sorted((row for row in rows if row["reason"] != "shutdown"), key=lambda row: row["time"])


def began(row: Row) -> float:
    return datetime.fromisoformat(row["time"]).timestamp()


def ended(row: Row) -> float:
    return began(row) + float(row["sweep_duration_seconds"])


def is_up(daemon: RunningDaemon, probe: str) -> bool:
    return daemon.value(UP, probe=probe) == 1.0


def test_one_server_dies_and_the_others_figures_are_untouched(
    servers: Servers, triton_installation: Path, triton_variables: None, tmp_path: Path
) -> None:
    with RunningDaemon(tmp_path, configuration(servers, triton_installation, tmp_path)) as daemon:
        for probe in (*OTHERS, KILLED):
            daemon.wait_for(partial(is_up, daemon, probe))

        def watch(seconds: float) -> None:
            """Waits, and sees that the page calls the others up all the time."""
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                page = daemon.metrics()
                up = {dict(labels)["probe"]: value for (name, labels), value in page.items() if name == UP}
                assert {probe: up[probe] for probe in OTHERS} == dict.fromkeys(OTHERS, 1.0)
                time.sleep(POLL_SECONDS)

        watch(0.4 * SECONDS)
        killed_at = time.time()
        servers.kill()
        watch(max(0.2 * SECONDS, 2 * EVERY_SECONDS))
        assert not is_up(daemon, KILLED)
        restarted_at = time.time()
        servers.start_again()
        watch(max(0.4 * SECONDS, 2 * EVERY_SECONDS))
        assert is_up(daemon, KILLED)
        restarts = {reason: daemon.value(RESTARTS, reason=reason) for reason in CRASHES}
    rows = archived(tmp_path / "data")
    assert restarts == dict.fromkeys(CRASHES, 0.0)
    check_the_killed([row for row in rows if row["probe"] == KILLED], killed_at, restarted_at)
    for probe in OTHERS:
        check_an_other([row for row in rows if row["probe"] == probe], killed_at, restarted_at)
    check_side_by_side(rows)


def check_the_killed(rows: list[Row], killed_at: float, restarted_at: float) -> None:
    """Its sweeps were good before, failed with a reason meanwhile, and are good again."""
    while_down = [row for row in rows if killed_at < began(row) and ended(row) < restarted_at]
    for row in rows:
        if ended(row) < killed_at:
            check_figures(row)
    assert {(row["status"], row["reason"]) for row in while_down} == {("failed", "unreachable")}
    check_figures(rows[-1])


def check_an_other(rows: list[Row], killed_at: float, restarted_at: float) -> None:
    """Each of its sweeps is whole and right, and their latency is in a band of what it was before."""
    for row in rows:
        check_figures(row)
    phases: tuple[Callable[[Row], bool], ...] = (
        lambda row: ended(row) < killed_at,
        lambda row: killed_at < began(row) and ended(row) < restarted_at,
        lambda row: restarted_at < began(row),
    )
    before, down, after = (median(float(row["p50_ns"]) for row in rows if phase(row)) for phase in phases)
    assert before / BAND < down < before * BAND
    assert before / BAND < after < before * BAND


def check_figures(row: Row) -> None:
    """The counts and values of one sweep, whose windows may differ: a machine that is slow for a moment, as while a
    server starts, is not what is looked for."""
    about = (row["probe"], row["time"], row["reason"], row["reason_text"])
    assert row["status"] in ("ok", "unstable"), about
    assert (row["reason"], row["level"]) == (row["status"].replace("ok", ""), str(RATE)), about
    requests = int(row["request_count"])
    expected = RATE * float(row["duration_seconds"])
    assert requests == pytest.approx(expected, rel=COUNT_TOLERANCE), about
    outcomes = {name: int(value) for name, value in row.items() if name.startswith("outcome_") and int(value)}
    assert outcomes == {"outcome_ok": requests}, about
    assert float(row["error_ratio"]) == float(row["unsent_ratio"]) == 0.0, about
    assert row["validated_requests"] == (row["request_count"] if row["probe"] in VALIDATED else ""), about
    if row["probe"] in COUNTED:
        assert int(row["foreign_requests"] or 0) == 0, about
        assert int(row["server_request_count"]) == pytest.approx(expected, rel=COUNT_TOLERANCE), about
        if row["probe"] != "torchserve":  # which reports no failures
            assert int(row["server_failed_count"]) == 0, about


def check_side_by_side(rows: list[Row]) -> None:
    """Most sweeps ran while others did."""
    overlapping = sum(
        any(began(other) < ended(row) and began(row) < ended(other) for other in rows if other["probe"] != row["probe"])
        for row in rows
    )
    assert overlapping > len(rows) / 2
