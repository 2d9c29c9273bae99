"""Decoupled models that fail, on a real Triton: an error is not a request's end unless the server reports it."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from exporter.core.outcome import Outcome
from exporter.core.probe import InputOptions, MeasurementOptions, SequenceOptions, StopRules
from exporter.core.units import MS, NS
from exporter.core.window import RecordColumns, Window
from exporter.demo.triton import EmbeddedTriton
from exporter.demo.triton_environment import TritonEnvironment
from exporter.engine.plan import LevelPlan
from exporter.services.triton.service import TritonService
from exporter.transport.call import Call
from tests.builders import concurrency, make_probe, make_target
from tests.engine.levels import events_of
from tests.transport.scripted import Ended

MODELS = Path(__file__).parent / "error_models"
OK, ERROR, TIMEOUT = Outcome.OK, Outcome.SERVER_ERROR, Outcome.TIMEOUT
TAKES_NS = 30 * MS

FAILURES = {
    "error_with_the_final_flag": (1, ERROR, "broke 0", 0),
    "error_and_the_flag_apart": (2, ERROR, "broke 0", 0),
    "content_error_and_the_flag_apart": (3, ERROR, "broke 1", 1),
    "several_errors": (4, ERROR, "broke 0", 0),
    "error_and_content": (5, ERROR, "broke 0", 1),
    "content_and_an_error_with_the_flag": (7, ERROR, "broke 1", 1),
    "the_flag_is_lost": (6, TIMEOUT, "no final response after the error: broke 0", 0),
}


@pytest.fixture(scope="module")
def server(triton_environment: TritonEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    folder = tmp_path_factory.mktemp("models")
    for model in ("stream_errors", "sequence_errors"):
        shutil.copytree(MODELS / model, folder / model)
        shutil.copytree(MODELS / "stream_errors" / "1", folder / model / "1", dirs_exist_ok=True)
    with EmbeddedTriton(triton_environment, models=folder) as server:
        yield server
        server.kill()


@pytest.mark.parametrize(("case", "outcome", "text", "responses"), FAILURES.values(), ids=FAILURES)
async def test_an_error_is_its_own_requests_alone(
    server: EmbeddedTriton, case: int, outcome: Outcome, text: str, responses: int
) -> None:
    """The one after it gets its own response, when it is due, and is alone in the server."""
    service, target = TritonService(), make_target(scheme="grpc", port=server.grpc_port)
    control = service.control(target, 5 * NS)
    facts = await control.preflight("stream_errors", "")
    await control.close()
    probe = make_probe(target=target, streaming=True, model="stream_errors")
    ended, call = Ended(), Call(0)
    channel = service.channel(target, ended, streaming=True, keep_responses=True)
    for number in range(1, 7):
        is_bad = number % 2 == 0
        inputs = {"CASE": np.array([case if is_bad else 0, number], np.int32)}
        (request,) = service.encode(probe, facts, [inputs], "s")
        call.deadline_ns = time.monotonic_ns() + 5 * NS
        channel.send(call, request)
        if is_bad and outcome is TIMEOUT:
            while not call.send_done_ns or time.monotonic_ns() < call.send_done_ns + 2 * TAKES_NS:
                await asyncio.sleep(0.005)
            channel.give_up(call, TIMEOUT)
        assert await ended.wait(number) == ((outcome, text) if is_bad else (OK, ""))
        assert call.responses == (responses if is_bad else 1)
        assert call.last_ns - call.sent_ns >= TAKES_NS
        if not is_bad:
            assert call.response is not None
            ((outputs),) = service.decode_response(facts, call.response)
            assert (outputs["OUT"].tolist(), outputs["MOST"].tolist()) == ([number], [1])
    await channel.close()


@pytest.mark.parametrize("case", [1, 2])
@pytest.mark.parametrize(("model", "expected"), [("stream_errors", 0.25), ("sequence_errors", 0.2)])
async def test_a_share_of_errors_is_counted_as_it_is(
    server: EmbeddedTriton, model: str, expected: float, case: int
) -> None:
    """Of four cases the last one fails; in a sequence the request that ends it, because it failed, comes after that."""
    columns = await level(server, model, [0, 0, 0, case])
    share = float(np.mean(columns.outcome == ERROR))
    assert set(columns.outcome.tolist()) == {OK, ERROR}
    assert share == pytest.approx(expected, abs=0.03)
    latency_ns = columns.last_ns - columns.sent_ns
    assert latency_ns.min() >= TAKES_NS


@pytest.mark.parametrize("case", [1, 2, 4])
async def test_a_model_that_always_fails_fails_always(server: EmbeddedTriton, case: int) -> None:
    columns = await level(server, "stream_errors", [case])
    assert set(columns.outcome.tolist()) == {ERROR}


async def level(server: EmbeddedTriton, model: str, cases: Sequence[int]) -> RecordColumns:
    """40 requests at concurrency 1, whose cases take turns."""
    service, target = TritonService(), make_target(scheme="grpc", port=server.grpc_port)
    in_sequences = model == "sequence_errors"
    probe = make_probe(
        target=target,
        model=model,
        streaming=True,
        sequences=SequenceOptions(length=8) if in_sequences else None,
        input=InputOptions(),
        measurement=MeasurementOptions(window_ns=200 * MS, request_timeout_ns=5 * NS),
        stop=StopRules(max_in_flight=40, max_error_ratio=1.0),
    )
    control = service.control(target, 5 * NS)
    facts = await control.preflight(model, "")
    shape = (1, 2) if in_sequences else (2,)
    steps = [{"CASE": np.array([case, 0], np.int32).reshape(shape)} for case in cases]
    requests = service.encode(probe, facts, steps, "sweep")
    plan = LevelPlan("sweep", probe, facts, concurrency(1), 40, 20 * NS)
    events = await events_of(plan, service, requests, control=control, streams=[range(len(requests))])
    await control.close()
    return RecordColumns.concatenate([event.columns for event in events if isinstance(event, Window)])
