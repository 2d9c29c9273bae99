"""What sends the next request: the end of the previous one (closed loop) or the clock (open loop).

Owns the calls and what each waits for. Does not know windows, stop rules, records or deadlines.
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
"""Sends the call: `(call, intended_ns, now_ns)`. False if the in-flight budget is full or the level ends."""

BACK_OFF_OUTCOMES = frozenset({Outcome.CONNECT_ERROR, Outcome.TLS_ERROR, Outcome.PROTOCOL_ERROR, Outcome.OVERLOAD})
"""Outcomes that a server that is down or overloaded returns at once: immediate retries would only hammer it."""

_OK = Outcome.OK

BACK_OFF_FIRST_NS = 10_000_000
BACK_OFF_LAST_NS = NS


MAX_WAITING = 1 << 18
"""The most requests that wait for a place in flight: a few MB. Further due requests count as unsent."""


def longer_ns(back_off_ns: int) -> int:
    """The next back-off in a series."""
    return min(max(2 * back_off_ns, BACK_OFF_FIRST_NS), BACK_OFF_LAST_NS)


def pause_after(on_overload: OverloadPolicy) -> frozenset[Outcome]:
    """The outcomes after which a sender backs off under this policy."""
    counted = {Outcome.OVERLOAD} if on_overload is OverloadPolicy.COUNT else frozenset()
    return BACK_OFF_OUTCOMES - counted


class Sender(Protocol):
    """Generates a level's load between `start` and `stop`."""

    @property
    def unsent(self) -> int:
        """Due requests that were given up: in a pause, or after too long a wait for a place in flight. Always 0 in a
        closed loop."""

    @property
    def waiting(self) -> int:
        """Due requests that wait for a place in flight. Always 0 in a closed loop."""

    def start(self, start_ns: int) -> None:
        """Starts sending, with a clock that begins at `start_ns`; `on_warm` is called once the load is steady."""

    def ended(self, call: Call) -> None:
        """A call of this sender has ended, and can be reused."""

    def space(self) -> None:
        """The in-flight budget may have capacity again."""

    def stop(self) -> None:
        """Sends nothing more."""


class FirstCall:
    """A single request: measures the latency of a cold server."""

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
        """Nothing to do: there is only one request."""


class ClosedLoop:
    """One request in flight per call: each end sends the next request.

    A call backs off after an outcome of `BACK_OFF_OUTCOMES`, for 10 ms, doubled each time in a row up to 1 s. It also
    waits while there is no capacity, because of abandoned requests or a pause that the server requested. An overloaded
    server is only spared under the policy `back_off`. Warm once each call has ended once.

    With `think_ns` each call pauses after its end, for 0.5 to 1.5 times that: this decouples calls that the server's
    batches have synchronized.
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
        self._random = random.Random()  # noqa: S311 - a pause, not a secret; different in each sweep
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
            # Intended at the end of the previous request: our own delay in between then shows as send lag.
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
    """A closed loop that sends `count` requests in total, and calls `on_finished` once they have ended."""

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
    """Periodic concurrency: `first` requests at once, then `step` more whenever each of the last ones added has
    received `period` responses or ended, until all calls are used. Each call sends one request.

    It is never warm: all of it is measured. `on_finished` is called when all requests have ended.
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
        """Abandoned requests keep their places until the end of the level, which is short and runs once."""

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
    """Sends when the pacer decides, whatever became of earlier requests: a late response delays nothing.

    There are as many calls as may be in flight. A request without a free call, or without capacity in the in-flight
    budget, waits in a queue and keeps its due time: its response time includes the wait, as a user's would (as in
    wrk2). Leaving it out would hide exactly the time in which the server was stuck. The server never has more requests
    than allowed, and never gets more than configured.

    A request that has waited for `patience_ns`, the request time-out, is given up as unsent. So are requests that fall
    due in a back-off: otherwise the server would get all of them at once. The back-off follows the same outcomes as in
    a closed loop and is equally long; a pause that the server requested, or in which the group judges the level
    (`is_spared`), counts, too. Without it, a fixed rate would open thousands of connections to a server that is down.
    No other outcome changes the load: that is left to the stop rules.

    Warm once the first request has ended. If the pacer ends, `on_finished` is called once all requests have ended.
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
        # Most recently used first: few connections do the work, and stay warm.
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
        """False if no place is free."""
        if not self._free:
            return False
        call = self._free.pop()
        if self._offer(call, due_ns, now_ns):
            return True
        self._free.append(call)
        return self._stopped

    def _send_waiting(self, now_ns: int) -> None:
        """Sends queued requests while there are places, and gives up those that have waited too long."""
        waiting, given_up_ns = self._waiting, now_ns - self._patience_ns
        while waiting and not self._stopped:
            if waiting[0] <= given_up_ns:
                self.unsent += 1
            elif not self._send(waiting[0], now_ns):
                return
            waiting.popleft()

    def _heed(self, call: Call) -> None:
        """Backs off, longer each time in a row. Responses to requests from before the pause are ignored."""
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
