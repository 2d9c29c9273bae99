"""A whole daemon with one honest target and, for every behaviour of the kit, one that is hostile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.daemon.running import RunningDaemon
from tests.hostile.behaviours import BOTH, HTTP_ONLY
from tests.hostile.server import Behaviour, HostileServer

MEMORY_MIB = 250
PAGE_SECONDS = 5.0
HONEST = "honest"

EACH: dict[str, tuple[str, Behaviour]] = {
    HONEST: ("http", lambda _path, response: response),
    **{f"http: {name}": ("http", behaviour) for name, behaviour in (BOTH | HTTP_ONLY).items()},
    **{f"grpc: {name}": ("grpc", behaviour) for name, behaviour in BOTH.items()},
}


@contextlib.contextmanager
def servers() -> Iterator[dict[str, int]]:
    """The port of each, served by a thread."""
    ports: dict[str, int] = {}
    loop, started, ended = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for name, (scheme, behaviour) in EACH.items():
                ports[name] = await stack.enter_async_context(HostileServer(behaviour).serve(scheme))
            started.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    started.wait()
    yield ports
    loop.call_soon_threadsafe(ended.set)
    thread.join()
    loop.close()


def configuration(ports: dict[str, int]) -> dict[str, Any]:
    names = {name: f"t{number}" for number, name in enumerate(EACH)}
    targets = [
        {
            "name": names[name],
            "url": f"{scheme}://127.0.0.1:{ports[name]}",
            "connect_timeout": "5s",
            # Each is a server of its own, though all are on one host.
            "group": names[name],
        }
        for name, (scheme, _) in EACH.items()
    ]
    probes = [{"name": names[name], "target": names[name], "model": "m", "load": {"concurrency": 2}} for name in EACH]
    measurement = {"window": "200ms", "stability": "100%", "max_windows": 3, "request_timeout": "2s"}
    defaults = {"schedule": {"every": "3s"}, "measurement": measurement, "stop": {"max_duration": "10s"}}
    return {"targets": targets, "probes": probes, "defaults": defaults}


def test_every_target_but_one_is_hostile(tmp_path: Path) -> None:
    largest, slowest = 0.0, 0.0
    with servers() as ports, RunningDaemon(tmp_path, configuration(ports)) as daemon:

        def look() -> bool:
            nonlocal largest, slowest
            pages = int(Path(f"/proc/{daemon.pid}/statm").read_text().split()[1])
            largest = max(largest, pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20))
            began = time.monotonic()
            assert daemon.get("/-/healthy")[0] == 200
            slowest = max(slowest, time.monotonic() - began)
            ended = [event for event in daemon.log_events() if event.get("msg") == "sweep ended"]
            return len({event["probe"] for event in ended}) == len(EACH) and len(ended) > 2 * len(EACH)

        daemon.wait_for(look)
        page, metrics = (len(daemon.get(path)[1]) for path in ("/", "/metrics"))
        honest = daemon.wait_for_state("t0", "", "unstable")
        reasons = {name: daemon.status(f"t{number}")["reason"] for number, name in enumerate(EACH)}
        texts = [str(daemon.status(f"t{number}")["reason_text"]) for number in range(len(EACH))]
        bugs = daemon.value("triton_canary_exporter_worker_restarts_total", reason="crash")
    print(f"{len(EACH)} targets: daemon {largest:.0f} MiB, healthy in {slowest:.3f} s, page {page}, metrics {metrics}")
    assert honest["state"] in ("ok", "unstable")
    assert largest < MEMORY_MIB
    assert slowest < PAGE_SECONDS
    assert page < 1 << 20
    assert metrics < 1 << 20
    assert "internal" not in reasons.values(), reasons
    assert bugs == 0
    assert all(text.isprintable() and len(text) < 1500 for text in texts)
    log = (tmp_path / "daemon.log").read_bytes()
    assert b"\x1b" not in log
    assert "\u202e" not in log.decode()
    assert max(map(len, log.splitlines())) < 10_000
