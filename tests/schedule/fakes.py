"""Clocks that stop until a test moves them."""

from __future__ import annotations

import time

from exporter.core.units import NS
from exporter.schedule.clock import Clocks


class FakeClocks:
    """Starts at the real time, since APScheduler reads the real wall clock beside ours."""

    def __init__(self) -> None:
        self.wall_ns = time.time_ns()
        self.monotonic_ns = 1_000 * NS
        self.clocks = Clocks(wall_ns=lambda: self.wall_ns, monotonic_ns=lambda: self.monotonic_ns)

    def advance(self, seconds: float) -> None:
        """Time passes on both clocks."""
        self.wall_ns += round(seconds * NS)
        self.monotonic_ns += round(seconds * NS)

    def jump(self, seconds: float) -> None:
        """The wall clock alone moves."""
        self.wall_ns += round(seconds * NS)

    @property
    def unix_s(self) -> float:
        return self.wall_ns / NS
