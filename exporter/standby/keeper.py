"""Takes the lease, keeps it, and gives it up: the lease, its store and the clock, joined on one event loop.

The store is asked in a thread of its own, one request at a time: slow files and resolvers can hold all threads that the
rest of the daemon shares. One that hangs holds up nothing: the lease runs out by the clock.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from exporter.core.units import NS
from exporter.logs import fields
from exporter.standby.lease import Lease, LeaseRecord, LeaseStore
from exporter.storage.account import boottime_ns
from exporter.storage.directory_lock import LockHeldError

_log = logging.getLogger("exporter.standby")

_T = TypeVar("_T")

_RETRY_SECONDS = 1.0
_CLOCK_LOOK_SECONDS = 0.2
"""How often the clock is looked at while a renewal is awaited: the loop's own one stops while the machine sleeps."""
_RELEASE_LIMIT_SECONDS = 2.0


def holder_name() -> str:
    """A name for this process that no other one has, nor the same one after it began again."""
    return f"{os.uname().nodename}/{os.getpid()}/{secrets.token_hex(4)}"


class LeaseKeeper:
    """All but `until_ns`, `is_held` and the claim belong to the loop's thread."""

    def __init__(
        self, store: LeaseStore, duration_ns: int, *, holder: str = "", clock: Callable[[], int] = boottime_ns
    ) -> None:
        self._store = store
        self._clock = clock
        self._lease = Lease(holder or holder_name(), duration_ns)
        self._claim = _Claim(self)
        self._thread = ThreadPoolExecutor(1, "blocking-lease")
        self._has_asked = False
        self.pause: Callable[[float], Awaitable[None]] = asyncio.sleep
        """How it waits for so many seconds."""
        self.errors = 0
        """Requests to the store that failed."""
        self.problem = ""
        """Why the last one failed; "" if it did not."""

    @property
    def until_ns(self) -> int:
        """Until when we may act, by `boottime_ns`; never 0."""
        return self._lease.until_ns

    @property
    def is_held(self) -> bool:
        """Whether we may act at this moment."""
        return self._lease.is_held(self._clock())

    @property
    def seconds_left(self) -> float:
        """How long we may act without another renewal."""
        return max(0.0, (self._lease.until_ns - self._clock()) / NS)

    @property
    def other(self) -> str:
        """The daemon that has the lease, as last seen; "" for none, or for us."""
        record = self._lease.record
        return "" if record is None or record.holder == self._lease.holder else record.holder

    @property
    def claim(self) -> _Claim:
        """Takes the place of a folder's lock, for what only the daemon that measures may write."""
        return self._claim

    async def acquire(self) -> None:
        """Returns once the lease is ours."""
        while True:
            lease = self._lease
            if await self._try(self._look) and lease.may_ask(self._clock()) and await self._try(self._ask):
                _log.info("lease taken", extra=fields(holder=lease.holder))
                return
            await self.pause(lease.look_ns / NS)

    async def keep(self) -> str:
        """Renews the lease; returns once it is lost, with the reason."""
        lease = self._lease
        pause_s = lease.renew_ns / NS
        while True:
            await self.pause(min(pause_s, self.seconds_left))
            if not self.is_held:
                return self._lose(f"it was not renewed in time; {self.problem or 'this process did not run'}")
            asking = asyncio.ensure_future(self._try(self._ask))
            try:
                while self.is_held and not asking.done():
                    await asyncio.wait({asking}, timeout=min(self.seconds_left, _CLOCK_LOOK_SECONDS))
            finally:
                # Whatever comes of it after this comes too late.
                asking.cancel()
            if not asking.done():
                return self._lose("its renewal got no response in time")
            pause_s = lease.renew_ns / NS if asking.result() else _RETRY_SECONDS
            if lease.until_ns == 1:
                return self._lose(f"{self.other or 'another daemon'} has it")

    async def release(self) -> None:
        """Gives the lease up, if it is still ours, so that another need not wait until it has run out. Only once
        nothing is sent or written any more. The keeper is of no more use."""
        self._lease.end()
        try:
            if self._has_asked:
                async with asyncio.timeout(_RELEASE_LIMIT_SECONDS):
                    await self._in_thread(self._give_up)
        except (OSError, TimeoutError) as error:
            _log.warning("the lease was not given up: another daemon takes it later", extra=fields(error=error))
        finally:
            # A request that hangs is left behind.
            self._thread.shutdown(wait=False, cancel_futures=True)

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _try(self, work: Callable[[], Callable[[], bool]]) -> bool:
        """Does the work in a thread, and on this loop what it returns."""
        try:
            outcome = await self._in_thread(work)
        except OSError as error:
            self.errors += 1
            problem = error.strerror or str(error)
            if problem != self.problem:
                _log.warning("the lease cannot be read or renewed", extra=fields(error=problem))
            self.problem = problem
            return False
        if self.problem:
            _log.info("the lease can be read and renewed again")
        self.problem = ""
        return outcome()

    def _give_up(self) -> None:
        """As the store has it: a renewal that is awaited no more may have been granted."""
        seen = self._store.read()
        if seen is not None and seen.holder == self._lease.holder:
            self._store.replace(seen, "", self._lease.duration_ns)

    def _look(self) -> Callable[[], bool]:
        """Reads the record."""
        record = self._store.read()
        read_ns = self._clock()

        def observe() -> bool:
            before = self.other
            self._lease.observe(record, read_ns)
            if self.other != before:
                _log.info("standby", extra=fields(holder=self.other or "none"))
            return True

        return observe

    def _ask(self) -> Callable[[], bool]:
        """Asks for the lease, or for its renewal."""
        self._has_asked = True
        asked_ns, lease = self._clock(), self._lease
        record = self._put(lease.record)
        if record is None:
            # It may be our own request of before, of which we have not learnt that it was granted.
            seen = self._store.read()
            if seen is not None and seen.holder == lease.holder:
                record = self._put(seen)
        known_ns = self._clock()

        def take() -> bool:
            if record is None:
                lease.end()
                return False
            return lease.granted(record, asked_ns, known_ns)

        return take

    def _put(self, seen: LeaseRecord | None) -> LeaseRecord | None:
        return self._store.replace(seen, self._lease.holder, self._lease.duration_ns)

    def _lose(self, why: str) -> str:
        self._lease.end()
        _log.error("lease lost", extra=fields(reason=why))
        return why


class _Claim:
    """As `storage.directory_lock.DirectoryLock`. For any thread."""

    def __init__(self, keeper: LeaseKeeper) -> None:
        self._keeper = keeper
        self._guard = threading.Lock()
        self._was_held = False

    @property
    def refusal(self) -> str:
        """Why nothing may be written; "" where it may."""
        if self._keeper.is_held:
            return ""
        return f"this daemon is a standby; {self._keeper.other or 'no daemon'} has the lease"

    def acquire(self) -> bool:
        """Whether the lease has become ours since the last call. LockHeldError names who has it."""
        with self._guard:
            refusal = self.refusal
            taken, self._was_held = not refusal and not self._was_held, not refusal
        if refusal:
            raise LockHeldError(refusal)
        return taken

    def release(self) -> None:
        """Nothing: the lease is given up by its keeper, once all else is over."""
