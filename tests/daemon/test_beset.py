"""A daemon whose lists drip and whose resolver is silent, and one that is asked for sweeps without end: honest targets
get the load that they always get, and budgets hold."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.counting_server import CountingServer
from tests.daemon.running import RunningDaemon
from tests.programs import ROOT, need, need_right

LISTS = 20
NAMES = 20
"""More than there are threads in any pool of the daemon: 7 and 8 were enough to hold all of asyncio's own."""
POOL = 16
"""The threads of the pool that pages are made in, and of the one that looks names up."""

RATE = 100
WINDOW_SECONDS = 0.5
WINDOWS = 3
SWEEPS = 4
PAGE_SECONDS = 5.0
END_SECONDS = 10.0
BUDGET = 2000


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with CountingServer() as serving:
        yield serving


class DrippingLists:
    """Pages that never end, each a byte every tenth of a second: which were begun, and which were given up."""

    def __init__(self) -> None:
        self.url = ""
        self.begun: list[socket.socket] = []
        self.left: list[socket.socket] = []


@pytest.fixture
def dripping_lists() -> Iterator[DrippingLists]:
    lists = DrippingLists()
    listener, ended = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def drip(client: socket.socket) -> None:
        lists.begun.append(client)
        with client, contextlib.suppress(OSError):
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n[")
            while not ended.wait(0.1):
                client.sendall(b" ")
        lists.left.append(client)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=drip, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    lists.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    yield lists
    ended.set()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


class SilentResolver:
    """Takes in questions and never responds. `wrapper` gives a process a file system whose resolver this is."""

    def __init__(self, folder: Path) -> None:
        self.asked: set[bytes] = set()
        pid = os.getpid()
        address = f"127.{pid >> 16 & 255}.{pid >> 8 & 255}.{pid & 255}"
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 53))
        resolv = folder / "resolv.conf"
        resolv.write_text(f"nameserver {address}\noptions timeout:30 attempts:5\n")
        self.wrapper = ("unshare", "-m", "sh", "-c", f'mount --bind {resolv} /etc/resolv.conf && exec "$@"', "sh")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self) -> None:
        self._socket.settimeout(0.1)
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                self.asked.update(re.findall(rb"fleet\d+", self._socket.recv(512)))

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()


@pytest.fixture
def silent_resolver(tmp_path: Path) -> Iterator[SilentResolver]:
    need(ROOT, "mount")
    resolver = SilentResolver(tmp_path)
    try:
        need_right(*resolver.wrapper, "true")
        yield resolver
    finally:
        resolver.close()


def configuration(server: CountingServer, fleets: list[dict[str, Any]]) -> dict[str, Any]:
    """An honest target, swept every 2 s, and fleets that are never found."""
    return {
        "targets": [
            {"name": "honest", "kind": "oip", "url": f"http://127.0.0.1:{server.port}"},
            *({"name": f"fleet{number}", "kind": "oip", **fleet} for number, fleet in enumerate(fleets)),
        ],
        "probes": [
            {"name": f"of-{name}", "target": name, "model": "m", "load": {"request_rate": RATE}}
            for name in ("honest", *(f"fleet{number}" for number in range(len(fleets))))
        ],
        "defaults": {
            "schedule": {"every": "3s"},
            "measurement": {"window": f"{WINDOW_SECONDS}s", "stability": "100%", "max_windows": WINDOWS},
        },
    }


def requests_a_sweep(daemon: RunningDaemon, server: CountingServer) -> float:
    """By the server's count, over some sweeps of the honest target that ended with figures."""

    def ended() -> int:
        events = daemon.log_events()
        return sum(event.get("msg") == "sweep ended" and event.get("probe") == "of-honest" for event in events)

    def is_idle() -> bool:
        return not daemon.status("of-honest")["running"]

    def begun() -> tuple[int, int]:
        daemon.wait_for(lambda: ended() > 0)
        before = ended()
        daemon.wait_for(lambda: ended() > before)
        daemon.wait_for(is_idle)
        return ended(), server.requests

    first, received = begun()
    daemon.wait_for(lambda: ended() >= first + SWEEPS)
    daemon.wait_for(is_idle)
    return (server.requests - received) / (ended() - first)


