"""The kind `openai` against llama.cpp's own server: what it logs of each request is compared with our figures."""

from __future__ import annotations

import asyncio
import re
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import InputOptions, MeasurementOptions, Probe, PromptOptions, Slo
from exporter.core.result import SweepResult, TokenSource
from exporter.core.target import Header
from exporter.core.units import MS, NS
from exporter.sweep.conductor import Sweep
from exporter.worker.pool import WorkerPool
from tests.builders import concurrency, make_probe, make_target
from tests.servers.llamacpp import MODEL, LlamaCpp, Timing
from tests.waiting import patient

TOKENS = 24
REQUESTS = 6


@pytest.fixture(scope="module")
def server(llamacpp: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCpp]:
    with LlamaCpp.serving(llamacpp, tmp_path_factory.mktemp("llamacpp"), slots=4) as made:
        yield made


def probe_of(server: LlamaCpp, level: int = 1, *, streaming: bool = True, **prompt: Any) -> Probe:
    options = PromptOptions(**({"tokens": 60, "count": 3, "output_tokens": TOKENS} | prompt))
    return make_probe(
        target=make_target(kind="openai", port=server.port),
        model=MODEL,
        levels=(concurrency(level),),
        streaming=streaming,
        measurement=MeasurementOptions(request_count=REQUESTS, request_timeout_ns=300 * NS),
        input=InputOptions(prompt=options),
        slo=Slo("chat", 0, 50.0, (str(level),), first_token_ns=600 * NS),
    )


async def sweep(pool: WorkerPool, server: LlamaCpp, probe: Probe) -> tuple[SweepResult, list[Timing]]:
    """The result, and what the server logged of its measured requests (the cold one is not)."""
    before = len(server.timings())
    result = await Sweep(probe, []).run(lambda: pool.lend(1))
    async with asyncio.timeout(60):
        while len(timings := server.timings()[before:]) < REQUESTS + 1:
            await asyncio.sleep(0.05)
    return result, timings[1:]


@pytest.mark.parametrize("level", [1, 2, 4])
async def test_our_figures_are_the_server_s_own(pool: WorkerPool, server: LlamaCpp, level: int) -> None:
    result, timings = await sweep(pool, server, probe_of(server, level))
    (measurement,) = result.measurements
    tokens = measurement.tokens
    assert (result.reason, measurement.outcomes) == (Reason.NONE, {Outcome.OK: REQUESTS})
    assert tokens is not None
    assert tokens.source is TokenSource.COUNTED
    assert (tokens.output_tokens, tokens.early_ends, len(timings)) == (TOKENS * REQUESTS, 0, REQUESTS)
    assert sum(timing.decode_tokens for timing in timings) == TOKENS * REQUESTS
    # What it did not take from its cache it computed.
    assert tokens.prompt_tokens is not None
    assert tokens.cached_tokens is not None
    assert sum(timing.prefill_tokens for timing in timings) == tokens.prompt_tokens - tokens.cached_tokens
    assert tokens.first_token is not None
    assert tokens.per_output_token is not None
    # Its prefill is part of our time to the first token; beyond it are its queue, sampling, and a busy machine.
    prefill_ms = statistics.mean(timing.prefill_ms for timing in timings)
    first_ms = tokens.first_token.mean_ns / MS
    assert 0.95 * prefill_ms - 2 <= first_ms
    if level == 1:
        assert first_ms <= 1.05 * prefill_ms + patient(0.05) * 1000
    # Its decode time has the first token, whose time it counts from the end of the prefill.
    decode_ms = statistics.mean(timing.decode_ms / (timing.decode_tokens - 1) for timing in timings)
    assert tokens.per_output_token.mean_ns / MS == pytest.approx(decode_ms, rel=0.25)
    assert measurement.slo_good == REQUESTS


async def test_a_prompt_that_comes_again_is_taken_from_the_cache_only_where_that_is_wanted(
    pool: WorkerPool, server: LlamaCpp
) -> None:
    avoided, _ = await sweep(pool, server, probe_of(server, count=1))
    allowed, _ = await sweep(pool, server, probe_of(server, count=1, allow_cache=True))
    cold, cached = (result.measurements[0].tokens for result in (avoided, allowed))
    assert cold is not None
    assert cached is not None
    assert cold.cached_ratio is not None
    assert cached.cached_ratio is not None
    # The chat template has a system prompt of its own, which stays cached.
    assert cold.cached_ratio < 0.5
    assert cached.cached_ratio > 0.9


async def test_without_a_stream_the_same_tokens_are_counted(pool: WorkerPool, server: LlamaCpp) -> None:
    result, timings = await sweep(pool, server, replace(probe_of(server, streaming=False), slo=None))
    tokens = result.measurements[0].tokens
    assert tokens is not None
    assert tokens.output_tokens == sum(timing.decode_tokens for timing in timings) == TOKENS * REQUESTS
    assert (tokens.first_token, tokens.chunks) == (None, None)


