"""One level of load over the channels of a service: opens them, warms up, cuts windows, and ends in order.

Knows nothing of protocols, of processes, or of what a window's figures mean. Between two window edges everything
happens in the callbacks of `flight`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

from exporter.errors import TransportError
from exporter.load.abandoned import Abandoned
from exporter.load.flight import Flight
from exporter.load.guard import Guard, Stop
from exporter.load.health import Health, find_cpu_stat
from exporter.load.level_pacing import has_pacer, make_pacer
from exporter.load.pacing import level_seed
from exporter.load.place_flight import PlaceFlight
from exporter.load.protocol import LevelPlan, LevelStarted, LevelWaiting, MemberEvent
from exporter.load.recorder import MAX_ROWS, DetailRecorder
from exporter.load.senders import ClosedLoop, FirstCall, OpenLoop, Periodic, Sender
from exporter.load.sequence_flight import SequenceFlight
from exporter.load.sequences import Sequences
from exporter.model import ConnectionTimes, LevelEnd, Outcome, Reason, ServerSnapshot, Window
from exporter.probe import NS, Mode
from exporter.services.base import Call, Channel, Control, EncodedRequest, Service

Publish = Callable[[MemberEvent], Awaitable[None]]
"""Hands an event over. While it waits the load goes on, in a window that gets longer: the next edge comes after."""

DRAIN_LIMIT_NS = 2 * NS
"""How long the requests in flight are awaited once a level ends, if their own time-out is not shorter."""

SNAPSHOT_LIMIT_NS = 2 * NS
"""How long a window's edge waits for the server's statistics, if the window is not shorter."""

OPEN_LOOP_FIRST_CHANNELS = 8
"""Channels opened ahead for an open loop; the others, up to `max_in_flight`, open when they are needed. Their connect
time is then in the response time, as it would be for a user, and never in the latency."""

SCHEDULE_LEAD_NS = 4_000_000
"""How long before a schedule's start its first window begins: timers may be late by a millisecond, and no request of
it is to be lost to the warm-up."""

_OPEN_REASONS = {
    Outcome.TLS_ERROR: Reason.TLS,
    Outcome.AUTH_ERROR: Reason.AUTH,
    Outcome.PROTOCOL_ERROR: Reason.PROTOCOL,
}
"""Under which reason a level ends whose first channel can't be opened; unreachable for the other outcomes."""


