"""Thread pools for blocking work, one per purpose: a hanging pool blocks neither the others nor the exit.

asyncio has one default pool for everything: a few hanging name look-ups would block the analysis of every sweep.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Threads:
    """At most `size` daemon threads, started on demand; further work queues. The process never waits for them at exit.
    Usable from several event loops."""

    def __init__(self, purpose: str, size: int) -> None:
        self._purpose = purpose
        self._size = size
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._running = 0

    async def run(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Runs `work` and returns its result or raises its exception. If cancelled, work that has started runs on;
        queued work is dropped."""
        return await asyncio.wrap_future(self.submit(work, *args, **kwargs))

    def submit(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """As `run`, for callers outside a loop or with a shared result."""
        future: Future[_T] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = work(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._lock:
            self._waiting.append(job)
            starts = self._running < self._size
            self._running += starts
        if starts:
            threading.Thread(target=self._serve, name=self._purpose, daemon=True).start()
        return future

    def _serve(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._running -= 1
                    return
                job = self._waiting.popleft()
            with contextlib.suppress(Exception):  # a closed loop accepts no result
                job()
