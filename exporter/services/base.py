"""The interface of a service kind: everything that the load engine knows of a server's protocol.

A kind is a module that implements `Service`, a line in `exporter.services.SERVICES`, and an entry in
`exporter.core.kinds` for the configuration. The engine, the pacers and the conductor use a server only through these.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from exporter.core.facts import ModelFacts, ServerSnapshot
from exporter.core.probe import DEFAULT_INPUT, InputOptions, Probe
from exporter.core.target import Target
from exporter.transport.call import Channel, EncodedRequest, Listener, Response

NO_RESPONSE = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    *(struct.error, RecursionError, MemoryError),
)
"""What Python, numpy and the client libraries raise on an invalid response. Catch it only around code that reads a
response: there it is the server's error, anywhere else it is our bug."""

Tensors = Mapping[str, npt.NDArray[np.generic]]
"""One request's inputs by name, with the batch dimension if the model has one."""


TraceSettings = Mapping[str, str | list[str] | None]
"""A model's trace settings, by Triton's names; None resets to the server's own."""


class Place(NamedTuple):
    """A request's place in its sequence, in which it differs from requests encoded together with it. (A tuple, because
    one is created per request and costs half as much as a frozen dataclass.)"""

    sequence_id: int
    start: bool
    end: bool


class Placer(Protocol):
    """Puts pre-encoded requests into sequences. Called per request: it appends, and re-encodes only what varies."""

    def place(self, step: int, place: Place) -> EncodedRequest:
        """The request of this step at this place."""

    def is_conflict(self, text: str) -> bool:
        """Whether the server's error text means that the request did not fit its sequence: unknown, ended, or no id."""


class Dialogue(Protocol):
    """A session with a language model: each request contains the whole history."""

    def request(self, step: int) -> EncodedRequest:
        """The next turn's request, from this step."""

    def responded(self, response: Response) -> None:
        """Takes the previous turn's response, as kept by its channel."""


class SharedRequests(Protocol):
    """Requests whose tensors are in memory shared with the server."""

    by_place: list[list[EncodedRequest]]
    """The steps' requests for each place in flight; each place has its own memory for responses. With fewer places than
    calls, calls share them."""

    async def close(self) -> None:
        """Unregisters and frees the memory, here and at the server. No request may be in flight. Never raises."""


class Control(Protocol):
    """The slow calls to a server, through its official client. Each has a time limit."""

    async def preflight(
        self, model: str, version: str, composing: Sequence[str] = (), options: InputOptions = DEFAULT_INPUT
    ) -> ModelFacts:
        """Checks that server and model are live and ready, and describes the model. `composing` are models that it
        calls beyond its configuration; `options` describe inputs that the server does not. Raises PreflightError with
        the reason."""

    async def infer(self, facts: ModelFacts, model: str, version: str, inputs: Tensors, timeout_ns: int) -> Tensors:
        """The outputs of one request to another model with the same inputs (as in `facts`), with its own time-out
        instead of that of the other calls. Raises PreflightError."""

    async def snapshot(self, facts: ModelFacts) -> ServerSnapshot | None:
        """The current cumulative statistics of the model and of those it calls; None if the server has none or does not
        respond in time."""

    async def served_version(self, model: str) -> str:
        """The model version that serves requests without a version; "" if the server does not report it. Raises
        PreflightError."""

    async def ready_models(self) -> tuple[str, ...]:
        """The names of all ready models, sorted. Raises PreflightError."""

    async def trace_settings(self, model: str, names: Iterable[str]) -> TraceSettings:
        """The model's trace settings with these names, in the form that `set_trace` accepts. Raises PreflightError."""

    async def set_trace(self, model: str, settings: TraceSettings) -> None:
        """Changes these trace settings of the model. Raises PreflightError."""

    async def close(self) -> None:
        """Closes its connections."""


class Service(Protocol):
    """A service kind."""

    def control(self, target: Target, timeout_ns: int) -> Control:
        """The control plane of a target; each call ends within `timeout_ns`."""

    def encode(self, probe: Probe, facts: ModelFacts, steps: Sequence[Tensors], sweep_id: str) -> list[EncodedRequest]:
        """The steps as encoded requests, with an id and a header that mark them as the canary's."""

    async def check_shared_memory(self, probe: Probe) -> None:
        """Checks that the server shares memory with us as the probe needs it. Removes regions left by killed workers.
        Raises PreflightError with the reason."""

    async def share(
        self, probe: Probe, facts: ModelFacts, steps: Sequence[Tensors], sweep_id: str, places: int
    ) -> SharedRequests:
        """As `encode`, with the tensors in shared memory. Raises InputError or PreflightError."""

    def placer(self, target: Target, requests: Sequence[EncodedRequest]) -> Placer:
        """A placer that puts these requests, made by `encode`, into sequences. Raises InputError if that is
        impossible."""

    def dialogues(self, probe: Probe, steps: Sequence[Tensors], sweep_id: str) -> Callable[[], Dialogue]:
        """A function that begins a session whose turns are among these steps. Raises InputError or PreflightError."""

    def channel(
        self, target: Target, listener: Listener, *, streaming: bool = False, keep_responses: bool = False
    ) -> Channel:
        """A channel, not yet open. With `streaming` its calls may have any number of responses. With `keep_responses`
        each call gets its response, for `decode_response` or for dialogues."""

    def decode_response(self, facts: ModelFacts, response: Response) -> list[Tensors]:
        """The outputs in a kept response: one mapping per response. Raises ProtocolError."""

    def connections(self, target: Target, in_flight: int) -> int:
        """How many channels are needed for `in_flight` concurrent calls."""
