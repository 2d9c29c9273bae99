"""Who sends the next request: the end of the one before (closed loop) or the clock (open loop).

Owns the calls and what each waits for. Knows nothing of windows, stop rules, records or deadlines.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from exporter.core.outcome import Outcome
from exporter.core.probe import OverloadPolicy
from exporter.core.units import NS
from exporter.engine.precise_timer import Alarm
from exporter.transport.call import Call

Offer = Callable[[Call, int, int], bool]
"""Sends the call: `(call, intended_ns, now_ns)`. False if the in-flight budget has no capacity or the level ends."""

BACK_OFF_OUTCOMES = frozenset({Outcome.CONNECT_ERROR, Outcome.TLS_ERROR, Outcome.PROTOCOL_ERROR, Outcome.OVERLOAD})
"""What a server that is down or overloaded responds at once: retrying at once would only hammer it."""

_OK = Outcome.OK

BACK_OFF_FIRST_NS = 10_000_000
BACK_OFF_LAST_NS = NS


MAX_WAITING = 1 << 18
"""Requests that may wait for a place in flight: a few MB. What is due beyond them is unsent."""


def longer_ns(back_off_ns: int) -> int:
    """The next back-off in a row."""
    return min(max(2 * back_off_ns, BACK_OFF_FIRST_NS), BACK_OFF_LAST_NS)


def pause_after(on_overload: OverloadPolicy) -> frozenset[Outcome]:
    """The outcomes after which a sender pauses, by this policy."""
    counted = {Outcome.OVERLOAD} if on_overload is OverloadPolicy.COUNT else frozenset()
    return BACK_OFF_OUTCOMES - counted


class Sender(Protocol):
    """Keeps a level's load going between `start` and `stop`."""

    @property
    def unsent(self) -> int:
        """Requests that were due and given up: a pause, or no place in flight for too long; always 0 in a closed
        loop."""

    @property
    def waiting(self) -> int:
        """Requests that are due and wait for a place in flight; always 0 in a closed loop."""

    def start(self, start_ns: int) -> None:
        """Begins to send, by a clock that begins at `start_ns`; `on_warm` is called once the load is steady."""

    def ended(self, call: Call) -> None:
        """A call of this sender has ended, and is its own again."""

    def space(self) -> None:
        """The in-flight budget may have capacity again."""

    def stop(self) -> None:
        """Sends nothing more."""


class FirstCall:
    """One request, alone: what a cold server takes for it."""

    def __init__(self, call: Call, offer: Offer, on_warm: Callable[[], None]) -> None:
        self.unsent = 0
        self.waiting = 0
        self._call = call
        self._offer = offer
        self._on_warm = on_warm
        self._was_sent = False

    def start(self, start_ns: int) -> None:
        self._was_sent = self._offer(self._call, start_ns, start_ns)

    def ended(self, call: Call) -> None:
        self._on_warm()

    def space(self) -> None:
        if not self._was_sent:
            self.start(time.monotonic_ns())

    def stop(self) -> None:
        """Nothing to do: it sends nothing more anyway."""


