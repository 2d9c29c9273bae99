"""The board: the present state of every configured probe, for the metrics page and the status page.

It owns the states and their change: each event puts a new immutable view in the place of the old one, so that a
reader in another thread needs no lock and sees by identity what changed. It must not know how a page is made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from exporter.core.facts import ModelFacts
from exporter.core.outcome import Outcome, Reason, SkipReason, SweepStatus
from exporter.core.probe import LoadLevel, Probe
from exporter.core.result import Measurement, SweepResult, TokenWindowCounts, WindowCounts, duration_buckets
from exporter.core.units import NS
from exporter.state.state_file import LastTimes, ProbeKey, StateFile

RESULT_LIFE_INTERVALS = 3
"""A result expires this many intervals of its probe after its sweep ended."""


KEPT_TIMES = 10_000
"""Of how many probes that are no longer configured the last times are kept in memory."""


@dataclass(frozen=True, slots=True)
class HistogramCounts:
    """Request durations of a level: requests by bucket of the probe's bounds and one above, not cumulative."""

    bucket_counts: tuple[int, ...]
    sum_ns: int = 0

    def plus(self, bucket_counts: tuple[int, ...], sum_ns: int) -> HistogramCounts:
        """These counts and those of a window."""
        buckets = tuple(a + b for a, b in zip(self.bucket_counts, bucket_counts, strict=True))
        return HistogramCounts(buckets, self.sum_ns + sum_ns)


@dataclass(frozen=True, slots=True)
class TokenCounters:
    """The same of tokens, of a probe whose target takes prompts."""

    prompt: int = 0
    output: int = 0
    cached: int = 0
    first_token: Mapping[LoadLevel, HistogramCounts] = field(default_factory=dict)
    per_output_token: Mapping[LoadLevel, HistogramCounts] = field(default_factory=dict)

    def plus(self, level: LoadLevel, counts: TokenWindowCounts) -> TokenCounters:
        """These counters after one more window."""
        first = counts.first_token_buckets, counts.first_token_sum_ns
        per_token = counts.per_output_token_buckets, counts.per_output_token_sum_ns
        return TokenCounters(
            self.prompt + counts.prompt,
            self.output + counts.output,
            self.cached + counts.cached,
            _with_window(self.first_token, level, *first),
            _with_window(self.per_output_token, level, *per_token),
        )


def _with_window(
    histograms: Mapping[LoadLevel, HistogramCounts], level: LoadLevel, buckets: tuple[int, ...], sum_ns: int
) -> Mapping[LoadLevel, HistogramCounts]:
    """Only configured levels have a histogram."""
    if level not in histograms:
        return histograms
    return {**histograms, level: histograms[level].plus(buckets, sum_ns)}


