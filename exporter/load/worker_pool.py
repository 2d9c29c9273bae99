"""Keeps worker processes warm: a sweep takes one and gives it back, and one that is lost or worn is replaced."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Mapping

from exporter.errors import WorkerLostError
from exporter.load.local_worker import LocalWorker

MAX_SWEEPS = 100
"""Sweeps after which a worker is replaced, so that what a library leaks stays bounded."""


class RestartReason(enum.StrEnum):
    """Why a worker was replaced. Closed: label values."""

    CRASH = "crash"
    DEADLINE = "deadline"
    WORN = "worn"


class WorkerPool:
    """At most `size` workers. They are started when first needed and kept."""

    def __init__(
        self,
        size: int,
        *,
        spawn: Callable[[], Awaitable[LocalWorker]] = LocalWorker.spawn,
        max_sweeps: int = MAX_SWEEPS,
    ) -> None:
        self._spawn = spawn
        self._max_sweeps = max_sweeps
        self._places = asyncio.Semaphore(size)
        self._idle: list[LocalWorker] = []
        self._busy: set[LocalWorker] = set()
        self._restarts: dict[str, int] = {reason.value: 0 for reason in RestartReason}

    @property
    def restarts(self) -> Mapping[str, int]:
        """How many workers were replaced so far, by `RestartReason`."""
        return self._restarts

    @property
    def alive(self) -> int:
        """Worker processes that can take commands, busy ones included."""
        return sum(worker.alive for worker in (*self._idle, *self._busy))

    async def acquire(self) -> LocalWorker:
        """A worker of the caller's own until `release`; waits for one if all are busy. Raises WorkerLostError if a new
        one does not come up."""
        await self._places.acquire()
        try:
            worker = await self._take()
        except BaseException:
            self._places.release()
            raise
        self._busy.add(worker)
        return worker

    async def release(self, worker: LocalWorker) -> None:
        """Gives a worker back, in whatever state. One that the caller killed has missed its deadline. Does nothing once
        the pool is closed."""
        if worker not in self._busy:
            return
        self._busy.remove(worker)
        try:
            if await self._is_fit(worker):
                self._idle.append(worker)
        finally:
            self._places.release()

    async def close(self) -> None:
        """Ends all workers at once, busy ones too."""
        workers = [*self._idle, *self._busy]
        self._idle.clear()
        self._busy.clear()
        await asyncio.gather(*(worker.kill() for worker in workers))

    async def _take(self) -> LocalWorker:
        while self._idle:
            worker = self._idle.pop()
            if await self._is_fit(worker):  # it may have died while idle
                return worker
        try:
            return await self._spawn()
        except WorkerLostError:
            self._restarts[RestartReason.CRASH] += 1
            raise

    async def _is_fit(self, worker: LocalWorker) -> bool:
        """Whether the worker can be used again; if not, it is counted and gone."""
        if worker.alive and worker.sweeps < self._max_sweeps:
            return True
        if worker.was_killed:
            reason = RestartReason.DEADLINE
        elif worker.alive:
            reason = RestartReason.WORN
        else:
            reason = RestartReason.CRASH
        self._restarts[reason] += 1
        await worker.kill()
        return False
