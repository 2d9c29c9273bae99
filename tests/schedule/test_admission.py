from __future__ import annotations

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from exporter.core.outcome import SkipReason
from exporter.core.probe import Probe, Schedule
from exporter.core.units import NS
from exporter.schedule.admission import WAIT_SLACK_NS, Admission, Decision, ProbeState, Skip, Start
from exporter.schedule.phase import ProbeKey, probe_key
from tests.builders import make_probe, make_target

INTERVAL_NS = 60 * NS


def a_probe(name: str, group: str = "", interval_ns: int = INTERVAL_NS, jitter_ns: int = 0) -> Probe:
    target = make_target(name=f"endpoint-of-{name}", group=group or name)
    return make_probe(name=name, target=target, schedule=Schedule(interval_ns=interval_ns, jitter_ns=jitter_ns))


A1, A2, A3 = (a_probe(name, "a") for name in ("a1", "a2", "a3"))
B1 = a_probe("b1", "b")
C1 = a_probe("c1", "c")


def overlap(probe: Probe) -> Skip:
    return Skip(probe, SkipReason.OVERLAP)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1, not {limit}"):
        Admission(limit)


def test_a_group_runs_one_sweep_after_the_other_in_order_of_arrival() -> None:
    admission = Admission(4)
    assert admission.offer(A1, 0) == [Start(A1)]
    assert admission.offer(A3, 1) == []
    assert admission.offer(A2, 2) == []
    assert [admission.state(probe) for probe in (A1, A2, A3, B1)] == ["running", "waiting", "waiting", "idle"]
    assert admission.finished(A1, 3) == [Start(A3)]
    assert admission.finished(A3, 4) == [Start(A2)]
    assert admission.finished(A2, 5) == []
    assert admission.state(A2) is ProbeState.IDLE


def test_a_busy_group_does_not_hold_up_another() -> None:
    admission = Admission(2)
    assert admission.offer(A1, 0) == [Start(A1)]
    assert admission.offer(A2, 1) == []
    assert admission.offer(B1, 2) == [Start(B1)]
    assert admission.offer(C1, 3) == []
    assert admission.finished(B1, 4) == [Start(C1)]  # A2 came first, but its group is busy


def test_the_limit_is_shared_first_come_first_served() -> None:
    admission = Admission(1)
    assert admission.offer(A1, 0) == [Start(A1)]
    assert admission.offer(B1, 1) == []
    assert admission.offer(A2, 2) == []
    assert admission.finished(A1, 3) == [Start(B1)]
    assert admission.finished(B1, 4) == [Start(A2)]


def test_a_probe_that_runs_when_due_again_skips_the_new_occurrence() -> None:
    admission = Admission(1)
    admission.offer(A1, 0)
    assert admission.offer(A1, INTERVAL_NS) == [overlap(A1)]
    assert admission.state(A1) is ProbeState.RUNNING
    assert admission.finished(A1, INTERVAL_NS + 1) == []


def test_a_probe_that_waits_when_due_again_keeps_its_place_and_waits_on() -> None:
    admission = Admission(1)
    admission.offer(A1, 0)
    admission.offer(A2, 1)
    admission.offer(A3, 2)
    assert admission.offer(A2, 1 + INTERVAL_NS) == [overlap(A2)]
    assert admission.next_expiry_ns() == 2 + INTERVAL_NS + WAIT_SLACK_NS  # A3's
    assert admission.finished(A1, 1 + INTERVAL_NS + 1) == [Start(A2)]