async def test_completions(pool: WorkerPool, server: LlamaCpp) -> None:
    result, _ = await sweep(pool, server, probe_of(server, endpoint="v1/completions"))
    tokens = result.measurements[0].tokens
    assert tokens is not None
    assert tokens.output_tokens == TOKENS * REQUESTS
    # No chat template: nothing is cached, and the words are one token each.
    assert tokens.cached_tokens is not None
    assert tokens.prompt_tokens is not None
    assert tokens.cached_tokens <= 2 * REQUESTS
    assert 60 * REQUESTS < tokens.prompt_tokens < 75 * REQUESTS


async def test_a_budget_in_tokens_ends_the_sweep(pool: WorkerPool, server: LlamaCpp) -> None:
    probe = probe_of(server)
    limited = replace(probe, stop=replace(probe.stop, max_tokens=250))
    result = await Sweep(limited, []).run(lambda: pool.lend(1))
    assert (result.reason, result.usable) == (Reason.TOKEN_BUDGET, True)
    assert "all 250 tokens" in result.reason_text
    assert result.sent <= 3


FEWER = "lower input.prompt.tokens or input.prompt.output_tokens, or give shorter prompts"
MISTAKES: dict[str, tuple[dict[str, Any], Reason, str]] = {
    "a path that it does not have": (
        {"prompt": {"endpoint": "v2/chat/completions"}},
        Reason.ERROR_RATIO,
        "client_error: HTTP 404: File Not Found; the server does not take POST /v2/chat/completions: check the "
        "target's url and input.prompt.endpoint",
    ),
    "a prefix that it does not have": (
        {"path": "/llm"},
        Reason.ERROR_RATIO,
        "client_error: HTTP 404: File Not Found; the server does not take POST /llm/v1/chat/completions: check the "
        "target's url and input.prompt.endpoint",
    ),
    "no such model": ({"model": "gpt"}, Reason.MODEL_UNKNOWN, f"/v1/models lists no model 'gpt'; it has '{MODEL}'"),
    "context too long": (
        {"prompt": {"tokens": 4000}},
        Reason.ERROR_RATIO,
        "client_error: HTTP 400: request (# tokens) exceeds the available context size (2048 tokens), try increasing "
        f"it; {FEWER}",
    ),
    "another kind": (
        {"kind": "triton_generate"},
        Reason.PROTOCOL,
        "serves OpenAI's API, and Triton was expected: set kind: openai (http://127.0.0.1:#/v2 reported HTTP 404: File "
        "Not Found)",
    ),
}


@pytest.mark.parametrize(("change", "reason", "text"), MISTAKES.values(), ids=MISTAKES)
async def test_what_is_wrong_is_reported_with_its_fix(
    pool: WorkerPool, server: LlamaCpp, change: dict[str, Any], reason: Reason, text: str
) -> None:
    probe = probe_of(server, **change.get("prompt", {}))
    target = make_target(kind=change.get("kind", "openai"), port=server.port, path=change.get("path", ""))
    probe = replace(probe, target=target, model=change.get("model", MODEL))
    result = await Sweep(replace(probe, stop=replace(probe.stop, error_min_requests=2)), []).run(lambda: pool.lend(1))
    assert result.reason is reason
    assert re.search(re.escape(text).replace(r"\#", r"\d+") + "$", result.reason_text), result.reason_text


async def test_a_server_that_does_not_make_embeddings(pool: WorkerPool, server: LlamaCpp) -> None:
    probe = replace(probe_of(server, streaming=False, endpoint="v1/embeddings"), slo=None)
    result = await Sweep(replace(probe, stop=replace(probe.stop, error_min_requests=2)), []).run(lambda: pool.lend(1))
    assert result.reason_text.endswith(
        "last: server_error: HTTP 501: This server does not support embeddings. Start it with `--embeddings`"
    )


async def test_a_key_is_needed_and_never_shown(llamacpp: Path, tmp_path: Path, pool: WorkerPool) -> None:
    key = tmp_path / "key"
    with LlamaCpp.serving(llamacpp, tmp_path, 1, "sesame-open") as server:
        probe = probe_of(server)
        refused = await Sweep(probe, []).run(lambda: pool.lend(1))
        url, rejected = server.url, f"({server.url}/v1/models reported HTTP 401: Invalid API Key)"
        asks = f"{url} asks for credentials"
        assert refused.reason is Reason.AUTH
        assert refused.reason_text == f"{asks}: set the target's headers, as authorization {rejected}"
        wrong = replace(probe, target=replace(probe.target, headers=(Header("Authorization", "Bearer other-key"),)))
        refused = await Sweep(wrong, []).run(lambda: pool.lend(1))
        assert refused.reason is Reason.AUTH
        assert refused.reason_text == f"{asks} and rejects the target's: check its header authorization {rejected}"
        key.write_text("sesame-open\n")
        header = Header("Authorization", file=str(key), prefix="Bearer ")
        taken = await Sweep(replace(probe, target=replace(probe.target, headers=(header,))), []).run(
            lambda: pool.lend(1)
        )
    assert (taken.reason, "sesame" in repr(taken)) == (Reason.NONE, False)
