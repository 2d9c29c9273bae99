"""The sender of session turns: each once the previous one has ended and its pause is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from exporter.core.outcome import Outcome
from exporter.core.probe import OverloadPolicy
from exporter.core.units import NS
from exporter.engine.senders import ClosedLoop, Offer
from exporter.engine.sessions import Sessions
from exporter.transport.call import Call


class SessionLoop(ClosedLoop):
    """A closed loop in which each call sends the turns of one session after the other until all sessions are over; then
    `on_finished` is called. It is never warm: all of it is measured.

    A pause begins when a response ends, and its end is the intended time of the next turn.
    """

    def __init__(
        self,
        calls: Sequence[Call],
        offer: Offer,
        sessions: Sessions,
        on_finished: Callable[[], None],
        on_overload: OverloadPolicy,
    ) -> None:
        taking_part = [call for call in calls if sessions.has_turn(call.slot)]
        super().__init__(taking_part, offer, lambda: None, on_overload)
        self._sessions = sessions
        self._on_finished = on_finished
        self._busy = {call.slot for call in taking_part}

    def ended(self, call: Call) -> None:
        delay_ns = self._sessions.ended(call.slot, is_ok=call.outcome is Outcome.OK)
        self.unsent = self._sessions.unsent
        if not self._sessions.has_turn(call.slot):
            self._busy.discard(call.slot)
            if not self._busy:
                self._on_finished()
        elif delay_ns:
            due_ns = call.last_ns + delay_ns
            self._pauses[call.slot] = self._loop.call_at(due_ns / NS, self._continue, call, due_ns)
        else:
            super().ended(call)

    def _continue(self, call: Call, due_ns: int) -> None:
        del self._pauses[call.slot]
        self._send(call, due_ns)
