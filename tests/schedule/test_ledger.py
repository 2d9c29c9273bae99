"""Budgets: what is left, who is refused, and that they hold in every hour of simulated time."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from exporter.core.limits import DEFAULT_TOKENS_PER_HOUR as TOKENS
from exporter.core.limits import GroupBudget, Load
from exporter.core.outcome import Reason, SkipReason, SweepStatus
from exporter.core.probe import InputOptions, MeasurementOptions, Probe, PromptOptions, Schedule
from exporter.core.result import SweepResult
from exporter.core.units import NS
from exporter.schedule import admission
from exporter.schedule.admission import Admission, Decision
from exporter.schedule.ledger import HOUR_NS, Ledger
from exporter.schedule.phase import ProbeKey, probe_key
from tests.builders import make_probe, make_target

MINUTE_NS = 60 * NS


class Clock:
    def __init__(self) -> None:
        self.now_ns = 10**15

    def __call__(self) -> int:
        return self.now_ns


def a_probe(name: str = "a", group: str = "g", interval_ns: int = MINUTE_NS) -> Probe:
    target = make_target(name=f"endpoint-of-{name}", group=group)
    options = MeasurementOptions(window_ns=NS)
    return make_probe(name=name, target=target, schedule=Schedule(interval_ns=interval_ns), measurement=options)


def result(probe: Probe, requests: int, seconds: float) -> SweepResult:
    return SweepResult(
        "id", probe, SweepStatus.OK, Reason.NONE, "", 0.0, duration_ns=round(seconds * NS), sent=requests
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_is_left_and_what_was_caused(clock: Clock) -> None:
    ledger, a, b, other = Ledger(GroupBudget(1000, 0.5), clock), a_probe("a"), a_probe("b"), a_probe("c", "other")
    assert ledger.allowed(a) == Load(1000, HOUR_NS // 2, TOKENS)
    ledger.sweep_ended(result(a, 100, 10))
    clock.now_ns += 30 * MINUTE_NS
    ledger.sweep_ended(result(b, 200, 20))
    assert ledger.allowed(a) == ledger.allowed(b) == Load(700, 1770 * NS, TOKENS)
    assert ledger.allowed(other) == Load(1000, HOUR_NS // 2, TOKENS)
    assert (ledger.caused(a), ledger.caused(b), ledger.caused(other)) == (
        Load(100, 10 * NS),
        Load(200, 20 * NS),
        Load(),
    )
    assert ledger.used_ratios() == {"g": {"requests": 0.3, "duty": pytest.approx(30 / 1800)}}
    clock.now_ns += 30 * MINUTE_NS
    assert ledger.allowed(a) == Load(800, 1780 * NS, TOKENS)
    assert ledger.caused(a) == Load()
    clock.now_ns += 30 * MINUTE_NS
    assert ledger.used_ratios() == {}
    assert ledger.allowed(a) == Load(1000, HOUR_NS // 2, TOKENS)


@pytest.mark.parametrize(
    ("last", "used", "refused"),
    [
        (Load(), Load(999, 0), False),
        (Load(), Load(1000, 0), True),
        (Load(100, 0), Load(880, 0), False),  # 1.2 times its last sweep
        (Load(100, 0), Load(881, 0), True),
        (Load(0, 100 * NS), Load(0, 1680 * NS), False),
        (Load(0, 100 * NS), Load(0, 1681 * NS), True),
        (Load(), Load(0, 1797 * NS), False),  # three windows of a second
        (Load(), Load(0, 1798 * NS), True),
        (Load(5000, 9000 * NS), Load(), False),  # more than a whole budget: it is cut short
        (Load(5000, 9000 * NS), Load(1, 0), True),
    ],
)
def test_who_is_refused(clock: Clock, last: Load, used: Load, refused: bool) -> None:
    ledger, probe = Ledger(GroupBudget(1000, 0.5), clock), a_probe()
    ledger.sweep_ended(result(probe, last.requests, last.duration_ns / NS))
    clock.now_ns += HOUR_NS
    ledger.sweep_ended(result(a_probe("b"), used.requests, used.duration_ns / NS))
    assert ledger.refusal(probe) is (SkipReason.BUDGET if refused else None)


def test_no_limit_on_requests(clock: Clock) -> None:
    ledger = Ledger(GroupBudget(0, 1.0), clock)
    ledger.sweep_ended(result(a_probe(), 10**12, 1))
    assert ledger.refusal(a_probe()) is None


def prompts(name: str = "a") -> Probe:
    """A probe of a language model, of which one request spends 1.5 x 10 + 5 tokens at most."""
    target = make_target(name=f"endpoint-of-{name}", kind="openai", group="g")
    return replace(a_probe(name), target=target, input=InputOptions(prompt=PromptOptions(tokens=10, output_tokens=5)))


@pytest.mark.parametrize(
    ("last", "used", "refused"),
    [
        (0, 980, False),  # one request
        (0, 981, True),
        (100, 880, False),  # 1.2 times its last sweep
        (100, 881, True),
        (5000, 0, False),  # more than a whole budget: it is cut short
        (5000, 1, True),
    ],
)
def test_tokens_are_a_budget_of_their_own(clock: Clock, last: int, used: int, refused: bool) -> None:
    ledger, probe, tensors = Ledger(GroupBudget(1000, 0.5, 1000), clock), prompts(), a_probe("tensors")
    ledger.sweep_ended(replace(result(probe, 1, 1), tokens=last))
    clock.now_ns += HOUR_NS
    ledger.sweep_ended(replace(result(prompts("b"), 1, 1), tokens=used))
    assert ledger.refusal(probe) is (SkipReason.BUDGET if refused else None)
    assert ledger.allowed(probe).tokens == 1000 - used
    assert ledger.used_ratios()["g"].get("tokens", 0) == used / 1000
    # A model that takes tensors in the same group costs none.
    assert ledger.refusal(tensors) is None


def test_no_limit_on_tokens(clock: Clock) -> None:
    ledger = Ledger(GroupBudget(0, 1.0, 0), clock)
    ledger.sweep_ended(replace(result(prompts(), 1, 1), tokens=10**12))
    assert ledger.refusal(prompts()) is None


class Simulation:
    """An admission with a budget, and sweeps that send what they are allowed to, at random."""

    def __init__(self, budget: GroupBudget, seed: int) -> None:
        self.clock = Clock()
        self.begin_ns = self.clock.now_ns
        self.random = random.Random(seed)
        self.ledger = Ledger(budget, self.clock)
        self.admission = Admission(3, self.ledger.refusal)
        self.ends: dict[ProbeKey, tuple[int, Probe, int, int]] = {}
        self.sweeps: list[tuple[str, int, int, int]] = []  # group, begin, end, requests
        self.skips: dict[SkipReason, int] = {}

    def run(self, probes: list[Probe], hours: float) -> None:
        due = {probe_key(probe): self.begin_ns + self.random.randrange(MINUTE_NS) for probe in probes}
        by_key = {probe_key(probe): probe for probe in probes}
        while self.clock.now_ns < self.begin_ns + hours * HOUR_NS:
            next_due = min(due, key=lambda key: due[key])
            next_end = min(self.ends, key=lambda key: self.ends[key][0], default=None)
            if next_end is not None and self.ends[next_end][0] <= due[next_due]:
                at_ns, probe, requests, begin_ns = self.ends.pop(next_end)
                self.clock.now_ns = at_ns
                self.sweeps.append((probe.target.group, begin_ns, at_ns, requests))
                self.ledger.sweep_ended(result(probe, requests, (at_ns - begin_ns) / NS))
                self.take(self.admission.finished(probe, at_ns))
            else:
                probe = by_key[next_due]
                self.clock.now_ns = due[next_due]
                due[next_due] += probe.schedule.interval_ns
                self.take(self.admission.offer(probe, self.clock.now_ns))

    def take(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, admission.Skip):
                self.skips[decision.reason] = self.skips.get(decision.reason, 0) + 1
                continue
            probe, allowed = decision.probe, self.ledger.allowed(decision.probe)
            requests = min(self.random.randrange(1, 40_000), allowed.requests)
            duration_ns = min(self.random.randrange(NS, 40 * NS), allowed.duration_ns)
            begin_ns = self.clock.now_ns
            self.ends[probe_key(probe)] = (begin_ns + duration_ns, probe, requests, begin_ns)


@pytest.mark.parametrize("seed", range(3))
def test_the_budget_holds_in_every_hour(seed: int) -> None:
    """Three simulated hours, three groups, twenty probes a group that want far more than they may."""
    budget = GroupBudget(requests_per_hour=1_000_000, duty_ratio=0.25)
    simulation = Simulation(budget, seed)
    probes = [a_probe(f"{group}{index}", group) for group in "xyz" for index in range(20)]
    simulation.run(probes, hours=3)
    for group in "xyz":
        sweeps = [sweep for sweep in simulation.sweeps if sweep[0] == group]
        most = most_s = 0
        for _, begin_ns, _, _ in sweeps:
            # The worst hour begins with some sweep; what overlaps it counts in whole, which is more than it was sent.
            inside = [s for s in sweeps if s[1] >= begin_ns and s[1] < begin_ns + HOUR_NS]
            most = max(most, sum(s[3] for s in inside))
            most_s = max(most_s, sum(s[2] - s[1] for s in inside) // NS)
        assert most <= 1_000_000
        assert most_s <= 900
        assert most > 700_000 or most_s > 700  # it is a limit, and no more than that
    assert simulation.skips[SkipReason.BUDGET] > 1000
