"""Several workers as one: they share each level, for loads above what one core can make. Knows nothing of processes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from exporter.core.errors import WorkerLostError
from exporter.core.facts import ModelFacts
from exporter.core.outcome import Reason
from exporter.core.probe import Probe
from exporter.core.window import LevelEnd, Window
from exporter.engine.guard import Stop
from exporter.engine.plan import LevelEvent, LevelPlan, LevelStarted, LevelTally, LevelWaiting, MemberEvent, Worker
from exporter.engine.tally import Allowance, Tally
from exporter.worker.level_guard import LevelGuard
from exporter.worker.merging import Merger
from exporter.worker.sharing import join_ends, share_plan

MEET_LEAD_NS = 20_000_000
"""How far ahead the moment lies at which all continue: each must have been notified by then."""

TALLY_SECONDS = 1.0
"""How long a level is not judged for want of a member's report."""

QUEUED_EVENTS = 4
"""Events of a member held for a consumer that is slow; beyond these it waits, and its windows get longer."""


class Member(Worker, Protocol):
    """A worker that can take a part of a level. All members of a group report by one monotonic clock."""

    async def prepare(self, plan: LevelPlan) -> None:
        """Brings what the level reads to where it runs, before any member begins. Raises as `run_level`."""

    def run_member(self, plan: LevelPlan) -> AsyncGenerator[MemberEvent, None]:
        """As `run_level`, with LevelWaiting whenever the level waits for `proceed_level`, and LevelTally."""

    def proceed_level(self, at_ns: int) -> None:
        """The waiting level continues at this moment."""

    def report_tally(self) -> None:
        """The running level reports its responses so far, as a LevelTally."""

    def resume_level(self, allowed: Allowance) -> None:
        """The running level continues after an alarm, its own or another member's, with so much allowed."""


async def alone(member: AsyncGenerator[MemberEvent, None]) -> AsyncGenerator[LevelEvent, None]:
    """The events of a member that has the whole level: it waits for no others, and is its own guard."""
    async with aclosing(member) as events:
        async for event in events:
            assert not isinstance(event, (LevelWaiting, LevelTally))
            yield event


def time_left(plan: LevelPlan, began_ns: int) -> LevelPlan:
    """The plan without the time since then, in which its data travelled."""
    return replace(plan, max_duration_ns=plan.max_duration_ns - (time.monotonic_ns() - began_ns))


def not_begun(plan: LevelPlan) -> LevelEnd:
    """The end of a level that was stopped before it began, or for which no time is left."""
    reason, text = Reason.NONE, ""
    if plan.max_duration_ns <= 0:
        reason, text = Reason.TIME_BUDGET, "its data took the allowed time to travel to the workers: max_duration"
    earlier = plan.abandoned_until_ns
    return LevelEnd(reason, text, 0, abandoned_until_ns=earlier, spared_until_ns=plan.spared_until_ns)


class WorkerGroup:
    """A `Worker` (protocol) over at least two others, which are of no more use if one is lost."""

    def __init__(self, members: Sequence[Member], meet_lead_ns: int = MEET_LEAD_NS) -> None:
        self._members = members
        self._meet_lead_ns = meet_lead_ns
        self._level: _SharedLevel | None = None
        self._stopping = asyncio.Event()

    async def preflight(self, probe: Probe) -> ModelFacts:
        """See `Worker`."""
        return await self._members[0].preflight(probe)

    async def served_version(self, probe: Probe) -> str:
        """See `Worker`."""
        return await self._members[0].served_version(probe)

    async def run_level(self, plan: LevelPlan) -> AsyncGenerator[LevelEvent, None]:
        """See `Worker`."""
        plans = share_plan(plan, len(self._members))
        if len(plans) == 1:
            async with aclosing(self._members[0].run_level(plan)) as alone:
                async for event in alone:
                    yield event
            return
        began_ns = time.monotonic_ns()
        self._stopping.clear()
        await asyncio.gather(*(member.prepare(part) for member, part in zip(self._members, plans, strict=False)))
        plan = time_left(plan, began_ns)
        if self._stopping.is_set() or plan.max_duration_ns <= 0:
            yield not_begun(plan)
            return
        parts = list(zip(self._members, share_plan(plan, len(self._members)), strict=False))
        self._level = _SharedLevel(parts, LevelGuard(plan.probe.stop), self._meet_lead_ns)
        try:
            async with aclosing(self._level.run()) as events:
                async for event in events:
                    yield event
        finally:
            self._level = None

    async def stop_level(self) -> None:
        """See `Worker`."""
        self._stopping.set()
        if self._level is not None:
            await self._level.stop()
        else:
            await asyncio.gather(*(member.stop_level() for member in self._members))

    @property
    def sent(self) -> int:
        """See `Worker`."""
        return sum(member.sent for member in self._members)

    @property
    def asked(self) -> int:
        """See `Worker`."""
        return sum(member.asked for member in self._members)

    @property
    def tokens(self) -> int:
        """See `Worker`."""
        return sum(member.tokens for member in self._members)

    async def silence(self) -> None:
        """See `Worker`."""
        await asyncio.gather(*(member.silence() for member in self._members))

    async def end_sweep(self) -> None:
        """See `Worker`."""
        await asyncio.gather(*(member.end_sweep() for member in self._members))

    async def kill(self) -> None:
        """See `Worker`."""
        await asyncio.gather(*(member.kill() for member in self._members))