class Level:
    """One level: `run` it once; `stop` ends it early.

    `abandoned` is the sweep's, since what one level gave up on is still at the server in the next. `streams` holds the
    numbers of the requests that make up each stream of input data; only sequences are sent stream by stream. `by_place`
    takes the place of `requests` where they differ by their place in flight. Raises InputError if the requests can't be
    sent so.
    """

    def __init__(
        self,
        plan: LevelPlan,
        *,
        service: Service,
        control: Control,
        requests: Sequence[EncodedRequest],
        abandoned: Abandoned,
        publish: Publish,
        streams: Sequence[Sequence[int]] = (),
        by_place: Sequence[Sequence[EncodedRequest]] = (),
    ) -> None:
        self._plan = plan
        self._control = control
        self._abandoned = abandoned
        self._publish = publish
        self._timeout_ns = plan.probe.measurement.request_timeout_ns
        self._is_closed_loop = not has_pacer(plan.level)
        self._offsets_ns = iter(()) if self._is_closed_loop else make_pacer(plan)
        calls = places_in_flight(plan)
        self._sequences = self._make_sequences(calls, streams)
        kept_back = self._sequences.closing_requests(plan.max_requests) if self._sequences else 0
        self._guard = Guard(plan.probe.stop, plan.max_requests - kept_back, plan.max_duration_ns)
        self._flight = self._make_flight(service, by_place or [requests])
        self._channels = self._make_calls(service, calls)
        self._sender: Sender | None = None
        self._go_ns: int | None = None
        self._index = 0
        self._edge_ns = 0
        self._grid_ns = 0
        self._edge_sent = 0
        self._edge_unsent = 0
        self._snapshot: ServerSnapshot | None = None

    async def run(self) -> None:
        """Runs the level to its end; the last event published is LevelEnd. Raises what `publish` raises."""
        self._health = Health(find_cpu_stat())
        try:
            with _no_garbage_collection():
                end = await self._run()
        finally:
            self._flight.close()
            self._health.close()
            await asyncio.gather(*(channel.close() for channel in self._channels))
        await self._publish(end)

    def stop(self) -> None:
        """Ends the level as its conductor wishes: nothing more is sent from now on."""
        self._flight.stop(Stop())

    def proceed(self, at_ns: int) -> None:
        """All members of the group are as far as this one: they go on together at that moment."""
        self._go_ns = at_ns
        self._flight.wake.set()

    def _make_sequences(self, calls: int, streams: Sequence[Sequence[int]]) -> Sequences | None:
        plan, options = self._plan, self._plan.probe.sequences
        if options is None:
            return None
        slots = calls if self._is_closed_loop else options.count
        return Sequences(
            options, streams, slots, level_seed(plan.probe.input.seed, f"{plan.level.label}:{plan.member}")
        )

    def _make_flight(self, service: Service, by_place: Sequence[Sequence[EncodedRequest]]) -> Flight:
        probe = self._plan.probe
        max_in_flight = probe.stop.max_in_flight
        if self._sequences is None:
            arguments = self._abandoned, max_in_flight, self._timeout_ns
            flight = Flight(self._guard, by_place[0], *arguments)
            if len(by_place) > 1:
                flight = PlaceFlight(self._guard, by_place, *arguments)
            if probe.streaming:
                flight.recorder = DetailRecorder(flight.rows_full)
            return flight
        return SequenceFlight(
            self._guard,
            self._abandoned,
            max_in_flight,
            self._timeout_ns,
            sequences=self._sequences,
            placers=[service.placer(probe.target, requests) for requests in by_place],
            by_call=self._is_closed_loop,
        )

    def _make_calls(self, service: Service, count: int) -> list[Channel]:
        """Makes the calls and the channels that carry them, dealt out in turn."""
        target, streaming = self._plan.probe.target, self._plan.probe.streaming
        channels = [
            service.channel(target, self._flight.ended, streaming=streaming)
            for _ in range(max(service.connections(target, count), 1))
        ]
        self._flight.calls = tuple(Call(slot) for slot in range(count))
        for call in self._flight.calls:
            call.channel = channels[call.slot % len(channels)]
        return channels

    # --- the level's course ------------------------------------------------------------------------------------------

    async def _run(self) -> LevelEnd:
        self._edge_ns = time.monotonic_ns()
        time_budget = asyncio.get_running_loop().call_later(
            self._plan.max_duration_ns / NS, lambda: self._flight.stop(self._guard.out_of_time())
        )
        try:
            try:
                await self._open_channels()
            except TransportError as error:
                return LevelEnd(_OPEN_REASONS.get(error.outcome, Reason.UNREACHABLE), str(error), 0)
            await self._warm_up()
            while await self._until_edge():
                await self._end_window(self._cut(warm_up=False))
            return await self._wind_up()
        finally:
            time_budget.cancel()

    async def _open_channels(self) -> None:
        """Opens the first channel alone, so that its times are not those of a crowd, then the others."""
        await self._channels[0].open()
        ahead = len(self._channels) if self._is_closed_loop else OPEN_LOOP_FIRST_CHANNELS
        # One that fails is no reason to end: its calls open it again, and count as what comes of that.
        await asyncio.gather(*(channel.open() for channel in self._channels[1:ahead]), return_exceptions=True)

    async def _warm_up(self) -> None:
        """The first request goes alone, as the cold one; then the load starts. Measuring begins once it is warm; but
        of a load that is run once all is measured."""
        first = self._flight.calls[0]
        await self._start(lambda: FirstCall(first, self._flight.offer, self._flight.wake.set), time.monotonic_ns())
        cold_ns = first.last_ns - first.sent_ns if first.outcome is Outcome.OK and first.sent_ns else None
        self._grid_ns = await self._meet()
        mode = self._plan.level.mode
        if mode is Mode.SCHEDULE:
            self._grid_ns = max(self._grid_ns, time.monotonic_ns() + SCHEDULE_LEAD_NS)
            self._launch(self._make_sender, self._grid_ns)
            await self._until(self._grid_ns - SCHEDULE_LEAD_NS)
        elif mode is not Mode.PERIODIC:
            if self._is_closed_loop:
                await self._until(self._grid_ns)
            await self._start(self._make_sender, self._grid_ns)
            self._grid_ns = await self._meet()
            await self._until(self._grid_ns)
        if self._flight.stopped is None:
            warm_up = self._cut(warm_up=True)
            channel = self._channels[0]
            connection = ConnectionTimes(channel.connect_ns, channel.tls_ns, cold_ns, channel.certificate_expiry_unix_s)
            await self._publish(LevelStarted(connection))
            await self._end_window(warm_up)
        if mode is Mode.PERIODIC:
            self._launch(self._make_sender, time.monotonic_ns())

    def _make_sender(self) -> Sender:
        flight, on_overload, level = self._flight, self._plan.probe.stop.on_overload, self._plan.level
        if level.mode is Mode.PERIODIC:
            return Periodic(
                flight.calls,
                flight.offer,
                first=level.start,
                step=level.step,
                period=level.request_period,
                on_finished=lambda: flight.stop(Stop(finished=True)),
            )
        if self._is_closed_loop:
            return ClosedLoop(flight.calls, flight.offer, flight.wake.set, on_overload)
        return OpenLoop(
            flight.calls,
            flight.offer,
            flight.wake.set,
            self._offsets_ns,
            on_finished=lambda: flight.stop(Stop(finished=True)),
            on_overload=on_overload,
        )

    def _launch(self, make_sender: Callable[[], Sender], start_ns: int) -> None:
        """Makes the sender and starts it, unless the level was stopped."""
        if self._flight.stopped is None:
            self._sender = make_sender()
            self._flight.start(self._sender, start_ns)

    async def _start(self, make_sender: Callable[[], Sender], start_ns: int) -> None:
        """The same, and waits until the load is warm, or the level is stopped."""
        if self._flight.stopped is None:
            self._flight.wake.clear()
            self._launch(make_sender, start_ns)
            await self._flight.wake.wait()

    async def _meet(self) -> int:
        """Waits until all workers that share this level are as far, or it is stopped; gives the moment at which they go
        on together."""
        flight = self._flight
        if self._plan.members > 1 and flight.stopped is None:
            self._go_ns = None
            await self._publish(LevelWaiting())
            while self._go_ns is None and flight.stopped is None:
                flight.wake.clear()
                await flight.wake.wait()
        return self._go_ns or time.monotonic_ns()

    async def _until_edge(self) -> bool:
        """Waits until the window is to end. False if that is because the level is."""
        await self._until(self._next_edge_ns())
        return self._flight.stopped is None

    async def _until(self, due_ns: int) -> None:
        """Waits until then, or until the rows are full, or the level is stopped."""
        flight = self._flight
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(due_ns / NS):
                while flight.stopped is None and len(flight.recorder) < MAX_ROWS:
                    flight.wake.clear()
                    await flight.wake.wait()

    def _next_edge_ns(self) -> int:
        """One window after the last edge. Members of a group cut at the edges of one grid, so that their windows are
        the same; one that was late leaves out an edge that is less than half a window ahead."""
        window_ns = self._plan.probe.measurement.window_ns
        if self._plan.members == 1:
            return self._edge_ns + window_ns
        edges = (2 * (self._edge_ns - self._grid_ns) + 3 * window_ns) // (2 * window_ns)
        return self._grid_ns + edges * window_ns

    async def _end_window(self, window: Window) -> None:
        """Asks the server for its statistics and publishes a window that was cut. The next one has begun by then."""
        after = await self._take_snapshot()
        before, self._snapshot = self._snapshot, after
        await self._publish(dataclasses.replace(window, before=before, after=after))
        # With the collector off, what few cycles the control plane leaves would pile up for as long as the level runs.
        gc.collect(0)

    async def _wind_up(self) -> LevelEnd:
        """The level was stopped: sees its last requests off. What ended since the last edge is counted, not measured,
        since the load was not whole any more; unless it has finished."""
        flight, limit_ns = self._flight, min(self._timeout_ns, DRAIN_LIMIT_NS)
        stopped = flight.stopped or Stop()
        if stopped.finished:
            await self._end_window(self._cut(warm_up=False))
        else:
            await flight.drain(limit_ns)
        if isinstance(flight, SequenceFlight):
            # Not within the requests' own time-out: one that is short must not keep them from being sent.
            await flight.end_sequences(DRAIN_LIMIT_NS)
        if not stopped.finished or len(flight.recorder):
            await self._publish(self._cut(warm_up=True))
        abandoned = self._abandoned.count(time.monotonic_ns())
        return LevelEnd(stopped.reason, stopped.text, self._guard.sent, abandoned)

    # --- windows -----------------------------------------------------------------------------------------------------

    def _cut(self, warm_up: bool) -> Window:
        """Ends the window at this moment and begins the next; without its snapshots yet."""
        end_ns = time.monotonic_ns()
        sent = self._guard.sent
        unsent = self._sender.unsent if self._sender is not None else 0
        window = Window(
            index=self._index,
            start_ns=self._edge_ns,
            end_ns=end_ns,
            columns=self._flight.recorder.drain(),
            sent=sent - self._edge_sent,
            unsent=unsent - self._edge_unsent,
            in_flight=self._flight.in_flight,
            health=self._health.sample(),
            warm_up=warm_up,
            error_text=self._flight.error_text,
        )
        self._index += 1
        self._edge_ns, self._edge_sent, self._edge_unsent = end_ns, sent, unsent
        self._flight.error_text = ""
        return window

    async def _take_snapshot(self) -> ServerSnapshot | None:
        if self._plan.member > 0:
            return None
        limit_ns = min(self._plan.probe.measurement.window_ns, SNAPSHOT_LIMIT_NS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_ns / NS):
                return await self._control.snapshot(self._plan.facts)
        return None


def places_in_flight(plan: LevelPlan) -> int:
    """How many calls the level has."""
    most = plan.probe.stop.max_in_flight
    return most if has_pacer(plan.level) else min(max(int(plan.level.value), 1), most)


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keeps the collector from stopping the world in a window; it runs before the level instead."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
