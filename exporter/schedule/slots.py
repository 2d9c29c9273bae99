"""The moments at which a probe is due, as arithmetic on the wall clock: by interval, or by calendar.

Pure, but for the calendar, which is APScheduler's cron trigger (time zones, daylight saving). A slot depends on names
and the schedule alone, so every process finds the same ones. It must not know when a probe ran.

Times are microseconds since the epoch, the resolution of APScheduler's datetimes: finer ones would be rounded there,
and a slot rounded down would come twice.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Protocol
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

from exporter.core.probe import Probe
from exporter.core.units import US
from exporter.schedule.phase import phase_seed, spread

SECOND_US = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Slots(Protocol):
    """When a probe is due."""

    def next_after(self, after_us: int) -> int | None:
        """The first slot whose nominal time is after `after_us`, moved later by its jitter; None if none is left."""


class IntervalSlots:
    """Every interval from the epoch on, at the probe's phase.

    The jitter of a slot is added to the slot, never to its successors: unlike APScheduler's interval trigger, which
    adds each jitter to the one before and so walks away from the phase.
    """

    def __init__(self, probe: Probe) -> None:
        self._seed = phase_seed(probe)
        self.interval_us = max(1, probe.schedule.interval_ns // US)
        self._phase_us = spread(self._seed, self.interval_us)
        self._jitter_us = probe.schedule.jitter_ns // US

    def next_after(self, after_us: int) -> int:
        index = (after_us - self._phase_us) // self.interval_us + 1
        nominal_us = self._phase_us + index * self.interval_us
        return nominal_us + _jitter(self._seed, nominal_us, self._jitter_us)


class EarlyFirstSlots:
    """Interval slots with one slot more before them. It stands for the regular slot nearest to it: the next one comes
    at the probe's phase, half an interval or more later, so that the two do not overlap."""

    def __init__(self, regular: IntervalSlots, first_us: int) -> None:
        self._regular = regular
        self._first_us = first_us

    def next_after(self, after_us: int) -> int:
        if after_us < self._first_us:
            return self._first_us
        return self._regular.next_after(max(after_us, self._first_us + self._regular.interval_us // 2))


class CronTimes:
    """The times of a five-field cron expression in its time zone.

    The expression is as the configuration hands it on: days of the week by name (APScheduler's 0 is Monday), and not
    bounded by day of the month and day of the week at once.
    """

    def __init__(self, cron: str, timezone: str) -> None:
        """Raises ValueError for an expression that is not one, ZoneInfoNotFoundError (a KeyError) for the time zone."""
        self._zone = ZoneInfo(timezone)
        self._trigger = CronTrigger.from_crontab(cron, self._zone)
        self._local_trigger = CronTrigger.from_crontab(cron, UTC)
        self._every_hour = cron.split()[1] == "*"

    def next_after(self, after_us: int) -> int | None:
        """The first time after `after_us`; None if none is left. A time of the hour that comes twice in autumn is the
        first of the two, as cron and systemd have it; an expression for every hour runs in both."""
        after = from_us(after_us + 1)
        while True:
            times = [self._trigger.get_next_fire_time(None, after), self._next_by_local_clock(after)]
            next_us = min((to_us(time) for time in times if time is not None and time >= after), default=None)
            if next_us is None or self._every_hour or not self._came_before(next_us):
                return next_us
            after = from_us(next_us + 1)

    def _came_before(self, time_us: int) -> bool:
        """Whether the zone's clock showed this time once already."""
        local = from_us(time_us).astimezone(self._zone)
        return local.fold == 1 and to_us(local.replace(fold=0)) != time_us

    def _next_by_local_clock(self, after: datetime) -> datetime | None:
        """The next time by the wall clock of the zone, as if it never changed. APScheduler 3.11 can step over a whole
        month in which the clock goes forward, and then this one is earlier; in the hour that comes twice it is not."""
        local = after.astimezone(self._zone).replace(tzinfo=UTC)
        time: datetime | None = self._local_trigger.get_next_fire_time(None, local)
        return None if time is None else time.replace(tzinfo=self._zone)


class CronSlots:
    """The times of the probe's cron expression, each moved later by its jitter."""

    def __init__(self, probe: Probe) -> None:
        """Raises as `CronTimes`."""
        self._seed = phase_seed(probe)
        self._times = _cron_times(probe.schedule.cron, probe.schedule.timezone)
        self._jitter_us = probe.schedule.jitter_ns // US

    def next_after(self, after_us: int) -> int | None:
        nominal_us = self._times.next_after(after_us)
        return None if nominal_us is None else nominal_us + _jitter(self._seed, nominal_us, self._jitter_us)


@lru_cache(1024)
def _cron_times(cron: str, timezone: str) -> CronTimes:
    """Kept: probes have their expressions from defaults and patterns, and reading one takes as long as ten slots."""
    return CronTimes(cron, timezone)


def slots_of(probe: Probe) -> IntervalSlots | CronSlots:
    """The slots of the probe's schedule. Raises as `CronSlots`."""
    return CronSlots(probe) if probe.schedule.cron else IntervalSlots(probe)


def to_us(time: datetime) -> int:
    """An aware datetime as microseconds since the epoch, exactly."""
    return (time - _EPOCH) // _MICROSECOND


def from_us(time_us: int) -> datetime:
    """Microseconds since the epoch as a datetime in UTC, exactly."""
    return _EPOCH + timedelta(microseconds=time_us)


def _jitter(seed: str, nominal_us: int, jitter_us: int) -> int:
    return spread(f"{seed}@{nominal_us}", jitter_us)
