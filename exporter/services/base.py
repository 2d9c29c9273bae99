"""What a service kind is: the seam between the load engine and a server's protocol.

A kind is one module that implements `Service`, one line in `exporter.services.KINDS`, and one entry in
`exporter.kinds`, for the configuration. The engine, the pacers and the conductor see nothing of a server but this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from exporter.facts import ModelFacts, ServerSnapshot
from exporter.outcome import Outcome
from exporter.probe import DEFAULT_INPUT, InputOptions, Probe
from exporter.target import Target
from exporter.transport.answer import Answer

Tensors = Mapping[str, npt.NDArray[np.generic]]
"""One request's inputs by name, batch dimension included where the model has one."""


TraceSettings = Mapping[str, str | list[str] | None]
"""A model's trace settings, by Triton's names; None: as the server's own."""


@dataclass(frozen=True, slots=True)
class EncodedRequest:
    """A request encoded once, before the level starts, compressed if it is to be. Opaque to all but the kind's own
    channels."""

    head: bytes
    body: bytes


class Place(NamedTuple):
    """A request's place in its sequence: what makes it differ from the others that were encoded with it. (One is made
    for each request, and a tuple costs half of what a frozen dataclass does.)"""

    sequence_id: int
    start: bool
    end: bool


class Placer(Protocol):
    """Puts requests that were encoded once into sequences. Called for each request: it appends, and encodes again only
    what varies."""

    def place(self, step: int, place: Place) -> EncodedRequest:
        """The request of that step at this place."""

    def is_conflict(self, text: str) -> bool:
        """Whether the server's words say that the request did not fit its sequence: unknown, ended, or no id."""


class SharedRequests(Protocol):
    """Requests whose tensors lie in memory that the server shares with us."""

    by_place: list[list[EncodedRequest]]
    """The steps, for each place in flight of its own: its answers go to memory of its own. If there are fewer places
    than calls, calls share them."""

    async def close(self) -> None:
        """Takes the memory back, here and at the server. Nothing may be under way. Never raises."""


class Call:
    """One request in flight: the engine owns it and uses it again; the channel fills it in.

    The engine sets `step`, `intended_ns`, `deadline_ns`, `sequence_id` and `sequence_end` and hands it to
    `Channel.send`. The channel sets the other columns (as in `RecordColumns`) and, exactly once, calls the listener
    with it. All stamps are `time.monotonic_ns`. A streaming channel adds the stamp of each response to `response_ns`,
    and calls `on_response`, if that is set, after each. A channel that keeps answers sets `answer` to what came for a
    call that is ok.
    """

    __slots__ = (
        "answer",
        "bytes_in",
        "bytes_out",
        "channel",
        "deadline_ns",
        "first_ns",
        "intended_ns",
        "last_ns",
        "on_response",
        "outcome",
        "response_ns",
        "responses",
        "retry_after_ns",
        "send_done_ns",
        "sent_ns",
        "sequence_end",
        "sequence_id",
        "slot",
        "step",
        "text",
    )

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.channel: Channel | None = None
        self.step = 0
        self.answer: Answer | None = None
        self.outcome = Outcome.OK
        self.text = ""
        self.intended_ns = self.sent_ns = self.send_done_ns = self.first_ns = self.last_ns = self.deadline_ns = 0
        self.responses = self.bytes_out = self.bytes_in = self.retry_after_ns = 0
        self.sequence_end = False
        self.sequence_id = 0
        self.response_ns: list[int] = []
        self.on_response: Callable[[Call], None] | None = None


Listener = Callable[[Call], None]
"""Called with a call that has ended, whatever its outcome. It may send the next request at once, on this channel."""


