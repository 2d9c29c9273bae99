"""What runs in a Dask worker: an actor that keeps one of our own worker processes beside it.

The load never shares an interpreter with Dask. The process may send only while its client renews its lease, so it is
silent within LEASE_SECONDS after the client, the network or the Dask worker is gone, whichever of them it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeVar

from exporter.core.errors import PreflightError, WorkerLostError
from exporter.core.facts import ModelFacts
from exporter.core.outcome import Reason
from exporter.core.probe import Probe
from exporter.core.units import NS
from exporter.engine.plan import LevelPlan, MemberEvent
from exporter.engine.tally import Allowance
from exporter.storage.account import boottime_ns
from exporter.worker.ipc import Failure
from exporter.worker.local import LocalWorker
from exporter.worker.remote.schema import schema
from exporter.worker.remote.store import SENT_AHEAD, Store, shared_folder

_T = TypeVar("_T")

LEASE_SECONDS: Final = 2.0
_LEASE_NS: Final = round(LEASE_SECONDS * NS)
_GONE_SECONDS: Final = 10.0
"""After so long without its client the process is ended, and its memory is free."""

_EVENTS_WAIT_SECONDS = 1.0
"""How long a question for events waits for the first of them."""

_QUEUED_EVENTS = 4
"""Events held for a client that is slow; beyond these the worker waits, and its windows get longer."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a beat brings back: `sent`, `asked` and `tokens` of `Worker`, and this machine's `boottime_ns` and monotonic
    clock with them."""

    sent: int
    asked: int
    tokens: int
    at_ns: int
    monotonic_ns: int


@dataclass(frozen=True, slots=True)
class Variables:
    """Of an environment. Secrets: Dask logs what it carries, at its level debug."""

    values: Mapping[str, str] = field(repr=False)


class WorkerHost:
    """The actor. Its methods are for one client, one at a time, but for `beat`, `stop`, `proceed` and `kill`. What
    fails is returned as a `Failure`: our errors do not survive being pickled. All are coroutines: Dask runs
    those on its own loop, and functions in a thread."""

    def __init__(self, client_schema: str, module: str = "exporter.worker.main", folder: str = "") -> None:
        """`folder` keeps what travels ahead of plans (store.py). Raises ValueError if the client is of another
        version."""
        if client_schema != schema():
            raise ValueError(f"this worker has triton-canary {schema()}, its client {client_schema}: install the same")
        self._module = module
        self._worker: LocalWorker | None = None
        self._until_ns = 1
        self._environment: Mapping[str, str] = {}
        self._folder = Path(folder) if folder else shared_folder()
        self._store: Store | None = None
        self._events: asyncio.Queue[MemberEvent | Failure] = asyncio.Queue(_QUEUED_EVENTS)
        self._level: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> Pulse | Failure:
        """Starts the process, if there is none that can be used."""
        if self._worker is None or not self._worker.alive:
            try:
                self._worker = await LocalWorker.spawn(
                    module=self._module, lease=lambda: self._until_ns, environ=lambda: self._environment
                )
            except WorkerLostError as error:
                return _failure(error)
        pulse = await self.beat(boottime_ns() + _LEASE_NS)
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
        return pulse

    async def beat(self, until_ns: int) -> Pulse:
        """The client lived when it sent this, and allows requests until then, by this machine's `boottime_ns`. It is a
        moment, not a time from now on: a beat that comes late must not allow more."""
        self._until_ns = min(until_ns, boottime_ns() + _LEASE_NS)
        return self._pulse()

    async def clock_ns(self) -> int:
        """This machine's monotonic clock."""
        return time.monotonic_ns()

    async def lacking(self, keys: list[str]) -> tuple[str, list[str]] | Failure:
        """The folder of the store, and those of these keys that it has not."""
        return await self._kept(lambda store: (str(store.folder), store.lacking(keys)))

    async def keep_part(self, key: str, name: str, offset: int, data: bytes) -> Failure | None:
        """See `Store.add`."""
        return await self._kept(lambda store: store.add(key, name, offset, data))

    async def keep_whole(self, key: str) -> bool | Failure:
        """See `Store.finish`."""
        return await self._kept(lambda store: store.finish(key))

    async def _kept(self, work: Callable[[Store], _T]) -> _T | Failure:
        def in_store() -> _T:
            if self._store is None:
                self._store = Store(self._folder)
            return work(self._store)

        try:
            return await asyncio.to_thread(in_store)
        except OSError as error:
            fix = "dask worker --local-directory, or TMPDIR, sets where"
            return Failure(True, Reason.NO_WORKER, f"input data cannot be kept: {error}; {fix}")

    async def preflight(self, probe: Probe, environment: Variables) -> ModelFacts | Failure:
        """See `Worker`. `environment` has the variables that the headers of the probe's target are read from."""
        self._environment = environment.values
        try:
            return await self._ready.preflight(probe)
        except (PreflightError, WorkerLostError) as error:
            return _failure(error)

    async def served_version(self, probe: Probe) -> str | Failure:
        """See `Worker`."""
        try:
            return await self._ready.served_version(probe)
        except (PreflightError, WorkerLostError) as error:
            return _failure(error)

    async def begin(self, plan: LevelPlan, environment: Variables) -> Failure | None:
        """Begins a level, whose events `events` gives."""
        self._environment = environment.values
        await self._end_level()
        self._events = asyncio.Queue(_QUEUED_EVENTS)
        try:
            plan = await asyncio.to_thread(_whole, plan)
        except (OSError, ValueError) as error:
            return Failure(True, Reason.NO_WORKER, f"input data cannot be read: {error}")
        self._level = asyncio.create_task(self._run(plan, self._events))
        return None

    async def events(self) -> list[MemberEvent | Failure]:
        """The events since the last call, in their order; waits a moment for the first one."""
        found: list[MemberEvent | Failure] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_EVENTS_WAIT_SECONDS):
                found.append(await self._events.get())
        while not self._events.empty():
            found.append(self._events.get_nowait())
        return found

    async def proceed(self, at_ns: int) -> None:
        """The level that waits continues at this moment, by this machine's clock."""
        with contextlib.suppress(WorkerLostError):
            self._ready.proceed_level(at_ns)

    async def report_tally(self) -> None:
        """See `Member` (group)."""
        with contextlib.suppress(WorkerLostError):
            self._ready.report_tally()

    async def resume(self, allowed: Allowance) -> None:
        """See `Member.resume_level` (group)."""
        with contextlib.suppress(WorkerLostError):
            self._ready.resume_level(allowed)

    async def stop(self) -> None:
        """See `Worker.stop_level`."""
        with contextlib.suppress(WorkerLostError):
            await self._ready.stop_level()

    async def silence(self) -> Pulse:
        """See `Worker`; gives what `beat` does, as the last word."""
        await self._ready.silence()
        return self._pulse()

    def _pulse(self) -> Pulse:
        return Pulse(self._ready.sent, self._ready.asked, self._ready.tokens, boottime_ns(), time.monotonic_ns())

    async def end_sweep(self) -> Failure | None:
        """See `Worker`."""
        await self._end_level()
        try:
            await self._ready.end_sweep()
        except (PreflightError, WorkerLostError) as error:
            return _failure(error)
        return None

    async def kill(self) -> None:
        """See `Worker`. The actor is of no more use."""
        self._until_ns = 1
        if self._store is not None:
            await asyncio.to_thread(self._store.abandon)
        if self._worker is not None:
            await self._worker.kill()

    # --- inside ------------------------------------------------------------------------------------------------------

    @property
    def _ready(self) -> LocalWorker:
        assert self._worker is not None, "start comes first"
        return self._worker

    async def _run(self, plan: LevelPlan, events: asyncio.Queue[MemberEvent | Failure]) -> None:
        try:
            async with aclosing(self._ready.run_member(plan)) as level:
                async for event in level:
                    await events.put(event)
        except (PreflightError, WorkerLostError) as error:
            await events.put(_failure(error))
        except Exception as error:
            # Or the client would ask for events that never come.
            await events.put(Failure(False, Reason.INTERNAL, type(error).__name__))

    async def _end_level(self) -> None:
        level, self._level = self._level, None
        if level is not None:
            level.cancel()
            await asyncio.wait({level})

    async def _watch(self) -> None:
        """Ends the process of a client that is gone."""
        while boottime_ns() < self._until_ns + _GONE_SECONDS * NS:  # noqa: ASYNC110 - a clock
            await asyncio.sleep(LEASE_SECONDS)
        await self._end_level()
        await self.kill()


def _whole(plan: LevelPlan) -> LevelPlan:
    """The plan with the text that went ahead."""
    given = plan.probe.input
    if not given.string_data.startswith(SENT_AHEAD):
        return plan
    text = Path(given.string_data.removeprefix(SENT_AHEAD)).read_bytes().decode("utf-8", "surrogatepass")
    return replace(plan, probe=replace(plan.probe, input=replace(given, string_data=text)))


def _failure(error: PreflightError | WorkerLostError) -> Failure:
    if isinstance(error, PreflightError):
        return Failure(True, error.reason, str(error), error.problems)
    return Failure(False, error.reason, str(error))


def error_of(failure: Failure) -> PreflightError | WorkerLostError:
    """The error that it was."""
    if failure.expected:
        return PreflightError(failure.reason, failure.text, problems=failure.problems)
    return WorkerLostError(failure.reason, failure.text)
