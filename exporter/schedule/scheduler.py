"""The scheduler: joins the timetable, the admission and the clock's watch, and runs one task for each sweep.

It must not know how a sweep is run, nor where skips are counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import partial

from exporter.core.outcome import SkipReason
from exporter.core.probe import Probe
from exporter.core.units import NS
from exporter.schedule.admission import Admission, Decision, ProbeState, Skip, Start, extra_of
from exporter.schedule.clock import Clocks, ClockWatch
from exporter.schedule.phase import ProbeKey, probe_key, probe_path
from exporter.schedule.timetable import Timetable

_log = logging.getLogger(__name__)


class Scheduler:
    """Runs each probe when it is due and its turn has come. All of it lives on one event loop.

    `run` sweeps a probe; it is cancelled by `drain`, and should not raise otherwise. `on_skip` hears of each
    occurrence that does not run. At most `concurrent_sweeps` run at once, one in a group. `refuse` is asked of each
    probe whose turn has come: a reason is a skip.
    """

    def __init__(
        self,
        run: Callable[[Probe], Awaitable[None]],
        on_skip: Callable[[Probe, SkipReason], None],
        concurrent_sweeps: int,
        clocks: Clocks | None = None,
        refuse: Callable[[Probe], SkipReason | None] = lambda _probe: None,
    ) -> None:
        """Raises ValueError if `concurrent_sweeps` is less than 1."""
        self._run = run
        self._on_skip = on_skip
        self._clocks = clocks or Clocks()
        self._admission = Admission(concurrent_sweeps, refuse)
        self._timetable = Timetable(self.due, self._missed, self._clocks)
        self._watch = ClockWatch(self._clock_jumped, self._clocks)
        self._probes: dict[ProbeKey, Probe] = {}
        self._draining = False
        self._tasks: dict[asyncio.Task[None], Probe] = {}
        self._expiry: asyncio.TimerHandle | None = None

    def start(self, probes: Collection[Probe], last_run: Mapping[ProbeKey, float]) -> None:
        """Plans the probes on the running loop. `last_run` gives, by target and probe name, the unix seconds of the
        last run where there was one: a probe without, or whose last interval passed without a run, runs soon."""
        now_unix_s = self._clocks.wall_ns() / NS
        overdue = {probe_key(probe) for probe in probes if _is_overdue(probe, last_run, now_unix_s)}
        self._probes = {probe_key(probe): probe for probe in probes}
        self._watch.start()
        self._timetable.start(probes, overdue)

    def replace(self, probes: Collection[Probe], last_run: Mapping[ProbeKey, float]) -> None:
        """Takes these probes in the place of those that it has; `last_run` as in `start`.

        A probe that is equal to what it was is not touched. The running sweep of one that was changed or removed is
        cancelled: who lowers a load wants it lowered now. The changed one runs again at its next slot; it keeps its
        slots where its schedule is the same. An added one, and a changed one without a run in its last interval, runs
        soon. After `drain` nothing is taken any more."""
        if self._draining:
            return
        named = {probe_key(probe): probe for probe in probes}
        now_unix_s = self._clocks.wall_ns() / NS
        new = [probe for key, probe in named.items() if self._probes.get(key) != probe]
        overdue = {probe_key(probe) for probe in new if _is_overdue(probe, last_run, now_unix_s)}
        had, self._probes = self._probes, named
        for task, probe in self._tasks.items():
            # An extra one is under no configured name, and bounded in time.
            if probe_key(probe) in had and named.get(probe_key(probe)) != probe:
                task.cancel("the configuration of the probe changed")
        self._timetable.replace(probes, overdue)
        self._apply(self._admission.replace(named))

    @property
    def clock_jumps(self) -> int:
        """How often the wall clock jumped, or the machine slept."""
        return self._watch.jumps

    @property
    def last_tick_unix_s(self) -> float:
        """The heartbeat: the wall clock at the last tick, some seconds ago; 0 before the start."""
        return self._watch.last_tick_unix_s

    def since_tick_s(self) -> float:
        """How old the heartbeat is, by a clock that can't be set; endless before the start."""
        return self._watch.since_tick_s()

    def next_run(self, probe: Probe) -> float | None:
        """When the probe is due next, in unix seconds; None if never, or when drained."""
        return self._timetable.next_run(probe)

    def state(self, probe: Probe) -> ProbeState:
        """What the probe is doing."""
        return self._admission.state(probe)

    def is_busy(self, group: str) -> bool:
        """Whether a sweep of the group runs."""
        return self._admission.is_busy(group)

    def due(self, probe: Probe) -> None:
        """The probe is due now: it runs, waits its turn, or is skipped."""
        self._apply(self._admission.offer(probe, self._clocks.monotonic_ns()))

    def run_extra(self, probe: Probe, run: Callable[[Probe], Awaitable[None]]) -> asyncio.Task[None] | SkipReason:
        """Runs a sweep of the probe beside its scheduled ones, by `run`, if it may start at this moment; else returns
        why not. The caller bounds its time, and may cancel it."""
        if (reason := self._admission.offer_extra(probe)) is not None:
            return reason
        return self._start_sweep(extra_of(probe), run)

    def sweep_now(self, probe: Probe) -> ProbeState | SkipReason:
        """Runs the probe out of turn, by the rules for one that is due. Returns what came of it: it is running or
        waiting, or why it is not. That is no skip, since nothing that was due was lost."""
        state = self._admission.state(probe)
        if state is ProbeState.RUNNING:
            return SkipReason.OVERLAP
        if state is ProbeState.WAITING:
            return state
        key, refused = probe_key(probe), None
        others: list[Decision] = []
        for decision in self._admission.offer(probe, self._clocks.monotonic_ns()):
            if isinstance(decision, Skip) and probe_key(decision.probe) == key:
                refused = decision.reason
            else:
                others.append(decision)
        self._apply(others)
        return refused or self._admission.state(probe)

    def ask_again(self, probe: Probe) -> None:
        """`refuse` may give another response than before: a probe that waits and is refused now is skipped now; a sweep
        that runs continues."""
        self._apply(self._admission.ask_again(probe))

    def interrupt(self, stops: Callable[[Probe], bool], why: str) -> int:
        """Cancels the running sweeps of the probes that `stops` names, those on demand too; returns how many."""
        stopped = [task for task, probe in self._tasks.items() if stops(probe)]
        for task in stopped:
            task.cancel(why)
        return len(stopped)

    async def drain(self, timeout_seconds: float) -> bool:
        """Starts nothing more, skips those who wait, cancels the running sweeps and awaits their end.

        Returns False if sweeps were still not over after `timeout_seconds`: they are logged and left behind.
        """
        self._draining = True
        self._timetable.stop()
        self._watch.stop()
        self._apply(self._admission.drain())
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)  # the round in which the timetable lets go of the loop
        if not tasks:
            return True
        _, left = await asyncio.wait(tasks, timeout=timeout_seconds)
        for task in left:
            _log.error("sweep %s did not end within %g s of its cancellation", task.get_name(), timeout_seconds)
        return not left

    def _missed(self, probe: Probe) -> None:
        self._on_skip(probe, SkipReason.MISFIRE)

    def _apply(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Start):
                self._start_sweep(decision.probe, self._run)
            else:
                self._on_skip(decision.probe, decision.reason)
        self._arm_expiry()

    def _start_sweep(self, probe: Probe, run: Callable[[Probe], Awaitable[None]]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(_sweep(probe, run), name=probe_path(probe))
        self._tasks[task] = probe
        # Not a `finally` in the task: one that is cancelled before its first step never gets there.
        task.add_done_callback(partial(self._sweep_ended, probe))
        return task

    def _sweep_ended(self, probe: Probe, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("internal error in the sweep of %s", probe_path(probe), exc_info=error)
        self._apply(self._admission.finished(probe, self._clocks.monotonic_ns()))

    def _arm_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        expiry_ns = self._admission.next_expiry_ns()
        if expiry_ns is not None:
            delay_seconds = max(0, expiry_ns - self._clocks.monotonic_ns()) / NS
            self._expiry = asyncio.get_running_loop().call_later(delay_seconds, self._expire)

    def _expire(self) -> None:
        self._apply(self._admission.expire(self._clocks.monotonic_ns()))

    def _clock_jumped(self, seconds: float) -> None:
        _log.warning("the wall clock jumped by %.1f s: schedules are re-aligned", seconds)
        self._timetable.realign(backwards=seconds < 0)


async def _sweep(probe: Probe, run: Callable[[Probe], Awaitable[None]]) -> None:
    await run(probe)


def _is_overdue(probe: Probe, last_run: Mapping[ProbeKey, float], now_unix_s: float) -> bool:
    last_unix_s = last_run.get(probe_key(probe))
    schedule = probe.schedule
    return last_unix_s is None or now_unix_s - last_unix_s > (schedule.interval_ns + schedule.jitter_ns) / NS
