"""Simulated time: an event loop that never waits, and APScheduler's clock and ours set to the loop's."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from unittest.mock import patch

from exporter.core.units import NS
from exporter.schedule.clock import Clocks

BEGIN_UNIX_S = 1_790_812_800
"""2026-10-01, 00:00 UTC."""


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Where a real loop sleeps until its next timer, this one's time is that timer's at once."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.wall_offset_ns = BEGIN_UNIX_S * NS
        super().__init__(_Immediate(self))

    def time(self) -> float:
        return self.now_ns / NS

    def advance(self, seconds: float) -> None:
        """At least so long; a timer's moment is a float, and must not lie ahead any more."""
        self.now_ns += max(1, int(seconds * NS) + 1)

    @property
    def clocks(self) -> Clocks:
        return Clocks(wall_ns=lambda: self.now_ns + self.wall_offset_ns, monotonic_ns=lambda: self.now_ns)

    @property
    def unix_s(self) -> float:
        return (self.now_ns + self.wall_offset_ns) / NS


class _Immediate(selectors.SelectSelector):
    def __init__(self, loop: SimulatedLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0:
            self._loop.advance(timeout)
            return []
        return super().select(timeout)


@contextmanager
def simulated_time(loop: SimulatedLoop) -> Iterator[None]:
    """APScheduler reads `datetime.now` by itself: within this it gets the loop's."""

    class Simulated(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.fromtimestamp(loop.unix_s, tz or UTC)

    with (
        patch("apscheduler.schedulers.base.datetime", Simulated),
        patch("apscheduler.executors.base.datetime", Simulated),
    ):
        yield
