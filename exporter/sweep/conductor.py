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
from dataclasses import replace
from typing import Protocol

from exporter import logs
from exporter.analysis.windows import add_outcomes, count_window
from exporter.core.errors import PreflightError, WorkerLostError
from exporter.core.facts import ModelFacts
from exporter.core.limits import Load
from exporter.core.outcome import Outcome, Reason, SweepStatus
from exporter.core.probe import LoadLevel, Probe, Search
from exporter.core.redaction import redacted
from exporter.core.result import Measurement, Sink, SweepResult, WindowSummary
from exporter.core.units import NS
from exporter.core.window import ConnectionTimes, LevelEnd, Window
from exporter.engine.plan import LevelPlan, LevelStarted, Worker
from exporter.sweep.level import LevelRun
from exporter.sweep.preflight import Pins, as_model_needs, measures_the_cache, meets_in_batches, refuse_unsupported
from exporter.sweep.search import visits
from exporter.sweep.settings import server_settings
from exporter.sweep.stability import Stability

_log = logging.getLogger(__name__)

PREFLIGHT_MARGIN_NS = 20 * NS
"""On top of a sweep's own time budget, before the worker is taken for stuck: preflight's calls, the last answers'
wait, and the transfer of the last window."""

_told_of_batches: set[str] = set()
"""The probes of which a warning is in the log."""
_MOST_TOLD = 10_000

_ABORTS = frozenset(
    {
        Reason.ERROR_RATIO,
        Reason.REQUEST_BUDGET,
        Reason.TIME_BUDGET,
        Reason.LATENCY,
        Reason.PENDING_QUEUE,
        Reason.DEADLINE,
        Reason.WORKER_CRASH,
        Reason.SHUTDOWN,
        Reason.INTERNAL,
    }
)
"""The sweep ran and was stopped. Every other reason but `unstable` says that the server or the model was not fit."""


_TOO_HIGH = frozenset({Reason.NONE, Reason.LATENCY, Reason.PENDING_QUEUE})
"""A search, which looks for the level that is too high, goes on below it when it is stopped there for one of these."""

Borrow = Callable[[], AbstractAsyncContextManager[Worker]]
"""Lends a worker for the time of one sweep. Raises WorkerLostError if none comes up."""


class Watcher(Protocol):
    """Is told how a sweep goes on, for who sits before it and waits. No method blocks or raises."""

    def model_known(self, facts: ModelFacts) -> None:
        """The server was asked; load begins."""

    def window_judged(self, level: LoadLevel, summary: WindowSummary, verdict: Stability) -> None:
        """A measured window ended, and the level was judged with it."""

    def level_ended(self, measurement: Measurement) -> None:
        """A level is measured; where the sweep is repeated, with its runs before."""


