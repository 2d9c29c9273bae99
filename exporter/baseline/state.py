"""What is remembered of a probe to judge its next sweep by: levels, served versions, their sweeps and their pins.

Pure data, and the little that keeps it bounded. What is decided on it is in `baseline_judge`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from exporter.baseline.baseline import Floats, SignalBaseline, make_baseline
from exporter.baseline.verdict import TierState
from exporter.core.probe import BaselineOptions, Signal, Tier
from exporter.core.units import NS

ROWS = 2016
"""Sweeps kept of a pin's length: one every 5 minutes for 7 days. Of more frequent ones, some are left out."""
LEAST_PROVISIONAL, LEAST_FULL = 20, 50
"""Without so many sweeps nothing is pinned, however long it has been."""
_LEAST_PART = 0.25
"""And not without this part of the sweeps that the time could hold: the rest could not be judged."""
_KEPT_LONGER = 1.05
_COMPONENT_ROWS = 168
_MAX_VERSIONS, _MAX_LOADS = 5, 3


@dataclass(frozen=True, slots=True)
class Row:
    """One judged sweep: the logarithm of each signal that it could say, at the end of the sweep."""

    unix_s: float
    logs: Mapping[Signal, float]


@dataclass(frozen=True, slots=True)
class Pin:
    """What a version was like: a baseline for each signal, and the mean of each component in nanoseconds."""

    pinned_unix_s: float
    provisional: bool
    signals: Mapping[Signal, SignalBaseline]
    components_ns: Mapping[str, float]


@dataclass(slots=True)
class VersionState:
    """One served version of one level. `against` is the version whose pin its last sweeps were judged by; `note` says
    why a pin was not taken over."""

    rows: list[Row] = field(default_factory=list)
    components: list[tuple[float, Mapping[str, float]]] = field(default_factory=list)
    pin: Pin | None = None
    tiers: dict[tuple[Signal, str], TierState] = field(default_factory=dict)
    against: str = ""
    seen_unix_s: float = 0.0
    tried_unix_s: float = 0.0
    note: str = ""

    def tier(self, signal: Signal, tier: Tier) -> TierState:
        """The state of a tier; a new one at first."""
        return self.tiers.setdefault((signal, tier.name), TierState())

    def add(self, row: Row, components_ns: Mapping[str, float], options: BaselineOptions) -> None:
        """Takes a judged sweep in, and lets the old ones go: the newest that a pin needs are always kept."""
        pin_s = options.pin_ns / NS
        if not self.rows or row.unix_s - self.rows[-1].unix_s >= 0.9 * pin_s / ROWS:
            self.rows.append(row)
        oldest_s = row.unix_s - _KEPT_LONGER * pin_s
        while len(self.rows) > LEAST_FULL and self.rows[0].unix_s < oldest_s:
            del self.rows[0]
        if components_ns and (not self.components or row.unix_s - self.components[-1][0] >= pin_s / _COMPONENT_ROWS):
            self.components.append((row.unix_s, components_ns))
            del self.components[:-_COMPONENT_ROWS]

    def is_due(self, now_unix_s: float, span_ns: int, interval_ns: int, least: int, options: BaselineOptions) -> bool:
        """Whether its sweeps cover the span, and are enough."""
        if not self.rows or now_unix_s - self.rows[0].unix_s < span_ns / NS:
            return False
        possible = span_ns / max(interval_ns, options.pin_ns / ROWS)
        return len(self.rows) >= max(least, _LEAST_PART * possible)

    def make_pin(self, now_unix_s: float, *, provisional: bool) -> Pin:
        """A pin of all sweeps that are kept. A signal that too few of them have is left out."""
        signals = {}
        for signal in Signal:
            times, logs = self.logs_of(signal)
            if len(times) >= min(LEAST_PROVISIONAL, len(self.rows)):
                signals[signal] = make_baseline(times, logs)
        names = {name for _, components in self.components for name in components}
        components_ns = {
            name: float(np.median([parts[name] for _, parts in self.components if name in parts])) for name in names
        }
        return Pin(now_unix_s, provisional, signals, components_ns)

    def logs_of(self, signal: Signal) -> tuple[Floats, Floats]:
        """Moments and logarithms of a signal, where it has any."""
        found = [(row.unix_s, row.logs[signal]) for row in self.rows if signal in row.logs]
        array = np.array(found, float).reshape(-1, 2)
        return array[:, 0], array[:, 1]


@dataclass(slots=True)
class LevelState:
    """One level under one load. `accepted` is the version against which others are held; "" before the first pin."""

    accepted: str = ""
    versions: dict[str, VersionState] = field(default_factory=dict)

    def version(self, name: str, now_unix_s: float) -> VersionState:
        """The state of the served version; the versions not seen for longest are let go, never the accepted one."""
        state = self.versions.setdefault(name, VersionState())
        state.seen_unix_s = now_unix_s
        for other in sorted(self.versions, key=lambda key: self.versions[key].seen_unix_s):
            if len(self.versions) <= _MAX_VERSIONS:
                break
            if other not in (name, self.accepted):
                del self.versions[other]
        return state

    @property
    def accepted_pin(self) -> Pin | None:
        """What a new version is held against."""
        state = self.versions.get(self.accepted)
        return state.pin if state is not None else None


@dataclass(slots=True)
class LoadState:
    """The levels of one load, by mode and label."""

    levels: dict[str, LevelState] = field(default_factory=dict)
    used_unix_s: float = 0.0


@dataclass(slots=True)
class ProbeBaselines:
    """All that is remembered of a probe, by target, model and load: a load that comes back finds its baselines."""

    loads: dict[str, LoadState] = field(default_factory=dict)

    def load(self, key: str, now_unix_s: float) -> LoadState:
        """The state under this load; the loads not used for longest are let go."""
        state = self.loads.setdefault(key, LoadState())
        state.used_unix_s = now_unix_s
        for other in sorted(self.loads, key=lambda key: self.loads[key].used_unix_s)[: len(self.loads) - _MAX_LOADS]:
            del self.loads[other]
        return state


def level_key(mode: str, label: str) -> str:
    """A level's name in the state: "concurrency 4"."""
    return f"{mode} {label}"
