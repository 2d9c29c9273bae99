from __future__ import annotations

import asyncio
import math

import pytest

from exporter.schedule import clock
from exporter.schedule.clock import Clocks, ClockWatch
from tests.schedule.fakes import FakeClocks


@pytest.mark.parametrize(
    ("jump_seconds", "reported"),
    [(0, []), (1.9, []), (-1.9, []), (2.1, [2.1]), (-3600, [-3600]), (86_400, [86_400])],
)
async def test_a_jump_of_more_than_two_seconds_is_reported(jump_seconds: float, reported: list[float]) -> None:
    fake = FakeClocks()
    jumps: list[float] = []
    watch = ClockWatch(jumps.append, fake.clocks)
    watch.start()
    assert watch.last_tick_unix_s == pytest.approx(fake.unix_s, abs=1e-6)
    fake.advance(5)
    fake.jump(jump_seconds)
    watch.tick()
    assert jumps == pytest.approx(reported)
    assert watch.jumps == len(reported)
    assert watch.last_tick_unix_s == pytest.approx(fake.unix_s, abs=1e-6)
    watch.stop()


async def test_a_jump_is_reported_once_and_the_way_back_too() -> None:
    fake = FakeClocks()
    jumps: list[float] = []
    watch = ClockWatch(jumps.append, fake.clocks)
    watch.start()
    for seconds in (10, 0, 0, -10, 0):
        fake.advance(5)
        fake.jump(seconds)
        watch.tick()
    watch.stop()
    assert jumps == pytest.approx([10, -10])


@pytest.mark.parametrize("seconds", [86_400, -86_400])
async def test_the_heartbeats_age_follows_no_wall_clock(seconds: float) -> None:
    fake = FakeClocks()
    watch = ClockWatch(lambda _: None, fake.clocks)
    assert watch.since_tick_s() == math.inf
    watch.start()
    fake.jump(seconds)
    assert watch.since_tick_s() == 0
    fake.advance(31)
    assert watch.since_tick_s() == pytest.approx(31)
    watch.stop()


async def test_slewing_is_no_jump_however_long() -> None:
    fake = FakeClocks()
    jumps: list[float] = []
    watch = ClockWatch(jumps.append, fake.clocks)
    watch.start()
    for _ in range(1000):
        fake.advance(5)
        fake.jump(0.0025)  # 500 ppm, the fastest that Linux slews
        watch.tick()
    watch.stop()
    assert jumps == []


async def test_it_ticks_by_itself_until_stopped_even_if_the_callback_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "TICK_SECONDS", 0.001)
    fake, ticks = FakeClocks(), asyncio.Event()
    readings = 0

    def wall_ns() -> int:
        nonlocal readings
        readings += 1
        if readings == 4:
            ticks.set()
        return fake.wall_ns + readings * 10 * 10**9

    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))

    def fail(seconds: float) -> None:
        raise RuntimeError(f"jumped by {seconds:g}")

    watch = ClockWatch(fail, Clocks(wall_ns=wall_ns, monotonic_ns=lambda: 0))
    watch.start()
    await ticks.wait()
    watch.stop()
    seen = readings
    await asyncio.sleep(0.005)
    assert readings == seen
    assert [str(error) for error in errors] == ["jumped by 10"] * watch.jumps
    assert watch.jumps == 3
