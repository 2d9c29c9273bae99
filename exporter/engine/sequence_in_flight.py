"""The requests in flight of a level with sequences: which request a call carries, and how each sequence ends. Does not
know how a sequence is encoded."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

from exporter.core.outcome import Outcome
from exporter.engine.abandoned import Abandoned
from exporter.engine.guard import Guard
from exporter.engine.in_flight import InFlight
from exporter.engine.recorder import DetailRecorder
from exporter.engine.sequences import Sequences, Turn
from exporter.services.base import Placer
from exporter.transport.call import Call, EncodedRequest

_REFUSALS = (Outcome.CLIENT_ERROR, Outcome.SERVER_ERROR)


class SequenceInFlight(InFlight):
    """An `InFlight`. With `by_call` each call has its own sequence (closed loop), otherwise the sequences take turns.
    There is one placer, or one per place in flight."""

    def __init__(
        self,
        guard: Guard,
        abandoned: Abandoned,
        max_in_flight: int,
        timeout_ns: int,
        *,
        sequences: Sequences,
        placers: Sequence[Placer],
        by_call: bool,
    ) -> None:
        super().__init__(guard, (), abandoned, max_in_flight, timeout_ns)
        self.recorder = DetailRecorder(self.rows_full)
        self._sequences = sequences
        self._placers = placers
        self._by_call = by_call
        self._turns: dict[int, Turn] = {}

    def steps_left(self, slot: int) -> int:
        """How many requests the slot's sequence has left."""
        return self._sequences.left(slot)

    def next_request(self, call: Call) -> EncodedRequest | None:
        """As `InFlight.next_request`; None if all sequences must wait for responses. Hot."""
        slot = call.slot if self._by_call else self._sequences.ready()
        return None if slot is None else self._placed(call, self._sequences.take(slot))

    def ended(self, call: Call) -> None:
        """As `InFlight.ended`. Hot."""
        if call.outcome in _REFUSALS and self._placers[0].is_conflict(call.text):
            call.outcome = Outcome.SEQUENCE_CONFLICT
        self._sequences.ended(self._turns.pop(call.slot), call.outcome, was_sent=call.sent_ns > 0)
        super().ended(call)

    def ended_with_response(self, call: Call) -> None:
        """As `InFlight.ended_with_response`, but not for a sequence that was cut short or restarted its stream: its
        responses are not comparable with the expected ones."""
        if not self._turns[call.slot].as_in_data:
            call.response = None
        super().ended_with_response(call)

    async def end_sequences(self, limit_ns: int) -> None:
        """After `stop` and `drain`: ends all open sequences, as many at a time as there are calls, and waits at most
        `limit_ns` for the responses.

        These few requests may exceed the in-flight budget: abandoned requests still count there, and without an end the
        server keeps a place for each sequence. Without the daemon's lease not even they are sent.
        """
        turns = self._sequences.close()
        while self._guard.may_close and (some := list(itertools.islice(turns, len(self.calls)))):
            for call, turn in zip(self.calls, some, strict=False):
                self._send_end(call, turn, limit_ns)
            await self.drain(limit_ns)

    def _placed(self, call: Call, turn: Turn) -> EncodedRequest:
        self._turns[call.slot] = turn
        call.step = turn.step
        call.sequence_id, call.sequence_end = turn.place.sequence_id, turn.place.end
        return self._placers[call.slot % len(self._placers)].place(turn.step, turn.place)

    def _send_end(self, call: Call, turn: Turn, limit_ns: int) -> None:
        now_ns = time.monotonic_ns()
        self._guard.send_closing()
        self.count += 1
        call.intended_ns = now_ns
        call.deadline_ns = now_ns + limit_ns
        assert call.channel is not None
        call.channel.send(call, self._placed(call, turn))
