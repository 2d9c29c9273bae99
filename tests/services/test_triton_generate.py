"""The kind `triton_generate` against a real Triton, with a model that emits words at known moments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import InputOptions, MeasurementOptions, Probe, PromptOptions, StopRules
from exporter.core.result import SweepResult, TokenSource
from exporter.core.units import MS, NS
from exporter.demo.triton import EmbeddedTriton
from exporter.demo.triton_environment import TritonEnvironment
from exporter.sweep.conductor import Sweep
from exporter.worker.pool import WorkerPool
from tests.builders import concurrency, make_probe, make_target
from tests.waiting import patient

MODELS = Path(__file__).parent / "generate_models"
TOKENS, REQUESTS = 5, 8


@pytest.fixture(scope="module")
def server(numpy_1_environment: TritonEnvironment) -> Iterator[EmbeddedTriton]:
    with EmbeddedTriton(numpy_1_environment, models=MODELS) as running:
        yield running


def probe_of(server: EmbeddedTriton, **prompt: Any) -> Probe:
    options = PromptOptions(**({"tokens": 5, "count": 2, "output_tokens": TOKENS} | prompt))
    return make_probe(
        target=make_target(kind="triton_generate", port=server.http_port),
        model="tokens",
        levels=(concurrency(2),),
        streaming=True,
        measurement=MeasurementOptions(request_count=REQUESTS),
        input=InputOptions(prompt=options),
        stop=StopRules(error_min_requests=2),
    )


async def sweep(pool: WorkerPool, probe: Probe) -> SweepResult:
    return await Sweep(probe, []).run(lambda: pool.lend(1))


async def test_each_figure_is_what_the_model_did(pool: WorkerPool, server: EmbeddedTriton) -> None:
    result = await sweep(pool, probe_of(server))
    (measurement,) = result.measurements
    tokens = measurement.tokens
    assert (result.reason, measurement.outcomes) == (Reason.NONE, {Outcome.OK: REQUESTS})
    assert tokens is not None
    assert tokens.source is TokenSource.CHUNKS
    assert (tokens.chunks, tokens.output_tokens, tokens.per_output_token) == (TOKENS * REQUESTS, None, None)
    assert tokens.first_token is not None
    assert tokens.inter_token is not None
    assert tokens.inter_token.count == (TOKENS - 1) * REQUESTS
    assert tokens.first_token.min_ns / MS >= 40
    assert tokens.first_token.at(50.0) / MS <= 40 + patient(20)
    assert tokens.inter_token.mean_ns / MS == pytest.approx(10, abs=patient(2))
    # Triton's own statistics are of the same requests.
    assert measurement.server is not None
    assert abs(measurement.server.success.count - REQUESTS) <= 2


async def test_an_error_in_the_stream_is_one(pool: WorkerPool, server: EmbeddedTriton) -> None:
    result = await sweep(pool, probe_of(server, template="fail {prompt}"))
    assert result.reason is Reason.ERROR_RATIO
    assert result.reason_text.endswith("last: server_error: the response reports an error: out of words")


async def test_a_model_that_takes_no_prompt_and_one_that_is_not_there(pool: WorkerPool, server: EmbeddedTriton) -> None:
    probe = replace(probe_of(server), streaming=False)
    decoupled = await sweep(pool, probe)
    assert decoupled.reason is Reason.UNSUPPORTED
    text = "model 'tokens' is decoupled (any number of responses to a request): set streaming: true"
    assert decoupled.reason_text == text
    unknown = await sweep(pool, replace(probe, model="nothing"))
    assert unknown.reason is Reason.MODEL_UNKNOWN
    assert unknown.reason_text == f"model 'nothing' is not known to {server.http_url}; it knows: tokens"


@pytest.mark.parametrize("port", ["http", "grpc", "metrics"])
async def test_a_wrong_path_or_port(pool: WorkerPool, server: EmbeddedTriton, port: str) -> None:
    probe = probe_of(server)
    number = {"http": server.http_port, "grpc": server.grpc_port, "metrics": server.metrics_port}[port]
    target = replace(probe.target, port=number, path="/triton" if port == "http" else "")
    result = await sweep(pool, replace(probe, target=target))
    place = f"port {number} of 127.0.0.1"
    expected = {
        "http": f"the server responds without the path /triton: use {server.http_url} (",
        "grpc": f"{place} speaks gRPC, which kind triton_generate does not use: give the server's HTTP port (by "
        "default 8000) (",
        "metrics": f"{place} serves metrics, no inference: use http://127.0.0.1:8000, and "
        f"http://127.0.0.1:{number}/metrics as metrics_url (",
    }
    assert result.reason is Reason.PROTOCOL
    assert result.reason_text.startswith(expected[port]), result.reason_text


async def test_a_stall_of_the_model_is_reported_as_one(pool: WorkerPool, server: EmbeddedTriton) -> None:
    probe = probe_of(server, template="stall {prompt}")
    limited = replace(probe, measurement=replace(probe.measurement, request_timeout_ns=NS))
    result = await sweep(pool, limited)
    assert result.reason is Reason.ERROR_RATIO
    stalled = r"last: timeout: the stream stalled: 2 events with content, then none for [\d.]+ s, until "
    assert re.search(stalled + "measurement.request_timeout$", result.reason_text), result.reason_text


async def test_another_model_s_inputs_are_named(pool: WorkerPool, triton: EmbeddedTriton) -> None:
    result = await sweep(pool, replace(probe_of(triton), model="addsub"))
    assert result.reason is Reason.BAD_INPUT
    assert "model 'addsub' has no input 'text_input', but 'INPUT0', 'INPUT1'" in result.reason_text
