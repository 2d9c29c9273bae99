"""Sweeps of models whose every figure is known, on a real Triton: one that calls another, one that is off by a known
amount from its reference, one that shows when it responded, and one that is served from the response cache."""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http.aio

from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import InputOptions, MeasurementOptions, Validation
from exporter.core.units import MS, NS
from exporter.demo.triton import MODELS, EmbeddedTriton
from exporter.demo.triton_environment import TritonEnvironment
from exporter.services.triton.service import TritonService
from exporter.transport.call import Call
from exporter.worker.local import LocalWorker
from tests.builders import make_probe, make_target
from tests.sweep.test_server_side_real import mean_ns, probe_of, swept
from tests.transport.scripted import Ended
from tests.waiting import patient

OWN_MODELS = Path(__file__).parent / "models"
COMPARED = ("addsub", "identity", "accumulator")


@pytest.fixture(scope="module")
def server(triton_environment: TritonEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    folder = tmp_path_factory.mktemp("models")
    for model in (*OWN_MODELS.iterdir(), *(MODELS / name for name in COMPARED)):
        shutil.copytree(model, folder / model.name)
    with EmbeddedTriton(triton_environment, models=folder) as server:
        yield server
        server.kill()


@pytest.mark.parametrize("named", ["addsub", "addsub:1"])
async def test_a_model_that_calls_another_twice(worker: LocalWorker, server: EmbeddedTriton, named: str) -> None:
    before = await succeeded(server, "addsub")
    result = await swept(worker, probe_of(server, "twice", 1, composing_models=(named,)))
    assert await succeeded(server, "addsub") - before == 2 * result.sent
    assert result.facts is not None
    (key,) = result.facts.composing
    assert key.name == "addsub"
    (measurement,) = result.measurements
    whole, (part,) = measurement.server, measurement.composing
    assert whole is not None
    assert (part.name, part.version) == ("addsub", "1")
    count = whole.success.count
    assert measurement.foreign_requests == 0
    assert count > 20
    # At a window's edge the two models are not asked at the same moment.
    for calls in (part.success.count, part.inference_count, part.execution_count, part.queue.count):
        assert calls == pytest.approx(2 * count, rel=0.1)
    # What addsub took is within what the model itself computed.
    assert 0 < part.success.ns < whole.compute_infer.ns
    breakdown = measurement.breakdown_ns
    assert "composing" not in breakdown
    assert breakdown["compute_infer"] == pytest.approx(whole.compute_infer.ns / count)
    assert sum(breakdown.values()) - measurement.negative_remainder_ns == pytest.approx(mean_ns(measurement))


@pytest.mark.parametrize("scheme", ["http", "grpc"])
@pytest.mark.parametrize("model", ["sums", "sums_inside"])
async def test_an_ensemble_with_a_sequence_model_is_sent_sequences(
    worker: LocalWorker, server: EmbeddedTriton, model: str, scheme: str
) -> None:
    target = make_target(scheme=scheme, port=server.grpc_port if scheme == "grpc" else server.http_port)
    result = await swept(worker, probe_of(server, model, 3, target=target))
    (measurement,) = result.measurements
    assert set(measurement.outcomes) == {Outcome.OK}
    assert measurement.sequences is not None
    assert measurement.sequences > 0


async def test_how_far_a_model_is_from_its_reference(
    worker: LocalWorker, server: EmbeddedTriton, tmp_path: Path
) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"data": [{"INPUT0": [1, 2]}, {"INPUT0": [4, -8]}]}))
    probe = probe_of(
        server,
        "shifted",
        1,
        input=InputOptions(source="files", paths=(str(path),)),
        validation=Validation(reference_model="identity"),
        measurement=MeasurementOptions(window_ns=200 * MS, request_count=20),
    )
    (measurement,) = (await swept(worker, probe)).measurements
    assert measurement.outcomes == {Outcome.OK: 20}
    assert measurement.validated == 20
    error = measurement.output_error
    assert error is not None
    assert (error.absolute, error.relative) == (0.5, 0.5)
    # Ten times both steps: squares of 1, 2, 4 and 8, over four of 0.5.
    assert (error.signal, error.noise) == (850.0, 10.0)
    assert error.signal_to_noise_db == pytest.approx(10 * math.log10(85))


