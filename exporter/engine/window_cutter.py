"""Cuts a level into windows, and reads the server's statistics at their edges. Does not know when an edge is due."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Sequence

from exporter.core.facts import ServerReading, ServerSnapshot
from exporter.core.units import NS
from exporter.core.window import RecordColumns, Window
from exporter.engine.abandoned import Abandoned
from exporter.engine.client_health import Health
from exporter.engine.guard import Guard
from exporter.engine.in_flight import InFlight
from exporter.engine.plan import LevelPlan
from exporter.server.poller import Poller
from exporter.services.base import Control

SNAPSHOT_LIMIT_NS = 2 * NS
"""How long a window's edge waits for the server's statistics and metrics, unless the window is shorter."""


class WindowCutter:
    """Cuts contiguous windows: each begins where the last one was cut. Call `begin` first."""

    def __init__(
        self,
        plan: LevelPlan,
        in_flight: InFlight,
        guard: Guard,
        abandoned: Abandoned,
        *,
        control: Control,
        pollers: Sequence[Poller],
    ) -> None:
        self._plan = plan
        self._in_flight = in_flight
        self._guard = guard
        self._abandoned = abandoned
        self._control = control
        self._pollers = pollers
        self._limit_ns = min(plan.probe.measurement.window_ns, SNAPSHOT_LIMIT_NS)
        self._index = 0
        self._sent = 0
        self._unsent = 0
        self._waiting = 0
        self._snapshot: ServerSnapshot | None = None
        self.edge_ns = 0
        """Start of the current window."""

    def begin(self, health: Health) -> None:
        """Begins the first window."""
        self._health = health
        self.edge_ns = time.monotonic_ns()

    def cut(self, *, warm_up: bool, unsent: int, waiting: int, by_requests: bool) -> Window:
        """Ends the window now and begins the next; the snapshots follow later. `unsent` is the level's total so far,
        `waiting` the requests waiting now. With `by_requests` the window spans the first to the last of its requests,
        for a request count."""
        in_flight = self._in_flight
        checked = in_flight.checker.take() if in_flight.checker is not None else None
        edge_ns, columns = time.monotonic_ns(), in_flight.recorder.drain()
        start_ns, end_ns = self.edge_ns, edge_ns
        if by_requests and len(columns):
            start_ns, end_ns = _first_to_last(columns, start_ns)
        sent = self._guard.sent
        window = Window(
            index=self._index,
            start_ns=start_ns,
            end_ns=end_ns,
            columns=columns,
            sent=sent - self._sent,
            unsent=unsent - self._unsent,
            backlog_growth=waiting - self._waiting,
            in_flight=in_flight.count + self._abandoned.count(end_ns),
            health=self._health.sample(),
            warm_up=warm_up,
            error_text=in_flight.error_text,
            checked=checked,
        )
        self._index += 1
        self.edge_ns, self._sent, self._unsent, self._waiting = edge_ns, sent, unsent, waiting
        in_flight.error_text = ""
        return window

    async def asked(self, window: Window) -> Window:
        """The last window cut, with the server's statistics at its beginning and end."""
        after, readings = await asyncio.gather(self._take_snapshot(), self._take_readings())
        before, self._snapshot = self._snapshot, after
        return dataclasses.replace(window, before=before, after=after, readings=readings)

    async def _take_snapshot(self) -> ServerSnapshot | None:
        """Only one of the workers that share a level fetches statistics."""
        if self._plan.member > 0:
            return None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limit_ns / NS):
                return await self._control.snapshot(self._plan.facts)
        return None

    async def _take_readings(self) -> tuple[ServerReading, ...]:
        found = await asyncio.gather(*(poller.edge(self._limit_ns) for poller in self._pollers))
        return tuple(reading for readings in found for reading in readings)


def _first_to_last(columns: RecordColumns, start_ns: int) -> tuple[int, int]:
    """From the sending of the first of these requests (not before `start_ns`) to the end of the last: a request count's
    time, without the engine's own time before and after."""
    first_ns = int(columns.sent_ns.min(where=columns.sent_ns > 0, initial=columns.last_ns.max()))
    return max(first_ns, start_ns), int(columns.last_ns.max())
