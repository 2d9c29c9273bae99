"""The stop rules inside a level: first do no harm. Pure: no clock, no loop; every check is O(1).

The conductor has its own rules between levels; these are the ones that can't wait for a window's edge.
"""

from __future__ import annotations

from dataclasses import dataclass

from exporter.model import Outcome, Reason
from exporter.probe import NS, StopRules


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a level is to end; by the conductor's wish if the reason is none."""

    reason: Reason = Reason.NONE
    text: str = ""


class Guard:
    """Counts what a level does and says when it must end.

    The error ratio is that of the whole level: errors over all answers but the cancelled, judged from
    `error_min_requests` answers on.
    """

    __slots__ = ("_answers", "_errors", "_max_duration_ns", "_max_requests", "_rules", "_sent")

    def __init__(self, rules: StopRules, max_requests: int, max_duration_ns: int) -> None:
        self._rules = rules
        self._max_requests = max_requests
        self._max_duration_ns = max_duration_ns
        self._sent = 0
        self._answers = 0
        self._errors = 0

    @property
    def sent(self) -> int:
        """Requests let through so far."""
        return self._sent

    def send(self) -> Stop | None:
        """Asks for one more request: None grants and counts it."""
        if self._sent >= self._max_requests:
            return Stop(Reason.REQUEST_BUDGET, f"all {self._max_requests} requests allowed were sent")
        self._sent += 1
        return None

    def ended(self, outcome: Outcome, text: str) -> Stop | None:
        """A request ended, with this text if it failed."""
        if outcome is Outcome.CANCELLED:
            return None
        self._answers += 1
        if outcome is not Outcome.OK:
            self._errors += 1
        # Without an error the ratio can only have passed its limit at the very answer from which it is judged.
        elif self._answers != self._rules.error_min_requests:
            return None
        if self._answers < self._rules.error_min_requests:
            return None
        if self._errors <= self._rules.max_error_ratio * self._answers:
            return None
        last = f"; last: {outcome.label}: {text}" if outcome is not Outcome.OK else ""
        return Stop(
            Reason.ERROR_RATIO,
            f"{self._errors} of {self._answers} requests failed ({100 * self._errors / self._answers:.3g} %), "
            f"more than the {100 * self._rules.max_error_ratio:.3g} % allowed{last}",
        )

    def out_of_time(self) -> Stop:
        """The level's time is up."""
        return Stop(Reason.TIME_BUDGET, f"the level ran for the {self._max_duration_ns / NS:g} s allowed")
