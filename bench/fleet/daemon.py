"""One daemon of the fleet in real time: start, memory, reload, pages, and how late its schedule is meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from bench.daemon_cost import NEVER, cpu_seconds, daemon, get, rss_megabytes, scrape_seconds
from bench.fleet.made import Size, configuration, write
from exporter.config import load
from exporter.core.outcome import SkipReason
from exporter.core.probe import Probe, Schedule
from exporter.core.result import Sink
from exporter.core.units import NS
from exporter.daemon.reload import ProbeSet
from exporter.discovery.follow import Discovery
from exporter.metrics.page import MetricsPage
from exporter.schedule.scheduler import Scheduler
from exporter.schedule.sharding import Shard
from exporter.schedule.slots import IntervalSlots
from exporter.state.probe_state import Board
from tests.metrics.results import make_exporter_facts, make_result

RELOADS = 3
LIVE_SECONDS = 90.0
INTERVAL_SECONDS = 60
"""In the run in real time, so that a shard has as many sweeps in a minute as otherwise in an hour."""
SETTLED_SECONDS = 3.0


def print_daemon(size: Size, folder: Path) -> None:
    """The table."""
    shard = Shard(3, size.shards)
    print("| what | measured |\n|---|---|", flush=True)
    for what, value in (*_process(size, shard), *_pages(size), *_lateness(size, shard, folder)):
        print(f"| {what} | {value} |", flush=True)


# --- a daemon as it runs ---------------------------------------------------------------------------------------------


def _process(size: Size, shard: Shard) -> Iterator[tuple[str, str]]:
    values = configuration(size)
    for probe in values["probes"]:
        probe["schedule"] = NEVER  # there are no servers
    began_s = time.monotonic()
    with daemon(values, "--shard", str(shard)) as (port, pid):
        yield f"start to ready, shard {shard} of {size.endpoints} probes", f"{time.monotonic() - began_s:.1f} s"
        time.sleep(SETTLED_SECONDS)
        yield "memory (RSS)", f"{rss_megabytes(pid):.0f} MB"
        with _asking(port) as took_s:
            time.sleep(SETTLED_SECONDS)
        yield "a response meanwhile (`/-/healthy`), p50 and longest", _spread_ms(took_s)
        elapsed, cpu = [], []
        with _asking(port) as took_s:
            for _ in range(RELOADS):
                cpu_s, at_s = cpu_seconds(pid), time.monotonic()
                before = _reloaded(port)
                os.kill(pid, signal.SIGHUP)
                while _reloaded(port) == before:
                    time.sleep(0.05)
                elapsed.append(time.monotonic() - at_s)
                cpu.append(cpu_seconds(pid) - cpu_s)
        yield f"reload, median of {RELOADS}", f"{median(elapsed):.1f} s, {median(cpu):.1f} s of cpu"
        yield "a response during reloads, p50 and longest", _spread_ms(took_s)
        yield f"memory after {RELOADS} reloads", f"{rss_megabytes(pid):.0f} MB"
        cpu_s = cpu_seconds(pid)
        time.sleep(10)
        yield "idle cpu", f"{(cpu_seconds(pid) - cpu_s) * 10:.1f} % of a core"


def _reloaded(port: int) -> bytes:
    page = get(port, "/metrics?name[]=triton_canary_exporter_config_last_reload_success_timestamp_seconds")
    assert page
    return page


@contextmanager
def _asking(port: int) -> Iterator[list[float]]:
    """Asks all the time, and lists what each response took."""
    over, took_s = threading.Event(), []

    def ask() -> None:
        while not over.wait(0.01):
            at_s = time.monotonic()
            assert get(port, "/-/healthy") is not None
            took_s.append(time.monotonic() - at_s)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield took_s
    finally:
        over.set()
        thread.join()


def _spread_ms(took_s: Sequence[float]) -> str:
    return f"{median(took_s) * 1e3:.1f} ms, {max(took_s) * 1e3:.0f} ms"


# --- its pages, with results -----------------------------------------------------------------------------------------


def _pages(size: Size) -> Iterator[tuple[str, str]]:
    probes = round(size.endpoints / size.shards)
    command = [sys.executable, "-m", "bench.page_server", str(probes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        port, series = map(int, server.stdout.readline().split())
        first = scrape_seconds(port)
        changed, quiet = [], []
        for _ in range(5):
            server.stdin.write("change\n")
            server.stdin.flush()
            server.stdout.readline()
            changed.append(scrape_seconds(port))
            quiet.append(scrape_seconds(port))
        plain, packed = get(port, "/metrics"), get(port, "/metrics", {"Accept-Encoding": "gzip"})
        assert plain
        assert packed
        yield f"metrics page of {probes} probes with two levels", f"{series} series, {len(plain) / 1e6:.1f} MB"
        yield "the same as gzip", f"{len(packed) / 1e6:.2f} MB"
        yield (
            "scrape: first, after a sweep, with nothing new",
            ", ".join(f"{value:.3f} s" for value in (first, median(changed), median(quiet))),
        )
        yield "memory of the process with all results", f"{rss_megabytes(server.pid):.0f} MB"
        server.stdin.close()


# --- the schedule in real time ---------------------------------------------------------------------------------------


def _lateness(size: Size, shard: Shard, folder: Path) -> Iterator[tuple[str, str]]:
    path = folder / "canary.yaml"
    write(size, path)
    discovery = Discovery(lambda: None, _no_source, measured=shard.has)
    live = _Live(path, discovery)
    asyncio.run(live.run())
    late_ms = np.array(live.late_s) * 1e3
    spread = ", ".join(f"{value:.1f} ms" for value in np.percentile(late_ms, (50, 99, 100)))
    what = f"{len(late_ms)} sweeps in {LIVE_SECONDS:.0f} s, with {live.scrapes} scrapes and a reload"
    yield f"later than its slot, p50, p99, longest: {what}", spread


async def _no_source(_source: object) -> tuple[()]:
    return ()


class _Live(Scheduler):
    """A shard's schedule on a real loop, with made-up sweeps."""

    def __init__(self, path: Path, discovery: Discovery) -> None:
        super().__init__(self._sweep, self._skip, 64)
        self._path, self._discovery = path, discovery
        self.late_s: list[float] = []
        self.scrapes = 0
        self.board = Board(None)
        self.sinks: list[Sink] = [self.board]
        self.began_us = 0

    def due(self, probe: Probe) -> None:
        now_us = time.time_ns() // 1000
        slots = IntervalSlots(probe)
        slot_us = slots.next_after(now_us - slots.interval_us)
        self.late_s.append((now_us - slot_us) / 1e6)
        super().due(probe)

    async def run(self) -> None:
        """Returns when the time is over."""
        probes = await asyncio.to_thread(self._read)
        page = MetricsPage(self.board, make_exporter_facts(next_run=self.next_run), 10**6)
        probe_set = ProbeSet(self.board, self)
        self.board.configure(probes)
        for probe in probes:  # none is overdue
            self.board.sweep_ended(make_result(probe, started_unix_s=time.time()))
        probe_set.start(probes)
        ends_s = time.monotonic() + LIVE_SECONDS
        while time.monotonic() < ends_s:
            await asyncio.sleep(LIVE_SECONDS / 10)
            await page.render(None, "gzip", ())
            self.scrapes += 1
            if self.scrapes == 5:
                probe_set.apply(await asyncio.to_thread(self._read))
        await self.drain(5)
        page.close()

    def _read(self) -> list[Probe]:
        schedule = Schedule(interval_ns=INTERVAL_SECONDS * NS)
        return [
            replace(probe, schedule=schedule)
            for probe in self._discovery.probes_of(self._discovery.own(load(self._path, {})))
        ]

    async def _sweep(self, probe: Probe) -> None:
        for sink in self.sinks:
            sink.sweep_started(probe, time.time())
        await asyncio.sleep(0.5)
        for sink in self.sinks:
            sink.sweep_ended(make_result(probe, started_unix_s=time.time()))

    def _skip(self, probe: Probe, reason: SkipReason) -> None:
        for sink in self.sinks:
            sink.sweep_skipped(probe, reason)
