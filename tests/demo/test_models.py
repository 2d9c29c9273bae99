"""The sample models, by the values that they respond. With numpy 2 in Triton's environment all of them would respond
tensors of 0 bytes and no error: values are the only proof."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.grpc
import tritonclient.http

from exporter.demo.triton import EmbeddedTriton
from tests.waiting import PATIENCE_SECONDS, becomes_true, patient

Array = npt.NDArray[Any]

RAMP = np.arange(16, dtype=np.float32)
DATATYPES = {np.dtype(np.float32): "FP32", np.dtype(np.int32): "INT32"}


@pytest.fixture(params=["http", "grpc"])
def infer(request: pytest.FixtureRequest, triton: EmbeddedTriton) -> Iterator[Any]:
    """`infer(model, {name: array}, outputs, **options)`, over HTTP and then over gRPC: the outputs as arrays."""
    library = getattr(tritonclient, request.param)
    port = {"http": triton.http_port, "grpc": triton.grpc_port}[request.param]
    client = library.InferenceServerClient(f"127.0.0.1:{port}")

    def call(model: str, arrays: Mapping[str, Array], outputs: list[str], **options: Any) -> list[Array]:
        response = client.infer(model, make_inputs(library, arrays), **options)
        return [response.as_numpy(name) for name in outputs]

    yield call
    client.close()


def make_inputs(library: Any, arrays: Mapping[str, Array]) -> list[Any]:
    made = []
    for name, array in arrays.items():
        tensor = library.InferInput(name, list(array.shape), DATATYPES[array.dtype])
        tensor.set_data_from_numpy(array)
        made.append(tensor)
    return made


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("model", ["addsub", "pipeline"])
def test_sum_and_difference(infer: Any, model: str, batch: int) -> None:
    left = np.arange(batch * 16, dtype=np.float32).reshape(batch, 16)
    right = np.full((batch, 16), 0.5, np.float32)
    total, difference = infer(model, {"INPUT0": left, "INPUT1": right}, ["OUTPUT0", "OUTPUT1"])
    np.testing.assert_array_equal(total, left + right)
    np.testing.assert_array_equal(difference, left - right)


@pytest.mark.parametrize("shape", [(1, 16), (1, 1), (8, 4), (1, 320_000)])
def test_identity_takes_any_length(infer: Any, shape: tuple[int, int]) -> None:
    sent = np.random.default_rng(0).random(shape, np.float32)
    (got,) = infer("identity", {"INPUT0": sent}, ["OUTPUT0"])
    np.testing.assert_array_equal(got, sent)


def test_delay_is_the_configured_one_or_the_requests_own(infer: Any, triton: EmbeddedTriton) -> None:
    for parameters, expected_ms in ({}, 10), ({"delay_ms": 30}, 30), ({"delay_ms": 0}, 0):
        count, before = computed(triton)
        (got,) = infer("delay", {"INPUT0": RAMP[None]}, ["OUTPUT0"], parameters=parameters)
        # Triton may count a request after it has sent the response.
        assert becomes_true(partial(has_computed_more, triton, count))
        took_ms = (computed(triton)[1] - before) / 1e6
        np.testing.assert_array_equal(got, RAMP[None])
        assert took_ms >= expected_ms
    assert took_ms < patient(10), "a delay of 0 was not taken over the configured one"


def has_computed_more(triton: EmbeddedTriton, count: int) -> bool:
    return computed(triton)[0] > count


def computed(triton: EmbeddedTriton) -> tuple[int, int]:
    """How many requests of the delay model the server has counted, and the nanoseconds it computed for them."""
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{triton.http_port}")
    statistics = client.get_inference_statistics("delay")["model_stats"][0]["inference_stats"]
    client.close()
    return int(statistics["compute_infer"]["count"]), int(statistics["compute_infer"]["ns"])


def test_cached_delay_squares(infer: Any) -> None:
    for _ in range(2):
        (got,) = infer("cached_delay", {"INPUT0": RAMP[None]}, ["OUTPUT0"])
        np.testing.assert_array_equal(got, RAMP[None] ** 2)


def test_vad_finds_no_speech_in_silence_and_is_deterministic(infer: Any) -> None:
    rng = np.random.default_rng(1)
    clip = np.stack([np.zeros(4800, np.float32), rng.normal(0, 0.1, 4800).astype(np.float32)])
    (batch,) = infer("vad", {"AUDIO": clip}, ["PROBABILITY"])
    assert batch.shape == (2, 10)  # 4800 samples are 9.4 chunks of 512
    assert np.all((batch >= 0) & (batch <= 1))
    assert batch[0].max() < 0.1
    (alone,) = infer("vad", {"AUDIO": clip[1:]}, ["PROBABILITY"])
    np.testing.assert_allclose(alone[0], batch[1], atol=1e-5)


def test_accumulator_keeps_a_sum_for_each_sequence(infer: Any) -> None:
    steps = [
        # sequence, value, start, end, the sum
        (7001, 1, True, False, 1),
        (7002, 10, True, False, 10),
        (7001, 2, False, False, 3),
        (7002, 20, False, True, 30),
        (7001, 3, False, True, 6),
        (7001, 5, True, True, 5),
    ]
    for sequence, value, start, end, total in steps:
        tensor = np.array([[value]], np.int32)
        options = {"sequence_id": sequence, "sequence_start": start, "sequence_end": end}
        (got,) = infer("accumulator", {"INPUT0": tensor}, ["OUTPUT0"], **options)
        assert got.tolist() == [[total]]


@pytest.mark.parametrize(
    ("parameters", "responses"), [({}, 3), ({"answers": 5, "interval_ms": 1}, 5), ({"answers": 0}, 0)]
)
def test_repeat_responds_several_times_and_ends_with_an_empty_one(
    triton: EmbeddedTriton, parameters: dict[str, int], responses: int
) -> None:
    results: queue.Queue[tuple[Any, Exception | None]] = queue.Queue()
    client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{triton.grpc_port}")
    client.start_stream(callback=lambda result, error: results.put((result, error)))
    client.async_stream_infer(
        "repeat",
        make_inputs(tritonclient.grpc, {"INPUT0": RAMP}),
        parameters=parameters,
        enable_empty_final_response=True,
    )
    for index in range(responses):
        result, error = results.get(timeout=PATIENCE_SECONDS)
        assert error is None
        assert result.as_numpy("INDEX").tolist() == [index]
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), RAMP)
    final, error = results.get(timeout=PATIENCE_SECONDS)
    assert error is None
    assert final.get_response().parameters["triton_final_response"].bool_param
    assert not final.get_response().outputs
    client.stop_stream()
    client.close()
