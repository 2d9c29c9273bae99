from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from exporter.core.probe import Probe, Schedule
from exporter.core.units import MS, NS
from exporter.schedule.phase import ProbeKey, probe_key, probe_path, spread
from exporter.schedule.slots import SECOND_US, IntervalSlots, Slots, from_us
from exporter.schedule.timetable import SlotTrigger, Timetable
from tests.builders import make_probe, make_target
from tests.schedule.fakes import FakeClocks


def hourly(name: str) -> Probe:
    return make_probe(name=name, schedule=Schedule(interval_ns=3600 * NS))


class Desk:
    """A timetable with a record of what it called."""

    def __init__(self) -> None:
        self.fake = FakeClocks()
        self.due: list[str] = []
        self.missed: list[str] = []
        self.called = asyncio.Event()
        self.timetable = Timetable(self._due, self._missed, self.fake.clocks)

    def start(self, *probes: Probe, overdue: Collection[ProbeKey] = ()) -> None:
        self.timetable.start(probes, overdue)

    def in_seconds(self, probe: Probe) -> float:
        """How long from now (on the fake wall clock) until the probe is due."""
        next_run = self.timetable.next_run(probe)
        assert next_run is not None
        return next_run - self.fake.unix_s

    def make_late(self, probe: Probe, seconds: float) -> None:
        """The probe's slot was this long ago, as after a sleep of the machine; the timetable wakes up now."""
        slot = from_us(self.fake.wall_ns // 1000) - timedelta(seconds=seconds)
        self.timetable._scheduler.modify_job(repr(probe_key(probe)), next_run_time=slot)

    def run(self, probe: Probe) -> None:
        """The probe's slot comes: it is due, and planned for the slot after this one, as APScheduler does it."""
        self.fake.advance(self.in_seconds(probe) + 1e-4)  # never early
        now = from_us(self.fake.wall_ns // 1000)
        job = self.timetable._scheduler.get_job(repr(probe_key(probe)))
        self.timetable._due(probe)
        job.modify(next_run_time=job.trigger.get_next_fire_time(now, now))

    def _due(self, probe: Probe) -> None:
        self.due.append(probe.name)
        self.called.set()

    def _missed(self, probe: Probe) -> None:
        self.missed.append(probe.name)
        self.called.set()


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    yield desk
    desk.timetable.stop()
    await asyncio.sleep(0)


async def test_a_probe_is_due_at_its_phase(desk: Desk) -> None:
    probes = [hourly(f"p{i}") for i in range(50)]
    desk.start(*probes)
    for probe in probes:
        regular_us = IntervalSlots(probe).next_after(desk.fake.wall_ns // 1000)
        assert desk.timetable.next_run(probe) == pytest.approx(regular_us / SECOND_US, abs=1e-6)
    assert desk.due == []


async def test_it_calls_back_at_each_slot_of_a_fractional_interval(desk: Desk) -> None:
    probe = make_probe(schedule=Schedule(interval_ns=12_500_000))
    desk.start(probe)
    planned = set()
    for _ in range(4):
        await desk.called.wait()
        desk.called.clear()
        next_run = desk.timetable.next_run(probe)
        assert next_run is not None
        planned.add(round((next_run * SECOND_US - spread(probe_path(probe), 12_500)) % 12_500) % 12_500)
    assert desk.due[:4] == ["addsub"] * 4
    assert planned == {0}  # each time at the phase


async def test_overdue_probes_run_soon_and_not_at_once(desk: Desk) -> None:
    probes = [hourly(f"p{i}") for i in range(200)]
    desk.start(*probes, overdue={probe_key(probe) for probe in probes[:100]})
    soon = sorted(desk.in_seconds(probe) for probe in probes[:100])
    assert 0 < soon[0] < 5
    assert 55 < soon[-1] <= 60
    assert all(later - earlier < 10 for earlier, later in pairwise(soon))
    assert max(desk.in_seconds(probe) for probe in probes[100:]) > 3000


@pytest.mark.parametrize(
    ("overdue", "interval_ns", "longest_seconds"),
    [(1, 3600 * NS, 1), (10, 3600 * NS, 10), (100, 3600 * NS, 60), (100, 30 * NS, 30)],
)
async def test_the_first_runs_are_spread_as_far_as_their_number_needs(
    desk: Desk, overdue: int, interval_ns: int, longest_seconds: int
) -> None:
    probes = [make_probe(name=f"p{i}", schedule=Schedule(interval_ns=interval_ns)) for i in range(overdue)]
    desk.start(*probes, overdue={probe_key(probe) for probe in probes})
    waits = [desk.in_seconds(probe) for probe in probes]
    assert min(waits) > 0
    assert max(waits) <= longest_seconds + 1e-5


async def test_a_probe_by_cron_gets_no_early_run(desk: Desk) -> None:
    probe = make_probe(schedule=Schedule(interval_ns=86_400 * NS, cron="0 2 * * *", timezone="Europe/Berlin"))
    desk.start(probe, overdue={probe_key(probe)})
    next_run = desk.timetable.next_run(probe)
    assert next_run is not None
    assert next_run % 3600 == 0
    assert 0 < desk.in_seconds(probe) <= 25 * 3600


async def test_a_cron_that_never_comes_is_never_due(desk: Desk) -> None:
    probe = make_probe(schedule=Schedule(interval_ns=86_400 * NS, cron="0 0 30 2 *"))
    desk.start(probe)
    desk.timetable.realign()
    assert desk.timetable.next_run(probe) is None


async def test_a_late_slot_within_its_grace_runs_once_and_the_next_is_at_the_phase(desk: Desk) -> None:
    probe = hourly("late")
    desk.start(probe)
    regular = desk.timetable.next_run(probe)
    desk.make_late(probe, 50)
    await desk.called.wait()
    assert (desk.due, desk.missed) == (["late"], [])
    assert desk.timetable.next_run(probe) == regular


async def test_a_slot_later_than_its_grace_is_one_misfire(desk: Desk) -> None:
    probe = make_probe(name="missed", schedule=Schedule(interval_ns=NS // 10))
    rare = hourly("rare")
    desk.start(probe, rare)
    desk.make_late(rare, 10 * 365 * 86_400)  # counted up slot by slot this would take minutes at 0.1 s
    desk.make_late(probe, 10 * 365 * 86_400)
    await desk.called.wait()
    assert desk.missed.count("missed") == 1
    assert desk.missed.count("rare") == 1
    assert 0 < desk.in_seconds(rare) <= 3600


@pytest.mark.parametrize(
    ("interval_seconds", "grace_seconds"), [(0.2, 1), (1, 1), (5, 2), (30, 15), (120, 60), (3600, 60)]
)
async def test_grace_is_half_the_interval_up_to_a_minute(
    desk: Desk, interval_seconds: float, grace_seconds: int
) -> None:
    probe = make_probe(schedule=Schedule(interval_ns=round(interval_seconds * NS)))
    desk.start(probe)
    job = desk.timetable._scheduler.get_job(repr(probe_key(probe)))
    assert (job.misfire_grace_time, job.coalesce, job.max_instances) == (grace_seconds, True, 1)


async def test_a_jump_backwards_plans_from_the_new_now(desk: Desk) -> None:
    probes = [hourly(f"p{i}") for i in range(20)]
    desk.start(*probes)
    before = [desk.in_seconds(probe) for probe in probes]
    desk.fake.jump(-7 * 3600)
    assert min(desk.in_seconds(probe) for probe in probes) > 7 * 3600
    desk.timetable.realign()
    assert [desk.in_seconds(probe) for probe in probes] == pytest.approx(before, abs=1e-3)
    assert (desk.due, desk.missed) == ([], [])


@pytest.mark.parametrize(
    ("after_s", "jump_s", "next_s"),
    [
        (60, -170, 3600 + 110),  # the slot comes again in 110 s
        (60, -61, 3600 + 1),
        (1700, -1750, 3600 + 50),
        (2000, -2010, 10),  # more than half an interval ago: it may run
        (60, -4 * 3600, 3540),  # three slots lie in between; the first after half an interval is taken
    ],
)
async def test_a_slot_that_comes_again_is_not_run_again_at_once(
    desk: Desk, after_s: float, jump_s: float, next_s: float
) -> None:
    probe = hourly("again")
    desk.start(probe)
    desk.run(probe)
    desk.fake.advance(after_s)
    desk.fake.jump(jump_s)
    desk.timetable.realign(backwards=True)
    assert desk.in_seconds(probe) == pytest.approx(next_s, abs=1e-3)


@pytest.mark.parametrize(
    ("cron", "longest_h", "ran", "after_s", "jumps_s", "following"),
    [
        # A Monday (of a year to come: APScheduler reads the real clock); the next one is not two days later.
        ("0 9-17 * * mon-fri", 64, "2090-12-04 10:00", 2, [-5], "2090-12-04 11:00"),
        ("*/15 8-18 * * *", 13.25, "2090-12-04 10:00", 2, [-5], "2090-12-04 10:15"),
        ("*/15 8-18 * * *", 13.25, "2090-12-04 10:00", 600, [-5], "2090-12-04 10:15"),
        ("*/15 8-18 * * *", 13.25, "2090-12-04 10:00", 2, [-60, -60], "2090-12-04 10:15"),
        ("*/15 8-18 * * *", 13.25, "2090-12-04 18:45", 2, [-5], "2090-12-05 08:00"),
        ("0 2 * * *", 24, "2090-12-04 02:00", 2, [-5], "2090-12-05 02:00"),
        # Back by more than half the longest gap: the server had its rest.
        ("0 * * * *", 1, "2090-12-04 10:00", 60, [-4 * 3600], "2090-12-04 07:00"),
    ],
)
async def test_a_cron_after_a_jump_backwards_has_its_next_time_and_no_time_twice(
    desk: Desk, cron: str, longest_h: float, ran: str, after_s: float, jumps_s: list[float], following: str
) -> None:
    utc = ZoneInfo("UTC")
    probe = make_probe(schedule=Schedule(interval_ns=round(longest_h * 3600 * NS), cron=cron))
    ran_s = datetime.fromisoformat(ran).replace(tzinfo=utc).timestamp()
    desk.fake.jump(ran_s - 1 - desk.fake.unix_s)
    desk.start(probe)
    desk.run(probe)
    assert desk.fake.unix_s == pytest.approx(ran_s, rel=0, abs=1e-3)
    desk.fake.advance(after_s)
    for jump_s in jumps_s:
        desk.fake.jump(jump_s)
        desk.timetable.realign(backwards=True)
    next_run = desk.timetable.next_run(probe)
    assert next_run is not None
    assert datetime.fromtimestamp(next_run, utc).strftime("%Y-%m-%d %H:%M") == following


async def test_a_jump_gives_the_early_first_runs_again(desk: Desk) -> None:
    probe = hourly("first")
    desk.start(probe, overdue={probe_key(probe)})
    desk.fake.jump(30 * 365 * 86_400)  # booted without a clock, which was set a moment later
    assert desk.in_seconds(probe) < 0
    desk.timetable.realign()
    assert 0 < desk.in_seconds(probe) <= 1
    desk.fake.jump(-60 * 365 * 86_400)
    desk.timetable.realign()
    assert 0 < desk.in_seconds(probe) <= 1


async def test_a_first_run_happens_once(desk: Desk) -> None:
    probe = hourly("first")
    desk.start(probe, overdue={probe_key(probe)})
    desk.make_late(probe, 0.5)
    await desk.called.wait()
    assert desk.due == ["first"]
    desk.timetable.realign()
    assert desk.in_seconds(probe) == pytest.approx(
        IntervalSlots(probe).next_after(desk.fake.wall_ns // 1000) / SECOND_US - desk.fake.unix_s, abs=1e-3
    )


async def test_a_failing_callback_leaves_the_timetable_going() -> None:
    calls: list[str] = []
    again = asyncio.Event()

    def fail(probe: Probe) -> None:
        calls.append(probe.name)
        if len(calls) == 3:
            again.set()
        raise RuntimeError("a bug")

    timetable = Timetable(fail, fail, FakeClocks().clocks)
    timetable.start([make_probe(schedule=Schedule(interval_ns=5 * MS))], set())
    await again.wait()
    timetable.stop()
    await asyncio.sleep(0)
    assert calls[:3] == ["addsub"] * 3


async def test_nothing_is_due_after_the_stop() -> None:
    desk = Desk()
    probe = make_probe(schedule=Schedule(interval_ns=5 * MS))
    desk.start(probe)
    await desk.called.wait()
    desk.timetable.stop()
    seen = len(desk.due)
    await asyncio.sleep(0.02)
    assert len(desk.due) == seen
    assert desk.timetable.next_run(probe) is None


async def test_a_timetable_that_never_started_can_be_stopped() -> None:
    Desk().timetable.stop()


async def test_a_thousand_probes_wake_the_loop_only_for_their_slots(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    wakeups = 0
    process = desk.timetable._scheduler._process_jobs

    def counted() -> object:
        nonlocal wakeups
        wakeups += 1
        return process()

    monkeypatch.setattr(desk.timetable._scheduler, "_process_jobs", counted)
    probes = [
        make_probe(name=f"p{i}", target=make_target(name=f"t{i % 7}"), schedule=Schedule(interval_ns=86_400 * 365 * NS))
        for i in range(1000)
    ]
    desk.start(*probes)
    await asyncio.sleep(0.03)
    assert wakeups == 1  # the one at the start, whatever the number of probes
    desk.timetable.realign()
    await asyncio.sleep(0.03)
    assert wakeups == 2


class Recorder:
    """Slots that remember what they were asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def next_after(self, after_us: int) -> int:
        self.asked.append(after_us)
        return after_us + 1


@pytest.mark.parametrize(
    ("previous_seconds", "asked_seconds"),
    [(None, 1000), (1000, 1000), (970, 970), (969, 1000), (0, 1000), (1010, 1010)],
)
def test_a_trigger_leaps_over_what_is_past_its_grace(previous_seconds: int | None, asked_seconds: int) -> None:
    recorder = Recorder()
    slots: Slots = recorder
    previous = None if previous_seconds is None else from_us(previous_seconds * SECOND_US)
    found = SlotTrigger(slots, 30).get_next_fire_time(previous, from_us(1000 * SECOND_US))
    assert recorder.asked == [asked_seconds * SECOND_US]
    assert found == from_us(asked_seconds * SECOND_US + 1)
