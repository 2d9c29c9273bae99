from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.probe import Probe, Schedule
from exporter.core.units import NS
from exporter.schedule.slots import (
    SECOND_US,
    CronSlots,
    EarlyFirstSlots,
    IntervalSlots,
    Slots,
    from_us,
    slots_of,
    to_us,
)
from tests.builders import make_probe

NOW_US = 1_750_000_000 * SECOND_US


def by_interval(interval_ns: int, jitter_ns: int = 0, name: str = "addsub") -> Probe:
    return make_probe(name=name, schedule=Schedule(interval_ns=interval_ns, jitter_ns=jitter_ns))


def by_cron(cron: str, timezone: str = "UTC", jitter_ns: int = 0) -> Probe:
    schedule = Schedule(interval_ns=86_400 * NS, cron=cron, timezone=timezone, jitter_ns=jitter_ns)
    return make_probe(schedule=schedule)


def run_of(slots: Slots, after_us: int, count: int) -> list[int]:
    found: list[int] = []
    for _ in range(count):
        slot_us = slots.next_after(after_us)
        assert slot_us is not None
        found.append(slot_us)
        after_us = slot_us
    return found


@given(st.integers(0, 4 * 10**15))
def test_datetimes_carry_microseconds_exactly(time_us: int) -> None:
    assert to_us(from_us(time_us)) == time_us


def test_interval_slots_are_at_the_phase_after_the_epoch() -> None:
    # 48_880_029 us is the phase of triton-http/addsub in 60 s, as in test_phase.
    slots = IntervalSlots(by_interval(60 * NS))
    assert run_of(slots, 0, 3) == [48_880_029, 108_880_029, 168_880_029]
    assert slots.next_after(48_880_028) == 48_880_029


@given(st.integers(1000, 10**14), st.integers(0, 3 * 10**15), st.text(min_size=1))
def test_any_two_processes_find_the_same_slots(interval_ns: int, start_us: int, name: str) -> None:
    slots = IntervalSlots(by_interval(interval_ns, name=name))
    first, second, third = run_of(slots, start_us, 3)
    assert 0 < first - start_us <= slots.interval_us
    assert second - first == third - second == slots.interval_us
    assert slots.next_after(first - 1) == first  # started at another time
    assert slots.next_after(first) == second


def test_jitter_moves_a_slot_and_never_its_successors() -> None:
    plain = run_of(IntervalSlots(by_interval(60 * NS)), NOW_US, 500)
    moved = run_of(IntervalSlots(by_interval(60 * NS, jitter_ns=10 * NS)), NOW_US, 500)
    delays = [late - nominal for late, nominal in zip(moved, plain, strict=True)]
    assert min(delays) >= 0
    assert max(delays) < 10 * SECOND_US
    assert 4.5 < sum(delays) / len(delays) / SECOND_US < 5.5  # an even spread, not a walk


def test_an_early_first_run_stands_for_the_slot_next_to_it() -> None:
    regular = IntervalSlots(by_interval(60 * NS))  # 48.88 s, 108.88 s, ...
    cases = [(1, 48_880_029), (18_000_000, 48_880_029), (19_000_000, 108_880_029), (49_000_000, 108_880_029)]
    for first_us, following_us in cases:
        slots = EarlyFirstSlots(regular, first_us)
        assert slots.next_after(0) == first_us
        assert slots.next_after(first_us) == following_us
        assert following_us - first_us >= 30 * SECOND_US
        assert slots.next_after(following_us) == following_us + 60 * SECOND_US


@pytest.mark.parametrize(
    ("cron", "timezone", "after", "expected"),
    [
        ("*/15 * * * *", "UTC", "2025-06-10T10:07", ["2025-06-10T10:15", "2025-06-10T10:30", "2025-06-10T10:45"]),
        ("0 2 * * *", "Europe/Berlin", "2025-06-10T03:00", ["2025-06-11T02:00", "2025-06-12T02:00"]),
        # 2025-06-15 is a Sunday.
        ("0 12 * * sun", "UTC", "2025-06-10T00:00", ["2025-06-15T12:00", "2025-06-22T12:00"]),
        ("0 12 * * sun,fri", "UTC", "2025-06-10T00:00", ["2025-06-13T12:00", "2025-06-15T12:00", "2025-06-20T12:00"]),
        ("0 0 1 jan-mar *", "UTC", "2025-06-10T00:00", ["2026-01-01T00:00", "2026-02-01T00:00", "2026-03-01T00:00"]),
    ],
)
def test_cron_slots(cron: str, timezone: str, after: str, expected: list[str]) -> None:
    zone = ZoneInfo(timezone)
    after_us = to_us(datetime.fromisoformat(after).replace(tzinfo=zone))
    found = run_of(CronSlots(by_cron(cron, timezone)), after_us, len(expected))
    assert [from_us(slot).astimezone(zone).strftime("%Y-%m-%dT%H:%M") for slot in found] == expected


