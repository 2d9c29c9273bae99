"""Sections of the comparison: what a client costs. Its cpu time, which it takes from a server beside it, and the time
that it adds to what was on the wire, which is its error."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench import own_load
from bench.capture import NoCaptureError, capturing, read_exchanges
from bench.models import CACHED_IDENTITY
from bench.programs import BenchError
from bench.rounds import OURS, PERF_ANALYZER, Aim, Case, Tool, measure, ratio_cells, spread, table
from bench.setting import ENDPOINTS, Setting
from bench.throughput import SMALL

CPU_CONCURRENCY = 8
CPU_AIMS = dict.fromkeys(ENDPOINTS, Aim(0.3, at_least=False))
WIRE_AIMS = {"http": Aim(0.6, at_least=False), "grpc": Aim(0.7, at_least=False)}

Span = tuple[int, int, float]
"""When the first request began and the last ended, in nanoseconds of the wall clock, and their mean latency in ns."""


async def client_cpu(setting: Setting) -> str:
    """The section of the cpu time for each request."""
    cases = [_cpu_case(setting, endpoint) for endpoint in ENDPOINTS]
    await measure("client cpu", setting.rounds, cases)
    return _table(cases, CPU_AIMS)


async def wire_time(setting: Setting) -> str:
    """The section of the latency that was not on the wire; a line why not, where packets can't be captured."""
    cases = [_wire_case(setting, endpoint) for endpoint in ENDPOINTS]
    try:
        await measure("time on the wire", setting.rounds, cases)
    except NoCaptureError as error:
        return f"Left out: {error}."
    return _table(cases, WIRE_AIMS)


def _table(cases: list[Case[float]], aims: dict[str, Aim]) -> str:
    rows = []
    for case in cases:
        figures = [spread(case.of(tool), 1) for tool in (OURS, PERF_ANALYZER)]
        rows.append([*case.cells, *figures, *ratio_cells(case.pairs(OURS, PERF_ANALYZER), aims[case.cells[0]])])
    header = ["endpoint", "model", "concurrency", "ours us (range)", "perf_analyzer us (range)"]
    return table([*header, "ratio (range)", "aim", "met"], rows)


# --- cpu -------------------------------------------------------------------------------------------------------------


def _cpu_case(setting: Setting, endpoint: str) -> Case[float]:
    probe = setting.probe(endpoint, CACHED_IDENTITY, SMALL, own_load.concurrency(CPU_CONCURRENCY))

    async def ours() -> float:
        return (await setting.run_ours(probe)).cpu_us_per_request

    async def perf_analyzer() -> float:
        """The difference of a long run and a short one, so that start and end count for nothing."""
        short_cpu_seconds, short_count = await _perf_analyzer_cpu(setting, endpoint, setting.seconds / 2)
        long_cpu_seconds, long_count = await _perf_analyzer_cpu(setting, endpoint, setting.seconds * 2)
        if long_count <= short_count:
            raise BenchError("perf_analyzer sent no more requests in a longer run")
        return 1e6 * (long_cpu_seconds - short_cpu_seconds) / (long_count - short_count)

    tools: dict[str, Tool[float]] = {OURS: ours}
    if setting.program is not None:
        tools[PERF_ANALYZER] = perf_analyzer
    return Case((endpoint, CACHED_IDENTITY, str(CPU_CONCURRENCY)), tools)


async def _perf_analyzer_cpu(setting: Setting, endpoint: str, seconds: float) -> tuple[float, int]:
    """Cpu time and requests of a whole run; the server counts the latter, warm-up and all."""
    before = setting.requests_served(CACHED_IDENTITY)
    load = ["--concurrency-range", str(CPU_CONCURRENCY)]
    report = await setting.run_perf_analyzer(endpoint, CACHED_IDENTITY, SMALL, load, seconds=seconds)
    return report.cpu_seconds, setting.requests_served(CACHED_IDENTITY) - before


# --- wire ------------------------------------------------------------------------------------------------------------


def _wire_case(setting: Setting, endpoint: str) -> Case[float]:
    probe = setting.probe(endpoint, CACHED_IDENTITY, SMALL, own_load.concurrency(1))

    async def own_span() -> Span:
        run = await setting.run_ours(probe)
        columns = run.columns
        wall_ns = time.time_ns() - time.monotonic_ns()
        return int(columns.sent_ns.min()) + wall_ns, int(columns.last_ns.max()) + wall_ns, run.mean_latency_ns

    async def peer_span() -> Span:
        load = ["--concurrency-range", "1"]
        report = await setting.run_perf_analyzer(endpoint, CACHED_IDENTITY, SMALL, load, export=True)
        assert report.exported is not None
        return report.exported.begin_ns, report.exported.end_ns, report.exported.mean_latency_ns

    tools: dict[str, Tool[float]] = {OURS: lambda: _added_us(setting, endpoint, own_span)}
    if setting.program is not None:
        tools[PERF_ANALYZER] = lambda: _added_us(setting, endpoint, peer_span)
    return Case((endpoint, CACHED_IDENTITY, "1"), tools)


async def _added_us(setting: Setting, endpoint: str, run: Callable[[], Awaitable[Span]]) -> float:
    """The mean latency that a tool measured, less the mean time that the same requests were on the wire."""
    port = setting.port(endpoint)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "packets.pcap")
        async with capturing(port, file):
            begin_ns, end_ns, mean_ns = await run()
        exchanges = await asyncio.to_thread(read_exchanges, file, port, is_http2=endpoint == "grpc")
    times_ns = [each.end_ns - each.begin_ns for each in exchanges if begin_ns <= each.begin_ns <= each.end_ns <= end_ns]
    if not times_ns:
        raise BenchError("none of the measured requests was captured")
    return (mean_ns - sum(times_ns) / len(times_ns)) / 1000
