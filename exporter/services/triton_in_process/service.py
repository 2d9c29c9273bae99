"""The service kind `triton_in_process`: Triton's library and a model repository in the worker itself.

Owns what a request is there, and its way through a channel. A crash of the library is the worker's, and so an outcome
of the sweep.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from exporter.core.bounds import STREAM_RESPONSES
from exporter.core.errors import InputError, TransportError
from exporter.core.facts import ModelFacts
from exporter.core.outcome import Outcome
from exporter.core.probe import Probe
from exporter.core.target import Target
from exporter.services.base import Control, Place, Placer, Tensors
from exporter.services.encoding import MARK
from exporter.services.oip.responses import decode_response
from exporter.services.triton.sequence import SequenceWords
from exporter.services.triton_in_process.control import InProcess, InProcessControl, local_inputs
from exporter.services.triton_in_process.handover import RequestObject
from exporter.services.triton_in_process.library import SEQUENCE_END, SEQUENCE_START, TritonError, TritonLibrary
from exporter.services.triton_in_process.server import Template, TritonServer, read_response, version_number
from exporter.services.without_extensions import PlainService
from exporter.transport.call import TOO_MANY_RESPONSES, Call, Channel, EncodedRequest, Listener, Response
from exporter.transport.grpc_stream import NOT_FINAL

MAX_SPARES = 64
"""Requests made ahead, one for each step, while the server works at those before: making one takes as long as a
twentieth of the quickest responses."""

_TEXT_LENGTH = 300
_NOT_PARAMETERS = ("priority", "timeout")
_OK = Outcome.OK


class InProcessService(PlainService):
    """A `Service` (services.base)."""

    def __init__(self) -> None:
        self._host = InProcess()

    def control(self, target: Target, timeout_ns: int) -> Control:
        """The control plane; its preflight loads the server, its close unloads it."""
        return InProcessControl(target, timeout_ns, self._host)

    def encode(self, probe: Probe, facts: ModelFacts, steps: Sequence[Tensors], sweep_id: str) -> list[EncodedRequest]:
        """One request a step. Raises InputError."""
        return [
            LocalRequest(b"", b"", _template(probe, facts, tensors, f"{MARK}-{sweep_id}-{index}"))
            for index, tensors in enumerate(steps)
        ]

    def placer(self, target: Target, requests: Sequence[EncodedRequest]) -> Placer:
        """See `LocalPlacer`."""
        return LocalPlacer([request for request in requests if isinstance(request, LocalRequest)])

    def channel(
        self, target: Target, listener: Listener, *, streaming: bool = False, keep_responses: bool = False
    ) -> Channel:
        """A way to the server that preflight has loaded."""
        return InProcessChannel(self._host, listener, streaming=streaming, keep_responses=keep_responses)

    def decode_response(self, facts: ModelFacts, response: Response) -> list[Tensors]:
        """The outputs of each response. Raises ProtocolError."""
        return decode_response(response)

    def connections(self, target: Target, in_flight: int) -> int:
        """One carries all."""
        return 1


# --- requests --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class LocalRequest(EncodedRequest):
    """A request that is no bytes: what is passed to the library."""

    template: Template
    place: Place | None = None


class LocalPlacer(SequenceWords):
    """A `Placer` (services.base)."""

    def __init__(self, requests: Sequence[LocalRequest]) -> None:
        self._templates = [request.template for request in requests]

    def place(self, step: int, place: Place) -> EncodedRequest:
        """See `Placer`."""
        return LocalRequest(b"", b"", self._templates[step], place)


def _template(probe: Probe, facts: ModelFacts, tensors: Tensors, request_id: str) -> Template:
    for name, _ in probe.input.parameters:
        if name in _NOT_PARAMETERS:
            raise InputError(f"input.parameters.{name}: the library does not take it as a parameter")
    inputs = local_inputs(facts, tensors)
    return Template(
        model=probe.model.encode(),
        version=version_number(probe.version),
        id=request_id.encode(),
        inputs=inputs,
        parameters=probe.input.parameters,
        size=sum(each.size for each in inputs),
    )


# --- the way of a request --------------------------------------------------------------------------------------------


class InProcessChannel:
    """A `Channel` (transport.call). A call that is given up is forgotten: the library has no cancelling of a request of
    which it is not known whether it is still there."""

    capacity = 65_536
    connect_ns: int | None = None
    tls_ns: int | None = None
    certificate_expiry_unix_s: float | None = None

    def __init__(self, host: InProcess, listener: Listener, *, streaming: bool, keep_responses: bool) -> None:
        self._host = host
        self._listener = listener
        self._streaming = streaming
        self._keep_responses = keep_responses
        self._looks_at_each = streaming or keep_responses
        self._kept: dict[Call, list[bytes]] = {}
        self._in_flight: dict[Call, RequestObject | None] = {}
        self._spares: dict[Template, RequestObject] = {}
        self._server: TritonServer | None = None

    async def open(self) -> None:
        """See `Channel`."""
        self._server = self._host.server
        if self._server is None:
            raise TransportError(Outcome.CONNECT_ERROR, "no Triton is loaded in this process")
        self._library = self._server.library

    def send(self, call: Call, request: EncodedRequest) -> None:
        """See `Channel`. Hot."""
        assert isinstance(request, LocalRequest)
        call.channel = self
        call.text = ""
        call.outcome = _OK
        call.sent_ns = call.send_done_ns = call.first_ns = 0
        call.responses = call.bytes_in = call.retry_after_ns = 0
        if self._streaming:
            call.response_ns = []
        server, template, place = self._server, request.template, request.place
        assert server is not None
        once = place is not None  # the place is in the request's flags, where the release is noted
        call.bytes_out = template.size
        self._in_flight[call] = None
        try:
            sent = self._spares.pop(template, None) or server.prepare(template, once=once)
            if place is not None:
                _set_place(self._library, sent.handle, place)
            self._in_flight[call] = sent
            call.sent_ns = time.monotonic_ns()
            server.send(sent, self._take, call)
            call.send_done_ns = time.monotonic_ns()
            if len(self._spares) < MAX_SPARES:
                self._spares[template] = server.prepare(template, once=once)
        except TritonError as error:
            if not call.send_done_ns:
                self._in_flight[call] = None
                # Not at once: the listener to an end sends the next request, which may fail the same way.
                asyncio.get_running_loop().call_soon(self._refused, call, error)

    def give_up(self, call: Call, outcome: Outcome) -> None:
        """See `Channel`."""
        self._give_up(call, outcome, f"{NOT_FINAL} after the error: {call.text}" if call.text else "")

    def _give_up(self, call: Call, outcome: Outcome, text: str) -> None:
        if call in self._in_flight:
            sent = self._in_flight.pop(call)
            if sent is not None:
                sent.taker = None  # what still comes for it is dropped
            call.outcome, call.text = outcome, text[:_TEXT_LENGTH]
            self._end(call, time.monotonic_ns())

    async def close(self) -> None:
        """See `Channel`."""
        for call in list(self._in_flight):
            self.give_up(call, Outcome.CANCELLED)
        if self._server is not None:
            self._server.discard(self._spares.values())
        self._spares.clear()

    def _take(self, call: Call, response: int | None, is_final: bool, at_ns: int, received: int) -> None:
        """A response to the call. Hot."""
        if response is not None:
            error = self._library.InferenceResponseError(response)
            if error and call.outcome is _OK:  # the first shows why, those after it what that led to
                failed = self._library.read_error(error)
                call.outcome, call.text = failed.outcome, f"{failed.code}: {failed}"[:_TEXT_LENGTH]
            elif not error:
                call.responses += 1
                call.first_ns = call.first_ns or at_ns
                if self._looks_at_each:
                    self._look(call, response, at_ns)
        if call.responses > STREAM_RESPONSES and not is_final:
            self._give_up(call, Outcome.PROTOCOL_ERROR, TOO_MANY_RESPONSES)
        elif is_final:
            del self._in_flight[call]
            call.bytes_in = received
            if call.send_done_ns > at_ns:  # responded before the library gave us back control
                call.send_done_ns = call.first_ns or at_ns
            if call.responses != 1 and call.outcome is _OK and not self._streaming:
                call.outcome = Outcome.PROTOCOL_ERROR
                call.text = f"{call.responses} responses to a request that is to have one"
            self._end(call, at_ns)

    def _look(self, call: Call, response: int, at_ns: int) -> None:
        if self._keep_responses:
            self._kept.setdefault(call, []).append(read_response(self._library, response))
        if self._streaming:
            call.response_ns.append(at_ns)
            if call.on_response is not None:
                call.on_response(call)

    def _refused(self, call: Call, error: TritonError) -> None:
        if call in self._in_flight:
            del self._in_flight[call]
            call.outcome, call.text = error.outcome, f"{error.code}: {error}"[:_TEXT_LENGTH]
            self._end(call, time.monotonic_ns())

    def _end(self, call: Call, at_ns: int) -> None:
        call.last_ns = at_ns
        if self._keep_responses:
            kept = self._kept.pop(call, [])
            call.response = Response(kept) if call.outcome is _OK else None
        self._listener(call)


def _set_place(library: TritonLibrary, handle: int, place: Place) -> None:
    flags = SEQUENCE_START * place.start | SEQUENCE_END * place.end
    library.check(library.InferenceRequestSetFlags(handle, flags))
    library.check(library.InferenceRequestSetCorrelationId(handle, place.sequence_id))
