"""Whole sweeps with data files against the real Triton: each response is compared with what its own request expects,
with requests in flight side by side, in batches, of any shape, in sequences, and where there are several responses."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import InputOptions, LoadLevel, MeasurementOptions, Probe, SequenceOptions, StopRules
from exporter.core.result import Measurement
from exporter.core.units import MS
from exporter.demo.triton import EmbeddedTriton
from exporter.sweep.conductor import Sweep
from exporter.worker.pool import WorkerPool
from tests.builders import concurrency, make_probe, make_target
from tests.engine.fakes import request_rate

Data = list[Any]


def probe_of(
    triton: EmbeddedTriton, endpoint: str, model: str, level: LoadLevel, files: InputOptions, **changes: Any
) -> Probe:
    """`endpoint` is http, grpc or stream. Whatever three windows there are, they are stable."""
    scheme = "http" if endpoint == "http" else "grpc"
    port = triton.http_port if scheme == "http" else triton.grpc_port
    return make_probe(
        target=make_target(scheme=scheme, port=port),
        model=model,
        levels=(level,),
        input=files,
        streaming=endpoint == "stream",
        measurement=MeasurementOptions(window_ns=150 * MS, stability_ratio=9.0, max_windows=3, min_reached_ratio=0.1),
        stop=StopRules(max_in_flight=16, max_error_ratio=1.0),
        **changes,
    )


def write(path: Path, data: Data, expected: Data, **options: Any) -> InputOptions:
    file = path / "data.json"
    file.write_text(json.dumps({"data": data, "validation_data": expected}))
    return InputOptions(source="files", paths=(str(file),), **options)


async def measure(pool: WorkerPool, probe: Probe, reason: Reason = Reason.NONE) -> Measurement:
    result = await Sweep(probe, []).run(lambda: pool.lend(1))
    assert result.reason is reason, result.reason_text
    (measurement,) = result.measurements
    return measurement


def check_all_right(measurement: Measurement) -> None:
    """All were ok and compared with what was expected; those that end a cut sequence have nothing to be compared
    with."""
    assert set(measurement.outcomes) == {Outcome.OK}, measurement.output_difference
    assert measurement.validated is not None
    # The checker drops responses that it has no time for, and counts them.
    assert measurement.validated > 20
    assert measurement.validated + measurement.unchecked == measurement.outcomes[Outcome.OK]


# --- sequences -------------------------------------------------------------------------------------------------------

STREAMS = ([1, 10, 100], [1000, 10_000], [5])


def accumulated(path: Path) -> InputOptions:
    """Streams of different lengths for the accumulator, with the running sum of each."""
    data = [[{"INPUT0": [value]} for value in stream] for stream in STREAMS]
    sums = [[{"OUTPUT0": [total]} for total in itertools.accumulate(stream)] for stream in STREAMS]
    return write(path, data, sums)


@pytest.mark.parametrize(
    ("endpoint", "level", "sequences"),
    [
        ("http", concurrency(5), None),  # a sequence model is sent sequences without being reported
        ("grpc", request_rate(300), SequenceOptions(count=4, serial=True)),
        ("stream", concurrency(5), SequenceOptions()),
        ("stream", request_rate(300), SequenceOptions(count=4, serial=True)),
    ],
)
async def test_sequences_take_their_steps_from_the_streams_of_the_data(
    triton: EmbeddedTriton,
    pool: WorkerPool,
    tmp_path: Path,
    endpoint: str,
    level: LoadLevel,
    sequences: SequenceOptions | None,
) -> None:
    files = accumulated(tmp_path)
    measurement = await measure(pool, probe_of(triton, endpoint, "accumulator", level, files, sequences=sequences))
    check_all_right(measurement)
    # Streams of 3, 2 and 1 steps in turn: every other request is the last of its sequence.
    assert measurement.sequences is not None
    assert measurement.sequences == pytest.approx(measurement.outcomes[Outcome.OK] / 2, abs=8)


async def test_what_follows_the_end_of_a_stream_is_not_compared_with_it(
    triton: EmbeddedTriton, pool: WorkerPool, tmp_path: Path
) -> None:
    """The sums continue, and the data contain no information of that."""
    files = accumulated(tmp_path)
    options = SequenceOptions(length=6, length_variation_ratio=0.0)
    probe = probe_of(triton, "grpc", "accumulator", concurrency(3), files, sequences=options)
    measurement = await measure(pool, probe)
    assert set(measurement.outcomes) == {Outcome.OK}, measurement.output_difference
    assert measurement.validated == pytest.approx(measurement.outcomes[Outcome.OK] / 3, rel=0.3, abs=8)


async def test_a_wrong_sum_is_seen_at_its_step(triton: EmbeddedTriton, pool: WorkerPool, tmp_path: Path) -> None:
    data = [[{"INPUT0": [1]}, {"INPUT0": [2]}], [{"INPUT0": [3]}]]
    files = write(tmp_path, data, [[{"OUTPUT0": [1]}, {"OUTPUT0": [4]}], [{"OUTPUT0": [3]}]])
    measurement = await measure(pool, probe_of(triton, "grpc", "accumulator", concurrency(2), files))
    assert set(measurement.outcomes) == {Outcome.OK, Outcome.WRONG_OUTPUT}
    place = f"{tmp_path}/data.json: stream 0, step 1"
    assert measurement.output_difference == f"{place}: tensor 'OUTPUT0', index [0,0]: expected 4, got 3"


# --- single requests -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("endpoint", "level"), [("http", concurrency(8)), ("grpc", request_rate(400))])
async def test_shapes_that_vary_from_request_to_request(
    triton: EmbeddedTriton, pool: WorkerPool, tmp_path: Path, endpoint: str, level: LoadLevel
) -> None:
    steps = [[float(number)] * number for number in range(1, 8)]
    files = write(tmp_path, [{"INPUT0": step} for step in steps], [{"OUTPUT0": step} for step in steps])
    check_all_right(await measure(pool, probe_of(triton, endpoint, "identity", level, files)))


@pytest.mark.parametrize("endpoint", ["http", "stream"])
async def test_batches_side_by_side(triton: EmbeddedTriton, pool: WorkerPool, tmp_path: Path, endpoint: str) -> None:
    steps = [(float(number), float(number * number)) for number in range(7)]
    data = [{"INPUT0": [left] * 16, "INPUT1": [right] * 16} for left, right in steps]
    expected = [{"OUTPUT0": [left + right] * 16, "OUTPUT1": [left - right] * 16} for left, right in steps]
    files = write(tmp_path, data, expected, batch_size=4)
    check_all_right(await measure(pool, probe_of(triton, endpoint, "addsub", concurrency(4), files)))


# --- several responses
# -------------------------------------------------------------------------------------------------


def repeated(path: Path, responses: int, last_index: int) -> InputOptions:
    """Three steps for the model that repeats its input; each is expected so often, with the numbers of the
    responses."""
    steps = [[float(number)] * 16 for number in range(3)]
    indices = [*range(responses - 1), last_index]
    expected = [{"responses": [{"OUTPUT0": step, "INDEX": [index]} for index in indices]} for step in steps]
    parameters = (("answers", 3), ("interval_ms", 2))
    return write(path, [{"INPUT0": step} for step in steps], expected, parameters=parameters)


async def test_each_response_of_a_decoupled_model(triton: EmbeddedTriton, pool: WorkerPool, tmp_path: Path) -> None:
    files = repeated(tmp_path, 3, last_index=2)
    measurement = await measure(pool, probe_of(triton, "stream", "repeat", concurrency(4), files))
    check_all_right(measurement)
    assert measurement.responses == 3 * measurement.outcomes[Outcome.OK]


@pytest.mark.parametrize(
    ("responses", "last_index", "difference"),
    [
        (3, 7, "response 2, tensor 'INDEX', index [0]: expected 7, got 2"),
        (4, 3, "expected 4 responses, got 3"),
    ],
)
async def test_a_wrong_response_of_several(
    triton: EmbeddedTriton, pool: WorkerPool, tmp_path: Path, responses: int, last_index: int, difference: str
) -> None:
    files = repeated(tmp_path, responses, last_index)
    probe = probe_of(triton, "stream", "repeat", concurrency(2), files)
    measurement = await measure(pool, probe, Reason.NO_VALID_REQUESTS)
    assert set(measurement.outcomes) == {Outcome.WRONG_OUTPUT}
    assert measurement.output_difference.startswith(f"{tmp_path}/data.json: stream 0, step ")
    assert measurement.output_difference.endswith(difference)
