"""Keeps worker processes warm: a sweep takes one and gives it back, and one that is lost or worn is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from exporter.core.errors import PreflightError, WorkerLostError
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.engine.plan import Worker
from exporter.storage.account import SIGN_OF_LIFE_SECONDS
from exporter.worker.group import WorkerGroup
from exporter.worker.local import LocalWorker

MAX_SWEEPS = 100
"""Sweeps after which a worker is replaced, so that what a library leaks stays bounded."""


CLOSE_LIMIT_SECONDS = 16.0
"""How long a worker is waited for at the end: longer than a level may take to see its requests off, end its sequences
and take its shared memory back. One with nothing to clean up responds at once."""


QUESTION_LIMIT_SECONDS = 10.0
"""How long after a server's own time a worker is waited for that reads its response."""


class RestartReason(enum.StrEnum):
    """Why a worker was replaced. Closed: label values."""

    CRASH = "crash"
    DEADLINE = "deadline"
    WORN = "worn"


class WorkerPool:
    """Workers for at most `size` sweeps at a time. They are started when first needed and kept."""

    def __init__(
        self,
        size: int,
        *,
        spawn: Callable[[], Awaitable[LocalWorker]] = LocalWorker.spawn,
        max_sweeps: int = MAX_SWEEPS,
    ) -> None:
        self._spawn = spawn
        self._max_sweeps = max_sweeps
        # A place is a sweep's, however many workers share its load: who waits holds nothing that others wait for.
        self._places = asyncio.Semaphore(size)
        self._question = asyncio.Lock()
        self._idle: list[LocalWorker] = []
        self._busy: set[LocalWorker] = set()
        self._starting: set[asyncio.Future[LocalWorker]] = set()
        self._restarts: dict[str, int] = {reason.value: 0 for reason in RestartReason}

    @property
    def restarts(self) -> Mapping[str, int]:
        """How many workers were replaced so far, by `RestartReason`."""
        return self._restarts

    @property
    def alive(self) -> int:
        """Worker processes that can take commands, busy ones included."""
        return sum(worker.alive for worker in (*self._idle, *self._busy))

    @contextlib.asynccontextmanager
    async def lend(self, workers: int = 1, note: str = "") -> AsyncIterator[Worker]:
        """For the time of one sweep a worker of the caller's own, or a group of several that share its load; waits
        while `size` sweeps have theirs. Their accounts get the note. One that the caller killed has missed its
        deadline. Raises WorkerLostError if a new one does not come up."""
        async with self._places:
            taken: list[LocalWorker] = []
            try:
                for _ in range(workers):
                    taken.append(await self._take())
                    self._busy.add(taken[-1])
                    taken[-1].note(note)
                yield taken[0] if workers == 1 else WorkerGroup(taken)
            finally:
                for worker in taken:
                    await self._give_back(worker)

    async def ready_models(self, target: Target) -> tuple[str, ...]:
        """The models of a server that are ready, read by a worker: what a server sends is parsed in no other process.
        It has no place of a sweep's, and waits for none; one such question is asked at a time. Raises PreflightError,
        and WorkerLostError."""
        async with self._question:
            worker = await self._take()
            self._busy.add(worker)
            try:
                async with asyncio.timeout(target.connect_timeout_ns / NS + QUESTION_LIMIT_SECONDS):
                    return await worker.ready_models(target)
            except TimeoutError:
                await worker.kill()
                raise
            finally:
                await self._give_back(worker)

    async def close(self) -> None:
        """Ends all workers, busy ones too. One whose level was just stopped is given a moment to see it off: to end the
        sequences that it began, and to take back the memory that the server shares with it."""
        starting = list(self._starting)
        self._starting.clear()
        for each in starting:
            each.cancel()
        for started in await asyncio.gather(*starting, return_exceptions=True):
            if not isinstance(started, BaseException):
                self._idle.append(started)
        workers = [*self._idle, *self._busy]
        self._idle.clear()
        self._busy.clear()
        await asyncio.gather(*map(_end, workers))

    async def _give_back(self, worker: LocalWorker) -> None:
        """Takes a worker back, in whatever state; does nothing once the pool is closed."""
        if worker in self._busy:
            self._busy.remove(worker)
            if await self._is_fit(worker):
                self._idle.append(worker)

    async def _take(self) -> LocalWorker:
        while self._idle:
            worker = self._idle.pop()
            if await self._is_fit(worker):  # it may have died while idle
                return worker
        starting = self._starting.pop() if self._starting else asyncio.ensure_future(self._spawn())
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # Else a sweep that has less time than a worker takes to start would never get one.
            self._starting.add(starting)
            starting.add_done_callback(self._started)
            raise
        except WorkerLostError:
            self._restarts[RestartReason.CRASH] += 1
            raise

    def _started(self, starting: asyncio.Future[LocalWorker]) -> None:
        """A worker came up, or did not, for which no caller waits any more."""
        if starting not in self._starting:  # a caller does again, or the pool is closed
            return
        self._starting.remove(starting)
        if starting.cancelled():
            return
        if starting.exception() is None:
            self._idle.append(starting.result())
        else:
            self._restarts[RestartReason.CRASH] += 1

    async def _is_fit(self, worker: LocalWorker) -> bool:
        """Whether the worker can be used again; if not, it is counted and gone."""
        is_stuck = worker.is_stuck
        if worker.alive and not is_stuck and worker.sweeps < self._max_sweeps:
            return True
        if worker.was_killed or is_stuck:
            reason = RestartReason.DEADLINE
        elif worker.alive:
            reason = RestartReason.WORN
        else:
            reason = RestartReason.CRASH
        self._restarts[reason] += 1
        await worker.kill()
        return False


async def _end(worker: LocalWorker) -> None:
    if worker.alive and not worker.is_asked:
        ending = asyncio.create_task(worker.end_sweep())
        ends = asyncio.get_running_loop().time() + CLOSE_LIMIT_SECONDS
        # One that gives no sign of life sees nothing off.
        while not (ending.done() or worker.is_stuck or asyncio.get_running_loop().time() > ends):
            await asyncio.wait({ending}, timeout=SIGN_OF_LIFE_SECONDS)
        ending.cancel()
        with contextlib.suppress(WorkerLostError, PreflightError, asyncio.CancelledError):
            await ending
    await worker.kill()
