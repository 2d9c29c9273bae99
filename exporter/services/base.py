"""What a service kind is: the seam between the load engine and a server's protocol.

A kind is one module that implements `Service`, one line in `exporter.services.SERVICES`, and one entry in
`exporter.core.kinds`, for the configuration. The engine, the pacers and the conductor see nothing of a server but this.
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
"""What Python, numpy and the client libraries raise over a response that is none. To be caught only round what reads
one: it is the server's doing there, and a bug of ours anywhere else."""

Tensors = Mapping[str, npt.NDArray[np.generic]]
"""One request's inputs by name, batch dimension included where the model has one."""


TraceSettings = Mapping[str, str | list[str] | None]
"""A model's trace settings, by Triton's names; None: as the server's own."""


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
        """Whether the server's error text means that the request did not fit its sequence: unknown, ended, or no id."""


class Dialogue(Protocol):
    """A session with a language model: each of its requests has the whole history."""

    def request(self, step: int) -> EncodedRequest:
        """The next turn's request, which is this step's."""

    def responded(self, response: Response) -> None:
        """What came for it, kept by its channel."""


class SharedRequests(Protocol):
    """Requests whose tensors lie in memory that the server shares with us."""

    by_place: list[list[EncodedRequest]]
    """The steps, for each place in flight of its own: its responses go to memory of its own. If there are fewer places
    than calls, calls share them."""

    async def close(self) -> None:
        """Takes the memory back, here and at the server. Nothing may be under way. Never raises."""


class Control(Protocol):
    """The slow calls to a server, through its official client. All of them are bounded in time."""

    async def preflight(
        self, model: str, version: str, composing: Sequence[str] = (), options: InputOptions = DEFAULT_INPUT
    ) -> ModelFacts:
        """Is the server live and ready, and the model, and what is it? `composing` are models that it calls beside
        those in its configuration, and `options` describe inputs that the server does not. Raises
        PreflightError with the reason if not."""

    async def infer(self, facts: ModelFacts, model: str, version: str, inputs: Tensors, timeout_ns: int) -> Tensors:
        """The outputs of one request to another model that takes the same inputs, as `facts` have them, within this
        time-out and not that of the other calls. Raises PreflightError."""

    async def snapshot(self, facts: ModelFacts) -> ServerSnapshot | None:
        """The cumulative statistics now of the model and of those it calls; None where the server has none or does not
        response in time."""

    async def served_version(self, model: str) -> str:
        """The version of the model that responds now where a request names none; "" where the server does not report
        it. Raises PreflightError."""

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

    def dialogues(self, probe: Probe, steps: Sequence[Tensors], sweep_id: str) -> Callable[[], Dialogue]:
        """What begins a session whose turns are among these steps. Raises InputError or PreflightError."""

    def channel(
        self, target: Target, listener: Listener, *, streaming: bool = False, keep_responses: bool = False
    ) -> Channel:
        """A channel, not opened yet. With `streaming` its calls may have any number of responses. With `keep_responses`
        each call gets its response, for `decode_response`; of kinds that have dialogues, for those."""

    def decode_response(self, facts: ModelFacts, response: Response) -> list[Tensors]:
        """The outputs of a response that was kept: one mapping for each response in it. Raises ProtocolError."""

    def connections(self, target: Target, in_flight: int) -> int:
        """How many channels serve `in_flight` calls at once."""
