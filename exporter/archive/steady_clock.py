"""The wall clock, as far as files may be deleted on its word: a clock that has just jumped is not believed.

A clock that is 100 days ahead for a few seconds makes every file old enough to go. It must not know what is deleted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

JUMP_SECONDS = 3600.0
"""A difference that time synchronisation does not make step by step."""
STEADY_SECONDS = 86_400.0
"""A clock that jumped is believed once it has gone on from there for so long."""
_NEAR = timedelta(days=2)


def since_boot_s() -> float:
    """Seconds since the machine started, the time in which it was suspended included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SteadyClock:
    """Compares the wall clock with one that can't be set. For one thread, which must ask `now` often."""

    def __init__(self, wall_s: Callable[[], float] = time.time, steady_s: Callable[[], float] = since_boot_s) -> None:
        self._wall_s = wall_s
        self._steady_s = steady_s
        self._trusted_s: float | None = None
        self._offset_s = self._wall_s() - self._steady_s()
        self._since_s = self._steady_s()

    def confirm(self, newest: date | None) -> None:
        """The newest day that was written is near the clock's time, or there is none: the clock is believed."""
        if newest is None or abs(datetime.fromtimestamp(self._wall_s(), UTC).date() - newest) <= _NEAR:
            self._trusted_s = self._wall_s() - self._steady_s()

    def now(self) -> float | None:
        """Unix seconds; None while the clock is not believed."""
        wall_s, steady_s = self._wall_s(), self._steady_s()
        offset_s = wall_s - steady_s
        if self._trusted_s is not None and abs(offset_s - self._trusted_s) <= JUMP_SECONDS:
            self._trusted_s = self._offset_s = offset_s
            self._since_s = steady_s
            return wall_s
        if abs(offset_s - self._offset_s) > JUMP_SECONDS:
            self._offset_s, self._since_s = offset_s, steady_s
        elif steady_s - self._since_s >= STEADY_SECONDS:
            self._trusted_s = offset_s
            return wall_s
        return None
