"""Section of the comparison: does an open loop send as many requests as asked for, and each when it was meant to go?"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from statistics import median

import numpy as np

from bench import own_load
from bench.models import CACHED_IDENTITY
from bench.rounds import OURS, PERF_ANALYZER, Aim, Case, Tool, measure, spread, table
from bench.setting import ENDPOINTS, Setting
from bench.sleeper import sleep_beside
from bench.throughput import SMALL
from exporter.core.probe import Probe

RATES = (1000, 8000)
OFF_LIMIT_PERCENT = Aim(0.1, at_least=False)
LAG_AIMS_US = {1000: (Aim(50.0, at_least=False), Aim(150.0, at_least=False))}
"""For the median and the 99th percentile, on a quiet machine."""
STRETCH = 2
"""A window's edge is worth one request of those that were asked for: longer ones show smaller errors."""


@dataclass(frozen=True, slots=True)
class Sending:
    """What came of a rate: per second, and (unknown for peers) what was not sent and how late the sends were,
    beside how late a process that only slept was in the same seconds."""

    per_second: float
    unsent: int = 0
    lag_p50_us: float = 0.0
    lag_p99_us: float = 0.0
    sleeper_p99_us: float = 0.0


async def rates(setting: Setting) -> str:
    """The section."""
    cases = {(endpoint, rate): _case(setting, endpoint, rate) for rate in RATES for endpoint in ENDPOINTS}
    await measure("request rates", setting.rounds, list(cases.values()))
    header = ["endpoint", "asked /s", "achieved /s (range)", "off by %", "aim", "met", "unsent (range)"]
    header += ["send lag p50 us (range)", "p99 us (range)", "aim", "met", "a sleeper's p99 us (range)"]
    header += ["perf_analyzer achieved /s (range)"]
    return table(header, [_row(rate, case) for (_, rate), case in cases.items()])


def _case(setting: Setting, endpoint: str, rate: int) -> Case[Sending]:
    seconds = STRETCH * setting.seconds
    probe = setting.probe(endpoint, CACHED_IDENTITY, SMALL, own_load.request_rate(rate), seconds)

    async def ours() -> Sending:
        return await _send(setting, probe)

    async def perf_analyzer() -> Sending:
        arguments = ["--request-rate-range", str(rate)]
        report = await setting.run_perf_analyzer(endpoint, CACHED_IDENTITY, SMALL, arguments, seconds=seconds)
        return Sending(report.throughput)

    tools: dict[str, Tool[Sending]] = {OURS: ours}
    if setting.program is not None:
        tools[PERF_ANALYZER] = perf_analyzer
    return Case((endpoint, str(rate)), tools)


async def _send(setting: Setting, probe: Probe) -> Sending:
    run, slept = await asyncio.gather(setting.run_ours(probe), sleep_beside(RATES[0], STRETCH * setting.seconds))
    columns = run.columns
    p50_ns, p99_ns = np.percentile(columns.sent_ns - columns.intended_ns, [50, 99])
    return Sending(run.sent_per_second, run.unsent, float(p50_ns) / 1000, float(p99_ns) / 1000, slept.p99_us)


def _row(rate: int, case: Case[Sending]) -> list[str]:
    ours = case.of(OURS)
    if not ours:
        return [*case.cells, spread([])]
    achieved = [sending.per_second for sending in ours]
    off_percent = 100 * abs(median(achieved) / rate - 1)
    lags = [[sending.lag_p50_us for sending in ours], [sending.lag_p99_us for sending in ours]]
    aims = LAG_AIMS_US.get(rate)
    verdicts = [aim.verdict(median(values)) for aim, values in zip(aims, lags, strict=True)] if aims else []
    return [
        *case.cells,
        spread(achieved, 1),
        f"{off_percent:.3f}",
        str(OFF_LIMIT_PERCENT),
        OFF_LIMIT_PERCENT.verdict(off_percent),
        spread([sending.unsent for sending in ours], 0),
        *(spread(values, 0) for values in lags),
        ", ".join(map(str, aims or ())),
        ", ".join(verdicts),
        spread([sending.sleeper_p99_us for sending in ours], 0),
        spread([sending.per_second for sending in case.of(PERF_ANALYZER)], 1),
    ]
