"""One level of load over a service's channels: opens them, warms up, cuts windows, and ends in order.

Does not know protocols, processes, or the meaning of a window's figures. Between two window edges everything happens in
the callbacks of `InFlight`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

from exporter.core.errors import TransportError
from exporter.core.facts import ServerReading
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import COUNT_WINDOW_LIMIT, Mode, Probe, WindowMode
from exporter.core.units import NS
from exporter.core.window import ConnectionTimes, LevelEnd, Window
from exporter.engine.abandoned import Abandoned
from exporter.engine.client_health import Health, find_cpu_stat
from exporter.engine.guard import MemberGuard, QueueGuard, Stop
from exporter.engine.level_pacing import has_pacer, make_pacer
from exporter.engine.level_setup import finish, make_counted, make_in_flight, make_sender, places_in_flight
from exporter.engine.plan import LevelPlan, LevelStarted, LevelTally, LevelWaiting, MemberEvent
from exporter.engine.recorder import MAX_ROWS
from exporter.engine.senders import FirstCall, Sender
from exporter.engine.sequence_in_flight import SequenceInFlight
from exporter.engine.tally import Allowance
from exporter.engine.window_cutter import WindowCutter
from exporter.payload import Step
from exporter.server.poller import Poller
from exporter.services.base import Control, Service
from exporter.storage.account import LOST_AFTER_SECONDS, Account
from exporter.transport.call import Call, Channel, EncodedRequest

Publish = Callable[[MemberEvent], Awaitable[None]]
"""Delivers an event. The load continues meanwhile, in a longer window: the next edge waits for the delivery."""

DRAIN_LIMIT_NS = 2 * NS
"""How long a level waits at its end for requests in flight, unless their time-out is shorter."""

OPEN_LOOP_FIRST_CHANNELS = 8
OPEN_LOOP_FIRST_NS = 20_000_000
"""Channels that an open loop opens in advance: this many, or one per request due in this time if that is more. The
others, up to `max_in_flight`, open on demand. Their connect time is part of the response time, as for a user, and never
of the latency. But opening a channel costs as much cpu time as several requests: if a short stall of the machine made
all of them open at once, the load would be late for long afterwards."""

SCHEDULE_LEAD_NS = 4_000_000
"""The first window begins this long before a schedule's start: timers may be a millisecond late, and no request may be
lost to the warm-up."""

_OPEN_REASONS = {
    Outcome.TLS_ERROR: Reason.TLS,
    Outcome.AUTH_ERROR: Reason.AUTH,
    Outcome.PROTOCOL_ERROR: Reason.PROTOCOL,
}
"""The reason with which a level ends if its first channel cannot be opened; unreachable for the other outcomes."""


class Level:
    """One level. Call `run` once; `stop` ends it early.

    `by_place` holds the requests: once for all places in flight, or once per place where they differ by place. `steps`,
    if given, are their inputs and expected outputs, to check responses. `streams` holds, for each stream of input data,
    its step numbers; only sequences are sent by stream. `abandoned` is shared by the sweep: a request that one level
    gave up may still be at the server in the next. Raises InputError if the requests cannot be sent.
    """

    def __init__(
        self,
        plan: LevelPlan,
        *,
        service: Service,
        control: Control,
        by_place: Sequence[Sequence[EncodedRequest]],
        abandoned: Abandoned,
        publish: Publish,
        account: Account | None = None,
        steps: Sequence[Step] = (),
        streams: Sequence[Sequence[int]] = (),
        pollers: Sequence[Poller] = (),
    ) -> None:
        self._plan = plan
        self._abandoned = abandoned
        self._publish = publish
        self._pollers = pollers
        self._options = plan.probe.measurement
        self._timeout_ns = self._options.request_timeout_ns
        self._is_closed_loop = not has_pacer(plan.level)
        self._offsets_ns = iter(()) if self._is_closed_loop else make_pacer(plan)
        self._in_flight, self._guard = make_in_flight(
            plan,
            service=service,
            by_place=by_place,
            steps=steps,
            streams=streams,
            abandoned=abandoned,
            account=account,
            on_alarm=self._alarm,
        )
        self._alarms = False
        self._reports: set[asyncio.Task[None]] = set()
        self._channels = self._make_calls(service, places_in_flight(plan))
        self._windows = WindowCutter(plan, self._in_flight, self._guard, abandoned, control=control, pollers=pollers)
        self._sender: Sender | None = None
        self._go_ns: int | None = None
        self._is_warmed_up = False
        self._is_measuring_count = False
        self._grid_ns = 0

    async def run(self) -> None:
        """Runs the level to its end; the last event is LevelEnd. Raises whatever `publish` raises."""
        health = Health(find_cpu_stat())
        try:
            with _no_garbage_collection(), _queue_watched(self._plan.probe, self._pollers, self._in_flight.stop):
                end = await self._run(health)
        finally:
            self._in_flight.close()
            self._guard.settle()
            health.close()
            await asyncio.gather(*(channel.close() for channel in self._channels))
        await asyncio.gather(*self._reports)
        await self._publish(end)

    def stop(self, stop: Stop | None = None) -> None:
        """Ends the level, at the conductor's request or for this reason: sends nothing more."""
        self._in_flight.stop(stop or Stop())

    def proceed(self, at_ns: int) -> None:
        """All members of the group are ready: they continue together at `at_ns`."""
        self._go_ns = at_ns
        self._in_flight.wake.set()

    def report_tally(self) -> None:
        """Reports the responses so far to the group, which judges the level."""
        report = asyncio.ensure_future(self._publish(LevelTally(self._guard.tally(), self._alarms)))
        self._reports.add(report)
        report.add_done_callback(self._reports.discard)

    def resume(self, allowed: Allowance) -> None:
        """After an alarm, here or elsewhere: the level continues, and allows so much here before the next one."""
        if isinstance(self._guard, MemberGuard):
            self._guard.release(allowed)
        self._alarms = False
        self._in_flight.release()

    def _alarm(self) -> None:
        """This part of the level breaks a rule of the level: it waits for what the group finds of the whole."""
        if not self._alarms and self._in_flight.stopped is None:
            self._alarms = True
            self._in_flight.hold()
            self.report_tally()

    def _make_calls(self, service: Service, count: int) -> list[Channel]:
        """Creates the calls and their channels, assigned round-robin."""
        probe, keep_responses = self._plan.probe, self._in_flight.keeps_responses
        target = probe.target
        listener = self._in_flight.ended_with_response if keep_responses else self._in_flight.ended
        channels = [
            service.channel(target, listener, streaming=probe.streaming, keep_responses=keep_responses)
            for _ in range(max(service.connections(target, count), 1))
        ]
        self._in_flight.calls = tuple(Call(slot) for slot in range(count))
        for call in self._in_flight.calls:
            call.channel = channels[call.slot % len(channels)]
        return channels

    # --- the level's course ------------------------------------------------------------------------------------------

    async def _run(self, health: Health) -> LevelEnd:
        self._windows.begin(health)
        time_budget = asyncio.get_running_loop().call_later(
            self._plan.max_duration_ns / NS, lambda: self._in_flight.stop(self._guard.out_of_time())
        )
        try:
            try:
                await self._open_channels()
            except TransportError as error:
                return LevelEnd(_OPEN_REASONS.get(error.outcome, Reason.UNREACHABLE), str(error), 0)
            await self._warm_up()
            measured = 0
            while await self._until_edge():
                window = self._cut(warm_up=False)
                measured += 1
                if measured == self._plan.max_windows:
                    # Stops by itself: the conductor may be slow to collect windows.
                    self.stop()
                await self._end_window(window)
            return await self._wind_up()
        finally:
            time_budget.cancel()

    async def _open_channels(self) -> None:
        """Opens the first channel alone, to measure its times undisturbed, then the others."""
        await self._channels[0].open()
        ahead = len(self._channels) if self._is_closed_loop else first_channels(self._plan)
        # A failed channel does not end the level: its calls reopen it, and record the outcome.
        await asyncio.gather(*(channel.open() for channel in self._channels[1:ahead]), return_exceptions=True)

    async def _warm_up(self) -> None:
        """Sends the first request alone, as the cold one, then starts the load. Measuring begins once the load is warm.
        A load that runs once is measured entirely; of a request count, everything after the warm-up requests."""
        plan, in_flight, mode = self._plan, self._in_flight, self._plan.level.mode
        await self._send_first()
        self._grid_ns = await self._meet()
        if self._options.request_count:
            await self._warm_up_counted()
        elif mode is Mode.SCHEDULE:
            self._grid_ns = max(self._grid_ns, time.monotonic_ns() + SCHEDULE_LEAD_NS)
            self._launch(self._make_sender, self._grid_ns)
            await self._until(self._grid_ns - SCHEDULE_LEAD_NS)
        elif not mode.runs_once:
            if self._is_closed_loop:
                await self._until(self._grid_ns)
            await self._start(self._make_sender, self._grid_ns)
            await self._warm_longer()
            self._grid_ns = await self._meet()
            await self._until(self._grid_ns)
        if in_flight.stopped is None:
            await self._end_window(self._cut(warm_up=True))
            if count := self._options.request_count:
                self._is_measuring_count = True
                self._launch(lambda: make_counted(plan, in_flight, count, finish(in_flight)), time.monotonic_ns())
            elif mode.runs_once and mode is not Mode.SCHEDULE:
                self._launch(self._make_sender, time.monotonic_ns())

    def _make_sender(self) -> Sender:
        return make_sender(self._plan, self._in_flight, self._offsets_ns)

    async def _send_first(self) -> None:
        first, channel = self._in_flight.calls[0], self._channels[0]
        await self._start(
            lambda: FirstCall(first, self._in_flight.offer, self._in_flight.wake.set), time.monotonic_ns()
        )
        if self._in_flight.stopped is None:
            cold_ns = first.last_ns - first.sent_ns if first.outcome is Outcome.OK and first.sent_ns else None
            times = ConnectionTimes(channel.connect_ns, channel.tls_ns, cold_ns, channel.certificate_expiry_unix_s)
            await self._publish(LevelStarted(times))

    async def _warm_up_counted(self) -> None:
        """Sends the warm-up requests and waits for them: measuring begins with nothing in flight."""
        count = self._options.warm_up_requests
        if count:
            plan, in_flight = self._plan, self._in_flight
            self._launch(lambda: make_counted(plan, in_flight, count, self._warm_up_ended), time.monotonic_ns())
            while self._in_flight.stopped is None and not self._is_warmed_up:
                await self._warm_up_window()
            self._is_warmed_up = False

    def _warm_up_ended(self) -> None:
        self._is_warmed_up = True
        self._in_flight.wake.set()

    async def _warm_longer(self) -> None:
        """Continues the load until the configured warm-up is over."""
        until_ns = self._grid_ns + self._options.warm_up_ns
        count = 1 + self._options.warm_up_requests  # the cold request does not count
        while self._in_flight.stopped is None:
            missing = count - self._guard.responses
            if missing > 0:
                await self._warm_up_window(rows=len(self._in_flight.recorder) + missing)
            elif time.monotonic_ns() < until_ns:
                await self._warm_up_window(until_ns=until_ns)
            else:
                return

    async def _warm_up_window(self, *, until_ns: int | None = None, rows: int = MAX_ROWS) -> None:
        """Warms up until `until_ns`, or until `rows` rows are held, but at most for one window: counters then advance,
        and rows are freed."""
        edge_ns = self._windows.edge_ns + self._options.window_ns
        await self._until(edge_ns if until_ns is None else min(until_ns, edge_ns), rows)
        if time.monotonic_ns() >= edge_ns or self._in_flight.recorder.is_full:
            await self._hand_over(self._cut(warm_up=True))

    def _launch(self, make_sender: Callable[[], Sender], start_ns: int) -> None:
        """Creates and starts the sender, unless the level was stopped."""
        if self._in_flight.stopped is None:
            self._sender = make_sender()
            self._in_flight.start(self._sender, start_ns)

    async def _start(self, make_sender: Callable[[], Sender], start_ns: int) -> None:
        """As `_launch`, then waits until the load is warm or the level is stopped."""
        if self._in_flight.stopped is None:
            self._in_flight.wake.clear()
            self._launch(make_sender, start_ns)
            await self._in_flight.wake.wait()

    async def _meet(self) -> int:
        """Waits until all workers that share this level are ready, or it is stopped; returns when they continue
        together."""
        in_flight = self._in_flight
        if self._plan.members > 1 and in_flight.stopped is None:
            self._go_ns = None
            await self._publish(LevelWaiting())
            while self._go_ns is None and in_flight.stopped is None:
                in_flight.wake.clear()
                await in_flight.wake.wait()
        return self._go_ns or time.monotonic_ns()

    async def _until_edge(self) -> bool:
        """Waits for the window's end. False if the level was stopped."""
        if self._options.request_count:
            await self._until(self._windows.edge_ns + self._plan.max_duration_ns)
        elif self._options.window_mode is WindowMode.COUNT:
            limit_ns = COUNT_WINDOW_LIMIT * self._options.window_ns
            await self._until(self._windows.edge_ns + limit_ns, self._options.window_requests)
        else:
            await self._until(self._next_edge_ns())
        return self._in_flight.stopped is None

    async def _until(self, due_ns: int, rows: int = MAX_ROWS) -> None:
        """Waits until `due_ns`, until `rows` rows are held (at most a window's maximum), until the warm-up requests are
        over, or until the level is stopped."""
        in_flight, recorder = self._in_flight, self._in_flight.recorder
        recorder.notify_at(rows)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(due_ns / NS):
                while not (in_flight.stopped or self._is_warmed_up or recorder.is_full or len(recorder) >= rows):
                    in_flight.wake.clear()
                    await in_flight.wake.wait()

    def _next_edge_ns(self) -> int:
        """One window after the last edge. Members of a group cut at the edges of one grid, and so get the same windows;
        a late member skips an edge that is less than half a window ahead."""
        window_ns = self._options.window_ns
        if self._plan.members == 1:
            return self._windows.edge_ns + window_ns
        edges = (2 * (self._windows.edge_ns - self._grid_ns) + 3 * window_ns) // (2 * window_ns)
        return self._grid_ns + edges * window_ns

    def _cut(self, warm_up: bool) -> Window:
        sender = self._sender
        unsent, waiting = (0, 0) if sender is None else (sender.unsent, sender.waiting)
        return self._windows.cut(warm_up=warm_up, unsent=unsent, waiting=waiting, by_requests=self._is_measuring_count)

    async def _hand_over(self, window: Window) -> None:
        """Publishes a window. The load continues meanwhile, but not for long: a daemon that collects no windows judges
        none, and would never end the level."""
        limit_s = self._options.window_ns / NS + LOST_AFTER_SECONDS
        text = f"the daemon collected no window for {limit_s:g} s"
        watch = asyncio.get_running_loop().call_later(limit_s, self.stop, Stop(Reason.DAEMON_STALLED, text))
        try:
            await self._publish(window)
        finally:
            watch.cancel()

    async def _end_window(self, window: Window) -> None:
        """Publishes a cut window with the server's statistics at its end. The next window has already begun."""
        await self._hand_over(await self._windows.asked(window))
        # With the collector off, the few cycles of the control plane would accumulate as long as the level runs.
        gc.collect(0)

    async def _wind_up(self) -> LevelEnd:
        """Ends a stopped level. Requests since the last edge are counted but not measured, because the load was no
        longer complete; they are measured if the level has finished, or if there is no other window."""
        in_flight = self._in_flight
        stopped = in_flight.stopped or Stop()
        if not stopped.finished:
            await in_flight.drain(min(self._timeout_ns, DRAIN_LIMIT_NS))
        is_measured = stopped.finished or (self._is_measuring_count and len(in_flight.recorder) > 0)
        if is_measured:
            await self._end_window(self._cut(warm_up=False))
        if isinstance(in_flight, SequenceInFlight):
            # Not the requests' own time-out: a short one would prevent these requests.
            await in_flight.end_sequences(DRAIN_LIMIT_NS)
        if not is_measured or len(in_flight.recorder):
            await self._hand_over(self._cut(warm_up=True))
        until_ns = self._abandoned.until_ns(time.monotonic_ns())
        return LevelEnd(
            stopped.reason, stopped.text, self._guard.sent, len(until_ns), until_ns, in_flight.spared_until_ns
        )


def first_channels(plan: LevelPlan) -> int:
    """How many channels this worker's part of an open loop opens in advance. A schedule has no rate."""
    if plan.level.mode is Mode.SCHEDULE:
        return OPEN_LOOP_FIRST_CHANNELS
    return max(OPEN_LOOP_FIRST_CHANNELS, math.ceil(plan.level.value / plan.members * OPEN_LOOP_FIRST_NS / NS))


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keeps the garbage collector from stopping the world in a window; it runs before the level instead."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


@contextlib.contextmanager
def _queue_watched(probe: Probe, pollers: Sequence[Poller], stop: Callable[[Stop], None]) -> Iterator[None]:
    """In this context, each reading of the pollers is checked against `probe.stop`; calls `stop` if the level must
    end."""
    guard = QueueGuard(probe.stop.pending_growth, probe.target.metrics_interval_ns)

    def take(reading: ServerReading) -> None:
        pending = reading.gauges.get("pending_requests")
        if pending is not None and (found := guard.read(pending, reading.at_ns)) is not None:
            stop(found)

    watched = pollers if probe.stop.pending_growth else ()
    for poller in watched:
        poller.on_reading = take
    try:
        yield
    finally:
        for poller in watched:
            poller.on_reading = None