async def test_a_reference_model_has_the_time_of_a_request(worker: LocalWorker, triton: EmbeddedTriton) -> None:
    """The delay model takes 10 ms: longer than the one limit, and not than the other."""
    target = make_target(port=triton.http_port)
    patient, hasty = (TritonService().control(target, limit_ns) for limit_ns in (5 * NS, 5 * MS))
    facts = await patient.preflight("identity", "")
    found = await hasty.infer(facts, "delay", "", {"INPUT0": np.ones((1, 16), np.float32)}, 5 * NS)
    assert found["OUTPUT0"].tolist() == [[1.0] * 16]
    await patient.close()
    await hasty.close()
    probe = probe_of(
        triton,
        "identity",
        1,
        input=InputOptions(shapes=(("INPUT0", (16,)),)),
        validation=Validation(reference_model="delay"),
        measurement=MeasurementOptions(window_ns=100 * MS, request_timeout_ns=2 * MS),
    )
    result = await swept(worker, probe)
    assert result.reason is Reason.PREFLIGHT_TIMEOUT
    assert result.reason_text == (
        f"reference model 'delay' at http://127.0.0.1:{triton.http_port} did not respond within 0.002 s, "
        "measurement.request_timeout"
    )


async def test_a_decoupled_model_has_no_reference(worker: LocalWorker, server: EmbeddedTriton) -> None:
    target = make_target(scheme="grpc", port=server.grpc_port)
    probe = probe_of(server, "ticks", 1, target=target, streaming=True, validation=Validation(reference_model="ticks"))
    result = await swept(worker, probe)
    assert (result.reason, result.reason_text) == (
        Reason.BAD_INPUT,
        "validation.reference_model: model 'ticks' is decoupled (any number of responses to a request), and is asked "
        "in a way that has one response",
    )


async def test_responses_come_when_the_model_gives_them(server: EmbeddedTriton) -> None:
    """The machine's clock is the model's clock, too: its jitter is not taken for the stream's."""
    service, target, interval_ms = TritonService(), make_target(scheme="grpc", port=server.grpc_port), 10
    control = service.control(target, 5 * NS)
    facts = await control.preflight("ticks", "")
    await control.close()
    probe = make_probe(target=target, model="ticks", streaming=True)
    steps = [{"INTERVAL_MS": np.array([interval_ms], np.int32)}]
    (request,) = service.encode(probe, facts, steps, "sweep")
    ended = Ended()
    channel = service.channel(target, ended, streaming=True, keep_responses=True)
    await channel.open()
    late_ns, gap_errors_ns = [], []
    for count in range(1, 11):
        call = Call(0)
        call.deadline_ns = time.monotonic_ns() + 5 * NS
        channel.send(call, request)
        assert await ended.wait(count) == (Outcome.OK, "")
        assert call.response is not None
        given_ns = np.array([outputs["AT_NS"].item() for outputs in service.decode_response(facts, call.response)])
        came_ns = np.array(call.response_ns)
        assert len(given_ns) == len(came_ns) == call.responses == 4
        assert given_ns[0] >= call.sent_ns + interval_ms * MS
        assert (came_ns >= given_ns).all()
        assert call.first_ns == came_ns[0]
        late_ns += (came_ns - given_ns).tolist()
        gap_errors_ns += np.abs(np.diff(came_ns) - np.diff(given_ns)).tolist()
    await channel.close()
    # A busy machine adds to single ones.
    assert np.median(late_ns) < patient(5) * MS
    assert np.median(gap_errors_ns) < patient(2) * MS


async def test_the_response_cache(
    worker: LocalWorker, triton: EmbeddedTriton, caplog: pytest.LogCaptureFixture
) -> None:
    asked = triton, "cached_delay", "cache_miss", "cache_hit"
    before = await counts(*asked)
    # No other test asks for these values.
    with caplog.at_level(logging.WARNING):
        seed = time.monotonic_ns() % 2**31
        result = await swept(worker, probe_of(triton, "cached_delay", 1, input=InputOptions(seed=seed)))
    misses, hits = (after - earlier for after, earlier in zip(await counts(*asked), before, strict=True))
    assert (misses, hits) == (1, result.sent - 1)
    assert "generated input repeats one request, and the model has a response cache" in caplog.text
    (measurement,) = result.measurements
    server = measurement.server
    assert server is not None
    # The one miss was the cold request, before the first window.
    assert (server.cache_miss.count, server.cache_hit.count) == (0, server.success.count)
    breakdown = measurement.breakdown_ns
    assert breakdown["cache_hit"] == pytest.approx(server.cache_hit.ns / server.success.count)
    assert breakdown["cache_hit"] > 0
    assert breakdown["compute_infer"] == 0


async def counts(triton: EmbeddedTriton, model: str, *names: str) -> list[int]:
    """What the server has counted of a model until now."""
    client = tritonclient.http.aio.InferenceServerClient(f"127.0.0.1:{triton.http_port}")
    response = await client.get_inference_statistics(model)
    await client.close()
    stats = response["model_stats"][0]["inference_stats"]
    return [int(stats[name]["count"]) for name in names]


async def succeeded(triton: EmbeddedTriton, model: str) -> int:
    return (await counts(triton, model, "success"))[0]
