"""The timetable: calls back when a probe is due. The one place where APScheduler runs.

It must not know whether a probe may run, nor how: a job is one cheap call on the event loop.

APScheduler sleeps until the earliest slot, so that a quiet timetable costs nothing. Three of its habits are not ours:
its interval trigger loses the phase to jitter and to an early first run (hence our own trigger), its asyncio executor
runs plain functions in threads (hence the executor that calls them in place), and it counts up through every slot
missed while the machine slept (hence the trigger's leap to now).
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Collection
from datetime import UTC, datetime

from apscheduler.events import EVENT_JOB_MISSED, JobExecutionEvent
from apscheduler.executors.debug import DebugExecutor
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from exporter.core.probe import Probe
from exporter.core.units import NS, US
from exporter.schedule.clock import Clocks
from exporter.schedule.phase import ProbeKey, probe_key, probe_path, spread
from exporter.schedule.slots import SECOND_US, EarlyFirstSlots, IntervalSlots, Slots, from_us, slots_of, to_us

MAX_GRACE_SECONDS = 60
"""A job that is later than this, or than half its interval, does not run: it is a misfire."""

MAX_FIRST_RUN_SPREAD_US = 60 * SECOND_US
"""Overdue probes run within this time from the start, or faster if they are few."""


class SlotTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Slots as an APScheduler trigger."""

    __slots__ = ("_grace_us", "_slots")

    def __init__(self, slots: Slots, grace_seconds: int) -> None:
        self._slots = slots
        self._grace_us = grace_seconds * SECOND_US

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """The next slot. From a slot that is later than the grace it leaps to the first one after `now`: what was
        missed is one misfire and not made up for."""
        after_us = to_us(now)
        if previous_fire_time is not None:
            previous_us = to_us(previous_fire_time)
            if after_us - previous_us <= self._grace_us:
                after_us = previous_us
        slot_us = self._slots.next_after(after_us)
        return None if slot_us is None else from_us(slot_us)


