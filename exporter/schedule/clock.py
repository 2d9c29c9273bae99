"""The clocks that scheduling reads, and a watch on them that notices when the wall clock jumps.

APScheduler thinks in wall-clock times but sleeps by the monotonic clock, so a jump between them leaves it asleep too
long. It must not know what is scheduled.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from exporter.core.units import NS

TICK_SECONDS = 5.0
"""How often the clocks are compared: a jump is noticed this late at most, at 0.2 wake-ups a second."""

JUMP_THRESHOLD_NS = 2 * NS
"""What is called a jump. Slewing (at most 0.5 ms a second) stays far below it between two ticks."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """The two clocks, exchangeable in tests. Both give integer nanoseconds."""

    wall_ns: Callable[[], int] = time.time_ns
    monotonic_ns: Callable[[], int] = time.monotonic_ns


class ClockWatch:
    """Compares the clocks at a slow tick and reports jumps of the wall clock.

    A suspended machine counts as a jump too: on Linux the monotonic clock is stuck meanwhile. A process that was
    merely stopped does not, since both clocks continue.
    """

    def __init__(self, on_jump: Callable[[float], None], clocks: Clocks) -> None:
        """`on_jump` gets the seconds by which the wall clock jumped, negative for backwards."""
        self._on_jump = on_jump
        self._clocks = clocks
        self._offset_ns = 0
        self._timer: asyncio.TimerHandle | None = None
        self.jumps = 0
        self.last_tick_unix_s = 0.0
        self._ticked_ns: int | None = None

    def since_tick_s(self) -> float:
        """Seconds since the last tick, by the monotonic clock; endless before the first."""
        return math.inf if self._ticked_ns is None else (self._clocks.monotonic_ns() - self._ticked_ns) / NS

    def start(self) -> None:
        """Takes the first reading and begins to tick on the running loop."""
        self._offset_ns, self.last_tick_unix_s = self._read()
        self._arm()

    def stop(self) -> None:
        """Ticks no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def tick(self) -> None:
        """Compares the clocks now: a jump is what their distance has changed since the last tick."""
        offset_ns, self.last_tick_unix_s = self._read()
        change_ns = offset_ns - self._offset_ns
        self._offset_ns = offset_ns
        if abs(change_ns) > JUMP_THRESHOLD_NS:
            self.jumps += 1
            self._on_jump(change_ns / NS)

    def _on_timer(self) -> None:
        self._arm()  # first: an error in the callback must not end the ticking
        self.tick()

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._on_timer)

    def _read(self) -> tuple[int, float]:
        wall_ns, self._ticked_ns = self._clocks.wall_ns(), self._clocks.monotonic_ns()
        return wall_ns - self._ticked_ns, wall_ns / NS
