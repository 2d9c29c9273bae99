"""The error rules of a level that several workers share: its members report, and this judges the whole. Pure.

A level that breaks a rule has a member that breaks it in its own part; that one raises an alarm, sends nothing more,
and all others are asked for their part. So nothing travels while all is well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from exporter.core.outcome import Reason
from exporter.core.probe import StopRules
from exporter.engine.guard import Stop, too_slow
from exporter.engine.tally import Allowance, Tally, errors_of, judge_errors, sum_tallies


class LevelGuard:
    """Judges the sum. `rules` are those of the whole level."""

    def __init__(self, rules: StopRules) -> None:
        self._rules = rules
        self._least = self._slow_more = 0
        self._total = Tally()

    def judge(self, tallies: Mapping[int, Tally]) -> Stop | None:
        """Why the level must end, by the latest tally of each member; None if it continues."""
        self._total = total = sum_tallies(list(tallies.values()))
        rules = self._rules
        if text := judge_errors(total, rules):
            return Stop(Reason.ERROR_RATIO, text)
        # As a guard counts: slow responses up, others down, never below 0; but here it is looked at at alarms alone.
        more = total.slow - (total.ok - total.slow)
        self._least = min(self._least, more)
        self._slow_more = max(more - self._least, total.slow_more)
        if rules.max_latency_ns and self._slow_more >= rules.error_min_requests:
            return too_slow(self._slow_more, total.slow_ns, rules)
        return None

    def allowance(self, members: int) -> Allowance:
        """Of a level that continues: what each running member may have until the level could break a rule. The errors
        are below 0 where there are too many already, and too few responses to judge by."""
        total, rules = self._total, self._rules
        errors = rules.max_error_ratio * total.responses - errors_of(total, rules.error_min_requests)
        return Allowance(
            errors / members,
            math.ceil((rules.error_min_requests - total.in_a_row) / members),
            math.ceil((rules.error_min_requests - self._slow_more) / members),
        )
