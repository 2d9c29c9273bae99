"""Conducts one sweep: preflight, its levels in order, and the result. Every way that it can end is a SweepResult.

The worker makes the load and can be lost at any moment; the verdicts are made here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing

from exporter import logs
from exporter.analysis.windows import add_outcomes, count_window
from exporter.errors import PreflightError, WorkerLostError
from exporter.load.protocol import LevelPlan, LevelStarted, Worker
from exporter.model import (
    ConnectionTimes,
    LevelEnd,
    Measurement,
    ModelFacts,
    Outcome,
    Reason,
    Sink,
    SweepResult,
    SweepStatus,
    Window,
)
from exporter.probe import NS, LoadLevel, Probe
from exporter.sweep.level import LevelRun
from exporter.sweep.preflight import as_model_needs, measures_the_cache, refuse_unsupported

_log = logging.getLogger(__name__)

PREFLIGHT_MARGIN_NS = 20 * NS
"""On top of a sweep's own time budget, before the worker is taken for stuck: preflight's calls, the last answers'
wait, and the transfer of the last window."""

_ABORTS = frozenset(
    {
        Reason.ERROR_RATIO,
        Reason.REQUEST_BUDGET,
        Reason.TIME_BUDGET,
        Reason.DEADLINE,
        Reason.WORKER_CRASH,
        Reason.SHUTDOWN,
        Reason.INTERNAL,
    }
)
"""The sweep ran and was stopped. Every other reason but `unstable` says that the server or the model was not fit."""


Borrow = Callable[[], AbstractAsyncContextManager[Worker]]
"""Lends a worker for the time of one sweep. Raises WorkerLostError if none comes up."""


class Sweep:
    """One run of a probe. `run` is called once and raises nothing but its own cancellation."""

    def __init__(self, probe: Probe, sinks: Sequence[Sink]) -> None:
        self._probe = probe
        self._sinks = sinks
        self._id = f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(4)}"
        self._started_unix_s = time.time()
        self._started_ns = time.monotonic_ns()
        self._facts: ModelFacts | None = None
        self._connection = ConnectionTimes()
        self._measurements: list[Measurement] = []
        self._outcomes: dict[Outcome, int] = {}
        self._sent = 0

    async def run(self, borrow: Borrow) -> SweepResult:
        """Runs the sweep and tells the sinks. A cancelled sweep is told to them too, as aborted by shutdown."""
        for sink in self._sinks:
            sink.sweep_started(self._probe, self._started_unix_s)
        result = self.result(Reason.INTERNAL, "the sweep ended by an error of the exporter's own")
        try:
            async with borrow() as worker:
                reason, text = await self._run_within_deadline(worker)
            result = self.result(reason, text)
        except WorkerLostError as error:
            result = self.result(error.reason, str(error))
            await self._clean_up(borrow)
        except asyncio.CancelledError:
            result = self.result(Reason.SHUTDOWN, "the exporter is shutting down")
            raise
        finally:
            for sink in self._sinks:
                sink.sweep_ended(result)
        return result

    async def _clean_up(self, borrow: Borrow) -> None:
        """A worker that was lost may have left shared memory behind, here and at the server: another one's preflight
        removes it."""
        if self._probe.input.shared_memory == "none":
            return
        with contextlib.suppress(WorkerLostError, PreflightError, TimeoutError):
            async with asyncio.timeout(PREFLIGHT_MARGIN_NS / NS), borrow() as worker:
                await worker.preflight(self._probe)
                await worker.end_sweep()

    async def _run_within_deadline(self, worker: Worker) -> tuple[Reason, str]:
        deadline_s = (self._probe.stop.max_duration_ns + PREFLIGHT_MARGIN_NS) / NS
        try:
            async with asyncio.timeout(deadline_s):
                try:
                    ended = await self._run_levels(worker)
                except PreflightError as error:
                    ended = error.reason, str(error)
                await worker.end_sweep()
        except TimeoutError:
            await worker.kill()
            return Reason.DEADLINE, f"the worker did not end the sweep within {deadline_s:.0f} s"
        return ended

    async def _run_levels(self, worker: Worker) -> tuple[Reason, str]:
        self._facts = await worker.preflight(self._probe)
        refuse_unsupported(self._probe, self._facts)
        if measures_the_cache(self._probe, self._facts):
            _log.warning(
                "generated input is one request over and over, and the model has a response cache: that is measured",
                extra=logs.fields(probe=self._probe.name, model=self._probe.model, source=self._probe.input.source),
            )
        probe = as_model_needs(self._probe, self._facts)
        for level in self._probe.levels:
            requests_left = self._probe.stop.max_requests - self._sent
            time_left_ns = self._probe.stop.max_duration_ns - (time.monotonic_ns() - self._started_ns)
            if requests_left <= 0:
                return (
                    Reason.REQUEST_BUDGET,
                    f"all {self._probe.stop.max_requests} requests spent before level {level.label}",
                )
            if time_left_ns <= 0:
                return Reason.TIME_BUDGET, f"no time was left for level {level.label}"
            plan = LevelPlan(self._id, probe, self._facts, level, requests_left, time_left_ns)
            end = await self._run_level(worker, plan, self._facts)
            if end.reason is not Reason.NONE:
                return end.reason, f"level {level.label}: {end.text}"
            if self._measurements and self._measurements[-1].latency is None:
                # More load on a server that answered nothing would only harm it.
                return Reason.NO_VALID_REQUESTS, f"level {level.label}: no request was ok ({self._outcome_text()})"
        return Reason.NONE, ""

    async def _run_level(self, worker: Worker, plan: LevelPlan, facts: ModelFacts) -> LevelEnd:
        """Runs the level until its windows agree, the most windows were run, or the worker ends it."""
        run = LevelRun(self._probe, facts, plan.level)
        end = LevelEnd(Reason.INTERNAL, "the worker ended the level without a word", 0)
        decided = False
        async with aclosing(worker.run_level(plan)) as events:
            async for event in events:
                if isinstance(event, LevelEnd):
                    end = event
                elif isinstance(event, LevelStarted):
                    if self._connection == ConnectionTimes():
                        self._connection = event.connection
                else:
                    await self._take_window(event, plan.level)
                    if event.warm_up or decided:
                        continue
                    verdict = await asyncio.to_thread(run.add, event, time.time())
                    decided = run.is_decided(verdict)
                    if decided:
                        await worker.stop_level()
        self._sent += end.sent
        measurement = await asyncio.to_thread(run.measurement, end.reason, end.text)
        if measurement is not None:
            self._measurements.append(measurement)
        return end

    async def _take_window(self, window: Window, level: LoadLevel) -> None:
        counts = await asyncio.to_thread(count_window, window, level, self._probe)
        self._outcomes = add_outcomes([self._outcomes, counts.outcomes])
        for sink in self._sinks:
            sink.window_ended(self._probe, counts)

    def result(self, reason: Reason, text: str) -> SweepResult:
        """The sweep as it stands, ended for `reason` (none: it ran to its end)."""
        if reason is Reason.NONE:
            reason, text = self._verdict()
        return SweepResult(
            id=self._id,
            probe=self._probe,
            status=self._status(reason),
            reason=reason,
            reason_text=text,
            started_unix_s=self._started_unix_s,
            duration_ns=time.monotonic_ns() - self._started_ns,
            facts=self._facts,
            measurements=tuple(self._measurements),
            connection=self._connection,
            outcomes=self._outcomes,
        )

    def _verdict(self) -> tuple[Reason, str]:
        """What a sweep that ran to its end comes to."""
        if not self._measurements:
            return Reason.NO_VALID_REQUESTS, f"no window was measured ({self._outcome_text()})"
        for measurement in self._measurements:
            if not measurement.stable:
                return Reason.UNSTABLE, measurement.reason_text
        return Reason.NONE, ""

    def _outcome_text(self) -> str:
        return ", ".join(f"{count} {outcome.label}" for outcome, count in self._outcomes.items()) or "none was answered"

    def _status(self, reason: Reason) -> SweepStatus:
        if reason is Reason.NONE:
            return SweepStatus.OK
        if reason is Reason.UNSTABLE:
            return SweepStatus.UNSTABLE
        return SweepStatus.ABORTED if reason in _ABORTS else SweepStatus.FAILED
