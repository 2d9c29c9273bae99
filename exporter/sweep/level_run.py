"""A running level: takes windows, returns verdicts, and ends as a Measurement. Pure: no clock, no IO.

Keeps raw columns only of windows that a verdict may still need, and only summaries of older ones: memory is bounded
however long a level runs.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from exporter.analysis.windows import summarise_window
from exporter.core.facts import ModelFacts
from exporter.core.outcome import Reason
from exporter.core.probe import LoadLevel, Probe, StabilityRule, at_level
from exporter.core.result import Measurement, WindowSummary
from exporter.core.units import NS
from exporter.core.window import Window
from exporter.sweep.measure import Judged, Run, measure
from exporter.sweep.stability import Stability, judge, judge_like_perf_analyzer


class LevelRun:
    """The state of a running level. With repeats it covers all of the level's runs: each is judged by itself, and their
    judged windows are merged."""

    def __init__(self, probe: Probe, facts: ModelFacts, level: LoadLevel) -> None:
        self._probe = at_level(probe, level)
        self._facts = facts
        self._level = level
        # Schedules, periodic concurrency, sessions and request counts run once and have no steady state: everything is
        # measured, however the windows differ. Memory is bounded by the file, or by the sweep's request budget.
        self._runs_once = level.mode.runs_once or probe.measurement.request_count > 0
        self._kept: deque[Window] = deque(maxlen=None if self._runs_once else probe.measurement.stability_windows)
        self._summaries: list[WindowSummary] = []
        self._ended: list[Run] = []
        self._ended_windows = 0
        self._first_index = 0
        self._warm_up_requests = 0

    @property
    def windows_run(self) -> int:
        """Measured windows of the current run, without warm-up."""
        return len(self._summaries) - self._ended_windows

    @property
    def max_windows(self) -> int:
        """The most windows that a run may measure; 0 if it ends by itself."""
        return 0 if self._runs_once else self._probe.measurement.max_windows

    def repeat(self) -> None:
        """Begins the next run of the level."""
        self._ended.append(self._present_run())
        self._summaries = list(self._marked_summaries(len(self._kept)))
        self._ended_windows = len(self._summaries)
        self._first_index = self._summaries[-1].index + 1 if self._summaries else 0
        self._kept.clear()

    def add_warm_up(self, window: Window) -> None:
        """Takes an unmeasured window. One after the measured windows holds only late requests."""
        if self.windows_run == 0:
            self._warm_up_requests += len(window.columns)

    @property
    def last_summary(self) -> WindowSummary:
        """The summary of the last measured window; there must be one."""
        return self._summaries[-1]

    def add(self, window: Window, ended_unix_s: float) -> Stability:
        """Takes the next measured window and judges the level."""
        self._kept.append(window)
        summary = summarise_window(window, self._probe, ended_unix_s - window.duration_ns / NS)
        self._summaries.append(replace(summary, index=self._first_index + window.index))
        return self.stability()

    def is_decided(self, verdict: Stability) -> bool:
        """Whether the level needs no more windows; schedules and request counts end by themselves."""
        if self._runs_once:
            return False
        return verdict.stable or self.windows_run >= self._probe.measurement.max_windows or self._is_hopeless()

    def _is_hopeless(self) -> bool:
        """Whether a search can stop measuring the level: a full set of judged windows was above its threshold. (Uses
        the latency from the actual send; the response time is never below it.)"""
        options = self._probe.measurement
        if self._probe.search is None or self.windows_run < options.stability_windows:
            return False
        return all(
            summary.latency is not None
            and _stabilizing_latency_ns(summary, options.stability_percentile) > options.latency_threshold_ns
            for summary in self._summaries[-options.stability_windows :]
        )

    def stability(self) -> Stability:
        """The verdict on the current run's windows so far."""
        options = self._probe.measurement
        summaries = self._summaries[self._ended_windows :]
        if self._runs_once:
            return Stability(stable=any(summary.throughput > 0 for summary in summaries), spread_ratio=None)
        if options.stability_rule is StabilityRule.CANARY:
            return judge(tuple(self._kept), summaries, self._level, options)
        return judge_like_perf_analyzer(
            [summary.throughput for summary in summaries],
            [_stabilizing_latency_ns(summary, options.stability_percentile) for summary in summaries],
            options.stability_ratio,
            options.stability_windows,
        )

    def measurement(self, reason: Reason, reason_text: str) -> Measurement | None:
        """The last windows merged into a measurement; None without a window. `reason` is why the level was cut short,
        none if it ran to its verdict."""
        runs = [run for run in (*self._ended, self._present_run()) if run.windows]
        if not runs:
            return None
        if reason is Reason.NONE and (unstable := [run.unstable_text for run in runs if not run.verdict.stable]):
            reason, reason_text = Reason.UNSTABLE, unstable[0]
        judged = Judged(self._probe, self._facts, self._level, runs)
        found = measure(judged, self._marked_summaries(len(self._kept)), reason, reason_text)
        return replace(found, warm_up_requests=self._warm_up_requests)

    def interrupted_text(self) -> str:
        """The progress of the current run when a user interrupted it; "" if its verdict was already made."""
        if self.stability().stable and not self._runs_once:
            return ""
        options, run = self._probe.measurement, self.windows_run
        if self._runs_once:
            of_windows = f"{run} windows"
        elif run < options.stability_windows:
            of_windows = f"{run} of {options.stability_windows} windows"
        else:
            of_windows = f"{run} of at most {options.max_windows} windows"
        return f"interrupted after {of_windows}"

    def _present_run(self) -> Run:
        verdict = self.stability()
        return Run(tuple(self._kept), verdict, "" if verdict.stable else self._unstable_text(verdict))

    def _marked_summaries(self, judged: int) -> tuple[WindowSummary, ...]:
        """All summaries; the last `judged` ones of the current run are marked as judged."""
        first_judged = len(self._summaries) - judged
        return tuple(
            replace(summary, judged=summary.judged or position >= first_judged)
            for position, summary in enumerate(self._summaries)
        )

    def _unstable_text(self, verdict: Stability) -> str:
        options = self._probe.measurement
        if verdict.spread_ratio is None:
            return f"level {self._level.label}: a window without an ok request in the last {options.stability_windows}"
        if verdict.why:
            return f"level {self._level.label}: {verdict.why}"
        spread = _above((verdict.spread_ratio - 1) * 100, options.stability_ratio * 100)
        chance = " and chance explain" if options.stability_rule is StabilityRule.CANARY else ""
        return (
            f"level {self._level.label}: the last {min(self.windows_run, options.stability_windows)} of "
            f"{self.windows_run} windows differ by {spread} %, "
            f"more than the {options.stability_ratio * 100:g} % allowed{chance}"
        )


def _above(value: float, limit: float) -> str:
    """A value without decimals, or with those that it takes to be above the limit as it is written: of 10, 10.4."""
    texts = [f"{value:.{digits}f}" for digits in range(7)]
    return next((text for text in texts if float(text) > float(f"{limit:g}")), texts[0])


def _stabilizing_latency_ns(summary: WindowSummary, percentile: float | None) -> float:
    if summary.latency is None:
        return 0.0
    return summary.latency.mean_ns if percentile is None else float(summary.latency.at(percentile))
