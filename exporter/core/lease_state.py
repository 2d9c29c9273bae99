"""The lease of a standby pair, as the status page and the metrics show it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LeaseState:
    """The lease as this daemon sees it now. `other` is the last known holder, "" if there is none or it is this daemon.
    `problem` is why the last read or renewal failed, "" if it succeeded."""

    name: str
    shard: str
    is_held: bool
    seconds_left: float
    errors: int
    other: str
    problem: str

    @property
    def notice(self) -> str:
        """A notice for the status page; "" if there is nothing to report."""
        reason = f" ({self.problem})" if self.problem else ""
        if self.is_held:
            return f"The lease cannot be renewed; load stops in {self.seconds_left:.0f} s{reason}" if reason else ""
        measures = f"{self.other} measures" if self.other else "no daemon measures yet"
        return f"Standby: {measures}; this daemon takes over once the lease is free{reason}"
