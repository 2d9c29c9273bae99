"""Two hours of restarts, reloads and errors, in an order that a seed makes, and then every figure is compared with what
it should be: the server's counts, its known times, and Little's law. `make soak`, outside CI; SOAK_SECONDS shortens it,
SOAK_SEED chooses another order.
"""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.engine.guard import CHARGED_AHEAD
from tests.daemon.running import RunningDaemon
from tests.hostile.behaviours import BOTH, HTTP_ONLY
from tests.hostile.modelled import COMPUTE_SECONDS, MODEL, QUEUE_SECONDS, ModelledServer

SECONDS = int(os.environ.get("SOAK_SECONDS", "7200"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
LEVELS = (1, 4)
SERVICE_SECONDS = QUEUE_SECONDS + COMPUTE_SECONDS
ERROR_SECONDS = 2.0
KEPT_SECONDS = 3300.0
SWEEP_SECONDS = 30.0
"""Of a budget's hour the charges that are looked at; and how long a sweep takes at most."""
MEMORY_BYTES = 500 << 20
OPEN_FILES = 200
BEARER = {"Authorization": "Bearer open sesame"}

pytestmark = [pytest.mark.soak, pytest.mark.timeout(SECONDS + 600)]

Row = dict[str, str]


@dataclass
class Soak:
    """The daemon, its server, and what was done to them, by the wall clock."""

    daemon: RunningDaemon
    server: ModelledServer
    chance: random.Random
    problems: list[tuple[float, float, str]] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    paused_requests: list[int] = field(default_factory=list)
    largest_bytes: int = 0
    most_files: int = 0

    def act(self) -> None:
        """One thing, by chance, and some calm after it."""
        name, act = self.chance.choice(list(ACTIONS.items()))
        began = time.time()
        act(self)
        self.problems.append((began, time.time(), name))
        self.done[name] += 1
        self.look()
        time.sleep(self.chance.uniform(3, 12))

    def look(self) -> None:
        process = Path("/proc") / str(self.daemon.pid)
        with suppress(OSError):
            pages = int((process / "statm").read_text().split()[1])
            self.largest_bytes = max(self.largest_bytes, pages * os.sysconf("SC_PAGE_SIZE"))
            self.most_files = max(self.most_files, len(list((process / "fd").iterdir())))

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.daemon.pid}/task/{self.daemon.pid}/children").read_text().split()
        return [int(pid) for pid in children]

    def post(self, path: str) -> int:
        return self.daemon.get(path, BEARER, "POST")[0]


def reload(soak: Soak) -> None:
    document = yaml.safe_load(soak.daemon.config_path.read_text())
    probe = soak.chance.choice(document["probes"])
    probe["labels"] = {"run": str(soak.chance.randrange(1_000_000))}
    unfinished = soak.daemon.config_path.with_suffix(".new")
    unfinished.write_text(yaml.safe_dump(document))
    unfinished.replace(soak.daemon.config_path)
    assert soak.post("/-/reload") == 200


def restart(soak: Soak) -> None:
    assert soak.daemon.stop(signal.SIGTERM) == 0
    soak.daemon.start()


def kill(soak: Soak) -> None:
    soak.daemon.stop(signal.SIGKILL)
    soak.daemon.start()


def kill_a_worker(soak: Soak) -> None:
    for pid in soak.workers()[:1]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def stop_the_daemon_for_a_while(soak: Soak) -> None:
    os.kill(soak.daemon.pid, signal.SIGSTOP)
    time.sleep(1)
    os.kill(soak.daemon.pid, signal.SIGCONT)


def fail(soak: Soak) -> None:
    soak.server.failing = True
    time.sleep(ERROR_SECONDS)
    soak.server.failing = False


def slow(soak: Soak) -> None:
    soak.server.slow = True
    time.sleep(ERROR_SECONDS)
    soak.server.slow = False


def be_hostile(soak: Soak) -> None:
    soak.server.hostile = soak.chance.choice(list({**BOTH, **HTTP_ONLY}.values()))
    time.sleep(ERROR_SECONDS)
    soak.server.hostile = None


def drop(soak: Soak) -> None:
    for _ in range(5):
        soak.server.drop()
        time.sleep(0.1)


def pause(soak: Soak) -> None:
    assert soak.post("/api/pause") == 200
    time.sleep(2)
    before = soak.server.received
    time.sleep(2)
    soak.paused_requests.append(soak.server.received - before)
    assert soak.post("/api/resume") == 200


ACTIONS: dict[str, Callable[[Soak], None]] = {
    each.__name__: each
    for each in (reload, restart, kill, kill_a_worker, stop_the_daemon_for_a_while, fail, slow, be_hostile, drop, pause)
}


def configuration(url: str, token: Path) -> dict[str, Any]:
    probe = {
        "target": "t",
        "model": MODEL,
        "load": {"concurrency": list(LEVELS)},
        "schedule": {"every": "3s"},
        "measurement": {"window": "500ms", "max_windows": 4, "request_timeout": "2s", "warm_up": "0s"},
    }
    return {
        "targets": [{"name": "t", "url": url}],
        "probes": [probe | {"name": name} for name in ("first", "second")],
        "web": {"listen": "127.0.0.1:0", "api_token_file": str(token)},
        "limits": {"group_requests_per_hour": 0, "group_duty": "100%"},
        "archive": {"max_size": "1GiB"},
    }


def test_every_figure_after_two_hours_of_errors(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("open sesame")
    server = ModelledServer()
    with server.running(), RunningDaemon(tmp_path, configuration(server.url, tmp_path / "token")) as daemon:
        soak = Soak(daemon, server, random.Random(SEED))
        daemon.wait_for_state("first", "", "unstable")
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            soak.act()
        daemon.wait_for_state("first", "", "unstable")
        soak.look()
        status = daemon.stop()
    print(f"seed {SEED}: {dict(soak.done)}, {server.received} requests")
    print(f"largest {soak.largest_bytes >> 20} MiB, most files {soak.most_files}")
    assert status == 0
    levels, windows = rows(tmp_path, "levels"), rows(tmp_path, "windows")
    check_rows(levels, windows)
    check_counts(levels, windows, server)
    charged = check_charges(tmp_path, soak)
    print(f"{charged} requests charged")
    print(f"{check_figures(levels, windows, soak.problems)} undisturbed levels of {len(levels)}")
    check_leftovers(tmp_path, soak)


def rows(folder: Path, table: str) -> list[Row]:
    found = []
    for path in sorted((folder / "data").rglob(f"*.{table}.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                assert None not in row, "a row with more cells than columns"
                assert None not in row.values(), "a row with fewer"
                found.append(row)
    return found


def check_rows(levels: list[Row], windows: list[Row]) -> None:
    """None is torn, none is there twice, and each window has its level."""
    keys = [(row["sweep_id"], row["mode"], row["level"], row["window"]) for row in windows]
    assert len(set(keys)) == len(keys)
    level_keys = {(row["sweep_id"], row["mode"], row["level"]) for row in levels}
    assert len(level_keys) == len(levels)
    assert {key[:3] for key in keys} <= level_keys


def check_counts(levels: list[Row], windows: list[Row], server: ModelledServer) -> None:
    """The archive has nothing that the server did not get, and a level is the sum of its judged windows. How a request
    ended is what the server made of it, give or take what it spoilt."""
    outcomes = Counter[str]()
    by_level: defaultdict[tuple[str, str], int] = defaultdict(int)
    for row in windows:
        for name, cell in row.items():
            if name.startswith("outcome_") and cell:
                outcomes[name] += int(cell)
        if row["judged"] == "1":
            by_level[row["sweep_id"], row["level"]] += int(row["outcome_ok"])
    assert outcomes["outcome_ok"] <= server.responded
    assert outcomes["outcome_server_error"] <= server.failed + server.spoilt
    assert outcomes["outcome_protocol_error"] <= server.spoilt
    assert outcomes["outcome_wrong_output"] == 0
    assert sum(outcomes.values()) <= server.received + outcomes["outcome_connect_error"]
    for row in levels:
        if row["request_count"] and (row["sweep_id"], row["level"]) in by_level:
            assert int(row["request_count"]) == by_level[row["sweep_id"], row["level"]], row


def check_charges(folder: Path, soak: Soak) -> int:
    """Every request that the server received is charged to the budget, whatever became of daemon and worker, and hardly
    more: what a killed process had charged ahead. (Of the last hour: older charges are not kept.)"""
    lines = (folder / "data" / "ledger.jsonl").read_text().splitlines()
    charges = [(float(charge["ended_unix_s"]), int(charge["requests"])) for charge in map(json.loads, lines)]
    since = time.time() - KEPT_SECONDS
    charged = sum(requests for ended, requests in charges if ended > since)
    received, and_before = (sum(at > since - more for at in soak.server.received_at) for more in (0, SWEEP_SECONDS))
    killed = sum(soak.done[name] for name in ("kill", "kill_a_worker", "stop_the_daemon_for_a_while"))
    # What was sent and dropped before the server read it, or to a closed connection.
    lost = sum(soak.done[name] for name in ("drop", "be_hostile", "restart", "reload", "pause", "fail"))
    assert received <= charged, (received, charged)
    assert charged <= and_before + (killed + lost) * (CHARGED_AHEAD + LEVELS[-1]), (charged, and_before)
    return charged


def check_figures(levels: list[Row], windows: list[Row], problems: list[tuple[float, float, str]]) -> int:
    """Of the levels in which nothing was done to server and daemon: latency, throughput and breakdown are what the
    server's times make them. Returns how many there were."""
    undisturbed = 0
    ends: defaultdict[str, float] = defaultdict(float)
    for row in windows:
        end = datetime.fromisoformat(row["window_start"]).timestamp() + float(row["duration_seconds"])
        ends[row["sweep_id"]] = max(ends[row["sweep_id"]], end)
    for row in levels:
        if not row["request_count"]:
            continue
        began, ended = datetime.fromisoformat(row["time"]).timestamp(), ends[row["sweep_id"]]
        if any(start - 1 < ended and began - 1 < stop + 1 for start, stop, _ in problems):
            continue
        undisturbed += 1
        concurrency, rate = int(row["level"]), float(row["Inferences/Second"])
        mean, low = float(row["mean_ns"]) / 1e9, float(row["min_ns"]) / 1e9
        assert SERVICE_SECONDS <= low <= mean, row
        assert mean <= 5 * SERVICE_SECONDS, row  # on a busy machine
        assert rate * mean == pytest.approx(concurrency, rel=0.15), row
        ordered = [float(row[f"p{name}_ns"]) for name in ("50", "90", "95", "99")]
        assert ordered == sorted(ordered), row
        assert float(row["error_ratio"]) == 0, row
        if row["breakdown_queue_seconds"]:
            assert float(row["breakdown_queue_seconds"]) == pytest.approx(QUEUE_SECONDS, rel=0.01), row
            assert float(row["breakdown_compute_infer_seconds"]) == pytest.approx(COMPUTE_SECONDS, rel=0.01), row
    assert undisturbed > 0
    return undisturbed


def check_leftovers(folder: Path, soak: Soak) -> None:
    """Nothing was sent while all was paused, nothing grew without end, and nothing is left."""
    assert set(soak.paused_requests) <= {0}
    assert soak.largest_bytes < MEMORY_BYTES
    assert soak.most_files < OPEN_FILES
    assert list((folder / "data").rglob("*.tmp")) == []
    log = (folder / "daemon.log").read_text()
    assert "Traceback" not in log
    assert "internal error" not in log
    json.loads((folder / "data" / "state.json").read_text())
