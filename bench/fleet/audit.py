"""What the simulated fleet did, by rules of its own: no group with two sweeps at once, no slot run twice, none lost.

The slots are computed here from the names and the interval, by the documented formula, and not by the schedule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from exporter.core.probe import Probe
from exporter.core.units import MS, NS

ON_TIME_SECONDS = 0.01
"""An occurrence further from its slot is an early run after a start, or one that the wall clock's jump made late."""


def slot_of(probe: Probe, unix_ns: int) -> tuple[int, float]:
    """The number of the last slot, and how many seconds ago it was; one that is due within a millisecond counts."""
    interval_ns = probe.schedule.interval_ns
    digest = sha256(f"{probe.target.name}/{probe.name}".encode()).digest()
    phase_ns = (int.from_bytes(digest[:8]) * (interval_ns // 1000) >> 64) * 1000
    index, late_ns = divmod(unix_ns + MS - phase_ns, interval_ns)
    return index, (late_ns - MS) / NS


@dataclass
class Audit:
    """Over all shards."""

    running: dict[str, str] = field(default_factory=dict)
    due_at: dict[str, float] = field(default_factory=dict)
    last_slot: dict[str, int] = field(default_factory=dict)
    last_start: dict[str, float] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    skips: Counter[str] = field(default_factory=Counter)
    waits: Counter[int] = field(default_factory=Counter)
    drift_s: float = 0.0
    longest_gap: float = 0.0
    problems: list[str] = field(default_factory=list)

    def due(self, probe: Probe, unix_ns: int) -> None:
        """The schedule has the probe due."""
        self.counts["due"] += 1
        self.due_at[probe.name] = unix_ns / NS
        if probe.schedule.cron:
            return
        index, late_s = slot_of(probe, unix_ns)
        if late_s > ON_TIME_SECONDS:
            self.counts["off the grid"] += 1
            return
        self.drift_s = max(self.drift_s, abs(late_s))
        if self.last_slot.get(probe.name, -1) >= index:
            self.counts["slots run twice"] += 1
            self.problems.append(f"{probe.name}: slot {index} again")
        self.last_slot[probe.name] = index

    def started(self, probe: Probe, unix_s: float) -> None:
        """A sweep begins."""
        self.counts["sweeps"] += 1
        other = self.running.setdefault(probe.target.group, probe.name)
        if other != probe.name:
            self.counts["groups swept twice at once"] += 1
            self.problems.append(f"{probe.target.group}: {probe.name} beside {other}")
        self.waits[int(unix_s - self.due_at[probe.name])] += 1
        if probe.name in self.last_start and not probe.schedule.cron:
            gap = (unix_s - self.last_start[probe.name]) / (probe.schedule.interval_ns / NS)
            self.longest_gap = max(self.longest_gap, gap)
        self.last_start[probe.name] = unix_s

    def configured(self, probes: Sequence[Probe]) -> None:
        """From now on there are these probes."""
        names = {probe.name for probe in probes}
        self.last_start = {name: start for name, start in self.last_start.items() if name in names}

    def ended(self, probe: Probe) -> None:
        """It is over."""
        if self.running.get(probe.target.group) == probe.name:
            del self.running[probe.target.group]

    def wait_at(self, percent: float) -> int:
        """The percentile of the seconds from due to start."""
        wanted, seen = sum(self.waits.values()) * percent / 100, 0
        for seconds in sorted(self.waits):
            seen += self.waits[seconds]
            if seen >= wanted:
                return seconds
        return 0

    def lost(self, probes: list[Probe], unix_s: float) -> list[str]:
        """Those that did not run in their last two intervals (or days, by cron)."""
        return [
            probe.name
            for probe in probes
            if unix_s - self.last_start.get(probe.name, 0.0)
            > 2 * max(86_400 * bool(probe.schedule.cron), probe.schedule.interval_ns / NS)
        ]
