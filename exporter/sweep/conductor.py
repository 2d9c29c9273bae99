"""Conducts one sweep: preflight, its levels in order, and the result. Every ending produces a SweepResult.

The worker generates the load and can be lost at any time; the verdicts are made here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from exporter import logs
from exporter.analysis.window_counts import count_lost, count_window
from exporter.analysis.windows import add_outcomes
from exporter.core.errors import PreflightError, WorkerLostError
from exporter.core.facts import ModelFacts
from exporter.core.limits import Load
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import LoadLevel, Probe, Search, at_level
from exporter.core.redaction import redacted
from exporter.core.result import Measurement, Sink, SweepResult
from exporter.core.threads import Threads
from exporter.core.units import NS
from exporter.core.window import ConnectionTimes, LevelEnd, Window
from exporter.engine.plan import Borrow, LevelPlan, LevelStarted, Worker
from exporter.sweep.cautions import log_cautions
from exporter.sweep.ending import STILL_SEARCHES, judged_complete, outcomes_text, status_of
from exporter.sweep.leftovers import Leftovers
from exporter.sweep.level_run import LevelRun
from exporter.sweep.preflight import Pins, as_model_needs, refuse_unsupported
from exporter.sweep.search import visits
from exporter.sweep.shared_memory import clean_up, is_shared, may_be_left, take_back
from exporter.sweep.trace_settings import server_settings
from exporter.sweep.watcher import Watcher

_log = logging.getLogger(__name__)

_figures = Threads("figures", max(2, os.cpu_count() or 1))
"""Computes window figures off the event loop, in a pool of their own."""

PREFLIGHT_MARGIN_NS = 20 * NS
"""Added to a sweep's time budget before the worker counts as stuck: for the preflight calls, the wait for the last
responses, and the transfer of the last window."""

Judge = Callable[[SweepResult], SweepResult]
"""Compares a result with its baseline and returns it with its verdicts."""


class Sweep:
    """One run of a probe. Call `run` once; it raises only its own cancellation. `pins` and `leftovers` outlive the
    sweep. `judge` adds the verdicts before any sink gets the result. `allowed` is the remaining budget of the probe's
    group, if it has one."""

    def __init__(
        self,
        probe: Probe,
        sinks: Sequence[Sink],
        pins: Pins | None = None,
        *,
        watchers: Sequence[Watcher] = (),
        judge: Judge | None = None,
        allowed: Load | None = None,
        leftovers: Leftovers | None = None,
    ) -> None:
        stop = probe.stop
        self._max_requests = min(stop.max_requests, allowed.requests) if allowed else stop.max_requests
        self._max_duration_ns = min(stop.max_duration_ns, allowed.duration_ns) if allowed else stop.max_duration_ns
        self._max_tokens = stop.max_tokens
        if allowed and probe.target.takes_prompts:
            self._max_tokens = min(stop.max_tokens, allowed.tokens)
            self._max_requests = min(self._max_requests, self._max_tokens // probe.request_tokens)
        self._probe = probe
        self._pins = pins or Pins()
        self._leftovers = leftovers or Leftovers()
        self._sinks = sinks
        self._watchers = watchers
        self._judge = judge
        self._worker: Worker | None = None
        self._interrupted = asyncio.Event()
        self._id = f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(4)}"
        # The same schedule in every sweep would repeat a single sample of its distribution.
        self._seed = secrets.randbits(32)
        self._started_unix_s = time.time()
        self._started_ns = time.monotonic_ns()
        self._facts: ModelFacts | None = None
        self._connection = ConnectionTimes()
        self._measurements: dict[LoadLevel, Measurement] = {}
        self._repeated: dict[LoadLevel, LevelRun] = {}
        self._outcomes: dict[Outcome, int] = {}
        self._last_error = ""
        self._tokens = self._tokens_before = 0
        self._sent = 0
        self._lent: Worker | None = None
        self._sent_before = 0
        self._level_under_way: LoadLevel | None = None
        self._input_faults: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The result's id."""
        return self._id

    async def run(self, borrow: Borrow) -> SweepResult:
        """Runs the sweep and passes the result to the sinks; a cancelled sweep is aborted by shutdown."""
        for sink in self._sinks:
            sink.sweep_started(self._probe, self._started_unix_s)
        result = self.result(Reason.INTERNAL, "the sweep ended with an internal error of the exporter")
        cleaned_up = False
        try:
            async with borrow() as worker:
                self._lent, self._sent_before, asked_before = worker, worker.sent, worker.asked
                self._tokens_before = worker.tokens
                try:
                    reason, text = await self._run_within_deadline(worker)
                finally:
                    await self._settle(worker, asked_before)
            result = self.result(reason, text)
        except WorkerLostError as error:
            result = self.result(error.reason, str(error))
            if is_shared(self._probe):
                cleaned_up = await clean_up(borrow, self._probe, self._pins, PREFLIGHT_MARGIN_NS / NS)
        except asyncio.CancelledError as error:
            result = self.result(Reason.SHUTDOWN, str(error) or "the exporter is shutting down")
            raise
        finally:
            if not cleaned_up and may_be_left(result, self._facts):
                self._leftovers.share(self._probe)
            result = self._judged(result)
            for sink in self._sinks:
                sink.sweep_ended(result)
        return result

    def _judged(self, result: SweepResult) -> SweepResult:
        if self._judge is None:
            return result
        try:
            return self._judge(result)
        except Exception:
            # A failed verdict must not lose the result.
            _log.exception("no verdict on a sweep", extra=logs.fields(probe=self._probe.name))
            return result

    async def interrupt(self) -> None:
        """Ends the sweep early with what it has measured: all complete windows of the running level count."""
        self._interrupted.set()
        if self._worker is not None:
            with contextlib.suppress(WorkerLostError):  # `run` reports it
                await self._worker.stop_level()

    async def _settle(self, worker: Worker, asked_before: int) -> None:
        """Ends the sweep: waits until nothing more is sent for it, and counts requests of windows that never came.
        Their outcome is unknown: they count as cancelled."""
        try:
            await worker.silence()
        except asyncio.CancelledError:
            await worker.kill()
            raise
        finally:
            self._tokens = self._tokens_so_far()
            self._sent, self._lent = worker.sent - self._sent_before, None
            level, asked = self._level_under_way, worker.asked - asked_before
            lost = self._sent - asked - sum(self._outcomes.values())
            if level is not None and lost > 0:
                self._leftovers.add(self._probe, lost)
                counts = count_lost(lost, level, self._probe)
                self._outcomes = add_outcomes([self._outcomes, counts.outcomes])
                for sink in self._sinks:
                    sink.window_ended(self._probe, counts)

    def _sent_so_far(self) -> int:
        return self._sent if self._lent is None else self._lent.sent - self._sent_before

    def _tokens_so_far(self) -> int:
        return self._tokens if self._lent is None else self._lent.tokens - self._tokens_before

    async def _run_within_deadline(self, worker: Worker) -> tuple[Reason, str]:
        """Raises WorkerLostError, also after killing a stuck worker."""
        deadline_s = (self._max_duration_ns + PREFLIGHT_MARGIN_NS) / NS
        try:
            async with asyncio.timeout(deadline_s):
                try:
                    ended = await self._run_levels(worker)
                except PreflightError as error:
                    ended = error.reason, str(error)
                    self._input_faults = error.problems
                await worker.end_sweep()
        except TimeoutError as error:
            await worker.kill()
            text = f"the worker did not end the sweep within {deadline_s:.0f} s"
            raise WorkerLostError(Reason.DEADLINE, text) from error
        return ended

    async def _run_levels(self, worker: Worker) -> tuple[Reason, str]:
        await take_back(worker, self._probe, self._pins, self._leftovers)
        self._facts = await self._pins.preflight(worker, self._probe)
        self._leftovers.unshare(self._probe)
        refuse_unsupported(self._probe, self._facts)
        if self._interrupted.is_set():
            return Reason.SHUTDOWN, "interrupted before the first level"
        for watcher in self._watchers:
            watcher.model_known(self._facts)
        log_cautions(self._probe, self._facts)
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
        """Visits levels until the highest that meets the threshold is known, and describes it."""
        declared = {level.value: level for level in self._probe.levels}
        values = visits(search, self._probe.stop.max_in_flight)
        value, best = next(values), ""
        while True:
            level = declared.get(value) or replace(self._probe.levels[0], value=value, label=f"{value:.13g}")
            reason, text = await self._measure_level(worker, level, facts)
            if reason not in STILL_SEARCHES:
                return reason, text
            found = self._measurements.get(level)
            kept = found is not None and found.stable and bool(found.threshold_met)
            # Both kinds of search only go up from a level that met it.
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
        """Runs the level within the remaining budgets. Returns why the sweep must end; none if it continues."""
        requests_left = self._max_requests - self._sent_so_far()
        tokens_left = self._max_tokens - self._tokens_so_far()
        time_left_ns = self._max_duration_ns - (time.monotonic_ns() - self._started_ns)
        for left, reason, spent in (
            (requests_left, Reason.REQUEST_BUDGET, f"all {self._max_requests} requests were used up before"),
            (tokens_left, Reason.TOKEN_BUDGET, f"all {self._max_tokens} tokens spent before"),
            (time_left_ns, Reason.TIME_BUDGET, "no time was left for"),
        ):
            if left <= 0:
                return reason, f"{spent} level {level.label}"
        run = self._begin_run(level, facts)
        plan = LevelPlan(
            *(self._id, at_level(as_model_needs(self._probe, facts), level), facts),
            *(level, requests_left, time_left_ns),
            max_windows=run.max_windows,
            abandoned_until_ns=self._leftovers.of(self._probe),
            spared_until_ns=self._leftovers.spared_until_ns(self._probe),
            seed=self._seed if level.seed is None else level.seed,
            max_tokens=tokens_left,
        )
        end = await self._run_level(worker, plan, run)
        if end.reason is not Reason.NONE:
            return end.reason, f"level {level.label}: {end.text}"
        if self._interrupted.is_set():
            return Reason.SHUTDOWN, f"level {level.label}: interrupted"
        measured = self._measurements.get(level)
        if measured is not None and measured.latency is None:
            # More load on a server without an ok response would only harm it.
            counts = outcomes_text(measured.outcomes, self._last_error)
            return Reason.NO_VALID_REQUESTS, f"level {level.label}: no request was ok ({counts})"
        return Reason.NONE, ""

    async def _change_of_version(self, worker: Worker, facts: ModelFacts) -> str:
        """The change of the model version since preflight, "" if there is none. Probes that name a version always get
        that one."""
        if facts.asked_version or not facts.version:
            return ""
        found = await worker.served_version(self._probe)
        if found in ("", facts.version):
            return ""
        change = f"the model changed from version {facts.version} to {found} during the sweep"
        return f"{change}: the next sweep measures the new one"

    def _begin_run(self, level: LoadLevel, facts: ModelFacts) -> LevelRun:
        """The state of a level about to run; with repeats, that of its earlier runs."""
        if self._probe.measurement.repeats == 1:
            return LevelRun(self._probe, facts, level)
        run = self._repeated.get(level)
        if run is None:
            run = self._repeated[level] = LevelRun(self._probe, facts, level)
        else:
            run.repeat()
        return run

    async def _run_level(self, worker: Worker, plan: LevelPlan, run: LevelRun) -> LevelEnd:
        """Runs the level, and stores its measurement."""
        measurement = None
        for watcher in self._watchers:
            await _figures.run(watcher.level_started, plan)
        try:
            self._level_under_way = plan.level
            end = await self._run_to_its_end(worker, plan, run)
            self._worker = self._level_under_way = None
            self._leftovers.keep(self._probe, end.abandoned_until_ns)
            self._leftovers.spare(self._probe, end.spared_until_ns)
            if self._interrupted.is_set() and end.reason is Reason.NONE and (text := run.interrupted_text()):
                end = replace(end, reason=Reason.SHUTDOWN, text=text)
            measurement = await _figures.run(run.measurement, end.reason, end.text)
            if measurement is not None and (change := await self._change_of_version(worker, plan.facts)):
                # Its windows cannot be attributed to a version; the earlier levels ran on the old one.
                measurement, end = None, replace(end, reason=Reason.MODEL_CHANGED, text=change)
            if measurement is not None:
                self._measurements[plan.level] = measurement
        finally:
            for watcher in self._watchers:
                watcher.level_ended(measurement)
        return end

    async def _run_to_its_end(self, worker: Worker, plan: LevelPlan, run: LevelRun) -> LevelEnd:
        """Runs the level until its windows agree, the maximum of windows is reached, or the worker ends it."""
        end = LevelEnd(Reason.INTERNAL, "the worker ended the level without a result", 0)
        decided = False
        async with aclosing(worker.run_level(plan)) as events:
            async for event in events:
                if isinstance(event, LevelEnd):
                    end = event
                elif isinstance(event, LevelStarted):
                    # An earlier stop would come before the level and end it without a response.
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
                        verdict = await _figures.run(run.add, event, time.time())
                        for watcher in self._watchers:
                            watcher.window_judged(plan.level, run.last_summary, verdict)
                        decided = run.is_decided(verdict)
                        if decided:
                            await worker.stop_level()
        return end

    async def _take_window(self, window: Window, level: LoadLevel) -> None:
        if not window.warm_up:
            for watcher in self._watchers:
                await _figures.run(watcher.window_measured, window)
        counts = await _figures.run(count_window, window, level, self._probe)
        self._outcomes = add_outcomes([self._outcomes, counts.outcomes])
        self._last_error = window.error_text or self._last_error
        for sink in self._sinks:
            sink.window_ended(self._probe, counts)

    def result(self, reason: Reason, text: str) -> SweepResult:
        """The sweep's current state as a result, ended for `reason` (none: it ran to its end)."""
        if reason is Reason.NONE:
            reason, unstable_text = judged_complete(self._probe, self._measurements.values(), self._outcome_text)
            text = unstable_text or text
        return SweepResult(
            id=self._id,
            probe=self._probe,
            status=status_of(reason),
            reason=reason,
            # The worker redacts its own secrets; this redacts those used from this process.
            reason_text=redacted(text),
            started_unix_s=self._started_unix_s,
            duration_ns=time.monotonic_ns() - self._started_ns,
            facts=self._facts,
            measurements=tuple(self._measurements.values()),
            connection=self._connection,
            outcomes=self._outcomes,
            sent=self._sent_so_far(),
            tokens=self._tokens_so_far(),
            input_faults=self._input_faults,
            seed=self._recorded_seed,
        )

    @property
    def _recorded_seed(self) -> int | None:
        """The seed of the sweep's random arrivals; None without any."""
        random = [level for level in self._probe.levels if level.is_random]
        return None if not random else self._seed if random[0].seed is None else random[0].seed

    @property
    def _outcome_text(self) -> str:
        return outcomes_text(self._outcomes, self._last_error)
