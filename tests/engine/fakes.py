"""A service without a server: a script states what becomes of each request, and everything sent is counted."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from exporter.core.errors import ProtocolError, TransportError
from exporter.core.facts import ModelFacts, ServerSnapshot
from exporter.core.outcome import Outcome
from exporter.core.probe import DEFAULT_INPUT, InputOptions, LoadLevel, MeasurementOptions, Mode, Probe, StopRules
from exporter.core.target import Target
from exporter.core.units import MS
from exporter.engine.plan import LevelPlan
from exporter.services.base import Dialogue, Place, SharedRequests, Tensors, TraceSettings
from exporter.transport.call import Call, EncodedRequest, Listener, Response
from tests.builders import concurrency, make_facts, make_probe, make_target


@dataclass(frozen=True)
class Reply:
    """What becomes of one request; `delay_ms` None: no response, ever."""

    outcome: Outcome = Outcome.OK
    delay_ms: float | None = 0.0
    text: str = ""
    retry_after_ns: int = 0


Script = Callable[[int], Reply]
"""From the request's number, 0 for the first, to its fate."""


def always(outcome: Outcome = Outcome.OK, delay_ms: float | None = 0.0, **changes: Any) -> Script:
    return lambda _: Reply(outcome, delay_ms, **changes)


@dataclass
class FakeService:
    """A `Service` and its server in one."""

    script: Script = field(default_factory=always)
    capacity: int = 1
    open_error: TransportError | None = None
    opens_before_error: int = 0
    preflight_error: Exception | None = None
    snapshot_delay_s: float = 0.0
    sent_ns: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    given_up: list[Outcome] = field(default_factory=list)
    at_server: int = 0
    most_at_server: int = 0
    opened: int = 0
    closed: int = 0
    snapshots: int = 0
    controls_open: int = 0
    inferred: list[tuple[str, str]] = field(default_factory=list)
    infer_timeout_ns: int = 0
    broken_responses: bool = False
    response_of: Callable[[bytes], bytes] = field(default=lambda body: body)

    def control(self, target: Target, timeout_ns: int) -> FakeControl:
        self.controls_open += 1
        return FakeControl(self)

    def encode(self, probe: Probe, facts: ModelFacts, steps: Sequence[Tensors], sweep_id: str) -> list[EncodedRequest]:
        return [EncodedRequest(b"head", b"".join(array.tobytes() for array in step.values())) for step in steps]

    async def check_shared_memory(self, probe: Probe) -> None:
        raise NotImplementedError

    async def share(
        self, probe: Probe, facts: ModelFacts, steps: Sequence[Tensors], sweep_id: str, places: int
    ) -> SharedRequests:
        raise NotImplementedError

    def placer(self, target: Target, requests: Sequence[EncodedRequest]) -> FakePlacer:
        return FakePlacer()

    def dialogues(self, probe: Probe, steps: Sequence[Tensors], sweep_id: str) -> Callable[[], Dialogue]:
        raise NotImplementedError

    def channel(
        self, target: Target, listener: Listener, *, streaming: bool = False, keep_responses: bool = False
    ) -> FakeChannel:
        return FakeChannel(self, listener, keep_responses)

    def decode_response(self, facts: ModelFacts, response: Response) -> list[Tensors]:
        if self.broken_responses:
            raise ProtocolError("a response that is none")
        return [{"OUTPUT0": np.frombuffer(message, np.float32)} for message in response.messages]

    def connections(self, target: Target, in_flight: int) -> int:
        return -(-in_flight // self.capacity)


class FakePlacer:
    def place(self, step: int, place: Place) -> EncodedRequest:
        return EncodedRequest(b"", json.dumps([step, place.sequence_id, place.start, place.end]).encode())

    def is_conflict(self, text: str) -> bool:
        return text == "conflict"


class FakeControl:
    def __init__(self, service: FakeService) -> None:
        self._service = service

    async def preflight(
        self, model: str, version: str, composing: Sequence[str] = (), options: InputOptions = DEFAULT_INPUT
    ) -> ModelFacts:
        if self._service.preflight_error is not None:
            raise self._service.preflight_error
        return make_facts(name=model)

    async def infer(self, facts: ModelFacts, model: str, version: str, inputs: Tensors, timeout_ns: int) -> Tensors:
        self._service.infer_timeout_ns = timeout_ns
        self._service.inferred.append((model, version))
        return {"OUTPUT0": inputs["INPUT0"]}

    async def snapshot(self, facts: ModelFacts) -> ServerSnapshot | None:
        asked_ns = time.monotonic_ns()
        await asyncio.sleep(self._service.snapshot_delay_s)
        self._service.snapshots += 1
        return ServerSnapshot(asked_ns, time.monotonic_ns(), ())

    async def served_version(self, model: str) -> str:
        return make_facts().version

    async def ready_models(self) -> tuple[str, ...]:
        return ()

    async def trace_settings(self, model: str, names: Iterable[str]) -> TraceSettings:
        return dict.fromkeys(names)

    async def set_trace(self, model: str, settings: TraceSettings) -> None:
        pass

    async def close(self) -> None:
        self._service.controls_open -= 1


class FakeChannel:
    def __init__(self, service: FakeService, listener: Listener, keep_responses: bool = False) -> None:
        self._keep_responses = keep_responses
        self._service = service
        self._listener = listener
        self._in_flight: dict[Call, asyncio.Handle | None] = {}
        self.capacity = service.capacity
        self.connect_ns: int | None = None
        self.tls_ns: int | None = None
        self.certificate_expiry_unix_s: float | None = None

    async def open(self) -> None:
        if self._service.open_error is not None and self._service.opened >= self._service.opens_before_error:
            raise self._service.open_error
        self._service.opened += 1
        self.connect_ns = 1000

    def send(self, call: Call, request: EncodedRequest) -> None:
        assert call not in self._in_flight
        assert len(self._in_flight) < self.capacity
        service = self._service
        reply = service.script(len(service.sent_ns))
        call.text = ""
        call.first_ns = call.responses = call.bytes_in = call.retry_after_ns = 0
        call.sent_ns = call.send_done_ns = time.monotonic_ns()
        call.bytes_out = len(request.body)
        service.sent_ns.append(call.sent_ns)
        service.bodies.append(request.body)
        service.at_server += 1
        service.most_at_server = max(service.most_at_server, service.at_server)
        loop = asyncio.get_running_loop()
        handle: asyncio.Handle | None = None
        if reply.delay_ms is not None:
            handle = loop.call_soon(self._response, call, request, reply)
            if reply.delay_ms > 0:
                handle.cancel()
                handle = loop.call_later(reply.delay_ms / 1000, self._response, call, request, reply)
        self._in_flight[call] = handle

    def give_up(self, call: Call, outcome: Outcome) -> None:
        """The server continues with a request that was given up: `at_server` keeps it, as the real ones do."""
        handle = self._in_flight.pop(call)
        if handle is not None:
            handle.cancel()
        self._service.given_up.append(outcome)
        self._end(call, outcome)

    async def close(self) -> None:
        self._service.closed += 1
        assert not self._in_flight

    def _response(self, call: Call, request: EncodedRequest, reply: Reply) -> None:
        del self._in_flight[call]
        self._service.at_server -= 1
        call.first_ns = time.monotonic_ns()
        call.responses = 1
        call.bytes_in = 100
        if self._keep_responses and reply.outcome is Outcome.OK:
            call.response = Response((self._service.response_of(request.body),))
        call.text = reply.text
        call.retry_after_ns = reply.retry_after_ns
        self._end(call, reply.outcome)

    def _end(self, call: Call, outcome: Outcome) -> None:
        call.outcome = outcome
        call.last_ns = time.monotonic_ns()
        self._listener(call)


def request_rate(value: float) -> LoadLevel:
    return LoadLevel(Mode.REQUEST_RATE, value, f"{value:g}")


def make_plan(
    level: LoadLevel | None = None,
    *,
    max_requests: int = 1_000_000,
    max_duration_ms: float = 20_000,
    window_ms: float = 20,
    timeout_ms: float = 10_000,
    **rules: Any,
) -> LevelPlan:
    """A level of short windows."""
    return LevelPlan(
        sweep_id="sweep",
        probe=make_probe(
            target=make_target(kind="fake"),
            measurement=MeasurementOptions(window_ns=round(window_ms * MS), request_timeout_ns=round(timeout_ms * MS)),
            stop=StopRules(**rules),
        ),
        facts=make_facts(),
        level=level or concurrency(1),
        max_requests=max_requests,
        max_duration_ns=round(max_duration_ms * MS),
        seed=(level.seed or 0) if level else 0,
    )