class ClosedLoop:
    """As many requests in flight as there are calls: each end sends the next.

    A call pauses after an outcome of `BACK_OFF_OUTCOMES`, for 10 ms, doubled each time in a row up to 1 s; and while
    it finds no capacity, since abandoned requests take it up or the server asked for a pause. A server that reports
    that it is overloaded is spared so only by the policy `back_off`. Warm once each call has had its first end.

    With a `think_ns` each call pauses after its end, for half to one and a half times that: calls whose ends are tied
    together, by the server's batches, come loose.
    """

    def __init__(
        self,
        calls: Sequence[Call],
        offer: Offer,
        on_warm: Callable[[], None],
        on_overload: OverloadPolicy = OverloadPolicy.BACK_OFF,
        think_ns: int = 0,
    ) -> None:
        self.unsent = 0
        self.waiting = 0
        self._pause_after = pause_after(on_overload)
        self._think_s = think_ns / NS
        self._random = random.Random()  # noqa: S311 - a pause, no secret; another one in each sweep
        self._calls = calls
        self._offer = offer
        self._on_warm = on_warm
        self._loop = asyncio.get_running_loop()
        self._cold = {call.slot for call in calls}
        self._back_off_ns = dict.fromkeys(self._cold, 0)
        self._pauses: dict[int, asyncio.TimerHandle] = {}
        self._parked: deque[Call] = deque()
        self._backed_off = False

    def start(self, start_ns: int) -> None:
        for call in self._calls:
            self._send(call, start_ns)

    def ended(self, call: Call) -> None:
        if call.outcome is not _OK or self._cold or self._backed_off or self._think_s:
            self._ended_unusually(call)
        else:
            # Meant to be sent when the one before had ended: our own time between the two is then seen as send lag.
            self._send(call, call.last_ns)

    def _ended_unusually(self, call: Call) -> None:
        if self._cold:
            self._warm_up(call)
        if call.outcome in self._pause_after:
            self._pause(call)
            return
        self._back_off_ns[call.slot] = 0
        if self._backed_off:
            self._backed_off = any(self._back_off_ns.values())
        if self._think_s:
            pause_s = self._think_s * self._random.uniform(0.5, 1.5)
            self._pauses[call.slot] = self._loop.call_later(pause_s, self._resume, call)
            return
        self._send(call, call.last_ns)

    def space(self) -> None:
        now_ns = time.monotonic_ns()
        for _ in range(len(self._parked)):
            self._send(self._parked.popleft(), now_ns)

    def stop(self) -> None:
        for pause in self._pauses.values():
            pause.cancel()
        self._pauses.clear()
        self._parked.clear()

    def _send(self, call: Call, now_ns: int) -> None:
        if not self._offer(call, now_ns, now_ns):
            self._parked.append(call)

    def _warm_up(self, call: Call) -> None:
        self._cold.discard(call.slot)
        if not self._cold:
            self._on_warm()

    def _pause(self, call: Call) -> None:
        back_off_ns = longer_ns(self._back_off_ns[call.slot])
        self._back_off_ns[call.slot] = back_off_ns
        self._backed_off = True
        self._pauses[call.slot] = self._loop.call_later(back_off_ns / NS, self._resume, call)

    def _resume(self, call: Call) -> None:
        del self._pauses[call.slot]
        self._send(call, time.monotonic_ns())


class CountedLoop(ClosedLoop):
    """A closed loop that sends `count` requests in all, and calls `on_finished` once they have ended."""

    def __init__(
        self,
        calls: Sequence[Call],
        offer: Offer,
        count: int,
        on_finished: Callable[[], None],
        on_overload: OverloadPolicy,
        *,
        think_ns: int = 0,
    ) -> None:
        super().__init__(calls, self._offer_counted, lambda: None, on_overload, think_ns)
        self._offer_any = offer
        self._unsent_yet = count
        self._awaited = count
        self._on_finished = on_finished

    def ended(self, call: Call) -> None:
        self._awaited -= 1
        if self._awaited:
            super().ended(call)
        else:
            self._on_finished()

    def _offer_counted(self, call: Call, intended_ns: int, now_ns: int) -> bool:
        if not self._unsent_yet:
            return False
        self._unsent_yet -= 1
        if self._offer_any(call, intended_ns, now_ns):
            return True
        self._unsent_yet += 1
        return False


class Periodic:
    """Periodic concurrency: `first` requests at once, then `step` more each time that all of those added last have had
    `period` responses, until all calls were used; each sends one request. One that ends before has had enough, too.

    It is never warm: all of it counts. When all requests have ended, `on_finished` is called.
    """

    def __init__(
        self,
        calls: Sequence[Call],
        offer: Offer,
        *,
        first: int,
        step: int,
        period: int,
        on_finished: Callable[[], None],
    ) -> None:
        self.unsent = 0
        self.waiting = 0
        self._idle = deque(calls)
        self._offer = offer
        self._on_finished = on_finished
        self._first = first
        self._step = step
        self._period = period
        self._awaited: set[Call] = set()
        self._under_way = 0

    def start(self, start_ns: int) -> None:
        self._add(self._first, start_ns)
        if not self._under_way:
            self._on_finished()

    def ended(self, call: Call) -> None:
        self._under_way -= 1
        self._has_had_enough(call)
        if not self._under_way:
            self._on_finished()

    def space(self) -> None:
        """Abandoned requests keep their places until the level is over: it is run once, and short."""

    def stop(self) -> None:
        """Sends nothing more."""
        self._idle.clear()

    def _add(self, count: int, now_ns: int) -> None:
        for _ in range(min(count, len(self._idle))):
            call = self._idle.popleft()
            call.on_response = self._responded
            self._under_way += 1
            self._awaited.add(call)
            if not self._offer(call, now_ns, now_ns):
                self._under_way -= 1
                self._awaited.discard(call)
                self.unsent += 1

    def _responded(self, call: Call) -> None:
        if len(call.response_ns) == self._period:
            self._has_had_enough(call)

    def _has_had_enough(self, call: Call) -> None:
        self._awaited.discard(call)
        if not self._awaited:
            self._add(self._step, time.monotonic_ns())