class Sweep:
    """One run of a probe. `run` is called once and raises nothing but its own cancellation. `pins` outlive it.
    `allowed` is what the budgets of the probe's group have left, where it has any."""

    def __init__(
        self,
        probe: Probe,
        sinks: Sequence[Sink],
        pins: Pins | None = None,
        watcher: Watcher | None = None,
        allowed: Load | None = None,
    ) -> None:
        stop = probe.stop
        self._max_requests = min(stop.max_requests, allowed.requests) if allowed else stop.max_requests
        self._max_duration_ns = min(stop.max_duration_ns, allowed.duration_ns) if allowed else stop.max_duration_ns
        self._probe = probe
        self._pins = pins or Pins()
        self._sinks = sinks
        self._watcher = watcher
        self._worker: Worker | None = None
        self._interrupted = asyncio.Event()
        self._id = f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(4)}"
        self._started_unix_s = time.time()
        self._started_ns = time.monotonic_ns()
        self._facts: ModelFacts | None = None
        self._connection = ConnectionTimes()
        self._measurements: dict[LoadLevel, Measurement] = {}
        self._repeated: dict[LoadLevel, LevelRun] = {}
        self._outcomes: dict[Outcome, int] = {}
        self._last_error = ""
        self._sent = 0
        self._sent_by_level = 0
        self._input_faults: tuple[str, ...] = ()

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
        except asyncio.CancelledError as error:
            result = self.result(Reason.SHUTDOWN, str(error) or "the exporter is shutting down")
            raise
        finally:
            for sink in self._sinks:
                sink.sweep_ended(result)
        return result

    async def interrupt(self) -> None:
        """Ends the sweep early with what it has measured: of the running level all windows that are whole."""
        self._interrupted.set()
        if self._worker is not None:
            with contextlib.suppress(WorkerLostError):  # `run` tells of it
                await self._worker.stop_level()

    async def _clean_up(self, borrow: Borrow) -> None:
        """A worker that was lost or killed may have left shared memory behind, here and at the server: another one's
        preflight removes it."""
        if self._probe.input.shared_memory == "none":
            return
        with contextlib.suppress(WorkerLostError, PreflightError, TimeoutError):
            async with asyncio.timeout(PREFLIGHT_MARGIN_NS / NS), borrow() as worker:
                await self._pins.preflight(worker, self._probe)
                await worker.end_sweep()

    async def _run_within_deadline(self, worker: Worker) -> tuple[Reason, str]:
        """Raises WorkerLostError, also for a worker that had to be killed."""
        deadline_s = (self._max_duration_ns + PREFLIGHT_MARGIN_NS) / NS
        try:
            async with asyncio.timeout(deadline_s):
                try:
                    ended = await self._run_levels(worker)
                except PreflightError as error:
                    ended = error.reason, str(error)
                    self._input_faults = error.faults
                await worker.end_sweep()
        except TimeoutError as error:
            await worker.kill()
            text = f"the worker did not end the sweep within {deadline_s:.0f} s"
            raise WorkerLostError(Reason.DEADLINE, text) from error
        return ended

    async def _run_levels(self, worker: Worker) -> tuple[Reason, str]:
        self._facts = await self._pins.preflight(worker, self._probe)
        refuse_unsupported(self._probe, self._facts)
        if self._interrupted.is_set():
            return Reason.SHUTDOWN, "interrupted before the first level"
        if self._watcher:
            self._watcher.model_known(self._facts)
        if measures_the_cache(self._probe, self._facts):
            _log.warning(
                "generated input is one request over and over, and the model has a response cache: that is measured",
                extra=logs.fields(probe=self._probe.name, model=self._probe.model, source=self._probe.input.source),
            )
        if meets_in_batches(self._probe, self._facts) and self._probe.name not in _told_of_batches:
            if len(_told_of_batches) >= _MOST_TOLD:  # discovered probes come and go for ever
                _told_of_batches.clear()
            _told_of_batches.add(self._probe.name)
            _log.warning(
                "the model batches requests that meet, and in a closed loop that is chance: a request_rate, or a "
                "load.think_time, gives figures that can be compared",
                extra=logs.fields(probe=self._probe.name, model=self._probe.model),
            )
        async with server_settings(self._probe):
            if self._probe.search is not None:
                return await self._search(worker, self._probe.search, self._facts)
            return await self._run_each_level(worker, self._facts)

    async def _run_each_level(self, worker: Worker, facts: ModelFacts) -> tuple[Reason, str]:
        for _ in range(self._probe.measurement.repeats):
            for level in self._probe.levels:
                reason, text = await self._measure_level(worker, level, facts)
                if reason is not Reason.NONE:
                    return reason, text
        return Reason.NONE, ""

    async def _search(self, worker: Worker, search: Search, facts: ModelFacts) -> tuple[Reason, str]:
        """Visits levels until the highest that keeps the threshold is known, and says so in words."""
        declared = {level.value: level for level in self._probe.levels}
        values = visits(search, self._probe.stop.max_in_flight)
        value, best = next(values), ""
        while True:
            level = declared.get(value) or replace(self._probe.levels[0], value=value, label=f"{value:.13g}")
            reason, text = await self._measure_level(worker, level, facts)
            if reason not in _TOO_HIGH:
                return reason, text
            found = self._measurements.get(level)
            kept = found is not None and found.stable and bool(found.threshold_met)
            # Both kinds of search only go up from a level that kept it.
            best = level.label if kept else best
            try:
                value = values.send(kept)
            except StopIteration:
                break
        if not best:
            return Reason.NONE, "no level that was visited kept the threshold"
        highest = max(self._measurements, key=lambda visited: visited.value).label
        more = ", and the highest that was visited" if best == highest else ""
        return Reason.NONE, f"level {best} is the highest that kept the threshold{more}"

    async def _measure_level(self, worker: Worker, level: LoadLevel, facts: ModelFacts) -> tuple[Reason, str]:
        """Runs the level within what is left of the budgets; the reason says why the sweep must end, if it must."""
        requests_left = self._max_requests - self._sent
        time_left_ns = self._max_duration_ns - (time.monotonic_ns() - self._started_ns)
        if requests_left <= 0:
            spent = f"all {self._max_requests} requests spent"
            return Reason.REQUEST_BUDGET, f"{spent} before level {level.label}"
        if time_left_ns <= 0:
            return Reason.TIME_BUDGET, f"no time was left for level {level.label}"
        plan = LevelPlan(self._id, as_model_needs(self._probe, facts), facts, level, requests_left, time_left_ns)
        end = await self._run_level(worker, plan, facts)
        if end.reason is not Reason.NONE:
            return end.reason, f"level {level.label}: {end.text}"
        if self._interrupted.is_set():
            return Reason.SHUTDOWN, f"level {level.label}: interrupted"
        measured = self._measurements.get(level)
        if measured is not None and measured.latency is None:
            # More load on a server that answered nothing would only harm it.
            return Reason.NO_VALID_REQUESTS, f"level {level.label}: no request was ok ({self._outcome_text()})"
        return Reason.NONE, ""

    def _begin_run(self, level: LoadLevel, facts: ModelFacts) -> LevelRun:
        """The state of a level that is to run: where the sweep is repeated, that of its runs before."""
        if self._probe.measurement.repeats == 1:
            return LevelRun(self._probe, facts, level)
        run = self._repeated.get(level)
        if run is None:
            run = self._repeated[level] = LevelRun(self._probe, facts, level)
        else:
            run.repeat()
        return run

    async def _run_level(self, worker: Worker, plan: LevelPlan, facts: ModelFacts) -> LevelEnd:
        """Runs the level until its windows agree, the most windows were run, or the worker ends it."""
        run = self._begin_run(plan.level, facts)
        end = LevelEnd(Reason.INTERNAL, "the worker ended the level without a word", 0)
        decided = False
        async with aclosing(worker.run_level(plan)) as events:
            async for event in events:
                if isinstance(event, LevelEnd):
                    end = event
                elif isinstance(event, LevelStarted):
                    # A stop before this would come ahead of the level, and end it without an answer.
                    self._worker = worker
                    if self._interrupted.is_set():
                        await worker.stop_level()
                    if self._connection == ConnectionTimes():
                        self._connection = event.connection
                else:
                    await self._take_window(event, plan.level)
                    if event.warm_up:
                        run.add_warm_up(event)
                    elif not decided:
                        verdict = await asyncio.to_thread(run.add, event, time.time())
                        if self._watcher:
                            self._watcher.window_judged(plan.level, run.last_summary, verdict)
                        decided = run.is_decided(verdict)
                        if decided:
                            await worker.stop_level()
        self._worker = None
        self._sent += end.sent
        self._sent_by_level = 0
        measurement = await asyncio.to_thread(run.measurement, end.reason, end.text)
        if measurement is not None:
            self._measurements[plan.level] = measurement
            if self._watcher:
                self._watcher.level_ended(measurement)
        return end

    async def _take_window(self, window: Window, level: LoadLevel) -> None:
        counts = await asyncio.to_thread(count_window, window, level, self._probe)
        self._outcomes = add_outcomes([self._outcomes, counts.outcomes])
        self._sent_by_level += window.sent
        self._last_error = window.error_text or self._last_error
        for sink in self._sinks:
            sink.window_ended(self._probe, counts)

    def result(self, reason: Reason, text: str) -> SweepResult:
        """The sweep as it stands, ended for `reason` (none: it ran to its end)."""
        if reason is Reason.NONE:
            reason, unstable_text = self._verdict()
            text = unstable_text or text
        return SweepResult(
            id=self._id,
            probe=self._probe,
            status=self._status(reason),
            reason=reason,
            # The worker hides what it sent; this is for what was asked of the server from here.
            reason_text=redacted(text),
            started_unix_s=self._started_unix_s,
            duration_ns=time.monotonic_ns() - self._started_ns,
            facts=self._facts,
            measurements=tuple(self._measurements.values()),
            connection=self._connection,
            outcomes=self._outcomes,
            sent=self._sent + self._sent_by_level,
            input_faults=self._input_faults,
        )

    def _verdict(self) -> tuple[Reason, str]:
        """What a sweep that ran to its end comes to."""
        if not self._measurements:
            return Reason.NO_VALID_REQUESTS, f"no window was measured ({self._outcome_text()})"
        for measurement in self._measurements.values():
            # In a search, a level that is above the threshold anyway need not be stable to say so.
            if not measurement.stable and (self._probe.search is None or measurement.threshold_met):
                return Reason.UNSTABLE, measurement.reason_text
        return Reason.NONE, ""

    def _outcome_text(self) -> str:
        counts = ", ".join(f"{count} {outcome.label}" for outcome, count in self._outcomes.items())
        last = f"; last: {self._last_error}" if self._last_error else ""
        return f"{counts or 'none was answered'}{last}"

    def _status(self, reason: Reason) -> SweepStatus:
        if reason is Reason.NONE:
            return SweepStatus.OK
        if reason is Reason.UNSTABLE:
            return SweepStatus.UNSTABLE
        return SweepStatus.ABORTED if reason in _ABORTS else SweepStatus.FAILED
