"""Which probe may run now: one run of a probe, one sweep in a group, a global limit, first come first served.

Pure: it knows neither loops nor clocks. Time comes in as `now_ns`, what to do comes out as decisions. It must not know
how a sweep is run or why a probe is due.

Every offer ends as exactly one decision, a start or a skip, at once or later: none is lost.
"""

from __future__ import annotations

import enum
import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from exporter.core.outcome import SkipReason
from exporter.core.probe import Probe
from exporter.core.units import NS
from exporter.schedule.phase import ProbeKey, probe_key

WAIT_SLACK_NS = NS
"""Added to a probe's interval when it waits its turn. The next occurrence inherits the place in line, and must not
lose it by coming a loop's delay after the deadline."""


@dataclass(frozen=True, slots=True)
class Start:
    """Run a sweep of the probe now, and call `finished` when it is over."""

    probe: Probe


@dataclass(frozen=True, slots=True)
class Skip:
    """An occurrence of the probe does not run."""

    probe: Probe
    reason: SkipReason


Decision = Start | Skip


def extra_of(probe: Probe) -> Probe:
    """The probe under a name that none configured can have: its own sweep, when due, waits for the extra one's end, as
    for any other's of the group."""
    return replace(probe, name=f"{probe.name} (extra)")


class ProbeState(enum.StrEnum):
    """What a probe is doing."""

    IDLE = "idle"
    WAITING = "waiting"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class _Waiter:
    probe: Probe
    deadline_ns: int


