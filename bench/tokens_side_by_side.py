"""Our figures of a language model beside perf_analyzer's, of the same file and server:
`python -m bench.tokens_side_by_side PATH`, with the path of perf_analyzer.

First on a server whose moments are known, then on llama.cpp's own. perf_analyzer has no figures in tokens: they are
made here of the stamps in its profile export, as GenAI-Perf makes them.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.programs import run_program
from bench.tokens import FIRST_MS, GAP_MS, OPEN_MS, TOKENS, serving
from exporter.core.units import MS
from tests.servers.environment import LLAMACPP
from tests.servers.llamacpp import MODEL, LlamaCpp

REQUESTS = 8
OURS = [sys.executable, "-m", "exporter", "analyze", "--json", "ours.json"]


def write_payloads(path: Path, model: str, tokens: int) -> None:
    """Requests of different prompts, in perf_analyzer's form."""
    payloads = [
        {
            "model": model,
            "stream": True,
            "max_tokens": tokens,
            "ignore_eos": True,
            "messages": [
                {"role": "user", "content": f"Number {number}: write about the weather of a small town. " * 4}
            ],
        }
        for number in range(REQUESTS)
    ]
    path.write_text(json.dumps({"data": [{"payload": [each]} for each in payloads]}))


async def both(program: str, port: int, model: str, folder: Path, concurrency: int, *ours: str) -> str:
    """One run of each; their figures side by side, in milliseconds."""
    words = ["-m", model, "--service-kind", "openai", "--endpoint", "v1/chat/completions", "-u", f"localhost:{port}"]
    words += ["--input-data", "payloads.json", "--async", "--concurrency-range", f"{concurrency}"]
    for name in ("ours.json", "export.json"):
        (folder / name).unlink(missing_ok=True)
    peer = [program, *words, "--request-count", f"{REQUESTS}", "--profile-export-file", "export.json"]
    await run_program(peer, folder)
    await run_program([*OURS, *words, "--request-count", f"{REQUESTS}", *ours], folder)
    (found,) = json.loads((folder / "ours.json").read_text())["measurements"]
    (experiment,) = json.loads((folder / "export.json").read_text())["experiments"]
    lines = [f"  perf_analyzer  {_of_stamps(experiment['requests'])}", f"  Triton Canary  {_of_ours(found)}"]
    return "\n".join(lines)


def _of_stamps(requests: list[dict[str, list[int]]]) -> str:
    stamps = [(int(str(each["timestamp"])), each["response_timestamps"]) for each in requests]
    latency = statistics.mean(times[-1] - begin for begin, times in stamps) / MS
    first = statistics.mean(times[0] - begin for begin, times in stamps) / MS
    gaps = [b - a for _, times in stamps for a, b in itertools.pairwise(times)]
    responses = statistics.mean(len(times) for _, times in stamps)
    return (
        f"requests {len(stamps)}, latency {latency:.1f}, first response {first:.1f}, responses of a request "
        f"{responses:g}, gap between responses {statistics.mean(gaps) / MS:.2f}"
    )


def _of_ours(found: dict[str, Any]) -> str:
    tokens = found["tokens"]

    def mean(name: str) -> float:
        return float(tokens[name]["mean_seconds"]) * 1000

    latency_ms, requests = found["latency"]["mean_seconds"] * 1000, tokens["requests"]
    return (
        f"requests {requests}, latency {latency_ms:.1f}, stream open {mean('stream_open'):.1f}, first token "
        f"{mean('first_token'):.1f}, tokens of a request {tokens['output_tokens'] / requests:g}, gap between "
        f"events {mean('inter_token'):.2f}, time per output token {mean('per_output_token'):.2f}"
    )


async def main(program: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # perf_analyzer may run in a root of its own, that has it
        folder = Path(name)
        write_payloads(folder / "payloads.json", "m", TOKENS)
        print(
            f"a role after {OPEN_MS:g} ms, the first of {TOKENS} tokens after {FIRST_MS:g}, the others every {GAP_MS:g}"
        )
        with serving() as port:
            print(await both(program, port, "m", folder, 1))
        write_payloads(folder / "payloads.json", MODEL, 24)
        with LlamaCpp.serving(LLAMACPP.make(print), folder) as server:
            for concurrency in (1, 4):
                for cache in ("allow", "avoid"):
                    print(f"llama.cpp, 24 tokens a request, concurrency {concurrency}, our --prompt-cache {cache}")
                    print(await both(program, server.port, MODEL, folder, concurrency, "--prompt-cache", cache))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
