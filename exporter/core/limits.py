"""What sweeps may cause in a group of targets, and when none may run."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_TOKENS_PER_HOUR = 3_000_000
"""Twelve sweeps of what one may spend by default: that of a probe every five minutes."""


TOKEN_LIMITS = "stop.max_tokens, or limits.group_tokens_per_hour"  # noqa: S105  # no password
"""What to raise, for the text of a sweep that ran out of tokens."""


@dataclass(frozen=True, slots=True)
class Load:
    """How much load: requests, the time that sweeps took, and the tokens of targets that take prompts. What was caused,
    or what is allowed."""

    requests: int = 0
    duration_ns: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class GroupBudget:
    """What sweeps may cause in each group in any hour: requests and tokens (0: no limit), and the part of the time that
    they take."""

    requests_per_hour: int = 10_000_000
    duty_ratio: float = 0.5
    tokens_per_hour: int = DEFAULT_TOKENS_PER_HOUR


@dataclass(frozen=True, slots=True)
class Maintenance:
    """Probes pause for `duration_ns` from each time of the cron expression on: those of the targets and probes named,
    or, where none are, all."""

    cron: str
    duration_ns: int
    timezone: str = "UTC"
    targets: tuple[str, ...] = ()
    probes: tuple[str, ...] = ()
