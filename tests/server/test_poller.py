"""Readings at intervals and at edges, in a thread that never holds anybody up."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from exporter.facts import ServerReading
from exporter.server.poller import Poller
from exporter.units import NS


class Numbers:
    """Counts its readings; held up while `gate` is shut."""

    def __init__(self) -> None:
        self.count = 0
        self.gate = threading.Event()
        self.gate.set()
        self.closed = threading.Event()

    def read(self) -> ServerReading:
        self.gate.wait(10)
        self.count += 1
        return ServerReading(self.count, True)

    def close(self) -> None:
        self.closed.set()


def numbers(readings: tuple[ServerReading, ...]) -> list[int]:
    return [reading.at_ns for reading in readings]


async def closed(poller: Poller, reader: Numbers) -> None:
    poller.close()
    reader.gate.set()
    assert await asyncio.to_thread(reader.closed.wait, 5)


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
    assert numbers(await poller.edge(NS // 50)) == [1]
    assert time.monotonic() - before < 2
    reader.gate.set()
    while reader.count < 2:
        await asyncio.sleep(0.005)
    assert numbers(await poller.edge(5 * NS))[:2] == [1, 2]
    await closed(poller, reader)


async def test_a_reader_that_breaks_ends_the_readings_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    reader = Numbers()
    reader.count = "no number"  # type: ignore[assignment]
    poller = Poller(reader, 3600 * NS)
    assert await poller.edge(NS // 20) == ()
    assert reader.closed.wait(5)
    assert "the server's readings end" in caplog.text
    assert await poller.edge(NS // 100) == ()
    poller.close()
