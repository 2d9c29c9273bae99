"""The sender of streams: each call is one stream, which sends the steps of its sequence by the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from exporter.core.outcome import Outcome
from exporter.core.probe import OverloadPolicy
from exporter.engine.precise_timer import Alarm
from exporter.engine.senders import Offer, longer_ns, pause_after
from exporter.engine.streams import Due, StreamClock
from exporter.transport.call import Call

_OK = Outcome.OK


class PacedStreams:
    """A `Sender` with one stream per call, by the deadlines of `engine.streams`.

    A failed step costs its stream all deadlines until the failure is known, and the deadlines in a back-off, which
    follows the same outcomes as in a closed loop and is equally long. The sequence is cut short at the next deadline.

    Warm once each stream has had its first response. `starts_ns` are offsets from the level's start.
    """

    def __init__(
        self,
        calls: Sequence[Call],
        offer: Offer,
        on_warm: Callable[[], None],
        starts_ns: Sequence[int],
        interval_ns: int,
        *,
        steps_left: Callable[[int], int],
        on_overload: OverloadPolicy = OverloadPolicy.BACK_OFF,
    ) -> None:
        self._calls = calls
        self._offer = offer
        self._on_warm = on_warm
        self._starts_ns = starts_ns
        self._interval_ns = interval_ns
        self._steps_left = steps_left
        self._pause_after = pause_after(on_overload)
        self._back_off_ns = [0] * len(calls)
        self._cold = {call.slot for call in calls}
        self._clock = StreamClock(starts_ns, interval_ns)
        self._stopped = False
        self._alarm = Alarm(self._tick)

    @property
    def unsent(self) -> int:
        """See `Sender`."""
        return self._clock.unsent

    @property
    def waiting(self) -> int:
        """See `Sender`."""
        return self._clock.waiting(self._steps_left)

    def start(self, start_ns: int) -> None:
        """See `Sender`."""
        self._clock = StreamClock([start_ns + offset_ns for offset_ns in self._starts_ns], self._interval_ns)
        self._alarm.set(self._clock.next_ns)

    def ended(self, call: Call) -> None:
        """See `Sender`."""
        slot = call.slot
        if self._cold:
            self._cold.discard(slot)
            if not self._cold:
                self._on_warm()
        if call.outcome is _OK:
            self._back_off_ns[slot] = 0
            due = self._clock.ended(slot, sequence_over=call.sequence_end)
            if due is not None:
                self._send(due, call.last_ns)
            return
        pauses = call.outcome in self._pause_after
        self._back_off_ns[slot] = longer_ns(self._back_off_ns[slot]) if pauses else 0
        self._clock.failed(slot, call.last_ns + self._back_off_ns[slot])

    def space(self) -> None:
        """See `Sender`."""
        now_ns = time.monotonic_ns()
        for due in self._clock.retry():
            self._send(due, now_ns)

    def stop(self) -> None:
        """See `Sender`."""
        if not self._stopped:
            self._stopped = True
            self._alarm.close()

    def _tick(self) -> None:
        now_ns = time.monotonic_ns()
        for due in self._clock.tick(now_ns):
            self._send(due, now_ns)
            if self._stopped:
                return
        self._alarm.set(self._clock.next_ns)

    def _send(self, due: Due, now_ns: int) -> None:
        if not self._offer(self._calls[due.stream], due.deadline_ns, now_ns):
            self._clock.held_back(due)