def test_cron_keeps_its_hour_over_daylight_saving() -> None:
    # Berlin leaves winter time on 2025-03-30 at 02:00: 05:00 there is 04:00 UTC before and 03:00 UTC after.
    after_us = to_us(datetime.fromisoformat("2025-03-29T00:00+00:00"))
    found = run_of(CronSlots(by_cron("0 5 * * *", "Europe/Berlin")), after_us, 2)
    assert [from_us(slot).strftime("%dT%H:%M") for slot in found] == ["29T04:00", "30T03:00"]


def test_cron_jitter_moves_a_slot_and_never_its_successors() -> None:
    plain = run_of(CronSlots(by_cron("*/5 * * * *")), NOW_US, 100)
    moved = run_of(CronSlots(by_cron("*/5 * * * *", jitter_ns=60 * NS)), NOW_US, 100)
    delays = [late - nominal for late, nominal in zip(moved, plain, strict=True)]
    assert min(delays) >= 0
    assert 50 * SECOND_US < max(delays) < 60 * SECOND_US


def test_cron_without_any_date_has_no_slot() -> None:
    assert CronSlots(by_cron("0 0 30 2 *")).next_after(NOW_US) is None


@pytest.mark.parametrize("cron", ["* * * *", "61 * * * *", "0 12 * * someday"])
def test_a_cron_expression_that_is_none_is_refused(cron: str) -> None:
    with pytest.raises(ValueError, match=r"Wrong number of fields|higher than the maximum|Invalid weekday name"):
        slots_of(by_cron(cron))


def test_the_schedule_states_which_slots() -> None:
    assert isinstance(slots_of(by_interval(NS)), IntervalSlots)
    assert isinstance(slots_of(by_cron("0 2 * * *")), CronSlots)


def test_a_month_in_which_the_clock_goes_forward_is_not_stepped_over() -> None:
    slots = CronSlots(by_cron("0 0 1 * *", "Europe/Berlin"))
    (first,) = run_of(slots, to_us(datetime(2025, 3, 20, tzinfo=UTC)), 1)
    assert from_us(first) == datetime(2025, 3, 31, 22, 0, tzinfo=UTC)  # 1 April, midnight in Berlin


def test_the_hour_that_comes_twice_has_its_runs_twice() -> None:
    slots = CronSlots(by_cron("*/30 * * * *", "Europe/Berlin"))
    runs = run_of(slots, to_us(datetime(2025, 10, 26, 0, 10, tzinfo=UTC)), 4)
    assert [from_us(run).strftime("%H:%M") for run in runs] == ["00:30", "01:00", "01:30", "02:00"]


@pytest.mark.parametrize(
    ("cron", "zone", "expected"),
    [
        ("30 2 * * *", "Europe/Berlin", ["26T00:30", "27T01:30"]),
        ("15,45 2 * * *", "Europe/Berlin", ["26T00:15", "26T00:45", "27T01:15", "27T01:45"]),
        ("0 1-3 * * *", "Europe/Berlin", ["26T00:00", "26T02:00", "27T00:00"]),
        ("30 1 * * sun", "Europe/London", ["26T00:30"]),
        ("0 * * * *", "Europe/Berlin", ["26T00:00", "26T01:00", "26T02:00"]),
    ],
)
def test_a_time_of_the_hour_that_comes_twice_has_one_run(cron: str, zone: str, expected: list[str]) -> None:
    """But for what runs in every hour. Berlin has 2 o'clock at 0:00 and at 1:00 UTC, London 1 o'clock at the same."""
    slots = CronSlots(by_cron(cron, zone))
    for begin in (datetime(2025, 10, 25, 23, 30, tzinfo=UTC), datetime(2025, 10, 25, 23, 59, 59, tzinfo=UTC)):
        runs = run_of(slots, to_us(begin), len(expected))
        assert [from_us(run).strftime("%dT%H:%M") for run in runs] == expected
    # Also after a start in the middle of it: the second 2:30 has no run.
    (run,) = run_of(CronSlots(by_cron("30 2 * * *", "Europe/Berlin")), to_us(datetime(2025, 10, 26, 1, tzinfo=UTC)), 1)
    assert from_us(run).strftime("%dT%H:%M") == "27T01:30"
