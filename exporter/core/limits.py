"""What sweeps may cause in a group of targets, and when none may run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """How much load: requests, and the time that sweeps took. What was caused, or what is allowed."""

    requests: int = 0
    duration_ns: int = 0


@dataclass(frozen=True, slots=True)
class GroupBudget:
    """What sweeps may cause in each group in any hour: requests (0: no limit), and the part of the time they take."""

    requests_per_hour: int = 10_000_000
    duty_ratio: float = 0.5


@dataclass(frozen=True, slots=True)
class Maintenance:
    """Probes pause for `duration_ns` from each time of the cron expression on: those of the targets and probes named,
    or, where none are, all."""

    cron: str
    duration_ns: int
    timezone: str = "UTC"
    targets: tuple[str, ...] = ()
    probes: tuple[str, ...] = ()
