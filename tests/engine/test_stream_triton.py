"""Bidirectional streams through the worker against the real Triton: what came when, and what was counted."""

from __future__ import annotations

import time

import numpy as np
import pytest

from exporter.analysis.windows import first_responses_ns, inter_responses_ns
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import InputOptions, LoadLevel, MeasurementOptions, Mode, SequenceOptions, StopRules
from exporter.core.units import MS, NS
from exporter.core.window import LevelEnd, RecordColumns, Window
from exporter.demo.triton import EmbeddedTriton
from exporter.engine.plan import LevelPlan, MemberEvent
from exporter.payload import make_steps
from exporter.services.triton.sequence import _append
from exporter.services.triton.service import TritonService
from exporter.services.triton.stream import decode_response
from exporter.transport.call import Call, EncodedRequest
from tests.builders import concurrency, make_probe, make_target
from tests.engine.fakes import request_rate
from tests.engine.levels import events_of
from tests.transport.scripted import Ended
from tests.waiting import patient


def with_text_parameters(request: EncodedRequest, **values: str) -> EncodedRequest:
    from tritonclient.grpc import service_pb2

    message = service_pb2.ModelInferRequest()
    for name, value in values.items():
        message.parameters[name].string_param = value
    return _append(request, message.SerializeToString())


async def run(
    triton: EmbeddedTriton,
    model: str,
    level: LoadLevel,
    *,
    parameters: dict[str, str] | None = None,
    requests: int = 60,
    timeout_ns: int = 5 * NS,
    sequences: SequenceOptions | None = None,
    window_ms: int = 200,
) -> tuple[RecordColumns, list[MemberEvent]]:
    service, target = TritonService(), make_target(scheme="grpc", port=triton.grpc_port)
    probe = make_probe(
        target=target,
        model=model,
        streaming=True,
        sequences=sequences,
        measurement=MeasurementOptions(window_ns=window_ms * MS, request_timeout_ns=timeout_ns),
        stop=StopRules(max_in_flight=40, max_error_ratio=1.0),
    )
    control = service.control(target, 5 * NS)
    facts = await control.preflight(model, "")
    encoded = service.encode(probe, facts, make_steps(facts, InputOptions()), "sweep")
    requests_ = [with_text_parameters(request, **(parameters or {})) for request in encoded]
    plan = LevelPlan("sweep", probe, facts, level, requests, 20 * NS)
    events = await events_of(plan, service, requests_, control=control, streams=[range(len(requests_))])
    await control.close()
    return RecordColumns.concatenate([event.columns for event in events if isinstance(event, Window)]), events


@pytest.mark.parametrize(("responses", "interval_ms"), [(1, 20), (4, 15)])
async def test_responses_of_a_decoupled_model(triton: EmbeddedTriton, responses: int, interval_ms: int) -> None:
    parameters = {"answers": str(responses), "interval_ms": str(interval_ms)}
    columns, _ = await run(triton, "repeat", concurrency(4), parameters=parameters, requests=40)
    assert set(columns.outcome.tolist()) == {Outcome.OK}
    # The empty final response is none of them.
    assert set(columns.responses.tolist()) == {responses}
    assert len(columns.response_ns) == responses * len(columns) == responses * 40
    first, gaps = first_responses_ns(columns), inter_responses_ns(columns)
    assert len(first) == 40
    assert len(gaps) == 40 * (responses - 1)
    # The model sleeps: never shorter than asked, and by how much longer is the machine's affair.
    interval_ns = interval_ms * MS
    assert first.min() >= interval_ns
    assert np.median(first) < patient(3) * interval_ns
    if responses > 1:
        assert 0.5 * interval_ns < np.median(gaps) < patient(1.5) * interval_ns
    total = columns.last_ns - columns.sent_ns
    assert total.min() >= responses * interval_ns
    ends = np.cumsum(columns.responses)
    assert np.all(columns.response_ns[ends - 1] <= columns.last_ns)
    assert np.array_equal(columns.response_ns[ends - responses], columns.first_ns)


async def test_no_response_but_the_final_one(triton: EmbeddedTriton) -> None:
    columns, _ = await run(triton, "repeat", concurrency(2), parameters={"answers": "0"}, requests=10)
    assert columns.outcome.tolist() == [Outcome.OK] * 10
    assert columns.responses.tolist() == [0] * 10
    assert np.all(columns.last_ns > columns.sent_ns)


@pytest.mark.parametrize("level", [concurrency(35), request_rate(500)])
async def test_plain_models_over_streams(triton: EmbeddedTriton, level: LoadLevel) -> None:
    columns, events = await run(triton, "addsub", level, requests=300)
    assert set(columns.outcome.tolist()) == {Outcome.OK}
    assert set(columns.responses.tolist()) == {1}
    assert np.all(columns.sent_ns <= columns.send_done_ns)
    assert np.all(columns.send_done_ns <= columns.first_ns)
    end = events[-1]
    assert isinstance(end, LevelEnd)
    assert (end.reason, end.sent, end.abandoned) == (Reason.REQUEST_BUDGET, 300, 0)


