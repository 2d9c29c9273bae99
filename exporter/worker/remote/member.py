"""The client's handle of one worker on another machine: a `Member` of a group, by the methods of an actor.

A heartbeat renews the lease of the far process, twice a second. One that finds no response in the lease's time ends the
level: by then the process sends nothing either.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any

from exporter.core.errors import PreflightError, WorkerLostError
from exporter.core.facts import ModelFacts
from exporter.core.outcome import Reason
from exporter.core.probe import Probe
from exporter.core.units import NS
from exporter.core.untrusted_text import clean_text
from exporter.core.window import LevelEnd, Window
from exporter.engine.plan import LevelEvent, LevelPlan, MemberEvent
from exporter.engine.tally import Allowance
from exporter.logs import fields
from exporter.storage.account import boottime_ns
from exporter.worker.group import alone, not_begun, time_left
from exporter.worker.ipc import Failure
from exporter.worker.remote.cargo import Cargo, Sent
from exporter.worker.remote.clock import LevelClock, Offset, Sample, event_here, plan_there
from exporter.worker.remote.host import LEASE_SECONDS, Pulse, Variables, error_of
from exporter.worker.worker_environment import without_header_files

_log = logging.getLogger("exporter.worker")

BEAT_SECONDS = 0.5
CLOCK_SAMPLES = 20

_CALL_LIMIT_SECONDS = 10.0
"""How long any call may take beside what it waits for."""


class RemoteWorker:
    """`host` is the actor, or what has its methods; `name` the Dask worker's address. `allowed_s` is how long this
    daemon itself may still act. The workers of a sweep have one `cargo`. Lost once the far side gives no response."""

    def __init__(
        self,
        host: Any,
        name: str,
        allowed_s: Callable[[], float] = lambda: LEASE_SECONDS,
        cargo: Cargo | None = None,
    ) -> None:
        self._host = host
        self.name = name
        self._allowed_s = allowed_s
        self._cargo = cargo or Cargo()
        self._stopping = asyncio.Event()
        self._clock: LevelClock | None = None
        self._pulse = Pulse(0, 0, 0, 0, 0)
        self._pulse_ns = boottime_ns()
        self._lost: WorkerLostError | None = None
        self._beat_s = self._allowed_at_s = time.monotonic()
        self._beating: asyncio.Task[None] | None = None
        self._notices: set[asyncio.Future[Any]] = set()

    @property
    def alive(self) -> bool:
        """Whether it can take commands."""
        return self._lost is None

    @property
    def sent(self) -> int:
        """See `Worker`. Of one that is lost it is what the last heartbeat knew."""
        return self._pulse.sent

    @property
    def asked(self) -> int:
        """See `Worker`."""
        return self._pulse.asked

    @property
    def tokens(self) -> int:
        """See `Worker`."""
        return self._pulse.tokens

    async def start(self) -> None:
        """Starts the far process, and the heartbeat. Raises WorkerLostError."""
        self._take(await self._call("start", limit_s=90.0))
        self._beat_s = self._allowed_at_s = time.monotonic()
        self._beating = asyncio.create_task(self._beat())

    @property
    def offset(self) -> Offset:
        """Of its clock, for the level that runs."""
        return self._clock.offset_at(time.monotonic_ns()) if self._clock is not None else Offset()

    async def set_clock(self) -> None:
        """Compares the clocks, by the shortest of some round trips."""
        samples = []
        for _ in range(CLOCK_SAMPLES):
            asked_ns = time.monotonic_ns()
            theirs_ns = await self._call("clock_ns")
            samples.append(Sample(asked_ns, time.monotonic_ns(), theirs_ns))
        self._clock = LevelClock(samples)

    async def preflight(self, probe: Probe) -> ModelFacts:
        """See `Worker`."""
        _refuse_shared_memory(probe)
        limit_s = probe.target.connect_timeout_ns / NS + 60.0
        target, environment = await asyncio.to_thread(without_header_files, probe.target)
        asking = _asking(replace(probe, target=target))
        facts = await self._call("preflight", asking, Variables(environment), limit_s=limit_s)
        assert isinstance(facts, ModelFacts)
        return facts

    async def served_version(self, probe: Probe) -> str:
        """See `Worker`."""
        limit_s = probe.target.connect_timeout_ns / NS + 10.0
        return str(await self._call("served_version", _asking(probe), limit_s=limit_s))

    async def prepare(self, plan: LevelPlan) -> None:
        """See `Member` (group)."""
        self._stopping.clear()
        await self._send_ahead(plan)

    def run_level(self, plan: LevelPlan) -> AsyncGenerator[LevelEvent, None]:
        """See `Worker`."""
        return alone(self.run_member(plan))

    async def run_member(self, plan: LevelPlan) -> AsyncGenerator[MemberEvent, None]:
        """See `Member` (group)."""
        _refuse_shared_memory(plan.probe)
        self._stopping.clear()
        ended = is_uncertain = False
        began_ns = time.monotonic_ns()
        sent = await self._send_ahead(plan)
        target, environment = await asyncio.to_thread(without_header_files, plan.probe.target)
        await self.set_clock()
        plan = time_left(plan, began_ns)
        if sent is None or self._stopping.is_set() or plan.max_duration_ns <= 0:
            yield not_begun(plan)
            return
        there = sent.plan(plan_there(plan, self.offset))
        there = replace(there, probe=replace(there.probe, target=target))
        try:
            await self._call("begin", there, Variables(environment))
            if self._stopping.is_set():  # it may have come there first
                await self._call("stop")
            while not ended:
                for event in await self._call("events"):
                    if isinstance(event, Failure):
                        raise error_of(sent.failure(event))
                    ended = isinstance(event, LevelEnd)
                    here = event_here(sent.event(event), self.offset)
                    if isinstance(here, Window) and not is_uncertain:
                        is_uncertain = here.health.is_clock_uncertain(plan.probe.measurement.window_ns)
                        if is_uncertain:
                            self._warn_of_clock(plan)
                    yield here
        finally:
            if not ended and self.alive:
                with contextlib.suppress(WorkerLostError):
                    await self._call("stop")

    def proceed_level(self, at_ns: int) -> None:
        """See `Member` (group)."""
        self._notify("proceed", at_ns + self.offset.ns)

    def report_tally(self) -> None:
        """See `Member` (group)."""
        self._notify("report_tally")

    def resume_level(self, allowed: Allowance) -> None:
        """See `Member` (group)."""
        self._notify("resume", allowed)

    def _notify(self, method: str, *arguments: object) -> None:
        """Calls it without waiting for its end. If it fails, the worker is lost: its level would
        wait for ever, beside others that send."""
        self._raise_if_lost()
        notice = asyncio.ensure_future(self._invoke(method, *arguments))
        self._notices.add(notice)
        notice.add_done_callback(self._notified)

    def _notified(self, notice: asyncio.Future[Any]) -> None:
        self._notices.discard(notice)
        if not notice.cancelled() and (error := notice.exception()) is not None:
            self._lose(_text(error))

    async def stop_level(self) -> None:
        """See `Worker`."""
        self._stopping.set()
        await self._call("stop")

    async def silence(self) -> None:
        """See `Worker`."""
        try:
            self._take(await self._call("silence", limit_s=LEASE_SECONDS))
        except WorkerLostError:
            # What cannot be reached ends by itself: its lease is not renewed any more.
            await asyncio.sleep(self._allowed_at_s + LEASE_SECONDS - time.monotonic())

    async def end_sweep(self) -> None:
        """See `Worker`."""
        await self._call("end_sweep", limit_s=20.0)

    async def kill(self) -> None:
        """See `Worker`."""
        self._lose("it was ended by its client")
        if self._beating is not None:
            self._beating.cancel()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(LEASE_SECONDS):
                await self._invoke("kill")

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _send_ahead(self, plan: LevelPlan) -> Sent | None:
        machine = self.name.rpartition(":")[0]
        try:
            return await self._cargo.send(self._call, machine, plan, self._stopping)
        except PreflightError as error:
            if error.reason is Reason.NO_WORKER:
                raise PreflightError(error.reason, f"worker {self.name}: {error}") from error
            raise

    def _warn_of_clock(self, plan: LevelPlan) -> None:
        window_s, error_s = plan.probe.measurement.window_ns / NS, self.offset.error_ns / NS
        about = fields(probe=plan.probe.name, worker=self.name, error_seconds=error_s, window_seconds=window_s)
        _log.warning("the clock of a worker is not known well enough for its windows", extra=about)

    async def _beat(self) -> None:
        while self.alive:
            self._allowed_at_s = asked_s = time.monotonic()
            try:
                async with asyncio.timeout(LEASE_SECONDS):
                    pulse = await self._invoke("beat", self._until_ns())
                self._take(pulse)
                if self._clock is not None:
                    self._clock.add(Sample(round(asked_s * NS), time.monotonic_ns(), pulse.monotonic_ns))
                self._beat_s = asked_s
            except Exception as error:
                if time.monotonic() - self._beat_s > LEASE_SECONDS:
                    self._lose(f"no response: {_text(error)}")
                    return
            await asyncio.sleep(BEAT_SECONDS)

    def _until_ns(self) -> int:
        """Until when the far process may send, by its machine's clock. Counted from what that was in its last response,
        which is older than its arrival here: so it is at most the lease after now, by whatever the network takes."""
        allowed_s = max(0.0, min(self._allowed_s(), LEASE_SECONDS))
        return self._pulse.at_ns + boottime_ns() - self._pulse_ns + round(allowed_s * NS)

    def _take(self, pulse: Pulse) -> None:
        # The response of a beat may come after that of a later call, which knew more.
        if pulse.at_ns >= self._pulse.at_ns:
            self._pulse, self._pulse_ns = pulse, boottime_ns()

    async def _invoke(self, method: str, *arguments: object) -> Any:
        # An actor that is lost raises where its method is looked up.
        return await getattr(self._host, method)(*arguments)

    async def _call(self, method: str, *arguments: object, limit_s: float = _CALL_LIMIT_SECONDS) -> Any:
        """The response; ends early once the heartbeat has found no response. Raises the Failure that it is, and
        WorkerLostError."""
        self._raise_if_lost()
        waiting = asyncio.ensure_future(self._invoke(method, *arguments))
        try:
            beating = {self._beating} if self._beating is not None else set()
            await asyncio.wait({waiting, *beating}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            is_done = waiting.done()
            response = waiting.result() if is_done else None
        except Exception as error:
            self._lose(_text(error))
            raise self._error() from error
        finally:
            waiting.cancel()
        if not is_done:
            self._lose(f"no response within {limit_s:g} s")
            raise self._error()
        _raise_failure(response)
        return response

    def _lose(self, why: str) -> None:
        if self._lost is None:
            self._lost = WorkerLostError(Reason.WORKER_CRASH, f"worker {self.name}: {why}")

    def _error(self) -> WorkerLostError:
        assert self._lost is not None
        return WorkerLostError(self._lost.reason, str(self._lost))

    def _raise_if_lost(self) -> None:
        if self._lost is not None:
            raise self._error()


def _raise_failure(response: object) -> None:
    if isinstance(response, Failure):
        raise error_of(response)


def _asking(probe: Probe) -> Probe:
    """The probe as questions for the server need it: without what its requests hold."""
    return replace(probe, input=replace(probe.input, string_data="", paths=()))


def _refuse_shared_memory(probe: Probe) -> None:
    if probe.input.shared_memory != "none":
        text = (
            "input.shared_memory needs the server's own machine; a worker of a pool may run on any: take load.pool out"
        )
        raise PreflightError(Reason.UNSUPPORTED, text)


def _text(error: BaseException) -> str:
    return clean_text(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
