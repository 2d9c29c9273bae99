"""Section of the comparison: what a load of evenly spaced requests shows of a server that is stuck for a while.

The real server is stopped (SIGSTOP) and let continue: its sockets stay open, the kernel takes connections for it, and
nothing got a response.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from statistics import median

import numpy as np
import numpy.typing as npt

from bench import own_load
from bench.models import CACHED_IDENTITY
from bench.programs import BenchError
from bench.rounds import OURS, PERF_ANALYZER, Case, Tool, measure, spread, table
from bench.setting import ENDPOINTS, Setting
from bench.throughput import SMALL
from exporter.core.units import NS

RATE = 100
STALL_SECONDS = 2.0
LEVEL_SECONDS = 9.0
RESPONSES_BEFORE = 340
"""The stall begins when the server has served so many: for both tools that is inside of the second of three windows.
"""
POLL_SECONDS = 0.1
ANY_STABILITY_PERCENT = "999999"
"""perf_analyzer measures on until its last three windows are alike in latency, by default within 10 %: it would leave
out the window with the stall, and report the others as if nothing had happened."""


@dataclass(frozen=True, slots=True)
class Stalled:
    """What came of a level with a stall in it; None where a tool does not state."""

    p99_seconds: float
    sent_p99_seconds: float | None = None
    responded: int | None = None
    unsent: int | None = None
    lost: int | None = None


async def stall(setting: Setting) -> str:
    """The section."""
    cases = [_case(setting, endpoint) for endpoint in ENDPOINTS]
    await measure("a stall", setting.rounds, cases)
    header = [
        "endpoint",
        "tool",
        "response p99 s (range)",
        "p99 from the sending s (range)",
        "responded",
        "unsent",
        "lost",
    ]
    return table(header, [_row(case, tool) for case in cases for tool in case.tools])


def _case(setting: Setting, endpoint: str) -> Case[Stalled]:
    probe = setting.probe(endpoint, CACHED_IDENTITY, SMALL, own_load.request_rate(RATE), LEVEL_SECONDS)

    async def ours() -> Stalled:
        async with _one_stall(setting):
            run = await setting.run_ours(probe)
        return summarize(run)

    async def perf_analyzer() -> Stalled:
        load = ["--request-rate-range", str(RATE), "-s", ANY_STABILITY_PERCENT]
        async with _one_stall(setting):
            report = await setting.run_perf_analyzer(endpoint, CACHED_IDENTITY, SMALL, load, seconds=LEVEL_SECONDS)
        return Stalled(report.p99_latency_seconds)

    tools: dict[str, Tool[Stalled]] = {OURS: ours}
    if setting.program is not None:
        tools[PERF_ANALYZER] = perf_analyzer
    return Case((endpoint,), tools)


@asynccontextmanager
async def _one_stall(setting: Setting) -> AsyncIterator[None]:
    """Stops the server once while the body runs. Raises BenchError if the body was over before the stall was."""
    stalling = asyncio.create_task(_stall(setting))
    try:
        yield
        is_whole = stalling.done()
    finally:
        stalling.cancel()
        with suppress(asyncio.CancelledError):
            await stalling
    if not is_whole:
        raise BenchError("the level was over before the server's stall was")


async def _stall(setting: Setting) -> None:
    pid = setting.server.pid
    assert pid is not None
    before = setting.requests_served(CACHED_IDENTITY)
    while await asyncio.to_thread(setting.requests_served, CACHED_IDENTITY) < before + RESPONSES_BEFORE:  # noqa: ASYNC110
        await asyncio.sleep(POLL_SECONDS)
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(STALL_SECONDS)
    finally:
        os.kill(pid, signal.SIGCONT)


def summarize(run: own_load.OwnRun) -> Stalled:
    """The percentiles of all requests that ended in the windows, whichever way they were meant to be measured."""
    columns = run.columns
    response_ns = np.percentile(columns.last_ns - columns.intended_ns, 99)
    sent_ns = np.percentile(columns.last_ns - columns.sent_ns, 99)
    return Stalled(
        float(response_ns) / NS,
        float(sent_ns) / NS,
        responded=len(columns),
        unsent=run.unsent,
        lost=count_gaps(columns.intended_ns, RATE) - run.unsent,
    )


def count_gaps(intended_ns: npt.NDArray[np.int64], rate: int) -> int:
    """How many moments at which a request was due have no record, between the first and the last that have one."""
    due = round(int(intended_ns.max() - intended_ns.min()) * rate / NS) + 1
    return due - len(intended_ns)


def _row(case: Case[Stalled], tool: str) -> list[str]:
    runs = case.of(tool)
    sent = [run.sent_p99_seconds for run in runs if run.sent_p99_seconds is not None]
    counts = [[run.responded for run in runs], [run.unsent for run in runs], [run.lost for run in runs]]
    known = [[value for value in values if value is not None] for values in counts]
    return [
        *case.cells,
        tool,
        spread([run.p99_seconds for run in runs], 3),
        spread(sent, 3) if sent else "",
        *(f"{median(values):g}" if values else "" for values in known[:1]),
        *(str(sum(values)) if values else "" for values in known[1:]),
    ]