class OpenLoop:
    """Sends when the pacer decides, whatever has become of the requests before: a response that is late delays nothing.

    There are as many calls as may be in flight. A request that finds none free, or no capacity in the in-flight budget,
    waits for one, in its turn, and goes with the moment at which it was due: its response time has the wait, as a
    user's would (as in wrk2). Leaving it out would hide just the time in which the server was stuck. The server never
    has more requests than it may, and never gets more than were asked for. What has waited for `patience_ns`, the
    requests' own time-out, is given up: unsent. So is what is due while the server is spared, or it would get all of it
    at once: after the same outcomes and for as long as a closed loop would pause, and for as long as it asks
    (`is_spared`). To a server that is gone a rate is no measure, but connections by the thousand. Nothing else that it
    sends changes anything: the level's stop rules are there for that.

    Warm once the first request has ended. If the pacer ends, `on_finished` is called once all requests have.
    """

    def __init__(
        self,
        calls: Sequence[Call],
        offer: Offer,
        on_warm: Callable[[], None],
        offsets_ns: Iterator[int],
        *,
        on_finished: Callable[[], None],
        on_overload: OverloadPolicy = OverloadPolicy.BACK_OFF,
        patience_ns: int = 10 * NS,
        is_spared: Callable[[], bool] = lambda: False,
    ) -> None:
        self.unsent = 0
        self._waiting: deque[int] = deque()
        self._patience_ns = patience_ns
        self._is_spared = is_spared
        # The last one used is used next: few connections do the work, and those stay warm.
        self._free = list(reversed(calls))
        self._places = len(calls)
        self._offer = offer
        self._on_warm: Callable[[], None] | None = on_warm
        self._on_finished = on_finished
        self._offsets_ns = offsets_ns
        self._pause_after = pause_after(on_overload)
        self._back_off_ns = 0
        self._spared_until_ns = 0
        self._start_ns = 0
        self._due_ns = 0
        self._exhausted = False
        self._stopped = False
        self._alarm = Alarm(self._tick)

    @property
    def waiting(self) -> int:
        """See `Sender`."""
        return len(self._waiting)

    def start(self, start_ns: int) -> None:
        self._start_ns = start_ns
        self._due_ns = start_ns + next(self._offsets_ns)
        self._alarm.set(self._due_ns)

    def ended(self, call: Call) -> None:
        if self._on_warm is not None:
            self._on_warm()
            self._on_warm = None
        if call.outcome is not _OK or self._back_off_ns:
            self._heed(call)
        self._free.append(call)
        if self._waiting:
            self._send_waiting(call.last_ns)
        if self._exhausted:
            self._finish()

    def space(self) -> None:
        if self._waiting:
            self._send_waiting(time.monotonic_ns())
            if self._exhausted:
                self._finish()

    def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._alarm.close()

    def _tick(self) -> None:
        now_ns = time.monotonic_ns()
        if self._waiting:
            self._send_waiting(now_ns)
        while self._due_ns <= now_ns:
            self._send_one(now_ns)
            if self._stopped:
                return
            offset_ns = next(self._offsets_ns, None)
            if offset_ns is None:
                self._exhausted = True
                self._finish()
                return
            self._due_ns = self._start_ns + offset_ns
        self._alarm.set(self._due_ns)

    def _send_one(self, now_ns: int) -> None:
        if now_ns < self._spared_until_ns or len(self._waiting) >= MAX_WAITING or self._is_spared():
            self.unsent += 1
        elif self._waiting or not self._send(self._due_ns, now_ns):
            self._waiting.append(self._due_ns)

    def _send(self, due_ns: int, now_ns: int) -> bool:
        """False if there is no place for it."""
        if not self._free:
            return False
        call = self._free.pop()
        if self._offer(call, due_ns, now_ns):
            return True
        self._free.append(call)
        return self._stopped

    def _send_waiting(self, now_ns: int) -> None:
        """Sends what waits for as long as there are places, and gives up what has waited for too long."""
        waiting, given_up_ns = self._waiting, now_ns - self._patience_ns
        while waiting and not self._stopped:
            if waiting[0] <= given_up_ns:
                self.unsent += 1
            elif not self._send(waiting[0], now_ns):
                return
            waiting.popleft()

    def _heed(self, call: Call) -> None:
        """Spares the server for longer each time in a row. What was in flight when a pause began is no news."""
        if call.last_ns < self._spared_until_ns:
            return
        if call.outcome in self._pause_after:
            self._back_off_ns = longer_ns(self._back_off_ns)
            self._spared_until_ns = call.last_ns + self._back_off_ns
            self.unsent += len(self._waiting)
            self._waiting.clear()
        else:
            self._back_off_ns = 0

    def _finish(self) -> None:
        if len(self._free) == self._places and not self._waiting:
            self._on_finished()
