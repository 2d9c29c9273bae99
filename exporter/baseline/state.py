"""What is remembered of a probe to judge its next sweep by: levels, served versions, their sweeps and their pins.

Pure data, and the little that keeps it bounded. What is decided on it is in `judge`, `pins` and `decisions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.baseline.baseline import SignalBaseline
from exporter.baseline.history import History
from exporter.baseline.verdict import TierState
from exporter.core.probe import BaselineOptions, Signal
from exporter.core.units import NS

LEAST_PROVISIONAL, LEAST_FULL = 20, 50
"""Without so many sweeps nothing is pinned, however long it has been."""
_COMPONENT_ROWS = 168
_MAX_VERSIONS, _MAX_LOADS = 5, 3


@dataclass(frozen=True, slots=True)
class Pin:
    """What a version was like: a baseline for each signal, and the mean of each component in nanoseconds, from the
    sweeps since `began_unix_s`. A `provisional` one raises no page; a `final` one stays as it is. One of an `old_form`
    comes from a file of an earlier release: it knows the hours of the day alone, and is made again at its level."""

    pinned_unix_s: float
    provisional: bool
    signals: Mapping[Signal, SignalBaseline]
    components_ns: Mapping[str, float]
    began_unix_s: float = 0.0
    final: bool = False
    old_form: bool = False


@dataclass(slots=True)
class VersionState:
    """One served version of one level. `against` is the version whose pin its last sweeps were judged by; `note` is
    what was decided when it was pinned. `tail` has moment, p99's logarithm and requests of the last sweeps whose p99 is
    pooled; `lower_unix_s` is when a bimodal signal was last seen in its lower mode."""

    history: History = field(default_factory=History)
    components: list[tuple[float, Mapping[str, float]]] = field(default_factory=list)
    pin: Pin | None = None
    tiers: dict[tuple[Signal, str], TierState] = field(default_factory=dict)
    against: str = ""
    seen_unix_s: float = 0.0
    tried_unix_s: float = 0.0
    note: str = ""
    tail: list[tuple[float, float, int]] = field(default_factory=list)
    first_token_tail: list[tuple[float, float, int]] = field(default_factory=list)
    lower_unix_s: dict[Signal, float] = field(default_factory=dict)

    def tier(self, signal: Signal, name: str) -> TierState:
        """The state of a tier, or "warn/slow": of one over another's time; a new one at first."""
        key = signal, name
        if (state := self.tiers.get(key)) is None:
            state = self.tiers[key] = TierState()
        return state

    def holds(self) -> bool:
        """Whether a regression of any tier holds."""
        return any(state.holds for state in self.tiers.values())

    def add(
        self,
        unix_s: float,
        logs: dict[Signal, float],
        components_ns: Mapping[str, float],
        options: BaselineOptions,
        *,
        unstable: bool,
    ) -> None:
        """Takes a judged sweep in, and lets the old ones go."""
        kept = kept_s(options)
        self.history.add(unix_s, logs, unstable=unstable, kept_s=kept)
        if components_ns and (not self.components or unix_s - self.components[-1][0] >= kept / _COMPONENT_ROWS):
            self.components.append((unix_s, components_ns))
            del self.components[:-_COMPONENT_ROWS]


def kept_s(options: BaselineOptions) -> float:
    """How long sweeps are kept: the time that the longest baseline is made of."""
    return max(options.pin_ns, options.refine_ns) / NS


@dataclass(slots=True)
class LevelState:
    """One level under one load. `accepted` is the version with which others are compared; "" before the first pin."""

    accepted: str = ""
    versions: dict[str, VersionState] = field(default_factory=dict)

    def version(self, name: str, now_unix_s: float) -> VersionState:
        """The state of the served version; the versions not seen for longest are let go, never the accepted one."""
        if (state := self.versions.get(name)) is None:
            state = self.versions[name] = VersionState()
            for other in sorted(self.versions, key=lambda key: self.versions[key].seen_unix_s):
                if len(self.versions) <= _MAX_VERSIONS:
                    break
                if other not in (name, self.accepted):
                    del self.versions[other]
        state.seen_unix_s = now_unix_s
        return state

    @property
    def accepted_pin(self) -> Pin | None:
        """What a new version is compared with."""
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