@dataclass(frozen=True, slots=True)
class Counters:
    """What a probe's cumulative metrics hold. Histograms are kept for the configured levels alone."""

    requests: Mapping[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    inferences: int = 0
    histograms: Mapping[LoadLevel, HistogramCounts] = field(default_factory=dict)
    slo_requests: int = 0
    slo_bad: int = 0
    sweeps: Mapping[tuple[SweepStatus, Reason], int] = field(
        default_factory=lambda: {(SweepStatus.OK, Reason.NONE): 0},
    )
    sweeps_ns: int = 0
    tokens: TokenCounters | None = None

    def plus(self, counts: WindowCounts) -> Counters:
        """These counters after one more window."""
        tokens = self.tokens
        if counts.tokens is not None:
            tokens = (tokens or TokenCounters()).plus(counts.level, counts.tokens)
        return replace(
            self,
            requests={outcome: have + counts.outcomes.get(outcome, 0) for outcome, have in self.requests.items()},
            inferences=self.inferences + counts.inferences,
            histograms=_with_window(self.histograms, counts.level, counts.bucket_counts, counts.duration_sum_ns),
            tokens=tokens,
            slo_requests=self.slo_requests + counts.slo_requests,
            slo_bad=self.slo_bad + counts.slo_bad,
        )


@dataclass(frozen=True, slots=True)
class ProbeView:
    """A probe's state at one moment.

    `result` is the last finished sweep of any status and never expires here; `fresh` is the same, `measured` the last
    one that gave usable data, and both are None once they expired. `facts` is what was last learned of the model.
    `last_run` and `last_success` are the wall-clock ends of sweeps, kept over a restart, 0 = never. `up` is None
    before the first sweep.
    """

    probe: Probe
    result: SweepResult | None = None
    fresh: SweepResult | None = None
    measured: SweepResult | None = None
    facts: ModelFacts | None = None
    last_run_unix_s: float = 0.0
    last_success_unix_s: float = 0.0
    running_since_unix_s: float | None = None
    skipped: Mapping[SkipReason, int] = field(default_factory=lambda: dict.fromkeys(SkipReason, 0))
    last_skip: tuple[SkipReason, float] | None = None
    up: bool | None = None
    counters: Counters = field(default_factory=Counters)

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """The measured result's levels, those that are still configured."""
        if self.measured is None:
            return ()
        return tuple(m for m in self.measured.measurements if m.level in self.probe.levels)


@dataclass(slots=True)
class _Entry:
    """A view and the monotonic moments at which the sweeps of its `fresh` and `measured` ended."""

    view: ProbeView
    fresh_ended_s: float = 0.0
    measured_ended_s: float = 0.0


class Board:
    """Implements `exporter.core.result.Sink`. All methods belong to one thread; the views may be read in any.

    `now` is the wall clock, for stamps; `monotonic` the clock by which results expire. Without a `state_file` nothing
    is kept over a restart; `claim` is the file's.
    """

    def __init__(
        self,
        state_file: Path | None,
        now: Callable[[], float] = time.time,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        claim: Callable[[], object] = lambda: None,
    ) -> None:
        self._now = now
        self._monotonic = monotonic
        self._entries: dict[str, _Entry] = {}
        self._state_file = StateFile(state_file, claim=claim) if state_file else None
        self._kept = self._state_file.load() if self._state_file else {}

    def load(self) -> None:
        """Reads the state file again: another daemon has written it since. Before `configure`."""
        if self._state_file is not None:
            self._kept = self._state_file.load()

    @property
    def state_write_problem(self) -> str:
        """Why the state file is not written now; "" where it is."""
        return self._state_file.write_problem if self._state_file else ""

    @property
    def state_write_errors(self) -> int:
        """How many writes of the state file failed since the start."""
        return self._state_file.write_errors if self._state_file else 0

    def configure(self, probes: Sequence[Probe]) -> None:
        """Takes these probes, in this order, and forgets all others. A probe that kept its name, target and model
        keeps its results and counters; levels that it no longer has go, and a changed slo counts from 0."""
        for had in self._entries.values():
            self._remember(had.view)
        entries = {}
        for probe in probes:
            entry = self._entries.get(probe.name)
            if entry is not None and _key(entry.view.probe) == _key(probe):
                entry.view = _reconfigured(entry.view, probe)
            else:
                entry = _Entry(_first_view(probe, self._kept.get(_key(probe), LastTimes())))
            entries[probe.name] = entry
        self._entries = entries

    def probes(self) -> list[ProbeView]:
        """All probes as they are now, in configured order. A view is the same object until something changed."""
        now_s = self._monotonic()
        for entry in self._entries.values():
            _expire(entry, now_s)
        return [entry.view for entry in self._entries.values()]

    def sweep_started(self, probe: Probe, started_unix_s: float) -> None:
        if (entry := self._find(probe)) is not None:
            entry.view = replace(entry.view, running_since_unix_s=started_unix_s)

    def window_ended(self, probe: Probe, counts: WindowCounts) -> None:
        if (entry := self._find(probe)) is not None:
            entry.view = replace(entry.view, counters=entry.view.counters.plus(counts))

    def sweep_ended(self, result: SweepResult) -> None:
        if (entry := self._find(result.probe)) is None:
            return
        entry.view = _after(entry.view, result)
        entry.fresh_ended_s = self._monotonic()
        if result.measurements:
            entry.measured_ended_s = entry.fresh_ended_s
        self._save()

    def sweep_skipped(self, probe: Probe, reason: SkipReason) -> None:
        if (entry := self._find(probe)) is not None:
            skipped = {**entry.view.skipped, reason: entry.view.skipped[reason] + 1}
            entry.view = replace(entry.view, skipped=skipped, last_skip=(reason, self._now()))

    def close(self) -> None:
        """Writes the state file a last time."""
        if self._state_file is not None:
            self._state_file.close()

    def _find(self, probe: Probe) -> _Entry | None:
        """The entry of a probe, None if it was removed (or turned into another one) while its sweep ran."""
        entry = self._entries.get(probe.name)
        return entry if entry is not None and _key(entry.view.probe) == _key(probe) else None

    def _remember(self, view: ProbeView) -> None:
        """A probe that goes and comes back within its interval must not run again for that."""
        run_unix_s = view.running_since_unix_s or view.last_run_unix_s
        if run_unix_s:
            key = _key(view.probe)
            self._kept.pop(key, None)
            self._kept[key] = LastTimes(run_unix_s, view.last_success_unix_s)
            while len(self._kept) > KEPT_TIMES:
                del self._kept[next(iter(self._kept))]

    def _save(self) -> None:
        if self._state_file is None:
            return
        entries = self._entries  # replaced as a whole, never changed

        def times() -> dict[ProbeKey, LastTimes]:
            views = (entry.view for entry in entries.values())
            return {_key(v.probe): LastTimes(v.last_run_unix_s, v.last_success_unix_s) for v in views}

        self._state_file.save(times)


def _key(probe: Probe) -> ProbeKey:
    return ProbeKey(probe.name, probe.target.name, probe.model)


def _histograms(probe: Probe, have: Mapping[LoadLevel, HistogramCounts]) -> dict[LoadLevel, HistogramCounts]:
    if not probe.histogram:
        return {}
    empty = HistogramCounts((0,) * (len(duration_buckets(probe.buckets_per_decade)) + 1))
    kept = {level: counts for level, counts in have.items() if len(counts.bucket_counts) == len(empty.bucket_counts)}
    return {level: kept.get(level, empty) for level in probe.levels}


def _token_counters(probe: Probe, have: TokenCounters | None) -> TokenCounters | None:
    if not probe.target.takes_prompts:
        return None
    have = have or TokenCounters()
    return replace(
        have,
        first_token=_histograms(probe, have.first_token),
        per_output_token=_histograms(probe, have.per_output_token),
    )


def _first_view(probe: Probe, kept: LastTimes) -> ProbeView:
    return ProbeView(
        probe=probe,
        last_run_unix_s=kept.run_unix_s,
        last_success_unix_s=kept.success_unix_s,
        counters=Counters(histograms=_histograms(probe, {}), tokens=_token_counters(probe, None)),
    )


def _reconfigured(view: ProbeView, probe: Probe) -> ProbeView:
    if probe == view.probe:
        return view
    counters = replace(
        view.counters,
        histograms=_histograms(probe, view.counters.histograms),
        tokens=_token_counters(probe, view.counters.tokens),
    )
    if probe.slo != view.probe.slo:
        counters = replace(counters, slo_requests=0, slo_bad=0)
    return replace(view, probe=probe, counters=counters)


_NO_INFORMATION = (Reason.SHUTDOWN, Reason.MODEL_CHANGED)
"""Reasons that are no verdict on whether the model responds well."""


def _still_measured(view: ProbeView, facts: ModelFacts | None) -> SweepResult | None:
    """The last result with figures, unless the model has another version by now: its figures would be taken for that
    one's, whose name the probe has from now on."""
    measured = view.measured
    if measured is None or measured.facts is None or facts is None:
        return measured
    return measured if measured.facts.version == facts.version else None


def _after(view: ProbeView, result: SweepResult) -> ProbeView:
    """The view after one more sweep. One that our own shutdown cut short contains no information about the server: `up`
    stays."""
    ended_unix_s = result.started_unix_s + result.duration_ns / NS
    kind = (result.status, result.reason)
    sweeps = {**view.counters.sweeps, kind: view.counters.sweeps.get(kind, 0) + 1}
    return replace(
        view,
        result=result,
        fresh=result,
        measured=result if result.measurements else _still_measured(view, result.facts),
        facts=result.facts or view.facts,
        last_run_unix_s=ended_unix_s,
        last_success_unix_s=ended_unix_s if result.usable else view.last_success_unix_s,
        running_since_unix_s=None,
        up=view.up if result.reason in _NO_INFORMATION else result.usable,
        counters=replace(view.counters, sweeps=sweeps, sweeps_ns=view.counters.sweeps_ns + result.duration_ns),
    )


def _expire(entry: _Entry, now_s: float) -> None:
    view = entry.view
    life_s = RESULT_LIFE_INTERVALS * view.probe.schedule.interval_ns / NS
    if view.fresh is not None and now_s - entry.fresh_ended_s > life_s:
        entry.view = view = replace(view, fresh=None)
    if view.measured is not None and now_s - entry.measured_ended_s > life_s:
        entry.view = replace(view, measured=None)
