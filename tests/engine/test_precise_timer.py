"""Moments that are kept: never early, and with a lead that is worth its cpu time."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.engine.precise_timer import LEAD_LIMIT_NS, Alarm, next_lead_ns, usable_lead_ns

MOMENTS = 30
GAP_NS = 1_000_000


async def test_calls_back_at_each_moment_and_never_before() -> None:
    early_ns: list[int] = []
    done = asyncio.Event()
    due_ns = time.monotonic_ns()

    def ring() -> None:
        nonlocal due_ns
        early_ns.append(max(due_ns - time.monotonic_ns(), 0))
        if len(early_ns) == MOMENTS:
            done.set()
            return
        due_ns += GAP_NS
        alarm.set(due_ns)

    alarm = Alarm(ring)
    alarm.set(due_ns)
    await done.wait()
    alarm.close()
    assert early_ns == [0] * MOMENTS


async def test_a_moment_that_is_past_is_now() -> None:
    rung = asyncio.Event()
    alarm = Alarm(rung.set)
    alarm.set(time.monotonic_ns() - GAP_NS)
    await rung.wait()
    alarm.close()


async def test_a_closed_alarm_does_not_ring() -> None:
    rung: list[bool] = []
    alarm = Alarm(lambda: rung.append(True))
    alarm.set(time.monotonic_ns() + GAP_NS)
    alarm.close()
    await asyncio.sleep(3 * GAP_NS / 1e9)
    assert rung == []


async def test_it_can_be_closed_in_its_callback_and_while_it_waits_busily(monkeypatch: pytest.MonkeyPatch) -> None:
    rung: list[bool] = []
    alarm = Alarm(lambda: rung.append(True))
    monkeypatch.setattr(alarm, "_at_ns", 1 << 62)
    monkeypatch.setattr(alarm, "_is_set", True)
    alarm._wait()
    alarm.close()
    await asyncio.sleep(0)
    assert rung == []


@pytest.mark.parametrize(
    ("lead_ns", "ahead_ns", "used_ns"),
    [(70_000, 10_000_000, 70_000), (70_000, 125_000, 12_500), (70_000, -5, 0), (0, 1_000_000, 0)],
)
def test_the_lead_is_at_most_a_tenth_of_what_is_ahead(lead_ns: int, ahead_ns: int, used_ns: int) -> None:
    assert usable_lead_ns(lead_ns, ahead_ns) == used_ns


@given(st.lists(st.integers(0, 10**10)))
def test_the_lead_stays_within_its_limit(late_ns: list[int]) -> None:
    lead_ns = 0
    for late in late_ns:
        lead_ns = next_lead_ns(lead_ns, late)
        assert 0 <= lead_ns <= LEAD_LIMIT_NS


def test_the_lead_comes_to_what_the_timer_is_late_by() -> None:
    lead_ns = 0
    for _ in range(100):
        lead_ns = next_lead_ns(lead_ns, 80_000)
    assert lead_ns == pytest.approx(80_000, abs=10)
