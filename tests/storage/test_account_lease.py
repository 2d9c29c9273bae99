"""The end of the daemon's lease, as the worker sees it."""

from __future__ import annotations

import os

from exporter.core.outcome import Reason
from exporter.core.probe import StopRules
from exporter.engine.guard import Guard
from exporter.storage.account import Account, boottime_ns

HOUR_NS = 3600 * 10**9


def test_without_a_lease_nothing_ends() -> None:
    account = Account()
    assert not account.has_lease
    assert not account.is_lease_over()


def test_the_worker_sees_what_the_daemon_sets_and_sends_nothing_from_then_on() -> None:
    daemon = Account.create()
    worker = Account(os.dup(daemon.fileno()))
    daemon.lend(boottime_ns() + HOUR_NS)
    guard = Guard(StopRules(), 100, HOUR_NS, account=worker)
    assert guard.send() is None
    assert guard.may_close
    daemon.lend(1)  # lost
    stop = guard.send()
    assert stop is not None
    assert (stop.reason, guard.sent, guard.may_close) == (Reason.DAEMON_STALLED, 1, False)
    daemon.lend(boottime_ns() + HOUR_NS)
    assert guard.send() is None, "it is looked at for each request"
    worker.close()
    daemon.close()


def test_the_two_clocks_are_one() -> None:
    account = Account()
    account.lend(boottime_ns())
    assert account.is_lease_over()
    account.lend(boottime_ns() + HOUR_NS)
    assert not account.is_lease_over()
