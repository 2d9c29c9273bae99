"""Sections of the comparison: how much load each tool makes, with small tensors and with large ones."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from bench import own_load
from bench.models import CACHED_IDENTITY, IDENTITY
from bench.official_client import run_official_client
from bench.rounds import OURS, PERF_ANALYZER, Aim, Case, Tool, measure, ratio_cells, spread, table
from bench.setting import ENDPOINTS, Setting
from bench.wrk import run_wrk

WRK = "wrk"
TRITONCLIENT = "tritonclient"

SMALL = 16
LARGE = 320_000


@dataclass(frozen=True, slots=True)
class Load:
    """A closed loop at an endpoint of the server; `aims` state what our throughput should be over a peer's."""

    endpoint: str
    model: str
    elements: int
    concurrency: int
    aims: dict[str, Aim | None]


def small_loads() -> list[Load]:
    """The throughput cases of the 64-byte tensor. The aims are for the model that leaves the client something to
    win; the one in a Python process is shown beside it."""
    perf_analyzer = {("http", 1): 1.5, ("http", 8): 2.2, ("http", 32): 2.2}
    perf_analyzer |= {("grpc", 1): 1.3, ("grpc", 8): 1.6, ("grpc", 32): 2.0}
    wrk = {1: Aim(0.95), 8: Aim(0.93), 32: None}  # with 32 connections wrk itself has two modes
    loads = []
    for (endpoint, concurrency), aim in perf_analyzer.items():
        aims: dict[str, Aim | None] = {PERF_ANALYZER: Aim(aim)}
        if endpoint == "http":
            aims[WRK] = wrk[concurrency]
        if concurrency <= 8:
            aims[TRITONCLIENT] = None
        loads.append(Load(endpoint, CACHED_IDENTITY, SMALL, concurrency, aims))
    return loads + [Load(endpoint, IDENTITY, SMALL, 8, {PERF_ANALYZER: None}) for endpoint in ENDPOINTS]


def large_loads() -> list[Load]:
    """The throughput cases of the 1.28 MB tensor."""
    aims = {("http", 1): 1.8, ("http", 4): 1.8, ("grpc", 1): 2.3, ("grpc", 4): 2.0}
    return [
        Load(endpoint, IDENTITY, LARGE, concurrency, {PERF_ANALYZER: Aim(aim)})
        for (endpoint, concurrency), aim in aims.items()
    ]


async def throughput(setting: Setting) -> str:
    """The section of the 64-byte tensor."""
    return await _compare("throughput", setting, small_loads())


async def large(setting: Setting) -> str:
    """The section of the 1.28 MB tensor."""
    return await _compare("large tensors", setting, large_loads())


async def _compare(what: str, setting: Setting, loads: list[Load]) -> str:
    cases = [Case((load.endpoint, load.model, str(load.concurrency)), await _tools(setting, load)) for load in loads]
    await measure(what, setting.rounds, cases)
    rows = []
    for load, case in zip(loads, cases, strict=True):
        for peer in case.tools:
            if peer == OURS:
                continue
            pairs = case.pairs(OURS, peer)
            medians = [f"{median(values):.0f}" if values else "" for values in (case.of(OURS), case.of(peer))]
            rows.append([*case.cells, *medians, peer, *ratio_cells(pairs, load.aims[peer])])
        if len(case.tools) == 1:
            rows.append([*case.cells, spread(case.of(OURS), 0), "", "", "", "", ""])
    header = ["endpoint", "model", "concurrency", "ours /s", "peer /s", "peer", "ratio (range)", "aim", "met"]
    return table(header, rows)


async def _tools(setting: Setting, load: Load) -> dict[str, Tool[float]]:
    """Who measures the case: ours, and its peers as far as they are there."""
    endpoint, model, elements, concurrency = load.endpoint, load.model, load.elements, load.concurrency
    probe = setting.probe(endpoint, model, elements, own_load.concurrency(concurrency))

    async def ours() -> float:
        return (await setting.run_ours(probe)).throughput

    async def perf_analyzer() -> float:
        arguments = ["--concurrency-range", str(concurrency)]
        return (await setting.run_perf_analyzer(endpoint, model, elements, arguments)).throughput

    async def tritonclient() -> float:
        return await run_official_client(
            endpoint,
            setting.address(endpoint),
            model,
            elements=elements,
            concurrency=concurrency,
            seconds=setting.seconds,
        )

    tools: dict[str, Tool[float]] = {OURS: ours}
    if PERF_ANALYZER in load.aims and setting.program is not None:
        tools[PERF_ANALYZER] = perf_analyzer
    if WRK in load.aims and setting.wrk is not None:
        program = setting.wrk
        request = own_load.encode(probe, await setting.worker.preflight(probe))
        await setting.worker.end_sweep()

        async def wrk() -> float:
            return await run_wrk(program, setting.server.http_url, request, concurrency, setting.seconds)

        tools[WRK] = wrk
    if TRITONCLIENT in load.aims:
        tools[TRITONCLIENT] = tritonclient
    return tools