class Timetable:
    """Calls `on_due` for each slot of each probe, and `on_missed` for one that came too late to be run.

    A probe by interval that is overdue when the timetable starts gets an early first run, or an hourly probe would
    export nothing for up to an hour: at its phase in a spread of 60 s, or of its interval, or of 1 s for each overdue
    probe, whichever is shortest. Its regular slots follow from half an interval later on. A probe by cron gets none:
    who asks for certain hours means them.
    """

    def __init__(self, on_due: Callable[[Probe], None], on_missed: Callable[[Probe], None], clocks: Clocks) -> None:
        self._on_due = on_due
        self._on_missed = on_missed
        self._clocks = clocks
        self._probes: dict[str, Probe] = {}
        self._overdue: set[ProbeKey] = set()
        self._came_due: dict[ProbeKey, tuple[int, int]] = {}
        self._spread_us = 0
        # Two lines for each run, at INFO, would drown the daemon's own one line a sweep.
        logging.getLogger("apscheduler").setLevel(logging.WARNING)
        self._scheduler = AsyncIOScheduler(timezone=UTC, executors={"default": DebugExecutor()})
        self._due = self._job_function()
        self._scheduler.add_listener(self._job_missed, EVENT_JOB_MISSED)

    def start(self, probes: Collection[Probe], overdue: Collection[ProbeKey]) -> None:
        """Plans all probes, on the running loop. `overdue` names those that should have run by now."""
        self._overdue = set(overdue)
        self._spread_us = min(MAX_FIRST_RUN_SPREAD_US, len(self._overdue) * SECOND_US)
        self._scheduler.start(paused=True)  # else it wakes up once for each job added
        now_us = self._now_us()
        for probe in probes:
            self._add(probe, now_us)
        self._scheduler.resume()

    def replace(self, probes: Collection[Probe], overdue: Collection[ProbeKey]) -> None:
        """Plans these probes in the place of those planned. One that keeps its names and its schedule keeps its slots,
        unless it is among the `overdue`; who is equal to what it was is not touched at all."""
        planned = {_job_id(probe): probe for probe in probes}
        self._overdue = {key for key in self._overdue if repr(key) in planned} | set(overdue)
        self._spread_us = min(MAX_FIRST_RUN_SPREAD_US, len(self._overdue) * SECOND_US)
        now_us = self._now_us()
        self._scheduler.pause()
        for job_id in self._probes.keys() - planned.keys():
            self._came_due.pop(probe_key(self._probes.pop(job_id)), None)
            if self._scheduler.get_job(job_id) is not None:
                self._scheduler.remove_job(job_id)
        for job_id, probe in planned.items():
            have = self._probes.get(job_id)
            if have == probe:
                continue
            job = self._scheduler.get_job(job_id)
            if have is None or job is None or have.schedule != probe.schedule or probe_key(probe) in overdue:
                self._add(probe, now_us)
            else:
                job.modify(args=(probe,))
                self._probes[job_id] = probe
        self._scheduler.resume()

    def next_run(self, probe: Probe) -> float | None:
        """When the probe is due next, in unix seconds; None if never, or not planned."""
        job = self._scheduler.get_job(_job_id(probe))
        return None if job is None or job.next_run_time is None else to_us(job.next_run_time) / SECOND_US

    def realign(self, *, backwards: bool = False) -> None:
        """The wall clock jumped: plans again what lies ahead, and the early first runs that have not been. Another slot
        that has become late by the jump runs at once if within its grace, and is a misfire if not. After a jump
        backwards slots come again: none runs in the half interval after the probe was due; of a cron, none that has
        run."""
        now_us = self._now_us()
        self._scheduler.pause()
        for job_id, probe in self._probes.items():
            job = self._scheduler.get_job(job_id)
            if job is None or job.next_run_time is None:
                continue
            if to_us(job.next_run_time) > now_us or probe_key(probe) in self._overdue:
                trigger = self._trigger(probe, now_us)
                after_us = now_us + (self._spared_us(probe, now_us) if backwards else 0)
                job.modify(trigger=trigger, next_run_time=trigger.get_next_fire_time(None, from_us(after_us)))
        self._scheduler.resume()

    def stop(self) -> None:
        """Nothing is due any more. APScheduler lets go of the loop in its next round."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def _add(self, probe: Probe, now_us: int) -> None:
        job_id = _job_id(probe)
        trigger = self._trigger(probe, now_us)
        self._scheduler.add_job(
            self._due,
            trigger,
            args=(probe,),
            id=job_id,
            name=probe_path(probe),
            next_run_time=trigger.get_next_fire_time(None, from_us(now_us)),
            misfire_grace_time=_grace_seconds(probe),
            coalesce=True,
            max_instances=1,
            replace_existing=True,
        )
        self._probes[job_id] = probe

    def _trigger(self, probe: Probe, now_us: int) -> SlotTrigger:
        slots: Slots = slots_of(probe)
        if isinstance(slots, IntervalSlots) and probe_key(probe) in self._overdue:
            first_us = now_us + 1 + spread(probe_path(probe), min(self._spread_us, slots.interval_us))
            if first_us < slots.next_after(now_us):
                slots = EarlyFirstSlots(slots, first_us)
        return SlotTrigger(slots, _grace_seconds(probe))

    def _job_function(self) -> Callable[[Probe], None]:
        """What a job calls. It carries its signature: APScheduler, which checks the arguments of each job, would work
        it out each time, and that is a third of planning a probe."""

        def due(probe: Probe) -> None:
            self._overdue.discard(probe_key(probe))
            self._came_due[probe_key(probe)] = self._clocks.monotonic_ns(), self._now_us()
            self._on_due(probe)

        due.__signature__ = inspect.signature(due)  # type: ignore[attr-defined]
        return due

    def _job_missed(self, event: JobExecutionEvent) -> None:
        self._on_missed(self._probes[event.job_id])

    def _spared_us(self, probe: Probe, now_us: int) -> int:
        """How much is left of the half interval after the probe was due. A cron's interval is its longest gap, a night
        or a weekend: such a probe is spared no later than the time on the wall clock at which it was due."""
        came_due = self._came_due.get(probe_key(probe))
        if came_due is None:
            return 0
        due_ns, due_us = came_due
        left_us = (due_ns + probe.schedule.interval_ns // 2 - self._clocks.monotonic_ns()) // US
        return max(0, min(left_us, due_us - now_us) if probe.schedule.cron else left_us)

    def _now_us(self) -> int:
        return self._clocks.wall_ns() // US


def _job_id(probe: Probe) -> str:
    return repr(probe_key(probe))


def _grace_seconds(probe: Probe) -> int:
    """Half the interval, at most 60 s; APScheduler takes whole seconds from 1 on."""
    return max(1, min(MAX_GRACE_SECONDS, probe.schedule.interval_ns // (2 * NS)))
