"""How true the figures in tokens are, and what a token costs this client: `python -m bench.tokens [PART]...`.

`script`: a server sends tokens at known moments and keeps when it sent them; what is compared are our figures with its
own, of the same requests. `proxy`: through a proxy that holds back the role. `llama`: llama.cpp's own server, whose log
states what each request took. On a machine that others use, under `chrt -f 1`: it is not their load that is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.slow_role import delaying_the_role
from exporter.core.outcome import Outcome
from exporter.core.probe import InputOptions, LoadLevel, MeasurementOptions, Mode, Probe, PromptOptions, StopRules
from exporter.core.result import LatencySummary, Measurement
from exporter.core.units import MS, NS
from exporter.demo.triton import free_ports
from exporter.sweep.conductor import Sweep
from exporter.worker.pool import WorkerPool
from tests.builders import concurrency, make_probe, make_target
from tests.servers.environment import LLAMACPP
from tests.servers.llamacpp import MODEL, LlamaCpp, Timing

OPEN_MS, FIRST_MS, GAP_MS, TOKENS = 20.0, 50.0, 10.0, 100
WINDOW_S = 4
REQUESTS = 12


@dataclass(frozen=True)
class Load:
    """A load on the scripted server, and the gap between its tokens."""

    name: str
    level: LoadLevel
    gap_ms: float = GAP_MS
    warm_up_s: int = 2


def rate(per_second: float) -> LoadLevel:
    return LoadLevel(Mode.REQUEST_RATE, per_second, f"{per_second:g}")


LOADS = (
    Load("1 stream", concurrency(1)),
    Load("100 streams: 100 requests/s of 1 s", rate(100)),
    Load("1000 streams: 100 requests/s of 10 s", rate(100), gap_ms=100.0, warm_up_s=11),
    Load("200 requests/s of 100 tokens", rate(200)),
)


@contextlib.contextmanager
def serving(gap_ms: float = GAP_MS) -> Iterator[int]:
    """The port of a token server."""
    (port,) = free_ports(1)
    script = [str(value) for value in (port, OPEN_MS, FIRST_MS, gap_ms, TOKENS)]
    process = subprocess.Popen([sys.executable, "-m", "bench.token_server", *script])
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


def probe_of(port: int, level: LoadLevel, model: str = "m", **measurement: Any) -> Probe:
    options = PromptOptions(tokens=100, count=4, output_tokens=TOKENS)
    return make_probe(
        target=make_target(kind="openai", port=port, gpu="off"),
        model=model,
        levels=(level,),
        streaming=True,
        measurement=MeasurementOptions(**({"request_timeout_ns": 300 * NS} | measurement)),
        input=InputOptions(prompt=options),
        stop=StopRules(max_in_flight=2000, max_tokens=100_000_000, max_latency_ns=0),
    )


async def measured(pool: WorkerPool, probe: Probe) -> Measurement:
    result = await Sweep(probe, []).run(lambda: pool.lend(1))
    assert result.measurements, result.reason_text
    return result.measurements[0]


def sent(port: int, begin_s: float = 0, end_s: float = float("inf")) -> dict[str, float]:
    """The server's figures of the requests that ended between these two unix times."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/sent?from={begin_s}&to={end_s}") as page:
        found: dict[str, float] = json.load(page)
        return found


def figures(found: Measurement) -> dict[str, float]:
    """Ours, by the server's names."""
    tokens = found.tokens
    assert tokens is not None
    assert tokens.output_tokens == TOKENS * found.outcomes[Outcome.OK]
    opened, first, pace, gap = tokens.stream_open, tokens.first_token, tokens.per_output_token, tokens.inter_token
    assert opened and first and pace and gap  # noqa: PT018
    return {
        "open_ns": opened.mean_ns,
        "open_p50_ns": at(opened, 50),
        "first_ns": first.mean_ns,
        "first_p50_ns": at(first, 50),
        "first_p99_ns": at(first, 99),
        "pace_ns": pace.mean_ns,
        "gap_p50_ns": at(gap, 50),
        "gap_p99_ns": at(gap, 99),
    }


def at(summary: LatencySummary, percentile: float) -> float:
    return float(summary.at(percentile))