class Admission:
    """Decides over at most `concurrent_sweeps` sweeps at once. Stamps must not go backwards.

    An offer costs O(log n) for n waiting probes. An end looks along the line for the first probe whose group is free:
    O(n) where the whole line waits for busy groups, which for 1000 probes is less than the start of one sweep.
    """

    def __init__(
        self, concurrent_sweeps: int, refuse: Callable[[Probe], SkipReason | None] = lambda _probe: None
    ) -> None:
        """`refuse` is asked of a probe whose turn has come: a reason is a skip. Raises ValueError if not even one sweep
        may run."""
        if concurrent_sweeps < 1:
            raise ValueError(f"concurrent_sweeps must be at least 1, not {concurrent_sweeps}")
        self._limit = concurrent_sweeps
        self._refuse = refuse
        self._group_of_running: dict[ProbeKey, str] = {}
        self._busy_groups: set[str] = set()
        self._line: dict[ProbeKey, _Waiter] = {}  # in order of arrival
        self._deadlines: list[tuple[int, ProbeKey]] = []  # a heap; entries of probes that left the line stay until due
        self._draining = False

    def offer(self, probe: Probe, now_ns: int) -> list[Decision]:
        """The probe is due. It starts, or joins the line, or is skipped; the waits that ended by now are skips too.

        A probe that is due again while it still waits keeps its place in line: the new occurrence takes it, and the
        old one, which has waited its interval, is the skip. Else a short interval could starve in a busy group.
        """
        decisions = self.expire(now_ns)
        key = probe_key(probe)
        if self._draining:
            decisions.append(Skip(probe, SkipReason.SHUTDOWN))
        elif key in self._group_of_running:
            decisions.append(Skip(probe, SkipReason.OVERLAP))
        elif key in self._line:
            decisions.append(Skip(probe, SkipReason.OVERLAP))
            self._wait(key, probe, now_ns)
        elif (reason := self._refuse(probe)) is not None:
            decisions.append(Skip(probe, reason))
        elif self._may_start(probe):
            decisions.append(self._start(key, probe))
        else:
            self._wait(key, probe, now_ns)
        return decisions

    def offer_extra(self, probe: Probe) -> SkipReason | None:
        """A sweep of the probe is wanted beside its scheduled ones, by a caller that doesn't wait for a turn: starts it
        as that of `extra_of(probe)`, or returns why not."""
        extra = extra_of(probe)
        if self._draining:
            return SkipReason.SHUTDOWN
        if (reason := self._refuse(probe)) is not None:
            return reason
        if not self._may_start(extra):
            return SkipReason.OVERLAP
        self._start(probe_key(extra), extra)
        return None

    def finished(self, probe: Probe, now_ns: int) -> list[Decision]:
        """The probe's sweep is over: its place goes to the first in line who can use it. KeyError if it did not run."""
        key = probe_key(probe)
        self._busy_groups.remove(self._group_of_running.pop(key))
        decisions = self.expire(now_ns)
        # One end frees a place for at most one start: no other in line could have started before it.
        for waiting_key, waiter in list(self._line.items()):
            if self._may_start(waiter.probe):
                decisions.append(self._leave_line(waiting_key, waiter.probe))
                if isinstance(decisions[-1], Start):
                    break
        return decisions

    def expire(self, now_ns: int) -> list[Decision]:
        """Skips those who have waited one interval (and a little slack, and their jitter) by `now_ns`."""
        decisions: list[Decision] = []
        while (deadline_ns := self.next_expiry_ns()) is not None and deadline_ns <= now_ns:
            _, key = heapq.heappop(self._deadlines)
            decisions.append(Skip(self._line.pop(key).probe, SkipReason.OVERLAP))
        return decisions

    def next_expiry_ns(self) -> int | None:
        """When `expire` has something to do next; None while none waits."""
        while self._deadlines:
            deadline_ns, key = self._deadlines[0]
            waiter = self._line.get(key)
            if waiter is not None and waiter.deadline_ns == deadline_ns:
                return deadline_ns
            heapq.heappop(self._deadlines)
        return None

    def ask_again(self, probe: Probe) -> list[Decision]:
        """`refuse` may give another response than before: a probe that waits and is refused now is skipped now, and not
        when its turn comes. One that runs continues."""
        waiter = self._line.get(probe_key(probe))
        if waiter is None or (reason := self._refuse(waiter.probe)) is None:
            return []
        del self._line[probe_key(probe)]
        return [Skip(waiter.probe, reason)]

    def replace(self, probes: Mapping[ProbeKey, Probe]) -> list[Decision]:
        """From now on there are these probes alone. Those in line keep their place, under what they have become; those
        that are gone are skipped. Sweeps that run are the caller's affair."""
        decisions: list[Decision] = []
        for key, waiter in list(self._line.items()):
            probe = probes.get(key)
            if probe is None:
                del self._line[key]
                decisions.append(Skip(waiter.probe, SkipReason.SHUTDOWN))
            elif self._may_start(probe):  # its group may have become another one
                decisions.append(self._leave_line(key, probe))
            else:
                self._line[key] = replace(waiter, probe=probe)
        return decisions

    def drain(self) -> list[Decision]:
        """Nothing starts any more: those in line are skipped now, those offered later at once."""
        self._draining = True
        decisions: list[Decision] = [Skip(waiter.probe, SkipReason.SHUTDOWN) for waiter in self._line.values()]
        self._line.clear()
        return decisions

    def state(self, probe: Probe) -> ProbeState:
        """What the probe is doing."""
        key = probe_key(probe)
        if key in self._group_of_running:
            return ProbeState.RUNNING
        return ProbeState.WAITING if key in self._line else ProbeState.IDLE

    def is_busy(self, group: str) -> bool:
        """Whether a sweep of the group runs."""
        return group in self._busy_groups

    def _may_start(self, probe: Probe) -> bool:
        return len(self._group_of_running) < self._limit and probe.target.group not in self._busy_groups

    def _leave_line(self, key: ProbeKey, probe: Probe) -> Decision:
        """Its turn has come."""
        del self._line[key]
        reason = self._refuse(probe)
        return self._start(key, probe) if reason is None else Skip(probe, reason)

    def _start(self, key: ProbeKey, probe: Probe) -> Start:
        self._group_of_running[key] = probe.target.group
        self._busy_groups.add(probe.target.group)
        return Start(probe)

    def _wait(self, key: ProbeKey, probe: Probe, now_ns: int) -> None:
        schedule = probe.schedule
        deadline_ns = now_ns + schedule.interval_ns + schedule.jitter_ns + WAIT_SLACK_NS
        self._line[key] = _Waiter(probe, deadline_ns)
        heapq.heappush(self._deadlines, (deadline_ns, key))
