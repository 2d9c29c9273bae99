"""Threads for blocking work, by purpose: what hangs in one pool holds up no other, and no exit.

asyncio's own pool is one for everything: a few name look-ups without a response, and the figures of every sweep
wait behind them, with each request of theirs.
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
    """At most `size` threads, begun when needed; more work waits its turn. They end with the process, whatever they
    do: none is waited for. For any number of loops."""

    def __init__(self, purpose: str, size: int) -> None:
        self._purpose = purpose
        self._size = size
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._running = 0

    async def run(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """What `work` gives, or raises. Cancelled, it is left to itself, or not begun at all."""
        return await asyncio.wrap_future(self.submit(work, *args, **kwargs))

    def submit(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """The same, for who is in no loop or shares the result."""
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
            with contextlib.suppress(Exception):  # a loop that is closed takes no result
                job()
