"""Section of the comparison: what a long run costs a client in memory.

By default this is a short run. `--memory-requests 5000000`, the length that the aim is for, takes some 12
minutes in all.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from bench import own_load
from bench.models import CACHED_IDENTITY, IDENTITY
from bench.programs import BenchError, memory_bytes, progress
from bench.rounds import Aim, table
from bench.setting import Setting
from bench.throughput import SMALL
from exporter.core.window import LevelEnd, Window
from exporter.worker.local import LocalWorker

DEFAULT_REQUESTS = 250_000
AIM_REQUESTS = 5_000_000
AIM_MB = Aim(2.0, at_least=False)
WINDOW_SECONDS = 1.0
MB = 1_000_000
FILL = 0.1
"""The part of a run after which buffers and windows have their sizes. What comes on top of it is growth."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of load; `share` is its number of requests as a part of all that are asked for."""

    name: str
    endpoint: str
    concurrency: int
    share: float = 1.0
    model: str = CACHED_IDENTITY
    elements: int = SMALL
    streaming: bool = False
    in_turns: bool = False
    """Whether perf_analyzer is measured, too."""


KINDS = (
    Kind("HTTP, 32 connections", "http", 32, in_turns=True),
    Kind("gRPC, 32 in flight", "grpc", 32, in_turns=True),
    Kind("gRPC, 64 streams", "grpc", 64, 0.04, model=IDENTITY, streaming=True),
    Kind("HTTP, tensors of 64 MB", "http", 1, 4e-5, model=IDENTITY, elements=16_000_000),
    Kind("gRPC, tensors of 64 MB", "grpc", 1, 4e-5, model=IDENTITY, elements=16_000_000),
)


@dataclass(frozen=True, slots=True)
class Growth:
    """The most that a client held in memory in the first part of a run, and in all of it; `requests` are those
    between."""

    requests: int
    first_bytes: int
    last_bytes: int

    @property
    def megabytes(self) -> float:
        return (self.last_bytes - self.first_bytes) / MB

    @property
    def bytes_per_request(self) -> float:
        return (self.last_bytes - self.first_bytes) / self.requests

    def verdict(self, aim_requests: float) -> str:
        """Whether it is as small as it should be; a run that is shorter than the aim's is not judged."""
        return AIM_MB.verdict(self.megabytes) if self.requests >= aim_requests else ""


async def memory(setting: Setting) -> str:
    """The section."""
    rows = []
    for kind in KINDS:
        wanted = max(20, round(kind.share * setting.memory_requests))
        progress(f"memory: {kind.name}, {wanted} requests")
        idle_bytes, ours = await _ours(setting, kind, wanted)
        verdict = ours.verdict((1 - 2 * FILL) * kind.share * AIM_REQUESTS)
        rows.append([kind.name, "ours", f"{idle_bytes / MB:.1f}", *_cells(ours), str(AIM_MB), verdict])
        if kind.in_turns and setting.program is not None:
            rows.append([kind.name, "perf_analyzer", "", *await _peer_cells(setting, kind.endpoint), "", ""])
    header = ["load", "tool", "idle MB", "requests", "before MB", "after MB", "growth MB", "bytes a request"]
    return table([*header, "aim", "met"], rows)


def _cells(growth: Growth) -> list[str]:
    sizes = [growth.first_bytes / MB, growth.last_bytes / MB, growth.megabytes, growth.bytes_per_request]
    return [str(growth.requests), *(f"{size:.1f}" for size in sizes)]


async def _ours(setting: Setting, kind: Kind, wanted: int) -> tuple[int, Growth]:
    """A worker of its own: fresh, idle once it has looked at the model, in the first part of the run, after all."""
    probe = own_load.make_probe(
        endpoint=kind.endpoint,
        port=setting.port(kind.endpoint),
        model=kind.model,
        level=own_load.concurrency(kind.concurrency),
        window_seconds=WINDOW_SECONDS,
        elements=kind.elements,
    )
    probe = replace(probe, streaming=kind.streaming)
    worker = await LocalWorker.spawn()
    try:
        await worker.preflight(probe)
        idle_bytes = memory_bytes(worker.pid, "VmRSS")
        filled = first_bytes = requests = 0
        async with own_load.level_events(worker, probe) as events:
            async for event in events:
                if isinstance(event, LevelEnd) and requests < wanted:
                    raise BenchError(f"our level ended early: {event.reason} {event.text}")
                if not isinstance(event, Window):
                    continue
                own_load.raise_if_failed(event)
                requests += len(event.columns)
                if not filled and requests >= FILL * wanted:
                    filled, first_bytes = requests, memory_bytes(worker.pid, "VmHWM")
                if requests >= wanted:
                    await worker.stop_level()
        # Its highest since its start: a peak inside of a window counts too.
        return idle_bytes, Growth(requests - filled, first_bytes, memory_bytes(worker.pid, "VmHWM"))
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
    load = ["--concurrency-range", str(KINDS[0].concurrency)]
    report = await setting.run_perf_analyzer(endpoint, CACHED_IDENTITY, SMALL, load, seconds=seconds)
    after = await asyncio.to_thread(setting.requests_served, CACHED_IDENTITY)
    return after - before, report.peak_bytes
