"""The stop rules within a level: first do no harm. Pure: no clock, no loop; every check is O(1).

The conductor has its own rules between levels; these cannot wait for a window's edge.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import StopRules
from exporter.core.units import NS
from exporter.engine.tally import Allowance, Tally, estimated_wrong, judge_errors
from exporter.storage.account import Account

PENDING_MIN_GROWTH = 16
"""Queue growth below this is noise, however steady."""

CHARGED_AHEAD = 16
"""Requests are charged to the account in batches of this size before they are sent, and the rest is refunded: a write
per request would cost 1 % of its time. A killed worker is charged for at most this many requests too many, never for
too few."""

_NEVER_NS = 2**63

# A member look-up in an enum costs six times as much, and this is compared for each request.
_OK = Outcome.OK
_CANCELLED = Outcome.CANCELLED


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a level ends. With reason none: requested by the conductor, or `finished`, when all of its requests were sent
    and have ended."""

    reason: Reason = Reason.NONE
    text: str = ""
    finished: bool = False


LEASE_OVER = Stop(Reason.DAEMON_STALLED, "the daemon's lease ran out: it did not run, or was cut off")


class Guard:
    """Counts the requests of a level and decides when it must end.

    The error ratio covers the whole level: errors over all responses without cancelled ones, judged from
    `error_min_requests` responses on. Unchecked responses count as wrong as often as checked ones.

    A server that dies after thousands of good responses would hardly reach that ratio, so `error_min_requests` failures
    in a row end the level, too. Slow responses count up and the others down, never below 0. A few outliers then end
    nothing, but a server that became slow is left alone after `error_min_requests` responses, whatever came before.
    """

    __slots__ = (
        "_account",
        "_all_slow",
        "_before",
        "_charged",
        "_checked",
        "_checks_due",
        "_closing",
        "_counts",
        "_errors",
        "_in_a_row",
        "_judged_from",
        "_last",
        "_last_allowed",
        "_leased",
        "_max_duration_ns",
        "_max_latency_ns",
        "_max_requests",
        "_responses",
        "_rules",
        "_sent_cell",
        "_slow",
        "_slow_ns",
        "_total",
        "_wrong",
    )

    def __init__(
        self,
        rules: StopRules,
        max_requests: int,
        max_duration_ns: int,
        *,
        account: Account | None = None,
        closing_requests: int = 0,
    ) -> None:
        """Each request is charged to the `account` before it is sent, so it counts however this process ends.
        `closing_requests` is the most that may be sent after the level's end, to close what it began."""
        self._rules = rules
        self._account = account or Account()
        self._sent_cell = self._account.sent_cell
        self._leased = self._account if self._account.has_lease else None
        # The account counts across levels. One counter serves both, because it is compared for each request.
        self._before = self._total = self._account.sent
        self._last_allowed = self._before + max_requests
        self._charged = self._before
        self._closing = closing_requests
        self._max_requests = max_requests
        self._max_duration_ns = max_duration_ns
        self._max_latency_ns = rules.max_latency_ns or _NEVER_NS
        self._judged_from = rules.error_min_requests
        self._slow = self._all_slow = self._slow_ns = 0
        self._responses = 0
        self._errors = 0
        self._in_a_row = 0
        self._counts: dict[Outcome, int] = {}
        self._wrong = 0
        self._checked = 0
        self._checks_due = 0
        self._last = ""

    @property
    def sent(self) -> int:
        """Requests permitted so far."""
        return self._total - self._before

    @property
    def responses(self) -> int:
        """Requests that have ended so far, without cancelled ones."""
        return self._responses

    def send(self) -> Stop | None:
        """Requests permission to send one more; None grants and counts it."""
        if self._total >= self._charged and (stop := self._charge_ahead()) is not None:
            return stop
        # Checked per request: a suspended process must not send even one after it resumes.
        if self._leased is not None and self._leased.is_lease_over():
            return LEASE_OVER
        self._total += 1
        return None

    @property
    def may_close(self) -> bool:
        """Whether closing requests may still be sent."""
        return self._leased is None or not self._leased.is_lease_over()

    def _charge_ahead(self) -> Stop | None:
        if self._total >= self._last_allowed:
            return Stop(Reason.REQUEST_BUDGET, f"all {self._max_requests} allowed requests were sent")
        self._sent_cell[0] = self._charged = min(self._total + CHARGED_AHEAD, self._last_allowed)
        return None

    def take_back(self) -> None:
        """The last granted request was not sent."""
        self._total -= 1

    def end_sending(self) -> None:
        """Grants no more. Charges the closing requests that may follow, so the account is never too low when read."""
        self._sent_cell[0] = self._total + self._closing
        self._account.silence()

    def settle(self) -> None:
        """Nothing more is sent: sets the account to what was sent."""
        self._sent_cell[0] = self._total

    def send_closing(self) -> None:
        """Counts a closing request, which is sent after the level's end. It is already charged."""
        self._total += 1

    def ended(self, outcome: Outcome, text: str, latency_ns: int = 0) -> Stop | None:
        """A request ended after `latency_ns`, with `text` if it failed."""
        if outcome is _CANCELLED:
            return None
        self._responses += 1
        if outcome is _OK:
            self._in_a_row = 0
            if latency_ns > self._max_latency_ns:
                self._slow += 1
                self._all_slow += 1
                self._slow_ns = latency_ns
                if self._slow >= self._judged_from:
                    return self._too_slow()
            elif self._slow:
                self._slow -= 1
            # Without an error the ratio can only exceed its limit at the first judged response.
            return self._judge() if self._responses == self._judged_from else None
        self._errors += 1
        self._counts[outcome] = self._counts.get(outcome, 0) + 1
        self._in_a_row += 1
        self._last = f"; last: {outcome.label}: {text}"
        return self._judge()

    def checked(self, wrong: str, due: int) -> Stop | None:
        """Records the check of an ok request's response; `wrong` is the error, "" if it is correct. `due` is how many
        responses should have been checked so far: there may be too little time for all."""
        self._checked += 1
        self._checks_due = due
        if wrong:
            self._wrong += 1
            self._last = f"; last: {Outcome.WRONG_OUTPUT.label}: {wrong}"
        return self._judge() if wrong or self._checked == self._judged_from else None

    def tally(self) -> Tally:
        """The responses so far."""
        return Tally(
            *(self._responses, tuple(self._counts.items()), self._in_a_row, self._all_slow, self._slow, self._slow_ns),
            *(self._wrong, self._checked, self._checks_due, self._last),
        )

    def _too_slow(self) -> Stop | None:
        return too_slow(self._slow, self._slow_ns, self._rules)

    def _judge(self) -> Stop | None:
        rules, responses = self._rules, self._responses
        if responses < rules.error_min_requests or rules.max_error_ratio >= 1:
            return None
        # The words only where there is an error: this is done at each failure.
        if self._all_errors() <= rules.max_error_ratio * responses and self._in_a_row < rules.error_min_requests:
            return None
        text = judge_errors(self.tally(), rules)
        return Stop(Reason.ERROR_RATIO, text) if text else None

    def _all_errors(self) -> float:
        return self._errors + estimated_wrong(self._wrong, self._checked, self._checks_due, self._judged_from)

    def out_of_time(self) -> Stop:
        """The level exceeded its time budget."""
        return Stop(Reason.TIME_BUDGET, f"the level has run for the allowed {self._max_duration_ns / NS:g} s")


