"""Sequences through the engine against the real Triton: every running sum is right, every sequence is ended."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from exporter.core.outcome import Outcome
from exporter.core.probe import LoadLevel, MeasurementOptions, SequenceOptions, StopRules
from exporter.core.target import Target
from exporter.core.units import MS, NS
from exporter.core.window import LevelEnd, RecordColumns, Window
from exporter.demo.triton import EmbeddedTriton
from exporter.demo.triton_environment import TritonEnvironment
from exporter.engine.plan import LevelPlan
from exporter.services.base import Place, Placer
from exporter.services.triton import sequence as triton_sequence
from exporter.services.triton.service import TritonService
from exporter.transport.call import Call, EncodedRequest, Listener
from exporter.transport.grpc_link import GrpcLink, UnaryRpc
from exporter.transport.http_channel import HttpChannel
from exporter.wire.http1 import decoded_body
from tests.builders import concurrency, make_facts, make_probe, make_target
from tests.engine.fakes import request_rate
from tests.engine.levels import events_of

ENDPOINTS = ["http", "grpc", "stream"]

Sent = tuple[int, Place]


class WatchingService(TritonService):
    """Notes what each call carries and what it got a response."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.carried: dict[Call, Sent] = {}
        self.responses: list[tuple[Sent, int]] = []
        self.last: Sent | None = None
        self.ended_places: list[tuple[Place, bool]] = []
        monkeypatch.setattr(UnaryRpc, "keep", True)
        original = GrpcLink._notify

        def notify(link: GrpcLink, rpc: UnaryRpc, now_ns: int) -> None:
            # The control plane's calls are not the engine's: their messages stay.
            for message in rpc.take_messages() if rpc.call in self.carried else ():
                response = service_pb2.ModelInferResponse.FromString(message)
                self.responses.append(
                    (self.carried[rpc.call], int.from_bytes(response.raw_output_contents[0], "little"))
                )
            original(link, rpc, now_ns)

        monkeypatch.setattr(GrpcLink, "_notify", notify)

    def placer(self, target: Target, requests: Sequence[EncodedRequest]) -> Placer:
        inner, note = super().placer(target, requests), self

        class Noting:
            def place(self, step: int, place: Place) -> EncodedRequest:
                note.last = step, place
                return inner.place(step, place)

            def is_conflict(self, text: str) -> bool:
                return inner.is_conflict(text)

        return Noting()

    def channel(
        self, target: Target, listener: Listener, *, streaming: bool = False, keep_responses: bool = False
    ) -> Any:
        def listen(call: Call) -> None:
            self.ended_places.append((self.carried[call][1], call.sent_ns > 0))
            if streaming and call.outcome is Outcome.OK:
                assert call.response is not None
                (outputs,) = self.decode_response(make_facts(), call.response)
                self.responses.append((self.carried[call], int(outputs["OUTPUT0"].item())))
            if not target.is_grpc and call.outcome is Outcome.OK:
                client = channel.client
                body, cut = decoded_body(*client.kept()), int(client.header("inference-header-content-length") or 0)
                assert json.loads(body[:cut])["outputs"][0]["name"] == "OUTPUT0"
                self.responses.append((self.carried[call], int.from_bytes(body[cut:], "little")))
            listener(call)

        channel: Any = (
            super().channel(target, listen, streaming=streaming, keep_responses=streaming)
            if target.is_grpc
            else HttpChannel(target, listen, keep_body=True)
        )
        send: Callable[[Call, EncodedRequest], None] = channel.send

        def noting_send(call: Call, request: EncodedRequest) -> None:
            assert self.last is not None
            self.carried[call] = self.last
            send(call, request)

        channel.send = noting_send
        return channel


def endpoint(triton: EmbeddedTriton, scheme: str) -> Target:
    if scheme == "http":
        return make_target(port=triton.http_port)
    return make_target(scheme="grpc", port=triton.grpc_port)


