"""Which request of which sequence is sent next. Pure: no clock, no loop, no bytes.

A sequence is a series of requests with one id, sent in order, the first flagged as its start and the last as its end.
Each slot holds one sequence, and begins the next when it has ended.

A sequence that the server has begun must be ended explicitly, or the server keeps its state and place until its own
idle limit. A sequence with a failed request is therefore cut short: the next request of its slot is its end.
"""

from __future__ import annotations

import random
import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from exporter.core.outcome import Outcome
from exporter.core.probe import DEFAULT_SEQUENCE_LENGTH, SequenceOptions
from exporter.services.base import Place

MAX_ID = 2**63 - 1
"""Triton's largest id is 2^64 - 1, but gRPC carries it as a signed number."""

_ACKNOWLEDGED = frozenset({Outcome.OK, Outcome.WRONG_OUTPUT})
_REFUSED = frozenset(
    {Outcome.CLIENT_ERROR, Outcome.AUTH_ERROR, Outcome.OVERLOAD, Outcome.SEQUENCE_CONFLICT, Outcome.TLS_ERROR}
)
"""With these outcomes the server refused the first request and began no sequence. After a time-out or a server error it
may have begun one."""


class Turn(NamedTuple):
    """One request: its slot, its step of the input data, and its place in the sequence. `as_in_data` is whether all
    earlier requests matched the steps of its stream: only then does the data have its expected response."""

    slot: int
    step: int
    place: Place
    as_in_data: bool = True


class _SequenceSlot:
    """An open sequence; id 0: none."""

    __slots__ = ("acknowledged_start", "broken", "id", "in_flight", "left", "position", "stream")

    def __init__(self) -> None:
        self.id = 0
        self.stream: Sequence[int] = ()
        self.position = 0
        self.left = 0
        self.in_flight = 0
        self.acknowledged_start = False
        self.broken = False


class Sequences:
    """The sequences of a level. `streams` holds the step numbers of each stream of input data; each new sequence takes
    the next stream. The same seed gives the same lengths.

    An id is not reused while a sequence has it: the range must have at least as many ids as there are slots.
    """

    def __init__(self, options: SequenceOptions, streams: Sequence[Sequence[int]], slots: int, seed: int) -> None:
        self._options = options
        self._streams = streams
        self._has_data = sum(map(len, streams)) > 1
        self._next_stream = 0
        self._random = random.Random(seed)  # noqa: S311 - load, not secrets
        self._ids = _ids(options)
        self._slots = [_SequenceSlot() for _ in range(slots)]
        self._held: set[int] = set()
        self._order = deque(range(slots))

    def closing_requests(self, max_requests: int) -> int:
        """How many of the allowed requests to reserve for ending the sequences; at least one remains to begin with."""
        return min(len(self._slots), max_requests - 1)

    def ready(self) -> int | None:
        """The next slot that may send, round-robin; None if all must wait for responses."""
        for _ in range(len(self._order)):
            slot = self._order[0]
            self._order.rotate(-1)
            if self._may_send(self._slots[slot]):
                return slot
        return None

    def left(self, slot: int) -> int:
        """How many requests the slot's sequence has left; 1 without a sequence, because one may begin."""
        state = self._slots[slot]
        return state.left if state.id else 1

    def take(self, slot: int) -> Turn:
        """The next request of the slot. The slot must be ready; with nothing in flight it always is."""
        state = self._slots[slot]
        if not state.id:
            self._begin(state)
        start = state.position == 0
        as_in_data = state.position < len(state.stream) and not state.broken
        step = state.stream[state.position % len(state.stream)]
        end = state.broken or state.left == 1
        state.position += 1
        state.left = 0 if end else state.left - 1
        state.in_flight += 1
        return Turn(slot, step, Place(state.id, start, end), as_in_data)

    def ended(self, turn: Turn, outcome: Outcome, *, was_sent: bool) -> None:
        """A request ended with this outcome. `was_sent` is whether any of it was sent."""
        state = self._slots[turn.slot]
        state.in_flight -= 1
        place = turn.place
        if place.sequence_id != state.id:
            return
        if outcome in _ACKNOWLEDGED:
            state.acknowledged_start = True
        if _is_over(place, outcome, was_sent=was_sent):
            self._held.discard(state.id)
            state.id = 0
        elif outcome not in _ACKNOWLEDGED:
            state.broken = True

    def close(self) -> Iterator[Turn]:
        """A closing request for each open sequence. Nothing may be in flight."""
        for slot, state in enumerate(self._slots):
            if state.id:
                state.broken = True
                yield self.take(slot)

    def _may_send(self, state: _SequenceSlot) -> bool:
        if not state.in_flight:
            return True
        # The first and the last request are sent alone: they must neither overtake others nor be overtaken.
        return state.acknowledged_start and state.left > 1 and not state.broken and not self._options.serial

    def _begin(self, state: _SequenceSlot) -> None:
        state.id = next(number for number in self._ids if number not in self._held)
        self._held.add(state.id)
        state.stream = self._streams[self._next_stream % len(self._streams)]
        self._next_stream += 1
        state.position = 0
        state.left = self._length(state.stream)
        state.acknowledged_start = state.broken = False

    def _length(self, stream: Sequence[int]) -> int:
        """The stream's length if the input data decides. Otherwise uniform over the integers in length * (1 -
        variation) .. length * (1 + variation)."""
        options = self._options
        if self._has_data and not options.length:
            return len(stream)
        length = options.length or DEFAULT_SEQUENCE_LENGTH
        reach = int(length * options.length_variation_ratio)
        return max(1, self._random.randint(length - reach, length + reach))


def _is_over(place: Place, outcome: Outcome, *, was_sent: bool) -> bool:
    """Whether the server no longer has this sequence, or never had it."""
    if outcome in _ACKNOWLEDGED:
        return place.end
    if place.start and (not was_sent or outcome in _REFUSED):
        return True
    if place.end:
        # Assume that the server has processed it, unless it was refused up front.
        return was_sent and outcome not in (Outcome.OVERLOAD, Outcome.AUTH_ERROR)
    return outcome is Outcome.SEQUENCE_CONFLICT


def _ids(options: SequenceOptions) -> Iterator[int]:
    """The ids in turn, without end. Without a range they start at a random number: two clients, or consecutive runs of
    one, then do not collide."""
    if not options.id_range:
        first = secrets.randbelow(MAX_ID)
        while True:
            yield first + 1
            first = (first + 1) % MAX_ID
    while True:
        yield from range(options.start_id, options.start_id + options.id_range)
