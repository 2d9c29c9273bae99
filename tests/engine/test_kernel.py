from __future__ import annotations

import select
import time
from collections.abc import Iterator

import pytest

from exporter.core.units import MS
from exporter.engine.kernel import Timer


@pytest.fixture
def timer() -> Iterator[Timer]:
    it = Timer()
    yield it
    it.close()


def readable(timer: Timer, within_s: float) -> bool:
    return bool(select.select([timer], [], [], within_s)[0])


def test_is_due_at_its_moment_and_not_before(timer: Timer) -> None:
    at_ns = time.monotonic_ns() + 5 * MS
    timer.arm(at_ns)
    assert readable(timer, within_s=5)
    assert time.monotonic_ns() >= at_ns


@pytest.mark.parametrize("late_ns", [0, 1, 10**12])
def test_a_moment_that_has_passed_is_now(timer: Timer, late_ns: int) -> None:
    timer.arm(max(time.monotonic_ns() - late_ns, 1))
    assert readable(timer, within_s=5)


def test_acknowledged_it_waits_for_the_next(timer: Timer) -> None:
    timer.acknowledge()  # nothing to take note of: no harm
    timer.arm(1)
    assert readable(timer, within_s=5)
    timer.acknowledge()
    assert not readable(timer, within_s=0)
    timer.arm(1)
    assert readable(timer, within_s=5)


def test_the_last_moment_set_holds(timer: Timer) -> None:
    timer.arm(time.monotonic_ns() + 3_600_000 * MS)
    timer.arm(1)
    assert readable(timer, within_s=5)