@pytest.mark.parametrize(
    ("interval_ns", "jitter_ns", "deadline_ns"),
    [(60 * NS, 0, 61 * NS), (NS // 2, 0, 3 * NS // 2), (60 * NS, 5 * NS, 66 * NS)],
)
def test_a_wait_ends_as_a_skip_after_one_interval(interval_ns: int, jitter_ns: int, deadline_ns: int) -> None:
    waiting = a_probe("late", "a", interval_ns, jitter_ns)
    admission = Admission(1)
    admission.offer(A1, 0)
    assert admission.next_expiry_ns() is None
    admission.offer(waiting, 0)
    assert admission.next_expiry_ns() == deadline_ns
    assert admission.expire(deadline_ns - 1) == []
    assert admission.expire(deadline_ns) == [overlap(waiting)]
    assert admission.next_expiry_ns() is None
    assert admission.finished(A1, deadline_ns + 1) == []


def test_waits_end_in_order_of_their_deadlines_and_before_a_place_is_given_away() -> None:
    slow, fast = a_probe("slow", "a", 30 * NS), a_probe("fast", "a", 10 * NS)
    admission = Admission(1)
    admission.offer(A1, 0)
    admission.offer(slow, 0)
    admission.offer(fast, 1)
    admission.offer(A2, 2)
    assert admission.finished(A1, 40 * NS) == [overlap(fast), overlap(slow), Start(A2)]


def test_an_offer_reports_waits_that_have_ended() -> None:
    admission = Admission(1)
    admission.offer(A1, 0)
    admission.offer(A2, 0)
    assert admission.offer(B1, 2 * INTERVAL_NS) == [overlap(A2)]
    assert admission.state(B1) is ProbeState.WAITING


def test_who_is_refused_when_its_turn_comes_makes_space_for_the_next() -> None:
    refused: dict[str, SkipReason] = {"a1": SkipReason.BUDGET}
    admission = Admission(4, lambda probe: refused.get(probe.name))
    assert admission.offer(A1, 0) == [Skip(A1, SkipReason.BUDGET)]
    assert admission.offer(B1, 0) == [Start(B1)]
    assert admission.offer(B1, 1) == [overlap(B1)]
    refused.clear()
    assert admission.offer(A1, 1) == [Start(A1)]
    assert [admission.offer(probe, 2) for probe in (A2, A3)] == [[], []]
    refused["a2"] = SkipReason.PAUSED
    assert admission.finished(A1, 3) == [Skip(A2, SkipReason.PAUSED), Start(A3)]
    assert admission.state(A2) is ProbeState.IDLE
    assert admission.next_expiry_ns() is None


def test_who_is_refused_while_it_waits_is_skipped_when_that_is_reported_and_a_run_continues() -> None:
    paused: set[Probe] = set()
    admission = Admission(1, lambda probe: SkipReason.PAUSED if probe in paused else None)
    admission.offer(A1, 0)
    admission.offer(A2, 1)
    assert admission.ask_again(A2) == []
    paused |= {A1, A2}
    assert admission.ask_again(A1) == []
    assert admission.ask_again(A2) == [Skip(A2, SkipReason.PAUSED)]
    assert admission.next_expiry_ns() is None
    assert [admission.state(A1), admission.state(A2)] == ["running", "idle"]
    assert admission.finished(A1, 2) == []
    assert admission.offer(A1, 3) == [Skip(A1, SkipReason.PAUSED)]


def test_draining_skips_who_waits_and_who_comes() -> None:
    admission = Admission(1)
    admission.offer(A1, 0)
    admission.offer(B1, 1)
    admission.offer(A2, 2)
    assert admission.drain() == [Skip(B1, SkipReason.SHUTDOWN), Skip(A2, SkipReason.SHUTDOWN)]
    assert admission.offer(C1, 3) == [Skip(C1, SkipReason.SHUTDOWN)]
    assert admission.finished(A1, 4) == []
    assert admission.next_expiry_ns() is None


def test_an_end_without_a_start_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        Admission(1).finished(A1, 0)


def test_a_thousand_probes_in_two_busy_groups_all_get_their_turn() -> None:
    probes = [a_probe(f"p{i}", f"g{i % 2}", 10_000 * NS) for i in range(1000)]
    admission = Admission(2)
    started = [decision.probe for probe in probes for decision in admission.offer(probe, 0)]
    for now_ns in range(1, 1001):
        started += [decision.probe for decision in admission.finished(started[now_ns - 1], now_ns)]
    assert started == probes


class AdmissionMachine(RuleBasedStateMachine):
    """Any sequence of calls, with a plain record of what was promised to whom."""

    LIMIT = 3
    PROBES = tuple(a_probe(f"p{i}", f"g{i % 4}", interval_ns=(3 + i) * NS, jitter_ns=(i % 2) * NS) for i in range(12))

    def __init__(self) -> None:
        super().__init__()
        self.admission = Admission(self.LIMIT, self.refusal)
        self.now_ns = 0
        self.running: dict[ProbeKey, Probe] = {}
        self.waiting: deque[ProbeKey] = deque()
        self.since_ns: dict[ProbeKey, int] = {}
        self.paused: set[ProbeKey] = set()
        self.draining = False
        self.offers = 0
        self.responses = 0

    def refusal(self, probe: Probe) -> SkipReason | None:
        return SkipReason.PAUSED if probe_key(probe) in self.paused else None

    def apply(self, decisions: list[Decision]) -> None:
        self.responses += len(decisions)
        for decision in decisions:
            key = probe_key(decision.probe)
            if isinstance(decision, Start):
                assert not self.draining
                assert key not in self.running
                if key in self.waiting:
                    self.check_turn(key)
                    self.waiting.remove(key)
                self.running[key] = decision.probe
            elif decision.reason is SkipReason.SHUTDOWN:
                assert self.draining
            elif decision.reason is SkipReason.PAUSED:
                assert key in self.paused
            else:
                assert key in self.running or key in self.waiting

    def check_turn(self, key: ProbeKey) -> None:
        """No probe that came before could have started instead."""
        groups = {probe.target.group for probe in self.running.values()}
        by_key = {probe_key(probe): probe for probe in self.PROBES}
        for earlier in list(self.waiting)[: self.waiting.index(key)]:
            assert by_key[earlier].target.group in groups

    def let_go_of_expired(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            key = probe_key(decision.probe)
            if isinstance(decision, Skip) and key in self.waiting:
                schedule = decision.probe.schedule
                assert self.now_ns - self.since_ns[key] >= schedule.interval_ns + schedule.jitter_ns
                self.waiting.remove(key)

    @rule(probe=st.sampled_from(PROBES))
    def offer(self, probe: Probe) -> None:
        key = probe_key(probe)
        expired = self.admission.expire(self.now_ns)
        self.apply(expired)
        self.let_go_of_expired(expired)
        was_waiting = key in self.waiting
        decisions = self.admission.offer(probe, self.now_ns)
        self.offers += 1
        self.apply(decisions)
        if not decisions:
            assert not was_waiting
            self.waiting.append(key)
        if not decisions or was_waiting:
            self.since_ns[key] = self.now_ns

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.running)))
        expired = self.admission.expire(self.now_ns)
        self.apply(expired)
        self.let_go_of_expired(expired)
        self.apply(self.admission.finished(self.running.pop(key), self.now_ns))

    @rule(step_ns=st.integers(0, 4 * NS))
    def time_passes(self, step_ns: int) -> None:
        self.now_ns += step_ns

    @rule(probe=st.sampled_from(PROBES))
    def pause(self, probe: Probe) -> None:
        self.paused.add(probe_key(probe))
        decisions = self.admission.ask_again(probe)
        self.apply(decisions)
        self.waiting = deque(key for key in self.waiting if key != probe_key(probe))

    @rule(probe=st.sampled_from(PROBES))
    def resume(self, probe: Probe) -> None:
        self.paused.discard(probe_key(probe))

    @precondition(lambda self: self.offers > 20)
    @rule()
    def drain(self) -> None:
        self.draining = True
        decisions = self.admission.drain()
        assert [probe_key(decision.probe) for decision in decisions] == list(self.waiting)
        self.apply(decisions)
        self.waiting.clear()

    @invariant()
    def never_two_of_a_group_and_never_over_the_limit(self) -> None:
        groups = [probe.target.group for probe in self.running.values()]
        assert len(groups) == len(set(groups)) <= self.LIMIT

    @invariant()
    def no_probe_is_lost(self) -> None:
        assert self.offers == self.responses + len(self.waiting)

    @invariant()
    def no_probe_waits_without_need(self) -> None:
        groups = {probe.target.group for probe in self.running.values()}
        by_key = {probe_key(probe): probe for probe in self.PROBES}
        if len(groups) < self.LIMIT:
            assert all(by_key[key].target.group in groups for key in self.waiting)

    @invariant()
    def states_agree(self) -> None:
        for probe in self.PROBES:
            key = probe_key(probe)
            expected = (
                ProbeState.RUNNING
                if key in self.running
                else ProbeState.WAITING
                if key in self.waiting
                else ProbeState.IDLE
            )
            assert self.admission.state(probe) is expected


AdmissionMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestAdmissionMachine = AdmissionMachine.TestCase
