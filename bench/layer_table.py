"""Section of the comparison: what each layer of this client adds to the cpu time of a request (`bench.layers`)."""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
from statistics import median
from typing import Any

from bench import own_load
from bench.layers import BARE, CHANNEL, CLOCKED, CONNECTION, ENGINE, LAYERS
from bench.models import CACHED_IDENTITY
from bench.programs import BenchError, progress
from bench.rounds import spread, table
from bench.setting import ENDPOINTS, Setting
from bench.throughput import SMALL

CONCURRENCIES = (1, 8)

_WORDS = {
    BARE: "bare loop: epoll, recv, send",
    CLOCKED: "the same, clocked",
    CONNECTION: "+ connection",
    CHANNEL: "+ channel: parse, stamps, send logic",
    ENGINE: "+ engine: record, stop rules, next request",
}
Rounds = dict[str, list[dict[str, float]]]


async def layers(setting: Setting) -> str:
    """The section."""
    rows = []
    for endpoint in ENDPOINTS:
        for concurrency in CONCURRENCIES:
            try:
                found = await _measure(setting, endpoint, concurrency)
            except BenchError as error:
                progress(f"layers are lost: {error}")
                continue
            rows += [[endpoint, str(concurrency), *cells] for cells in layer_rows(endpoint, found)]
    header = ["endpoint", "concurrency", "layer", "user us (range)", "system us (range)", "adds us", "/s"]
    return table([*header, "in send us", "in recv us"], rows)


def layer_rows(endpoint: str, found: Rounds) -> list[list[str]]:
    """One row per layer; what it adds is the median difference, round by round, to the layer before it."""
    rows: list[list[str]] = []
    before: list[float] = []
    for name in LAYERS[endpoint]:
        figures = found[name]
        totals = [each["user_us"] + each["system_us"] for each in figures]
        added = [total - other for total, other in zip(totals, before, strict=True)] if before else before
        if name != CLOCKED:
            before = totals
        kernel = [f"{median(each[key] for each in figures):.1f}" for key in ("send_us", "receive_us")]
        rows.append(
            [
                _WORDS[name],
                *(spread([each[key] for each in figures], 1) for key in ("user_us", "system_us")),
                f"{median(added):.1f}" if added and name != CLOCKED else "",
                f"{median(each['per_second'] for each in figures):.0f}",
                *(kernel if name == CLOCKED else ("", "")),
            ]
        )
    return rows


async def _measure(setting: Setting, endpoint: str, concurrency: int) -> Rounds:
    probe = setting.probe(endpoint, CACHED_IDENTITY, SMALL, own_load.concurrency(concurrency))
    request = own_load.encode(probe, await setting.worker.preflight(probe))
    await setting.worker.end_sweep()
    arguments = (endpoint, setting.port(endpoint), concurrency, setting.seconds, setting.rounds)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.layers", *map(str, arguments)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate(pickle.dumps(request))
    if process.returncode:
        raise BenchError(f"bench.layers ended with status {process.returncode}")
    found: dict[str, Any] = json.loads(output)
    return found