class Channel(Protocol):
    """A connection that carries requests to one model, and opens itself again when the server closed it.

    A channel never raises out of `send` and never loses a call: each one sent comes back to the listener once, as ok
    or with the outcome that fits. Opening is apart from sending: its time is in `connect_ns` and `tls_ns`, never in a
    call.
    """

    capacity: int
    """How many calls it can carry at once; 1 for HTTP/1.1."""
    connect_ns: int | None
    """The last connect's time; None before the first."""
    tls_ns: int | None
    certificate_expiry_unix_s: float | None

    async def open(self) -> None:
        """Connects. Raises TransportError (connect, TLS, or protocol) if that fails within the target's time-out."""

    def send(self, call: Call, request: EncodedRequest) -> None:
        """Sends the request; if the connection is gone, opens it first (then `sent_ns` is after that)."""

    def give_up(self, call: Call, outcome: Outcome) -> None:
        """Ends a call in flight with this outcome (time-out or cancelled), telling the server as far as the
        protocol can: RST_STREAM over HTTP/2, closing the connection over HTTP/1.1. The listener is called before this
        returns."""

    async def close(self) -> None:
        """Closes the connection. Calls in flight end as cancelled."""


class Control(Protocol):
    """The slow calls to a server, through its official client. All of them are bounded in time."""

    async def preflight(
        self, model: str, version: str, composing: Sequence[str] = (), options: InputOptions = DEFAULT_INPUT
    ) -> ModelFacts:
        """Is the server live and ready, and the model, and what is it? `composing` are models that it calls beside
        those that its configuration tells, and `options` say of its inputs what the server does not. Raises
        PreflightError with the reason if not."""

    async def infer(self, facts: ModelFacts, model: str, version: str, inputs: Tensors, timeout_ns: int) -> Tensors:
        """The outputs of one request to another model that takes the same inputs, as `facts` have them, within this
        time-out and not that of the other calls. Raises PreflightError."""

    async def snapshot(self, facts: ModelFacts) -> ServerSnapshot | None:
        """The cumulative statistics now of the model and of those it calls; None where the server has none or does not
        answer in time."""

    async def ready_models(self) -> tuple[str, ...]:
        """The names of all models that are ready, sorted. Raises PreflightError."""

    async def trace_settings(self, model: str, names: Iterable[str]) -> TraceSettings:
        """The model's trace settings of these names, as `set_trace` takes them back. Raises PreflightError."""

    async def set_trace(self, model: str, settings: TraceSettings) -> None:
        """Changes these trace settings of the model. Raises PreflightError."""

    async def close(self) -> None:
        """Closes its connections."""


class Service(Protocol):
    """A service kind."""

    def control(self, target: Target, timeout_ns: int) -> Control:
        """The control plane of a target; each call on it ends within `timeout_ns`."""

    def encode(self, probe: Probe, facts: ModelFacts, steps: Sequence[Tensors], sweep_id: str) -> list[EncodedRequest]:
        """The steps as requests, ready for the wire, with an id and a header that mark them as the canary's."""

    async def check_shared_memory(self, probe: Probe) -> None:
        """Whether the server shares memory with us as the probe wants it. Removes what killed workers left behind.
        Raises PreflightError with the reason if not."""

    async def share(
        self, probe: Probe, facts: ModelFacts, steps: Sequence[Tensors], sweep_id: str, places: int
    ) -> SharedRequests:
        """The steps as by `encode`, with their tensors in shared memory. Raises InputError or PreflightError."""

    def placer(self, target: Target, requests: Sequence[EncodedRequest]) -> Placer:
        """What puts these requests, which came from `encode`, into sequences. Raises InputError if that can't be."""

    def channel(
        self, target: Target, listener: Listener, *, streaming: bool = False, keep_answers: bool = False
    ) -> Channel:
        """A channel, not opened yet. With `streaming` its calls may have any number of responses. With `keep_answers`
        each call gets its answer, for `read_answer`."""

    def read_answer(self, facts: ModelFacts, answer: Answer) -> list[Tensors]:
        """The outputs of an answer that was kept: one mapping for each response in it. Raises ProtocolError."""

    def connections(self, target: Target, in_flight: int) -> int:
        """How many channels serve `in_flight` calls at once."""