async def test_sequences_over_streams(triton: EmbeddedTriton) -> None:
    columns, _ = await run(triton, "accumulator", concurrency(5), sequences=SequenceOptions(length=6), requests=300)
    assert set(columns.outcome.tolist()) == {Outcome.OK}
    assert int(columns.sequence_end.sum()) > 40


async def test_a_time_out_resets_the_stream_and_stays_in_the_budget(triton: EmbeddedTriton) -> None:
    parameters = {"answers": "3", "interval_ms": "40"}
    columns, events = await run(triton, "repeat", concurrency(2), parameters=parameters, requests=6, timeout_ns=60 * MS)
    assert set(columns.outcome.tolist()) == {Outcome.TIMEOUT}
    # What came before is kept, and none of it is taken for a response to the next request.
    assert set(columns.responses.tolist()) <= {0, 1}
    end = events[-1]
    assert isinstance(end, LevelEnd)
    assert end.abandoned >= 1


async def test_errors_are_the_calls_own(triton: EmbeddedTriton) -> None:
    """An unknown model is reported on the stream, call by call; the next one still gets its response."""
    service, target = TritonService(), make_target(scheme="grpc", port=triton.grpc_port)
    control = service.control(target, 5 * NS)
    facts = await control.preflight("addsub", "")
    await control.close()
    steps = make_steps(facts, InputOptions())
    (good,) = service.encode(make_probe(target=target, streaming=True), facts, steps, "s")
    (bad,) = service.encode(make_probe(target=target, streaming=True, model="nosuch"), facts, steps, "s")
    ended = Ended()
    channel = service.channel(target, ended, streaming=True)
    call = Call(0)
    outcomes: list[tuple[Outcome, str]] = []
    for count, request in enumerate([good, bad, good, bad], 1):
        call.deadline_ns = time.monotonic_ns() + 5 * NS
        channel.send(call, request)
        outcomes.append(await ended.wait(count))
    await channel.close()
    assert [outcome for outcome, _ in outcomes[::2]] == [Outcome.OK, Outcome.OK]
    assert outcomes[1] == outcomes[3] == (Outcome.SERVER_ERROR, "Request for unknown model: 'nosuch' is not found")


async def test_periodic_concurrency(triton: EmbeddedTriton) -> None:
    level = LoadLevel(Mode.PERIODIC, 8.0, "2:8:3", start=2, step=3, request_period=2)
    parameters = {"answers": "4", "interval_ms": "10"}
    columns, events = await run(triton, "repeat", level, parameters=parameters, requests=100)
    windows = [event for event in events if isinstance(event, Window)]
    assert sum(len(window.columns) for window in windows if not window.warm_up) == 8
    assert set(columns.responses.tolist()) == {4}
    sent = np.sort(columns.sent_ns[1:])  # without the cold one
    # The step of 3 came two responses after the first 2, the next 3 two responses after that.
    assert sent[2] - sent[1] >= 20 * MS
    assert sent[5] - sent[4] >= 20 * MS
    assert max(sent[1] - sent[0], sent[4] - sent[2], sent[7] - sent[5]) < 20 * MS
    end = events[-1]
    assert isinstance(end, LevelEnd)
    assert (end.reason, end.sent) == (Reason.NONE, 9)


def test_responses_are_read() -> None:
    from tritonclient.grpc import service_pb2

    def message(*, error: str = "", outputs: int = 0, final: bool | None = None) -> bytes:
        response = service_pb2.ModelStreamInferResponse(error_message=error)
        for number in range(outputs):
            response.infer_response.outputs.add(name=str(number))
        if final is not None:
            response.infer_response.parameters["triton_final_response"].bool_param = final
        data: bytes = response.SerializeToString()
        return data

    assert decode_response(message(outputs=1, final=False)) == (True, False, Outcome.OK, "")
    assert decode_response(message(outputs=1, final=True)) == (True, True, Outcome.OK, "")
    assert decode_response(message(final=True)) == (False, True, Outcome.OK, "")
    assert decode_response(message(outputs=1)) == (True, True, Outcome.OK, "")
    assert decode_response(message(error="boom")) == (False, True, Outcome.SERVER_ERROR, "boom")
    assert decode_response(message(error="boom", final=True)) == (False, True, Outcome.SERVER_ERROR, "boom")
    assert decode_response(message(error="boom", final=False)) == (False, False, Outcome.SERVER_ERROR, "boom")
    full = "[request id: x] Exceeds maximum queue size"
    assert decode_response(message(error=full)) == (False, True, Outcome.OVERLOAD, full)
    assert decode_response(b"\xff\xff").text == "a message that is not Triton's"
