"""When the machine itself counts as late, and what is reported of it."""

from __future__ import annotations

import pytest

from bench.machine import Watch, is_late
from bench.sleeper import Slept, busy_seconds

QUIET = Slept(60.0, 200.0, 0.05)


@pytest.mark.parametrize(
    ("now", "late"),
    [
        (QUIET, False),
        (Slept(60.0, 499.0, 0.05), False),  # a p99 that does no harm, however much greater
        (Slept(60.0, 601.0, 0.05), True),
        (Slept(500.0, 599.0, 0.05), False),
        (Slept(60.0, 200.0, 0.29), False),
        (Slept(60.0, 200.0, 0.31), True),
    ],
)
def test_late_is_what_is_much_later_than_at_first_or_busy(now: Slept, late: bool) -> None:
    assert is_late(now, QUIET) is late


def test_on_a_machine_that_is_always_late_only_what_is_worse_is_marked() -> None:
    assert not is_late(Slept(60.0, 2999.0, 0.1), Slept(60.0, 1000.0, 0.1))
    assert is_late(Slept(60.0, 3001.0, 0.1), Slept(60.0, 1000.0, 0.1))


def test_a_machine_that_was_busy_from_the_first_is_busy() -> None:
    assert is_late(Slept(60.0, 200.0, 1.9), Slept(60.0, 200.0, 2.0))


def test_a_watch_reports_each_late_look_once() -> None:
    watch = Watch()
    watch.first = QUIET
    assert watch.take() == ""
    watch.note("round 1 of http, 8", QUIET)
    assert "none of 1 measurements" in watch.take()
    watch.note("round 2 of http, 8", QUIET)
    watch.note("round 2 of grpc, 8", Slept(70.0, 5000.0, 1.5))
    marked = watch.take()
    assert "before 1 of 2 measurements" in marked
    assert "round 2 of grpc, 8: sleeper late by 70 us (p50), 5000 us (p99); 1.50 cores busy" in marked
    assert "http" not in marked
    assert watch.take() == ""


async def test_a_watch_that_has_not_begun_looks_at_nothing() -> None:
    watch = Watch()
    await watch.before("anything")
    assert watch.take() == ""


def test_busy_is_all_but_idle_and_waiting_for_disks() -> None:
    assert busy_seconds("cpu  100 20 30 99999 88888 5 6 7 0 0", 100) == pytest.approx(1.68)
