"""Readings at intervals, in a thread of their own, so that a slow page never holds up the load.

Owns the thread and its timetable, and which sources a target has; knows nothing of what is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from exporter.core.facts import ServerReading
from exporter.core.target import Target
from exporter.core.units import NS

MAX_READINGS = 1000
"""Kept for a window; a longer one at a short interval loses its first ones."""

END_LIMIT_SECONDS = 1.0
"""How long the thread is waited for at the end."""

_log = logging.getLogger(__name__)


class Reader(Protocol):
    """Where readings come from; `from_page` as in a reading."""

    from_page: bool

    def read(self) -> ServerReading:
        """One reading. Takes as long as it takes, never raises."""

    def stop(self) -> None:
        """Ends the reading that is under way in another thread, as soon as it can. Returns at once."""

    def close(self) -> None:
        """Nothing more is read."""


class Poller:
    """Reads every `interval_ns`, from `start` to `close`, and at each `edge`, from which the intervals count again.

    Its methods belong to one event loop. The thread is a daemon: where a server never ends its response nothing waits
    for it.
    """

    def __init__(self, reader: Reader, interval_ns: int) -> None:
        self._reader = reader
        self._interval_ns = interval_ns
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._readings: deque[ServerReading] = deque(maxlen=MAX_READINGS)
        self._last: ServerReading | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._asked = False
        self._closed = False
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self.on_reading: Callable[[ServerReading], None] | None = None
        """Called on the loop with each reading as it comes."""
        self._thread = threading.Thread(target=self._run, name="server-readings", daemon=True)
        self._thread.start()

    async def edge(self, limit_ns: int) -> tuple[ServerReading, ...]:
        """Reads now, and gives the readings from the last edge's to this one's, both included. One that is not there
        within the limit is in the next edge's; if there is none at all since the last edge's, that is a failed one."""
        done: asyncio.Future[None] = self._loop.create_future()
        with self._changed:
            self._waiting.append(done)
            self._asked = True
            self._changed.notify()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done, limit_ns / NS)
        with self._changed:
            readings = tuple(self._readings)
            self._readings.clear()
        if not readings:
            late = "was not there at the window's edge"
            readings = (ServerReading(time.monotonic_ns(), self._reader.from_page, error=late),)
        before = (self._last,) if self._last is not None else ()
        self._last = readings[-1]
        return before + readings

    async def close(self) -> None:
        """Ends the reading that is under way, and the thread with it: what reads on for a sweep that is over would take
        the time of the next one's. A thread that is stuck all the same is left behind after a second."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._reader.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._ended), END_LIMIT_SECONDS)

    def _run(self) -> None:
        try:
            while (waiting := self._until_due()) is not None:
                reading = self._reader.read()
                with self._changed:
                    self._readings.append(reading)
                self._notify(waiting, reading)
        except Exception:
            _log.exception("the server's readings end")
        finally:
            self._reader.close()
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._ended.set_result, None)

    def _until_due(self) -> list[asyncio.Future[None]] | None:
        """Waits for an edge or the interval's end; who waits for the reading that follows. None: closed."""
        due_ns = time.monotonic_ns() + self._interval_ns
        with self._changed:
            while not self._closed and not self._asked:
                left_ns = due_ns - time.monotonic_ns()
                if left_ns <= 0:
                    break
                self._changed.wait(left_ns / NS)
            if self._closed:
                return None
            waiting, self._waiting, self._asked = self._waiting, [], False
            return waiting

    def _notify(self, waiting: list[asyncio.Future[None]], reading: ServerReading) -> None:
        def done() -> None:
            if self.on_reading is not None:
                self.on_reading(reading)
            for future in waiting:
                if not future.done():
                    future.set_result(None)

        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(done)


def open_readers(target: Target, model: str, version: str) -> list[Reader]:
    """The target's metrics page, if it names one, and the driver, where the server runs on this machine. May take as
    long as a look-up of the host's name."""
    readers: list[Reader] = []
    if target.metrics_url:
        from exporter.server.metrics import PageReader

        readers.append(PageReader(target, model, version))
    if target.gpu == "auto":
        from exporter.server.gpu import is_this_machine, open_nvml

        if is_this_machine(target.address or target.host) and (driver := open_nvml()) is not None:
            readers.append(driver)
    return readers