class _SharedLevel:
    """One level over its members: they start together, begin to measure together, and their windows are merged.

    The first member goes ahead alone up to where all meet, so that its cold request is alone at the server.
    """

    def __init__(self, parts: Sequence[tuple[Member, LevelPlan]], guard: LevelGuard, meet_lead_ns: int) -> None:
        self._meet_lead_ns = meet_lead_ns
        self._guard = guard
        self._tallies: dict[int, Tally] = {}
        self._alarmed: set[int] = set()
        self._asked: set[int] = set()
        self._ended_by: Stop | None = None
        self._hurrying: asyncio.TimerHandle | None = None
        self._members = [member for member, _ in parts]
        self._plans = [plan for _, plan in parts]
        self._events: asyncio.Queue[tuple[int, MemberEvent | Exception]] = asyncio.Queue(QUEUED_EVENTS * len(parts))
        self._readers: list[asyncio.Task[None]] = []
        self._waiting: set[int] = set()
        self._running: set[int] = set()
        self._ends: list[LevelEnd] = []
        self._merger = Merger(len(parts), self._plans[0].probe.measurement.window_ns)
        self._stopped = False

    async def run(self) -> AsyncGenerator[LevelEvent, None]:
        """As `Worker.run_level`."""
        self._begin(0)
        try:
            while self._running:
                member, event = await self._events.get()
                if isinstance(event, Exception):
                    raise event
                if isinstance(event, LevelStarted) and member == 0:
                    yield event
                await self._take(member, event)
                for window in self._merger.merged():
                    yield window
            # What ended after the last edge was measured only if all of them finished what they had to send.
            finished = not self._stopped
            for window in self._merger.rest(measured=finished):
                yield window
            yield join_ends(self._ends, len(self._members), self._ended_by)
        finally:
            if self._hurrying is not None:
                self._hurrying.cancel()
            for reader in self._readers:
                reader.cancel()
            await asyncio.gather(*self._readers, return_exceptions=True)

    async def stop(self) -> None:
        """Ends the level on all members that run it: on each at once, whatever another one does."""
        self._stopped = True
        stops = (self._members[member].stop_level() for member in tuple(self._running))
        for stopped in await asyncio.gather(*stops, return_exceptions=True):
            if stopped is not None:
                raise stopped

    def _begin(self, member: int) -> None:
        self._running.add(member)
        self._readers.append(asyncio.create_task(self._read(member)))

    async def _read(self, member: int) -> None:
        try:
            async with aclosing(self._members[member].run_member(self._plans[member])) as events:
                async for event in events:
                    await self._events.put((member, event))
        except Exception as error:
            await self._events.put((member, error))

    async def _take(self, member: int, event: MemberEvent) -> None:
        if isinstance(event, Window):
            self._merger.add(member, event)
        elif isinstance(event, LevelWaiting):
            self._waiting.add(member)
            self._meet()
        elif isinstance(event, LevelEnd):
            self._running.discard(member)
            self._merger.ended(member)
            self._ends.append(event)
            self._asked.discard(member)
            if event.reason is not Reason.NONE and not self._stopped:
                await self.stop()
        elif isinstance(event, LevelTally):
            self._tallies[member] = event.tally
            self._asked.discard(member)
            if event.alarm and member not in self._alarmed:
                self._alarmed.add(member)
                self._ask_the_others()
        if self._alarmed and not self._asked and not self._stopped:
            await self._judge()

    def _ask_the_others(self) -> None:
        """Each alarm asks again: what the others had at an earlier one is not enough to judge by."""
        self._asked = self._running - self._alarmed
        for other in self._asked:
            self._members[other].report_tally()
        if self._hurrying is None:
            self._hurrying = asyncio.get_running_loop().call_later(TALLY_SECONDS, self._hurry)

    def _hurry(self) -> None:
        """A member that does not report is judged by what it reported last: those that had an alarm wait."""
        self._hurrying = None
        self._asked.clear()
        for member in self._alarmed & self._running:
            with contextlib.suppress(WorkerLostError):  # its reader reports it
                self._members[member].report_tally()

    async def _judge(self) -> None:
        if self._hurrying is not None:
            self._hurrying.cancel()
            self._hurrying = None
        self._ended_by = self._guard.judge(self._tallies)
        if self._ended_by is not None:
            await self.stop()
            return
        allowed = self._guard.allowance(len(self._running))
        # All of them: what one may have more, the others have less.
        for member in self._running:
            self._members[member].resume_level(allowed)
        self._alarmed.clear()

    def _meet(self) -> None:
        """Lets the members continue once all are as far."""
        if self._stopped:
            return
        if self._running == {0}:
            for member in range(1, len(self._members)):
                self._begin(member)
        if len(self._waiting) == len(self._members):
            self._waiting.clear()
            at_ns = time.monotonic_ns() + self._meet_lead_ns
            self._merger.start_grid(at_ns)
            for worker in self._members:
                worker.proceed_level(at_ns)