def slowest_page(daemon: RunningDaemon) -> float:
    """How long the slowest of its pages takes, in seconds."""
    slowest = 0.0
    for path in ("/", "/metrics", "/api/status", "/-/healthy"):
        began = time.monotonic()
        assert daemon.get(path)[0] == 200
        slowest = max(slowest, time.monotonic() - began)
    return slowest


def assert_unharmed(daemon: RunningDaemon, server: CountingServer) -> None:
    """Its load, its pages and its end are as ever."""
    a_sweep = requests_a_sweep(daemon, server)
    slowest = slowest_page(daemon)
    counted = daemon.value("triton_canary_requests_total", probe="of-honest", outcome="ok")
    received = server.requests
    assert daemon.stop() == 0
    seconds = float(daemon.wait_for_log("stopped")["seconds"])
    print(f"{a_sweep:.0f} requests a sweep, slowest page {slowest:.3f} s, ended in {seconds} s")
    normal = RATE * WINDOW_SECONDS * WINDOWS
    # The cold request, and what is sent before the first window and after the last one's end.
    assert 0.5 * normal <= a_sweep <= 1.5 * normal
    assert counted is not None
    assert received * 0.5 <= counted <= received
    assert slowest < PAGE_SECONDS
    assert seconds < END_SECONDS


def test_lists_that_drip(server: CountingServer, dripping_lists: DrippingLists, tmp_path: Path) -> None:
    """Then no sweep of any target ended, and an honest target's of 0.25 s sent 65,053 requests."""
    page = {"url": "http://pattern"}
    fleets = [
        page | {"discover": {"http_sd": {"url": f"{dripping_lists.url}/{number}"}, "refresh": "1s"}}
        for number in range(LISTS)
    ]
    with RunningDaemon(tmp_path, configuration(server, fleets)) as daemon:
        # As many as asyncio's own pool has threads; pages wait for the end of none of them.
        daemon.wait_for(lambda: len(dripping_lists.begun) >= POOL)
        assert slowest_page(daemon) < PAGE_SECONDS
        assert not dripping_lists.left
        assert_unharmed(daemon, server)


def test_a_resolver_that_is_silent(server: CountingServer, silent_resolver: SilentResolver, tmp_path: Path) -> None:
    """Then it sent 38,812 to 46,779 requests where 9,000 were normal, and page and end took 10 s."""
    fleets = [
        {"url": f"http://fleet{number}.silent.test:8000", "discover": {"dns": True, "refresh": "1s"}}
        for number in range(NAMES)
    ]
    configured = configuration(server, fleets)
    with RunningDaemon(tmp_path, configured, wrapper=silent_resolver.wrapper) as daemon:
        assert_unharmed(daemon, server)
    assert len(silent_resolver.asked) == POOL


def test_sweeps_on_demand_keep_the_budget(server: CountingServer, tmp_path: Path) -> None:
    """60 with a scrape's time-out of 1 s sent 16,152 requests where 2000 were allowed, 281 of them counted."""
    measurement = {"window": "3s", "stability": "100%", "max_windows": 4, "request_timeout": "5s"}
    probe = {"name": "p", "target": "t", "model": "m", "load": {"concurrency": 4}, "schedule": {"cron": "0 0 29 2 *"}}
    configured = {
        "web": {"listen": "127.0.0.1:0", "probe": True},
        "targets": [{"name": "t", "kind": "oip", "url": f"http://127.0.0.1:{server.port}"}],
        "probes": [probe | {"measurement": measurement}],
        "limits": {"group_requests_per_hour": BUDGET},
    }
    statuses = Counter[int]()
    with RunningDaemon(tmp_path, configured) as daemon:

        def ask() -> int:
            return daemon.get("/probe?target=t&module=p", {"X-Prometheus-Scrape-Timeout-Seconds": "1"})[0]

        # A worker takes longer to start than one of these has.
        daemon.wait_for(lambda: ask() == 200 and server.requests)
        for _ in range(60):
            statuses[ask()] += 1
        received = server.requests
        counted = sum(v for (name, _), v in daemon.metrics().items() if name == "triton_canary_requests_total")
        charged = daemon.status("p")["load_last_hour"]["requests"]
    print(f"{dict(statuses)}: {received} received, {counted:.0f} counted, {charged} charged")
    assert statuses[200] + statuses[429] == 60
    assert statuses[200] > 0
    assert statuses[429] > 30
    assert 0.5 * BUDGET < received <= counted == charged <= BUDGET
