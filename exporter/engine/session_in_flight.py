"""The requests in flight of a level of chat sessions: which turn a call carries, and where its response goes. Does not
know how a turn is encoded."""

from __future__ import annotations

from collections.abc import Callable

from exporter.core.outcome import Outcome
from exporter.engine.abandoned import Abandoned
from exporter.engine.guard import Guard
from exporter.engine.in_flight import InFlight
from exporter.engine.sessions import Sessions
from exporter.services.base import Dialogue
from exporter.transport.call import Call, EncodedRequest


class SessionInFlight(InFlight):
    """An `InFlight`. Each call has its own session; `begin` starts one. The very first request, the cold one, is the
    first step alone, outside any session."""

    def __init__(
        self,
        guard: Guard,
        abandoned: Abandoned,
        max_in_flight: int,
        timeout_ns: int,
        *,
        sessions: Sessions,
        begin: Callable[[], Dialogue],
    ) -> None:
        super().__init__(guard, (), abandoned, max_in_flight, timeout_ns)
        self.sessions = sessions
        self._begin = begin
        self._dialogues: dict[int, Dialogue] = {}
        self._is_cold = True

    @property
    def keeps_responses(self) -> bool:
        """True: responses are part of the following turns."""
        return True

    def next_request(self, call: Call) -> EncodedRequest:
        """As `InFlight.next_request`."""
        if self._is_cold:
            self._is_cold = False
            call.step = 0
            return self._begin().request(0)
        turn = self.sessions.take(call.slot)
        call.step = turn.step
        if turn.is_first:
            self._dialogues[call.slot] = self._begin()
        return self._dialogues[call.slot].request(turn.step)

    def ended_with_response(self, call: Call) -> None:
        """As `InFlight.ended_with_response`."""
        response, call.response = call.response, None
        dialogue = self._dialogues.get(call.slot)
        if dialogue is not None and response is not None and call.outcome is Outcome.OK:
            dialogue.responded(response)
        self.ended(call)
