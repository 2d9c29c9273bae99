"""The kind `openai` against KServe's own OpenAI routes. llama.cpp's server is behind them, whose log is the oracle."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import InputOptions, MeasurementOptions, Probe, PromptOptions, StopRules
from exporter.core.result import SweepResult, TokenFigures, TokenSource
from exporter.core.units import MS, NS
from exporter.sweep.conductor import Sweep
from exporter.worker.pool import WorkerPool
from tests.builders import concurrency, make_probe, make_target
from tests.servers.kserve_openai import LACKING, LAST_PYTHON, KServeOpenAi
from tests.servers.llamacpp import MODEL, LlamaCpp, Timing
from tests.waiting import becomes_true, patient

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(sys.version_info[:2] > LAST_PYTHON, reason=LACKING)]

TOKENS, REQUESTS = 12, 4


@pytest.fixture(scope="module")
def upstream(llamacpp: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCpp]:
    with LlamaCpp.serving(llamacpp, tmp_path_factory.mktemp("llamacpp"), slots=2) as made:
        yield made


@pytest.fixture(scope="module")
def server(
    kserve: Path, kserve_openai: Path, upstream: LlamaCpp, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KServeOpenAi]:
    made = KServeOpenAi.prepared(kserve, kserve_openai, tmp_path_factory.mktemp("kserve"))
    with made.running(MODEL, upstream.url):
        yield made


def probe_of(server: KServeOpenAi, *, streaming: bool, **prompt: Any) -> Probe:
    options: dict[str, Any] = {
        "tokens": 40,
        "count": 2,
        "output_tokens": TOKENS,
        "endpoint": "openai/v1/chat/completions",
    }
    return make_probe(
        target=make_target(kind="openai", port=server.port),
        model=MODEL,
        levels=(concurrency(1),),
        streaming=streaming,
        measurement=MeasurementOptions(request_count=REQUESTS, request_timeout_ns=300 * NS),
        input=InputOptions(prompt=PromptOptions(**(options | prompt))),
        stop=StopRules(error_min_requests=2, max_latency_ns=0),
    )


async def swept(pool: WorkerPool, probe: Probe) -> SweepResult:
    return await Sweep(probe, []).run(lambda: pool.lend(1))


async def measured(pool: WorkerPool, upstream: LlamaCpp, probe: Probe) -> tuple[TokenFigures, list[Timing]]:
    """Our figures, and what llama.cpp logged of the same requests (the cold one is not measured)."""
    before = len(upstream.timings())
    result = await swept(pool, probe)
    assert (result.reason, result.reason_text) == (Reason.NONE, "")
    (measurement,) = result.measurements
    assert measurement.outcomes == {Outcome.OK: REQUESTS}
    assert measurement.tokens is not None
    assert becomes_true(lambda: len(upstream.timings()) >= before + REQUESTS + 1)
    return measurement.tokens, upstream.timings()[before + 1 :]


async def test_a_stream(pool: WorkerPool, upstream: LlamaCpp, server: KServeOpenAi) -> None:
    """Its proxy asks for no usage: tokens are not counted, and chunks are, one for each token of this model's."""
    tokens, timings = await measured(pool, upstream, probe_of(server, streaming=True))
    assert (tokens.source, tokens.output_tokens, tokens.per_output_token) == (TokenSource.CHUNKS, None, None)
    assert tokens.chunks is not None
    generated = sum(timing.decode_tokens for timing in timings)
    # A token that ends the text, or half of a character, is no chunk.
    assert generated - 2 * REQUESTS <= tokens.chunks <= generated
    assert tokens.first_token is not None
    prefill_ms = statistics.mean(timing.prefill_ms for timing in timings)
    assert 0.95 * prefill_ms - 2 <= tokens.first_token.mean_ns / MS <= 1.05 * prefill_ms + patient(0.1) * 1000


async def test_one_document(pool: WorkerPool, upstream: LlamaCpp, server: KServeOpenAi) -> None:
    tokens, timings = await measured(pool, upstream, probe_of(server, streaming=False))
    assert tokens.source is TokenSource.COUNTED
    assert tokens.output_tokens == sum(timing.decode_tokens for timing in timings)


async def test_no_such_model(pool: WorkerPool, server: KServeOpenAi) -> None:
    result = await swept(pool, replace(probe_of(server, streaming=True), model="gpt"))
    assert result.reason is Reason.MODEL_UNKNOWN
    assert result.reason_text.endswith(f"/openai/v1/models lists no model 'gpt'; it has '{MODEL}'")


async def test_a_context_too_long(pool: WorkerPool, server: KServeOpenAi) -> None:
    result = await swept(pool, probe_of(server, streaming=False, tokens=4000))
    assert result.reason is Reason.ERROR_RATIO
    assert "server_error: HTTP 502: Received invalid response from upstream: " in result.reason_text
    assert "exceeds the available context size (2048 tokens)" in result.reason_text


async def test_the_path_without_its_prefix(pool: WorkerPool, server: KServeOpenAi) -> None:
    result = await swept(pool, probe_of(server, streaming=True, endpoint="v1/chat/completions"))
    assert result.reason is Reason.PROTOCOL
    url = f"http://127.0.0.1:{server.port}/v1/models"
    assert result.reason_text == (
        f"{url} sent KServe's list of models, not OpenAI's: KServe serves that below /openai; set "
        "input.prompt.endpoint: openai/v1/chat/completions"
    )
