"""The arithmetic of a lease: by hand, and as random histories of pauses, cuts and crashes."""

from __future__ import annotations

import heapq
import random

import pytest

from exporter.core.units import NS
from exporter.standby.lease import MARGIN_NS, Lease, LeaseRecord
from tests.standby.fakes import MemoryStore

DURATION_NS = 15 * NS


def test_a_lease_that_was_never_read_is_not_asked_for() -> None:
    assert not Lease("a", DURATION_NS).may_ask(10**18)


@pytest.mark.parametrize(
    ("record", "waits_s"),
    [
        (None, 0),
        (LeaseRecord("", DURATION_NS, "4"), 0),
        (LeaseRecord("a", DURATION_NS, "4"), 0),  # ours, by a request whose response was lost
        (LeaseRecord("b", DURATION_NS, "4"), 15),
        (LeaseRecord("b", 40 * NS, "4"), 40),  # the other's settings ask for more
        (LeaseRecord("b", 1 * NS, "4"), 15),  # or for less
    ],
)
def test_how_long_a_record_is_waited_for(record: LeaseRecord | None, waits_s: int) -> None:
    lease = Lease("a", DURATION_NS)
    lease.observe(record, 100 * NS)
    lease.observe(record, 101 * NS)  # the same: the wait does not begin again
    if waits_s:
        assert not lease.may_ask(100 * NS + waits_s * NS - 1)
    assert lease.may_ask(100 * NS + waits_s * NS)


def test_one_that_was_deleted_is_waited_for_as_if_it_were_there() -> None:
    """Who had it may act until its next renewal fails."""
    lease = Lease("b", 15 * NS)
    lease.observe(LeaseRecord("a", 20 * NS, "1"), 0)
    lease.observe(None, 50 * NS)
    assert not lease.may_ask(70 * NS - 1)
    assert lease.may_ask(70 * NS)
    lease.observe(LeaseRecord("", 20 * NS, "2"), 50 * NS)
    lease.observe(None, 51 * NS)
    assert lease.may_ask(51 * NS), "it was given up"


def test_each_renewal_begins_the_wait_again() -> None:
    lease = Lease("a", DURATION_NS)
    for count in range(20):
        lease.observe(LeaseRecord("b", DURATION_NS, str(count)), count * 3 * NS)
        assert not lease.may_ask(count * 3 * NS + NS)


def test_a_grant_counts_from_before_it_was_asked_for_and_ends_early() -> None:
    lease = Lease("a", DURATION_NS)
    assert not lease.is_held(10 * NS)
    assert lease.granted(LeaseRecord("a", DURATION_NS, "1"), 100 * NS, 104 * NS)
    assert lease.is_held(112 * NS - 1)
    assert not lease.is_held(112 * NS)
    assert MARGIN_NS == 3 * NS


def test_a_grant_that_came_too_late_is_worth_nothing() -> None:
    lease = Lease("a", DURATION_NS)
    assert not lease.granted(LeaseRecord("a", DURATION_NS, "1"), 100 * NS, 112 * NS)
    assert not lease.is_held(100 * NS)


class Daemon:
    """One of several, with a clock of its own. Its process may stop between any two steps, so also between a request to
    the store and the moment at which it takes the response in."""

    def __init__(self, name: str, store: MemoryStore, rng: random.Random) -> None:
        self.lease = Lease(name, DURATION_NS)
        self.store = store
        self.rng = rng
        self.offset_ns = rng.randrange(10**15)
        self.rate = 1 + rng.uniform(-0.05, 0.05)
        self.asked: tuple[LeaseRecord | None, int] | None = None
        self.load: list[tuple[int, int]] = []

    def clock(self, true_ns: int) -> int:
        return self.offset_ns + round(true_ns * self.rate)

    def step(self, true_ns: int) -> int:
        """Does the next thing; returns how long until the one after, by its own clock."""
        now_ns, lease = self.clock(true_ns), self.lease
        if self.asked is not None:
            (record, asked_ns), self.asked = self.asked, None
            if record is None:
                lease.end()
            elif lease.granted(record, asked_ns, now_ns):
                # What it may do by its own clock, in true time.
                until_ns = round((lease.until_ns - self.offset_ns) / self.rate)
                self.load.append((true_ns, until_ns))
            return lease.renew_ns
        try:
            if lease.is_held(now_ns):
                self.asked = self.store.replace(lease.record, lease.holder, DURATION_NS), now_ns
            else:
                lease.observe(self.store.read(), now_ns)
                if lease.may_ask(now_ns):
                    self.asked = self.store.replace(lease.record, lease.holder, DURATION_NS), now_ns
        except OSError:
            return NS
        return self.rng.choice((10**6, 10**8, 2 * NS)) if self.asked else lease.look_ns


@pytest.mark.parametrize("seed", range(40))
def test_no_two_may_act_at_one_moment_whatever_happens(seed: int) -> None:
    """Three daemons for six simulated hours: pauses of up to two minutes anywhere, cuts, lost responses, crashes."""
    rng = random.Random(seed)
    store = MemoryStore()
    daemons = [Daemon(name, store, rng) for name in "abc"]
    everyone = list(daemons)
    due = [(rng.randrange(NS), number) for number in range(3)]
    heapq.heapify(due)
    end_ns = 6 * 3600 * NS
    while due[0][0] < end_ns:
        true_ns, number = heapq.heappop(due)
        dice = rng.random()
        pause_ns = rng.randrange(120 * NS) if dice < 0.002 else 0
        if 0.002 < dice < 0.003:  # it crashed, and is there again under another name
            daemons[number] = Daemon(f"{number}-{true_ns}", store, rng)
            everyone.append(daemons[number])
            pause_ns = rng.randrange(60 * NS)
        store.down = rng.random() < 0.02
        store.loses = rng.random() < 0.02
        wait_ns = 0 if pause_ns else daemons[number].step(true_ns)
        heapq.heappush(due, (true_ns + wait_ns + pause_ns + 1, number))
    spans = sorted((start, until, daemon.lease.holder) for daemon in everyone for start, until in daemon.load)
    last: dict[str, int] = {}
    for start, until, holder in spans:
        others = [end for name, end in last.items() if name != holder]
        assert max(others, default=0) <= start, f"{holder} began while another one might act"
        last[holder] = max(until, last.get(holder, 0))
    acted = sum(until - start for start, until, _ in _joined(spans))
    assert acted > 0.5 * end_ns, "the lease is mostly held, else the test proves nothing"
    assert len({holder for _, _, holder in spans}) > 2


def _joined(spans: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    joined: list[tuple[int, int, str]] = []
    for start, until, holder in spans:
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], until), holder
        else:
            joined.append((start, until, holder))
    return joined