class MemberGuard(Guard):
    """The guard of one of several workers that share a level, whose error rules are the level's: it ends nothing.

    Where the level's rule is broken, one member at least breaks it in its own part. Such a member reports it by
    `on_alarm`, once until `release`, and then by what the level allows (`Allowance`).
    """

    __slots__ = ("_on_alarm", "_reported", "_row_from", "_slack", "_slow_from")

    def __init__(
        self,
        rules: StopRules,
        max_requests: int,
        max_duration_ns: int,
        *,
        members: int,
        on_alarm: Callable[[], None],
        account: Account | None = None,
        closing_requests: int = 0,
    ) -> None:
        super().__init__(rules, max_requests, max_duration_ns, account=account, closing_requests=closing_requests)
        self._judged_from = self._row_from = self._slow_from = math.ceil(rules.error_min_requests / members)
        self._on_alarm = on_alarm
        self._slack = self._reported = 0.0

    def tally(self) -> Tally:
        """See `Guard`."""
        self._reported = self._excess()
        return super().tally()

    def release(self, allowed: Allowance) -> None:
        """The level continues, and was judged by the last tally of each member. Their slacks have the sum 0: while none
        exceeds its own, the level keeps its ratio, whatever came from whom."""
        self._slack = self._reported + allowed.errors
        # Of these, one that had no alarm gets no more than it had.
        row_from = max(self._judged_from, self._in_a_row + allowed.in_a_row)
        self._row_from = row_from if self._in_a_row >= self._row_from else min(self._row_from, row_from)
        slow_from = max(self._judged_from, self._slow + allowed.slow)
        self._slow_from = slow_from if self._slow >= self._slow_from else min(self._slow_from, slow_from)

    def _excess(self) -> float:
        """Errors above the ratio of this part's own responses."""
        return self._all_errors() - self._rules.max_error_ratio * self._responses

    def _judge(self) -> None:
        if self._in_a_row <= 1:
            self._row_from = self._judged_from
        if self._responses < self._judged_from or self._rules.max_error_ratio >= 1:
            return
        if self._excess() > self._slack or self._in_a_row >= self._row_from:
            self._on_alarm()

    def _too_slow(self) -> None:
        if self._slow == self._judged_from:
            self._slow_from = self._judged_from
        if self._slow >= self._slow_from:
            self._on_alarm()


def too_slow(more: int, last_ns: int, rules: StopRules) -> Stop:
    """So many more responses were slow than were not; the last slow one took `last_ns`."""
    limit = f"the {rules.max_latency_ns / NS:g} s allowed (stop.max_latency)"
    text = f"{more} more responses took longer than {limit} than did not; the last took {last_ns / NS:.3g} s"
    return Stop(Reason.LATENCY, text)


class QueueGuard:
    """Watches the server's queue of the model, all clients included, and reports when it only grows.

    That is: it grew at `readings` or more consecutive readings, and to at least twice its length at the start of the
    growth, and by at least PENDING_MIN_GROWTH. Readings less than half of `interval_ns` apart count as one.
    """

    def __init__(self, readings: int, interval_ns: int) -> None:
        self._readings = readings
        self._gap_ns = interval_ns // 2
        self._last_ns = -interval_ns
        self._first = self._last = 0.0
        self._grown = -1  # consecutive growths; the first reading has no predecessor

    def read(self, pending: float, at_ns: int) -> Stop | None:
        """Takes a reading: `pending` requests waited at `at_ns`."""
        if at_ns - self._last_ns < self._gap_ns:
            return None
        self._last_ns = at_ns
        if self._grown < 0 or pending <= self._last:
            self._first, self._grown = pending, 0
        else:
            self._grown += 1
        self._last = pending
        if self._grown < self._readings or pending < max(2 * self._first, self._first + PENDING_MIN_GROWTH):
            return None
        grown = f"from {self._first:.0f} to {pending:.0f} waiting requests in {self._grown} readings"
        return Stop(
            Reason.PENDING_QUEUE, f"the server's queue of the model grew {grown} in a row (stop.pending_growth)"
        )
