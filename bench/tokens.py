"""How true the figures in tokens are, and what a token costs this client: `python -m bench.tokens`.

A server sends tokens at known moments and shows when it sent them. What is compared are our means with its own: the
difference is the way through two sockets and our lateness. Then llama.cpp's own server, where its environment is there.
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
from collections.abc import Iterator
from pathlib import Path

from exporter.core.outcome import Outcome
from exporter.core.probe import InputOptions, LoadLevel, MeasurementOptions, Mode, Probe, PromptOptions, StopRules
from exporter.core.result import Measurement
from exporter.core.units import MS, NS
from exporter.demo.triton import free_ports
from exporter.sweep.conductor import Sweep
from exporter.worker.pool import WorkerPool
from tests.builders import concurrency, make_probe, make_target

FIRST_MS, GAP_MS, TOKENS = 50.0, 10.0, 100
WINDOW_S = 4


@contextlib.contextmanager
def serving() -> Iterator[int]:
    """The port of a token server."""
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.token_server", str(port), str(FIRST_MS), str(GAP_MS), str(TOKENS)]
    )
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


def probe_of(port: int, level: LoadLevel, model: str = "m", **measurement: int) -> Probe:
    options = PromptOptions(tokens=100, count=4, output_tokens=TOKENS)
    window: dict[str, int] = {
        "window_ns": WINDOW_S * NS,
        "stability_windows": 1,
        "max_windows": 1,
        "warm_up_ns": 2 * NS,
    }
    return make_probe(
        target=make_target(kind="openai", port=port, gpu="off"),
        model=model,
        levels=(level,),
        streaming=True,
        measurement=MeasurementOptions(**(measurement or window)),  # type: ignore[arg-type]
        input=InputOptions(prompt=options),
        stop=StopRules(max_in_flight=2000, max_tokens=100_000_000),
    )


async def measured(pool: WorkerPool, probe: Probe) -> Measurement:
    result = await Sweep(probe, []).run(lambda: pool.lend(1))
    assert result.measurements, result.reason_text
    return result.measurements[0]


def sent(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/sent") as page:
        found: dict[str, float] = json.load(page)
        return found


async def against_the_script(pool: WorkerPool) -> None:
    print(f"first token after {FIRST_MS:g} ms, then {TOKENS - 1} every {GAP_MS:g} ms; all times in ms")
    print("load | requests | ttft: server, ours, difference | tpot: server, ours | cpu us per token | loop lag")
    rate = LoadLevel(Mode.REQUEST_RATE, 200.0, "200")
    for name, level in (
        ("1 stream", concurrency(1)),
        ("100 streams", concurrency(100)),
        ("1000 streams", concurrency(1000)),
        ("200 requests/s", rate),
    ):
        with serving() as port:
            found = await measured(pool, probe_of(port, level))
            own = sent(port)
        tokens = found.tokens
        assert tokens is not None
        assert tokens.first_token is not None
        assert tokens.per_output_token is not None
        assert tokens.output_tokens == TOKENS * found.outcomes[Outcome.OK]
        ttft_ms, pace_ms = tokens.first_token.mean_ns / MS, tokens.per_output_token.mean_ns / MS
        cpu_us = found.health.cpu_ratio * found.duration_ns / 1000 / (tokens.chunks or 1)
        print(
            f"{name} | {found.outcomes[Outcome.OK]} | {own['first_ns'] / MS:.3f}, {ttft_ms:.3f}, "
            f"{ttft_ms - own['first_ns'] / MS:+.3f} | {own['pace_ns'] / MS:.4f}, {pace_ms:.4f} | {cpu_us:.1f} | "
            f"{found.health.loop_lag_ns / MS:.1f}"
        )


async def against_llama_cpp(pool: WorkerPool) -> None:
    from tests.servers.environment import LLAMACPP
    from tests.servers.llamacpp import MODEL, LlamaCpp

    print("\nllama.cpp: ttft beside its own prefill, tpot beside its own decoding; means, ms")
    with tempfile.TemporaryDirectory() as folder:
        server = LlamaCpp.prepared(LLAMACPP.make(print), Path(folder))
        with server.running(slots=4):
            server.wait_until_loaded()
            for level in (1, 2, 4):
                before, count = len(server.timings()), 12
                probe = probe_of(
                    server.port, concurrency(level), MODEL, request_count=count, request_timeout_ns=300 * NS
                )
                found = await measured(pool, probe)
                await asyncio.sleep(1)
                timings = server.timings()[before + 1 :]
                tokens = found.tokens
                assert tokens is not None
                assert tokens.first_token is not None
                assert tokens.per_output_token is not None
                prefill = statistics.mean(each.prefill_ms for each in timings)
                decode = statistics.mean(each.decode_ms / (each.decode_tokens - 1) for each in timings)
                counted = sum(each.decode_tokens for each in timings)
                print(
                    f"concurrency {level}: ttft {tokens.first_token.mean_ns / MS:.1f}, prefill {prefill:.1f}; "
                    f"tpot {tokens.per_output_token.mean_ns / MS:.3f}, decode {decode:.3f}; "
                    f"output tokens {tokens.output_tokens}, by its log {counted}"
                )


async def main() -> None:
    pool = WorkerPool(1)
    try:
        await against_the_script(pool)
        await against_llama_cpp(pool)
    finally:
        await pool.close()


if __name__ == "__main__":
    asyncio.run(main())
