"""The error rules of a level over its members' tallies, compared with one guard that sees all responses."""

from __future__ import annotations

import random
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import StopRules
from exporter.core.units import NS
from exporter.engine.guard import Guard, MemberGuard
from exporter.engine.tally import Tally, sum_tallies
from exporter.worker.level_guard import LevelGuard

RULES = StopRules(max_error_ratio=0.1, error_min_requests=20, max_latency_ns=NS)
OK, BAD, SLOW = "ok", "bad", "slow"


class Group:
    """Members and their level's guard, as processes without a delay between them. Counts the alarms."""

    def __init__(self, members: int, rules: StopRules = RULES) -> None:
        self.alarms = 0
        self.stop: str | None = None
        self._alarmed: list[int] = []
        self._level = LevelGuard(rules)
        self._guards = [
            MemberGuard(rules, 10**9, 10**18, members=members, on_alarm=partial(self._alarmed.append, number))
            for number in range(members)
        ]

    def ended(self, member: int, response: str) -> str | None:
        guard = self._guards[member]
        outcome = Outcome.SERVER_ERROR if response == BAD else Outcome.OK
        assert guard.ended(outcome, "500 boom", 2 * NS if response == SLOW else 1) is None, "it ends nothing itself"
        while self._alarmed and self.stop is None:
            self._alarmed.clear()
            self.alarms += 1
            found = self._level.judge({number: guard.tally() for number, guard in enumerate(self._guards)})
            if found is not None:
                self.stop = f"{found.reason}: {found.text}"
            for each in self._guards:
                each.release(self._level.allowance(len(self._guards)))
        return self.stop


@given(
    st.integers(2, 6),
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.05, 0.09, 0.11, 0.2, 0.5, 1.0]),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_the_error_ratio_is_that_of_one_guard_over_all(members: int, seed: int, ratio: float, skew: float) -> None:
    """`skew` of the errors are the first member's."""
    chance, group = random.Random(seed), Group(members)
    alone = Guard(RULES, 10**9, 10**18)
    stopped_alone = None
    for number in range(3000):
        bad = chance.random() < ratio
        member = 0 if bad and chance.random() < skew else chance.randrange(members)
        if (
            alone.ended(Outcome.SERVER_ERROR if bad else Outcome.OK, "500 boom", 1) is not None
            and stopped_alone is None
        ):
            stopped_alone = number
        if group.ended(member, BAD if bad else OK):
            assert stopped_alone is not None, "nothing that one worker alone would not have ended"
            # The rule of a row of failures is seen later, since no member knows the order of all.
            assert number >= stopped_alone
            break
    else:
        assert stopped_alone is None or ratio < 0.25, "what is far above it is found"
    assert group.alarms <= 3000 * max(ratio, 0.05)


def test_what_one_member_may_have_more_the_others_have_less() -> None:
    """The first has 15 % of errors and the other none, then the other 40 %: the level ends with the request that takes
    it above its 10 %."""
    group, alone = Group(2), Guard(RULES, 10**9, 10**18)
    for number in range(60_000):
        turn, member = divmod(number, 2)
        bad = turn % 20 in (5, 12, 19) if number < 20_000 else turn % 5 in (1, 3)
        bad = bad and member == (number >= 20_000)
        stop = alone.ended(Outcome.SERVER_ERROR if bad else Outcome.OK, "500 boom", 1)
        found = group.ended(member, BAD if bad else OK)
        assert (found is None) == (stop is None), f"at request {number}"
        if stop is not None:
            assert number > 20_000
            return
    pytest.fail("never ended")


def test_errors_before_the_level_is_judged_leave_none_to_spare() -> None:
    """Ten of the first ten responses, all of one member, then a tenth of all: above the ratio from the twentieth
    response on."""
    group = Group(2)
    for number in range(400):
        bad = number < 10 or number % 10 == 0
        if group.ended(0 if number < 10 else number % 2, BAD if bad else OK):
            assert number <= 20
            return
    pytest.fail("never ended")


def test_what_fails_while_the_level_is_judged_is_not_forgiven() -> None:
    level = LevelGuard(RULES)
    alarms: list[int] = []
    first, other = (
        MemberGuard(RULES, 10**9, 10**18, members=2, on_alarm=partial(alarms.append, number)) for number in range(2)
    )
    for _ in range(100):
        first.ended(Outcome.OK, "")
        other.ended(Outcome.OK, "")
    level.judge({0: first.tally(), 1: other.tally()})
    for _ in range(9):  # after its tally, before it is notified
        other.ended(Outcome.TIMEOUT, "late")
        other.ended(Outcome.OK, "")
    assert not alarms
    for each in (first, other):
        each.release(level.allowance(2))
    for _ in range(6):
        other.ended(Outcome.TIMEOUT, "late")
        other.ended(Outcome.OK, "")
    assert alarms[:1] == [1], "15 errors of 130 responses"


def test_a_server_that_dies_for_all() -> None:
    group = Group(4)
    for number in range(4000):
        assert group.ended(number % 4, OK) is None
    sent = 0
    while group.ended(sent % 4, BAD) is None:
        sent += 1
    assert sent < 20 + 4
    assert group.stop == "error_ratio: 20 requests failed in a row; last: server_error: 500 boom"


def test_one_member_that_fails_always_is_a_part_of_the_level() -> None:
    """A quarter of all: above a ratio of 10 %, and within one of 30 %."""
    for rules, stops in ((RULES, True), (StopRules(max_error_ratio=0.3, error_min_requests=20), False)):
        group = Group(4, rules)
        for number in range(2000):
            group.ended(number % 4, BAD if number % 4 == 0 else OK)
        assert bool(group.stop) is stops
        if stops:
            assert str(group.stop).startswith("error_ratio: 5 of 20 requests failed (")


def test_a_server_that_gets_slow() -> None:
    group = Group(4)
    for number in range(4000):
        assert group.ended(number % 4, OK) is None
    sent = 0
    while group.ended(sent % 4, SLOW) is None:
        sent += 1
    assert sent < 20 + 4
    assert str(group.stop).startswith(f"{Reason.LATENCY}: 20 more responses took longer than the 1 s allowed")


def test_a_slow_member_among_fast_ones_ends_nothing() -> None:
    group = Group(4)
    for number in range(4000):
        assert group.ended(number % 4, SLOW if number % 4 == 0 else OK) is None


@pytest.mark.parametrize(("rows", "together"), [([3, 4], 7), ([3, 0], 0), ([0, 3, 4], 0), ([], 0), ([5], 5)], ids=str)
def test_failures_are_in_a_row_while_they_are_for_all(rows: list[int], together: int) -> None:
    parts = [Tally(responses=9, failed=((Outcome.TIMEOUT, row),), in_a_row=row) for row in rows]
    found = sum_tallies([*parts, Tally()])
    assert (found.in_a_row, found.errors, found.responses) == (together, sum(rows), 9 * len(rows))
