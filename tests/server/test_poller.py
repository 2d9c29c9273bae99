"""Readings at intervals and at edges, in a thread that never blocks the loop."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from exporter.core.facts import ServerReading
from exporter.core.units import NS
from exporter.server.figures import server_metrics
from exporter.server.poller import Poller
from tests.waiting import PATIENCE_SECONDS, becomes_true, patient


class Numbers:
    """Counts its readings; held up while `gate` is shut."""

    from_page = True

    def __init__(self) -> None:
        self.count = 0
        self.gate = threading.Event()
        self.gate.set()
        self.closed = threading.Event()

    def read(self) -> ServerReading:
        self.gate.wait(PATIENCE_SECONDS)
        self.count += 1
        return ServerReading(self.count, True)

    def stop(self) -> None:
        self.gate.set()

    def close(self) -> None:
        self.closed.set()


def numbers(readings: tuple[ServerReading, ...]) -> list[int]:
    return [reading.at_ns for reading in readings]


async def closed(poller: Poller, reader: Numbers) -> None:
    await poller.close()
    assert reader.closed.is_set()


async def test_edges_share_their_reading() -> None:
    reader = Numbers()
    poller = Poller(reader, 3600 * NS)
    assert numbers(await poller.edge(5 * NS)) == [1]
    assert numbers(await poller.edge(5 * NS)) == [1, 2]
    assert numbers(await poller.edge(5 * NS)) == [2, 3]
    await closed(poller, reader)


async def test_readings_come_at_intervals_between_edges() -> None:
    reader = Numbers()
    poller = Poller(reader, NS // 200)
    first = numbers(await poller.edge(5 * NS))
    while reader.count < first[-1] + 3:
        await asyncio.sleep(0.005)
    found = numbers(await poller.edge(5 * NS))
    assert found == list(range(first[-1], first[-1] + len(found)))
    assert len(found) >= 4
    await closed(poller, reader)


async def test_an_edge_does_not_wait_for_ever_and_its_reading_comes_with_the_next() -> None:
    reader = Numbers()
    poller = Poller(reader, 3600 * NS)
    await poller.edge(5 * NS)
    reader.gate.clear()
    before = time.monotonic()
    first, late = await poller.edge(NS // 50)
    assert time.monotonic() - before < patient(2)
    assert first == ServerReading(1, True)
    assert (late.from_page, late.error) == (True, "was not there at the window's edge")
    reader.gate.set()
    while reader.count < 2:
        await asyncio.sleep(0.005)
    assert numbers(await poller.edge(5 * NS))[:2] == [late.at_ns, 2]
    await closed(poller, reader)


async def test_a_page_that_never_comes_is_a_failed_reading_at_each_edge() -> None:
    """And so is not taken for a target without one, however short the windows."""
    reader = Numbers()
    reader.gate.clear()
    poller = Poller(reader, 3600 * NS)
    readings = [reading for _ in range(3) for reading in await poller.edge(NS // 100)]
    await closed(poller, reader)
    found = server_metrics(readings)
    assert found is not None
    assert (found.up, found.readings, found.failed) == (False, 3, 3)


async def test_a_reader_that_breaks_ends_the_readings_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    reader = Numbers()
    reader.count = "no number"  # type: ignore[assignment]
    poller = Poller(reader, 3600 * NS)
    (first,) = await poller.edge(NS // 20)
    assert reader.closed.wait(PATIENCE_SECONDS)
    assert "the server's readings end" in caplog.text
    assert [each.error for each in (first, *await poller.edge(NS // 100))] == ["was not there at the window's edge"] * 3
    await poller.close()


async def test_a_reading_under_way_ends_with_the_sweep() -> None:
    reader = Numbers()
    reader.gate.clear()
    poller = Poller(reader, 3600 * NS)
    await poller.edge(NS // 100)
    begin_ns = time.monotonic_ns()
    await poller.close()
    assert reader.closed.is_set()
    assert time.monotonic_ns() - begin_ns < NS
    assert becomes_true(lambda: "server-readings" not in {thread.name for thread in threading.enumerate()}, 5)


async def test_a_thread_that_is_stuck_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.server.poller.END_LIMIT_SECONDS", 0.05)
    reader = Numbers()
    monkeypatch.setattr(reader, "stop", lambda: None, raising=False)
    reader.gate.clear()
    poller = Poller(reader, 3600 * NS)
    await poller.edge(NS // 100)
    await poller.close()
    assert not reader.closed.is_set()
    reader.gate.set()
    assert await asyncio.to_thread(reader.closed.wait, 5)
