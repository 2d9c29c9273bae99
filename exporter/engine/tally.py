"""What the error rules judge: the responses so far, of one worker or of all that share a level. Pure."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from exporter.core.outcome import Outcome
from exporter.core.probe import StopRules


@dataclass(frozen=True, slots=True)
class Tally:
    """`responses` are without cancelled ones. `failed` counts failures by outcome, `in_a_row` those since the last ok
    response, `slow` the ok responses above `stop.max_latency`, `slow_more` how many more of these than of others there
    were since there were as many. Of `checked` responses `wrong` were wrong; `checks_due`
    should have been checked. `last` describes the last failure, `slow_ns` is the latency of the last slow response."""

    responses: int = 0
    failed: tuple[tuple[Outcome, int], ...] = ()
    in_a_row: int = 0
    slow: int = 0
    slow_more: int = 0
    slow_ns: int = 0
    wrong: int = 0
    checked: int = 0
    checks_due: int = 0
    last: str = ""

    @property
    def errors(self) -> int:
        """Responses that failed, wrong ones aside."""
        return sum(count for _, count in self.failed)

    @property
    def ok(self) -> int:
        """Responses that did not fail."""
        return self.responses - self.errors


def sum_tallies(parts: Sequence[Tally]) -> Tally:
    """Those of all members. None of them knows when another one had its last good response: failures are in a row, and
    slow responses more than others, while they are so for each member."""
    return functools.reduce(_add, [part for part in parts if part.responses] or [Tally()])


def _together(one: int, other: int) -> int:
    return one + other if one and other else 0


def _add(one: Tally, other: Tally) -> Tally:
    failed = dict(one.failed)
    for outcome, count in other.failed:
        failed[outcome] = failed.get(outcome, 0) + count
    return Tally(
        responses=one.responses + other.responses,
        failed=tuple(failed.items()),
        in_a_row=_together(one.in_a_row, other.in_a_row),
        slow=one.slow + other.slow,
        slow_more=_together(one.slow_more, other.slow_more),
        slow_ns=max(one.slow_ns, other.slow_ns),
        wrong=one.wrong + other.wrong,
        checked=one.checked + other.checked,
        checks_due=one.checks_due + other.checks_due,
        last=one.last or other.last,
    )


def estimated_wrong(wrong: int, checked: int, checks_due: int, at_least: int) -> float:
    """Wrong responses, the unchecked ones included: these are wrong as often as the checked ones, once `at_least` were
    checked."""
    return wrong if checked < at_least else wrong * max(checks_due, checked) / checked


def errors_of(tally: Tally, at_least: int) -> float:
    """All that counts as an error."""
    return tally.errors + estimated_wrong(tally.wrong, tally.checked, tally.checks_due, at_least)


def judge_errors(tally: Tally, rules: StopRules) -> str:
    """Why the level must end: too many errors, or too many in a row; "" if it need not."""
    if tally.responses < rules.error_min_requests or rules.max_error_ratio >= 1:
        return ""
    if errors_of(tally, rules.error_min_requests) > rules.max_error_ratio * tally.responses:
        return f"{_failures(tally)}, more than the {100 * rules.max_error_ratio:.3g} % allowed{tally.last}"
    if tally.in_a_row >= rules.error_min_requests:
        return f"{tally.in_a_row} requests failed in a row{tally.last}"
    return ""


def _failures(tally: Tally) -> str:
    """Counts of failed requests by outcome, and of wrong responses among the checked ones."""
    parts = []
    if errors := tally.errors:
        ordered = sorted(tally.failed, key=lambda entry: -entry[1])
        counts = ", ".join(f"{count} {outcome.label}" for outcome, count in ordered)
        share = 100 * errors / tally.responses
        parts.append(f"{errors} of {tally.responses} requests failed ({share:.3g} %: {counts})")
    if tally.wrong:
        share = 100 * tally.wrong / tally.checked
        parts.append(f"{tally.wrong} of {tally.checked} responses checked were wrong ({share:.3g} %)")
    return " and ".join(parts)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What may still come from each member of a level that continues, before it is judged again: errors, failures in a
    row, slow responses."""

    errors: float
    in_a_row: int
    slow: int