async def against_the_script(pool: WorkerPool) -> None:
    print(f"a role after {OPEN_MS:g} ms, the first token after {FIRST_MS:g} ms, then {TOKENS - 1}; milliseconds")
    for load in LOADS:
        with serving(load.gap_ms) as port:
            window: dict[str, Any] = {"window_ns": WINDOW_S * NS, "stability_windows": 1, "max_windows": 1}
            found = await measured(pool, probe_of(port, load.level, warm_up_ns=load.warm_up_s * NS, **window))
            (summary,) = found.window_summaries
            own = sent(port, summary.start_unix_s, summary.start_unix_s + summary.duration_ns / NS)
        ours, seconds = figures(found), found.duration_ns / NS
        assert found.tokens is not None
        tokens = found.tokens.chunks or 1
        cpu_us = found.health.cpu_ratio * seconds * 1e6 / tokens
        print(f"\n{load.name}; tokens every {load.gap_ms:g} ms")
        print(
            f"  requests {found.outcomes[Outcome.OK]} (the server's count {own['requests']:.0f}), all ok: "
            f"{set(found.outcomes) == {Outcome.OK}}; {tokens / seconds:.0f} tokens/s; cpu {cpu_us:.1f} us per token, "
            f"{100 * found.health.cpu_ratio:.0f} % of a core; largest loop lag {found.health.loop_lag_ns / MS:.1f}; "
            f"a request waited at most {own['late_ns'] / MS:.1f} for the server to read it"
        )
        for name, value in ours.items():
            print(
                f"  {name.removesuffix('_ns'):>9}: server {own[name] / MS:9.3f}  ours {value / MS:9.3f}  "
                f"difference {(value - own[name]) / MS:+.3f}"
            )


async def run_on(server: LlamaCpp, pool: WorkerPool, port: int, level: int) -> tuple[Measurement, list[Timing]]:
    """What we measured of some requests by this port of the server, and what its log states of them."""
    before = len(server.timings())
    found = await measured(pool, probe_of(port, concurrency(level), MODEL, request_count=REQUESTS))
    await asyncio.sleep(1)  # its log is written behind
    return found, server.timings()[before + 1 :]  # the cold one is not measured


async def against_llama_cpp(pool: WorkerPool, server: LlamaCpp) -> None:
    print("\nllama.cpp beside its own log; means, milliseconds")
    for level in (1, 2, 4):
        print(f"  concurrency {level}: {beside(*await run_on(server, pool, server.port, level))}")


async def through_a_proxy(pool: WorkerPool) -> None:
    print("\nthe same through a proxy that holds back the role; medians of 30 requests, milliseconds")
    with serving() as port:
        for late_ms in (0, 10, 20):
            async with delaying_the_role(port, late_ms / 1000) as proxy:
                found = figures(await measured(pool, probe_of(proxy, concurrency(1), request_count=30)))
            shown = ", ".join(f"{name} {found[f'{name}_ns'] / MS:.2f}" for name in ("open_p50", "first_p50", "gap_p50"))
            print(f"  the role {late_ms} late: {shown}")


def beside(found: Measurement, timings: Sequence[Timing]) -> str:
    """Our means beside those of the server's log."""
    tokens = found.tokens
    assert tokens is not None and tokens.first_token is not None and tokens.per_output_token is not None  # noqa: PT018
    prefill = statistics.mean(each.prefill_ms for each in timings)
    # Its decoding begins with the second token: the first one comes of the prefill.
    decode = statistics.mean(each.decode_ms / (each.decode_tokens - 1) for each in timings)
    first, pace = tokens.first_token.mean_ns / MS, tokens.per_output_token.mean_ns / MS
    counted = sum(each.decode_tokens for each in timings)
    return (
        f"ttft {first:.1f}, prefill {prefill:.1f} ({first - prefill:+.1f}); "
        f"tokens/s of a request {1000 / pace:.1f}, its decoding {1000 / decode:.1f} "
        f"({100 * (decode / pace - 1):+.1f} %); output tokens {tokens.output_tokens}, by its log {counted}"
    )


async def main(parts: Sequence[str]) -> None:
    pool = WorkerPool(1)
    try:
        if "script" in parts:
            await against_the_script(pool)
        if "proxy" in parts:
            await through_a_proxy(pool)
        if "llama" not in parts:
            return
        with (
            tempfile.TemporaryDirectory() as folder,
            LlamaCpp.serving(LLAMACPP.make(print), Path(folder)) as server,
        ):
            await against_llama_cpp(pool, server)
    finally:
        await pool.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or ["script", "proxy", "llama"]))
