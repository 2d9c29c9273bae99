"""Section of the comparison: what a long run costs a client in memory.

By default this is a short run. `--memory-requests 5000000`, the length that the aim is for, takes some 5 minutes for
each endpoint.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from bench import own_load
from bench.models import CACHED_IDENTITY
from bench.programs import BenchError, memory_bytes, progress
from bench.rounds import Aim, table
from bench.setting import ENDPOINTS, Setting
from bench.throughput import SMALL
from exporter.core.window import LevelEnd, Window
from exporter.worker.local import LocalWorker

CONCURRENCY = 32
DEFAULT_REQUESTS = 250_000
AIM_REQUESTS = 5_000_000
AIM_MB = Aim(10.0, at_least=False)
WINDOW_SECONDS = 1.0
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Growth:
    """What a client held in memory before `requests` of a run, and after them."""

    requests: int
    first_bytes: int
    last_bytes: int

    @property
    def megabytes(self) -> float:
        return (self.last_bytes - self.first_bytes) / MB

    @property
    def bytes_per_request(self) -> float:
        return (self.last_bytes - self.first_bytes) / self.requests

    def verdict(self) -> str:
        """Whether it is as small as it should be; a run that is shorter than the aim's is not judged."""
        return AIM_MB.verdict(self.megabytes) if self.requests >= AIM_REQUESTS else ""


async def memory(setting: Setting) -> str:
    """The section."""
    rows = []
    for endpoint in ENDPOINTS:
        progress(f"memory: {endpoint}, {setting.memory_requests} requests")
        ours = await _ours(setting, endpoint)
        rows.append([endpoint, "ours", *_cells(ours), f"{AIM_MB} MB over {AIM_REQUESTS}", ours.verdict()])
        if setting.program is not None:
            rows.append([endpoint, "perf_analyzer", *await _peer_cells(setting, endpoint), "", ""])
    header = ["endpoint", "tool", "requests", "before MB", "after MB", "growth MB", "bytes a request", "aim", "met"]
    return table(header, rows)


def _cells(growth: Growth) -> list[str]:
    sizes = [growth.first_bytes / MB, growth.last_bytes / MB, growth.megabytes, growth.bytes_per_request]
    return [str(growth.requests), *(f"{size:.1f}" for size in sizes)]


async def _ours(setting: Setting, endpoint: str) -> Growth:
    """A worker of its own: fresh, idle, and with the model looked at."""
    probe = own_load.make_probe(
        endpoint=endpoint,
        port=setting.port(endpoint),
        model=CACHED_IDENTITY,
        level=own_load.concurrency(CONCURRENCY),
        window_seconds=WINDOW_SECONDS,
        elements=SMALL,
    )
    worker = await LocalWorker.spawn()
    try:
        await worker.preflight(probe)
        first_bytes = memory_bytes(worker.pid, "VmRSS")
        requests = 0
        async with own_load.level_events(worker, probe) as events:
            async for event in events:
                if isinstance(event, LevelEnd) and requests < setting.memory_requests:
                    raise BenchError(f"our level ended early: {event.reason} {event.text}")
                if isinstance(event, Window):
                    own_load.raise_if_failed(event)
                    requests += len(event.columns)
                    if requests >= setting.memory_requests:
                        await worker.stop_level()
        # Its highest since its start: a peak inside of a window counts too.
        return Growth(requests, first_bytes, memory_bytes(worker.pid, "VmHWM"))
    finally:
        await worker.kill()


async def _peer_cells(setting: Setting, endpoint: str) -> list[str]:
    try:
        return _cells(await _perf_analyzer(setting, endpoint))
    except BenchError as error:
        progress(f"perf_analyzer is lost: {error}")
        return ["no figures", "", "", "", ""]


async def _perf_analyzer(setting: Setting, endpoint: str) -> Growth:
    """The difference between the peaks of a run of five times and one of half the usual length: what both have in
    common is not growth."""
    short_requests, short_bytes = await _perf_analyzer_peak(setting, endpoint, setting.seconds / 2)
    long_requests, long_bytes = await _perf_analyzer_peak(setting, endpoint, setting.seconds * 5)
    if long_requests <= short_requests:
        raise BenchError("perf_analyzer sent no more requests in a longer run")
    return Growth(long_requests - short_requests, short_bytes, long_bytes)


async def _perf_analyzer_peak(setting: Setting, endpoint: str, seconds: float) -> tuple[int, int]:
    """Requests of a whole run, as the server counts them, and the most memory that it took."""
    before = await asyncio.to_thread(setting.requests_served, CACHED_IDENTITY)
    load = ["--concurrency-range", str(CONCURRENCY)]
    report = await setting.run_perf_analyzer(endpoint, CACHED_IDENTITY, SMALL, load, seconds=seconds)
    after = await asyncio.to_thread(setting.requests_served, CACHED_IDENTITY)
    return after - before, report.peak_bytes
