"""Blocking reads in threads of their own, which nothing waits for for ever: not the reader, not the exit, not others.

A file on a share that hangs, or a page that never ends, would hold a place of asyncio's own pool until the process
ends, and its end would wait for it. It must not know what is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Hashable
from typing import TypeVar

from exporter.discovery.found import DiscoveryError

_T = TypeVar("_T")


class ReaderThreads:
    """At most one thread per key; a reader that is late is left behind, and the next one waits for its end."""

    def __init__(self) -> None:
        self._threads: dict[Hashable, threading.Thread] = {}

    async def run(self, key: Hashable, work: Callable[[], _T], seconds: float) -> _T:
        """What `work` gives, or raises. Raises DiscoveryError where that takes too long, or took so before and has not
        ended yet."""
        self._threads = {known: thread for known, thread in self._threads.items() if thread.is_alive()}
        if key in self._threads:
            raise DiscoveryError("an earlier reading has not ended yet")
        loop = asyncio.get_running_loop()
        result: asyncio.Future[_T] = loop.create_future()

        def set_result(value: _T | None, error: BaseException | None) -> None:
            self._threads.pop(key, None)
            if not result.done():
                result.set_exception(error) if error is not None else result.set_result(value)  # type: ignore[arg-type]

        def run() -> None:
            value, error = None, None
            try:
                value = work()
            except BaseException as raised:
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(set_result, value, error)

        thread = self._threads[key] = threading.Thread(target=run, name="discovery", daemon=True)
        thread.start()
        try:
            async with asyncio.timeout(seconds):
                return await result
        except TimeoutError:
            raise DiscoveryError(f"was not read within {seconds:g} s") from None
