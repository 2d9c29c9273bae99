"""What the page and the metrics show of the lease of a standby pair."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LeaseState:
    """The lease as this daemon sees it now. `other` is the daemon that has it, as last seen; "" for none, or this one.
    `problem` is why it was not read or renewed when that was last tried; "" if it was."""

    name: str
    shard: str
    is_held: bool
    seconds_left: float
    errors: int
    other: str
    problem: str

    @property
    def notice(self) -> str:
        """In words, for people; "" where there is nothing to report."""
        reason = f" ({self.problem})" if self.problem else ""
        if self.is_held:
            return f"The lease cannot be renewed; load stops in {self.seconds_left:.0f} s{reason}" if reason else ""
        measures = f"{self.other} measures" if self.other else "no daemon measures yet"
        return f"Standby: {measures}; this daemon takes over once the lease is free{reason}"
