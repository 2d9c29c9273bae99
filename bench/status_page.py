"""What the status page costs: weight, time to render and memory, by the number of probes, each with a full day of
three levels every five minutes. `python -m bench.status_page`; docs/status-page.md has the table."""

from __future__ import annotations

import argparse
import asyncio
import copy
import gc
import itertools
import os
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from exporter.state.day_ring import Conclusion, LevelPoint, SweepPoint
from exporter.state.history import History, key_of
from exporter.state.history_file import HistoryFile, _hour_unix_s
from exporter.state.history_format import SectionWriter
from exporter.web.status import conclude
from tests.web.fleet import INTERVAL_S, NOW, Fleet
from tests.web.test_pages import Site

_SWEEPS = 288
_ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--probes", type=int, nargs="+", default=[7, 100, 1000])
    for count in parser.parse_args().probes:
        # Each in a process of its own: what one has left is not counted for the next.
        print(flush=True, end="")
        child = os.fork()
        if not child:
            asyncio.run(_measure(count))
            print(flush=True, end="")
            os._exit(0)
        os.waitpid(child, 0)


async def _measure(count: int) -> None:
    fleet = Fleet(count, days=False)
    gc.collect()
    before = _resident_bytes()
    fleet.history = History(conclude, now=fleet.clock)
    with tempfile.TemporaryDirectory() as folder:
        file = HistoryFile(Path(folder), now=fleet.clock)
        append_us = _fill(fleet, file)
        kept_bytes = _size_of(folder)
        gc.collect()
        grown = _resident_bytes() - before
        again, began_s = History(conclude, now=fleet.clock), time.thread_time()
        file.load(again.restore)
        load_s = time.thread_time() - began_s
        assert len(again.day(fleet.probes[-1]).started_unix_s) >= _SWEEPS - 1
        file.close()
    sources = fleet.sources()
    site = Site(sources)
    print(f"{count} probes")
    print(f"  history: {fleet.history.bytes / 2**20:.1f} MiB of arrays, {grown / 2**20:.1f} MiB resident")
    files = f"{kept_bytes / 2**20:.1f} MiB, read in {load_s:.2f} s of cpu"
    print(f"  files: {files}; {append_us:.0f} us to keep and write a sweep")
    for path in ("/", "/?q=asr", "/probes/asr-streaming", "/api/v1/probes", "/api/v1/probes/asr-streaming/history"):
        plain, packed = await site.get(path), await site.get(path, **{"Accept-Encoding": "gzip"})
        seconds, cpu_s = await _median_s(lambda path=path: site.get(path, **{"Accept-Encoding": "gzip"}))  # type: ignore[misc]
        size = len(plain.content) / 1024
        sent = int(packed.headers["content-length"]) / 1024
        print(
            f"  {path}: {size:.0f} KiB, {sent:.0f} KiB as sent, {1000 * seconds:.0f} ms, {1000 * cpu_s:.0f} ms of cpu"
        )
    print(f"  resident after: {_resident_bytes() / 2**20:.0f} MiB")
    sources.metrics.close()


def _fill(fleet: Fleet, file: HistoryFile) -> float:
    """A day of every probe, the first one sweep by sweep; returns the microseconds that one sweep of it took. The
    others get copies: the same memory and the same lines, in less time."""
    chance = random.Random(1)
    end, first = fleet.clock.at_s, fleet.probes[0]
    points = []
    for ago in range(_SWEEPS, 0, -1):
        levels = tuple(_level(level.label, chance) for level in first.levels)
        started = end - INTERVAL_S * ago
        points.append(SweepPoint(started, 31.0, Conclusion.OK, slo_requests=4000, slo_bad=3, levels=levels))
    began_s = time.perf_counter()
    for point in points:
        fleet.clock.at_s = point.started_unix_s
        fleet.history.add(key_of(first), point)
        file.write(key_of(first), point)
    taken_s = time.perf_counter() - began_s
    fleet.clock.at_s = NOW
    rings = fleet.history._rings
    for probe in fleet.probes[1:]:
        rings[key_of(probe)] = copy.deepcopy(rings[key_of(first)])
    for hour, some in itertools.groupby(points, lambda point: point.started_unix_s // 3600):
        section = SectionWriter()
        [path] = [path for path in file._files() if _hour_unix_s(path) == 3600 * hour]
        each = list(some)
        records = [section.encode(key_of(probe), point) for point in each for probe in fleet.probes]
        path.write_bytes(b"".join(records))
    return 1e6 * taken_s / _SWEEPS


def _level(label: str, chance: random.Random) -> LevelPoint:
    p50 = 0.004 * chance.lognormvariate(0, 0.05)
    return LevelPoint(
        f"concurrency {label}", p50, 1.4 * p50, 2 * p50, 1000 / p50, 0.0, 0.004, 0.008, limit_p50=1.1, limit_p99=1.2
    )


async def _median_s(call: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """By the clock, and of cpu: beside other work the first is longer."""
    taken, used = [], []
    for _ in range(_ROUNDS):
        began_s, cpu_s = time.perf_counter(), time.process_time()
        await call()
        taken.append(time.perf_counter() - began_s)
        used.append(time.process_time() - cpu_s)
    return statistics.median(taken), statistics.median(used)


def _size_of(folder: str) -> int:
    return sum(path.stat().st_size for path in Path(folder).iterdir())


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
