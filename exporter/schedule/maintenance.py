"""Maintenance windows: when probes pause by the calendar. Pure, but for the clock that it is given."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from exporter.core.limits import Maintenance
from exporter.core.probe import Probe
from exporter.core.units import US
from exporter.schedule.slots import SECOND_US, CronTimes


class MaintenanceCalendar:
    """Decides whether one of the windows holds for a probe now. Asked for each probe at each scrape: a window that was
    looked up is kept until it ends, or the clock goes backwards."""

    def __init__(self, windows: Sequence[Maintenance], wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._wall_ns = wall_ns
        self.configure(windows)

    def configure(self, windows: Sequence[Maintenance]) -> None:
        """From now on there are these windows alone."""
        self._windows = [_Window(window) for window in windows]

    def until(self, probe: Probe) -> float | None:
        """When the maintenance of the probe that holds now ends, in Unix seconds; None if none holds."""
        now_us = self._wall_ns() // US
        ends = [window.end_us(now_us) for window in self._windows if _concerns(window.maintenance, probe)]
        return max((end_us / SECOND_US for end_us in ends if end_us is not None), default=None)


class _Window:
    def __init__(self, maintenance: Maintenance) -> None:
        self.maintenance = maintenance
        self._times = CronTimes(maintenance.cron, maintenance.timezone)
        self._duration_us = maintenance.duration_ns // US
        self._looked_up_us = 0
        self._begin_us: int | None = -self._duration_us

    def end_us(self, now_us: int) -> int | None:
        """When the present occurrence ends; None if there is none at this moment."""
        if now_us < self._looked_up_us or (self._begin_us is not None and now_us >= self._begin_us + self._duration_us):
            self._looked_up_us = now_us
            self._begin_us = self._times.next_after(now_us - self._duration_us)
        begin_us = self._begin_us
        return begin_us + self._duration_us if begin_us is not None and begin_us <= now_us else None


def _concerns(window: Maintenance, probe: Probe) -> bool:
    """Without names it is for all."""
    if not window.targets and not window.probes:
        return True
    return _is_among(probe.target.name, window.targets) or _is_among(probe.name, window.probes)


def _is_among(name: str, names: Sequence[str]) -> bool:
    """Whether it is one of them, or was discovered under one of them: configured names have no slash."""
    return name.partition("/")[0] in names
