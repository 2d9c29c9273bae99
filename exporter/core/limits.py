"""Load limits of a group of targets, and maintenance windows."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_TOKENS_PER_HOUR = 3_000_000
"""Twelve times a sweep's default token budget: enough for one probe every five minutes."""


TOKEN_LIMITS = "stop.max_tokens, or limits.group_tokens_per_hour"  # noqa: S105  # not a password
"""The settings to raise, for the error text of a sweep that ran out of tokens."""


@dataclass(frozen=True, slots=True)
class Load:
    """An amount of load, caused or allowed: requests, sweep time, and tokens of targets that take prompts."""

    requests: int = 0
    duration_ns: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class GroupBudget:
    """The most load per group and hour: requests, tokens (0: no limit), and the ratio of the hour spent in sweeps."""

    requests_per_hour: int = 10_000_000
    duty_ratio: float = 0.5
    tokens_per_hour: int = DEFAULT_TOKENS_PER_HOUR


@dataclass(frozen=True, slots=True)
class Maintenance:
    """Probes pause for `duration_ns` from each time that the cron expression matches: those of the listed targets and
    probes, or all if none is listed."""

    cron: str
    duration_ns: int
    timezone: str = "UTC"
    targets: tuple[str, ...] = ()
    probes: tuple[str, ...] = ()
