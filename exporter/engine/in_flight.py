"""The requests in flight of one level: permission to send, outcome, and how they end.

Each request passes here twice, so this is the hot path: `offer` when it is sent and `ended` when it is over. Owns the
in-flight budget, the stop rules, the records and the deadlines. Does not know about windows.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterator, Sequence

from exporter.core.bounds import RETRY_AFTER_S
from exporter.core.outcome import Outcome, Reason
from exporter.core.units import NS
from exporter.engine.abandoned import Abandoned
from exporter.engine.checker import Checker
from exporter.engine.guard import Guard, Stop
from exporter.engine.recorder import MAX_ROWS, Recorder
from exporter.engine.senders import Sender
from exporter.transport.call import Call, EncodedRequest

SCAN_GAP_MIN_NS = 1_000_000
"""Deadlines closer together than this are handled in one scan."""

HOLD_GRACE_NS = 20_000_000
"""What falls due so soon in a hold waits for its end. Later requests are unsent: the server must not get all of them at
once, and their response times would be the hold's."""

_OK = Outcome.OK
_GIVEN_UP = (Outcome.TIMEOUT, Outcome.CANCELLED)


class InFlight:
    """The calls of a level. `by_place` holds the steps' requests: once for all places in flight, or once per place if
    each has its own memory for responses. With more calls than places, some share one.

    `wake` is set when the level must react: the load is warm, the rows are full, it was stopped, or nothing is in
    flight any more.
    """

    def __init__(
        self,
        guard: Guard,
        by_place: Sequence[Sequence[EncodedRequest]],
        abandoned: Abandoned,
        max_in_flight: int,
        timeout_ns: int,
    ) -> None:
        self.wake = asyncio.Event()
        self.stopped: Stop | None = None
        self.count = 0
        self.error_text = ""
        self.heeds_retry_after = True
        self.spared_until_ns = 0
        """Nothing is sent before this time, as the server requested; 0: no pause."""
        self._spared_timer: asyncio.TimerHandle | None = None
        self._is_held = False
        self._held_ns = 0
        self._sends_nothing = False  # stopped, paused or held: one check per request
        self.recorder = Recorder(self.rows_full)
        self.calls: Sequence[Call] = ()
        self.checker: Checker | None = None
        steps = list(zip(*by_place, strict=True))
        self._steps: Iterator[tuple[int, tuple[EncodedRequest, ...]]] = itertools.cycle(enumerate(steps))
        self._places = len(by_place)
        self._only: EncodedRequest | None = steps[0][0] if len(steps) == self._places == 1 else None
        self._sender: Sender | None = None
        self._guard = guard
        self._abandoned = abandoned
        self._held = abandoned.held
        self._max_in_flight = max_in_flight
        self._timeout_ns = timeout_ns
        self._loop = asyncio.get_running_loop()
        self._scan_timer: asyncio.TimerHandle | None = None

    @property
    def keeps_responses(self) -> bool:
        """Whether `ended_with_response` needs the response of a call."""
        return self.checker is not None

    @property
    def is_paused(self) -> bool:
        """Whether requests that fall due now are given up."""
        if not self._sends_nothing:
            return False
        return self.spared_until_ns != 0 or (self._is_held and time.monotonic_ns() > self._held_ns + HOLD_GRACE_NS)

    def start(self, sender: Sender, start_ns: int) -> None:
        """Replaces the sender and starts the new one, with its clock beginning at `start_ns`."""
        if self._sender is not None:
            self._sender.stop()  # it still holds a timer
        self._sender = sender
        sender.start(start_ns)
        self._scan()

    def offer(self, call: Call, intended_ns: int, now_ns: int) -> bool:
        """Sends the call. False if the level was or is now stopped, the in-flight budget is full, or no request may be
        sent now. Hot."""
        if self._sends_nothing:
            return False
        if self._held and self.count + self._abandoned.count(now_ns) >= self._max_in_flight:
            return False
        stop = self._guard.send()
        if stop is not None:
            self.stop(stop)
            return False
        request = self.next_request(call)
        if request is None:
            self._guard.take_back()
            return False
        self.count += 1
        call.intended_ns = intended_ns
        call.deadline_ns = now_ns + self._timeout_ns
        call.channel.send(call, request)  # type: ignore[union-attr]
        return True

    def spare_until(self, until_ns: int) -> None:
        """Pauses all calls until then (`time.monotonic_ns`), as the server requested of one of them."""
        if until_ns > max(self.spared_until_ns, time.monotonic_ns()):
            self.spared_until_ns = until_ns
            self._sends_nothing = True
            if self._spared_timer is not None:
                self._spared_timer.cancel()
            self._spared_timer = self._loop.call_at(until_ns / NS, self._spared_long_enough)

    def _spared_long_enough(self) -> None:
        self.spared_until_ns = 0
        self._send_again()

    def hold(self) -> None:
        """Pauses all calls until `release`: the group that shares the level judges it."""
        self._is_held = self._sends_nothing = True
        self._held_ns = time.monotonic_ns()

    def release(self) -> None:
        """The level continues."""
        self._is_held = False
        self._send_again()

    def _send_again(self) -> None:
        self._sends_nothing = self.stopped is not None or self._is_held or self.spared_until_ns > 0
        if self._sender is not None and not self._sends_nothing:
            self._sender.space()

    def next_request(self, call: Call) -> EncodedRequest | None:
        """The call's next request; sets its step. None if it must wait for responses. Hot."""
        if self._only is not None:
            return self._only
        call.step, by_place = next(self._steps)
        return by_place[call.slot % self._places]

    def ended(self, call: Call) -> None:
        """The channels' listener: records the call and notifies its sender. Hot."""
        self.recorder.record(call)
        self.count -= 1
        call.deadline_ns = 0  # not in flight
        outcome = call.outcome
        if outcome is not _OK:
            self._failed(call, outcome)
        stop = self._guard.ended(outcome, call.text, call.last_ns - call.sent_ns)
        if stop is not None:
            self.stop(stop)
        if self.stopped is None:
            self._sender.ended(call)  # type: ignore[union-attr]
        elif not self.count:
            self.wake.set()

    def ended_with_response(self, call: Call) -> None:
        """The listener used instead where responses are checked. The call may be in flight again when the check is
        queued."""
        step, response, row = call.step, call.response, len(self.recorder)
        call.response = None
        self.ended(call)
        if response is not None:
            assert self.checker is not None
            self.checker.put_aside(step, response, row)

    def checked(self, row: int, wrong: str) -> None:
        """The checker's result for the ok request in this row: the error, or "" if its response is correct."""
        assert self.checker is not None
        if wrong:
            self.recorder.amend(row, Outcome.WRONG_OUTPUT)
            self.error_text = f"{Outcome.WRONG_OUTPUT.label}: {wrong}"
        stop = self._guard.checked(wrong, self.checker.due)
        if stop is not None:
            self.stop(stop)

    def stop(self, stop: Stop) -> None:
        """Sends nothing more. The first reason is kept."""
        if self.stopped is None:
            self.stopped = stop
            self._sends_nothing = True
            self._guard.end_sending()
            if self._sender is not None:
                self._sender.stop()
            self.wake.set()

    async def drain(self, limit_ns: int) -> None:
        """After `stop`: waits at most `limit_ns` for the requests in flight, then gives up the rest as cancelled."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_ns / NS):
                while self.count:
                    self.wake.clear()
                    await self.wake.wait()
        for call in self.calls:
            if call.deadline_ns:
                _give_up(call, Outcome.CANCELLED)

    def close(self) -> None:
        """Cancels the timers."""
        if self.checker is not None:
            self.checker.close()
        self.stop(Stop())
        for timer in (self._scan_timer, self._spared_timer):
            if timer is not None:
                timer.cancel()

    def _scan(self) -> None:
        """Gives up calls past their deadline, and schedules itself for the earliest remaining deadline.

        All calls have the same time-out: a call sent meanwhile cannot be due earlier. A server that responds in time
        therefore costs one scan per time-out, not one timer per request.
        """
        now_ns = time.monotonic_ns()
        next_ns = now_ns + self._timeout_ns
        for call in self.calls:
            if 0 < call.deadline_ns <= now_ns:
                _give_up(call, Outcome.TIMEOUT)
            if call.deadline_ns:
                next_ns = min(next_ns, call.deadline_ns)
        if self._abandoned:
            self._abandoned.count(now_ns)
            if self._sender is not None:
                self._sender.space()
            next_ns = min(next_ns, self._abandoned.next_expiry_ns() or next_ns)
        if self._scan_timer is not None:
            self._scan_timer.cancel()
        self._scan_timer = self._loop.call_at(max(next_ns, now_ns + SCAN_GAP_MIN_NS) / NS, self._scan)

    def _failed(self, call: Call, outcome: Outcome) -> None:
        if outcome is Outcome.TIMEOUT and not call.text:
            call.text = f"no response within {self._timeout_ns / NS:g} s"
        if outcome is not Outcome.CANCELLED:
            self.error_text = f"{outcome.label}: {call.text}"
        if outcome is Outcome.OVERLOAD and call.retry_after_ns and self.heeds_retry_after:
            self.spare_until(call.last_ns + min(call.retry_after_ns, RETRY_AFTER_S * NS))
        # A gRPC server that responds with DEADLINE_EXCEEDED has not stopped its model either. A request that was never
        # sent is not at the server.
        if outcome in _GIVEN_UP and call.sent_ns:
            self._abandoned.hold(call.last_ns + self._timeout_ns)

    def rows_full(self, rows: int) -> None:
        """Ends the window with these rows. If earlier windows were not collected, ends the level."""
        self.wake.set()
        if rows >= 2 * MAX_ROWS:
            self.stop(Stop(Reason.INTERNAL, f"{rows} requests ended, and the windows before were not taken up yet"))


def _give_up(call: Call, outcome: Outcome) -> None:
    assert call.channel is not None
    call.channel.give_up(call, outcome)