async def run(
    triton: EmbeddedTriton,
    service: WatchingService,
    scheme: str,
    level: LoadLevel,
    options: SequenceOptions,
    *,
    requests: int = 400,
    timeout_ns: int = 5 * NS,
) -> tuple[RecordColumns, LevelEnd]:
    target = endpoint(triton, scheme)
    probe = make_probe(
        target=target,
        model="accumulator",
        measurement=MeasurementOptions(window_ns=200 * MS, request_timeout_ns=timeout_ns),
        stop=StopRules(max_in_flight=32, max_error_ratio=1.0),
        sequences=options,
        streaming=scheme == "stream",
    )
    control = service.control(target, 5 * NS)
    facts = await control.preflight("accumulator", "")
    steps = [{"INPUT0": np.array([[number]], np.int32)} for number in (1, 10, 100, 1000, 10000)]
    plan = LevelPlan("sweep", probe, facts, level, requests, 20 * NS)
    encoded = service.encode(probe, facts, steps, "sweep")
    events = await events_of(plan, service, encoded, control=control, streams=[(0, 1, 2), (3, 4)])
    await control.close()
    end = events[-1]
    assert isinstance(end, LevelEnd)
    return RecordColumns.concatenate([event.columns for event in events if isinstance(event, Window)]), end


NUMBERS = (1, 10, 100, 1000, 10000)


@pytest.mark.parametrize("scheme", ENDPOINTS)
@pytest.mark.parametrize(
    ("level", "options"),
    [
        (concurrency(8), SequenceOptions()),
        (concurrency(3), SequenceOptions(length=7, start_id=1000, id_range=3)),
        (request_rate(400), SequenceOptions(count=6, serial=True)),
        (request_rate(400), SequenceOptions(count=2, length=9)),
    ],
)
async def test_sums_are_right_for_every_id(
    triton: EmbeddedTriton, monkeypatch: pytest.MonkeyPatch, scheme: str, level: LoadLevel, options: SequenceOptions
) -> None:
    service = WatchingService(monkeypatch)
    columns, end = await run(triton, service, scheme, level, options)
    assert set(columns.outcome.tolist()) == {Outcome.OK}
    assert end.sent == len(columns) == len(service.responses) <= 400
    sums: defaultdict[int, int] = defaultdict(int)
    ordered = options.serial or level.mode == "concurrency"
    totals: list[int] = []
    for (step, place), total in service.responses:
        key = place.sequence_id
        assert place.start == (sums[key] == 0)
        sums[key] += NUMBERS[step]
        if ordered or place.end:
            assert total == sums[key]
        if place.end:
            totals.append(sums.pop(key))
    assert not sums, "every sequence was ended"
    assert int(columns.sequence_end.sum()) == len(totals) > 10
    if not options.length:
        # But for those that the level's end cut short, each sequence is a whole stream: 1 + 10 + 100 or 1000 + 10000.
        assert sum(total not in (111, 11000) for total in totals) <= 8
    if options.id_range:
        assert {place.sequence_id for (_, place), _ in service.responses} == {1000, 1001, 1002}


@pytest.mark.parametrize("scheme", ENDPOINTS)
async def test_sequences_that_time_out_are_ended_too(
    triton_environment: TritonEnvironment, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """On a server of its own: Triton 2.51 can die of a cancellation that comes just as it responds, so the time-out is
    long before that, and what a server died of contains no information."""
    for _ in range(5):
        service = WatchingService(monkeypatch)
        with EmbeddedTriton(triton_environment) as triton:
            options = SequenceOptions(length=1000)
            columns, _ = await run(triton, service, scheme, concurrency(2), options, requests=40, timeout_ns=MS // 10)
            await asyncio.sleep(0.5)
            if triton.running:
                break
    sent = [place for place, was_sent in service.ended_places if was_sent]
    assert {place.sequence_id for place in sent if place.start} == {place.sequence_id for place in sent if place.end}
    assert Outcome.TIMEOUT in columns.outcome


@pytest.mark.parametrize("scheme", ENDPOINTS)
async def test_a_sequence_that_the_server_does_not_know_is_a_conflict(
    triton: EmbeddedTriton, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """As after the server's own idle limit: the first request does not state that it is one."""
    service = WatchingService(monkeypatch)
    kind: Any = triton_sequence.HttpPlacer if scheme == "http" else triton_sequence.GrpcPlacer
    original = kind.place

    def never_start(placer: Any, step: int, place: Place) -> Any:
        return original(placer, step, Place(place.sequence_id, start=False, end=place.end))

    monkeypatch.setattr(kind, "place", never_start)
    columns, _ = await run(triton, service, scheme, concurrency(1), SequenceOptions(), requests=5)
    assert set(columns.outcome.tolist()) == {Outcome.SEQUENCE_CONFLICT}
