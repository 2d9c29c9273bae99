"""What a sweep found, in figures, and who takes it in (`Sink`).

The types are frozen. A name carries its unit: `_ns` is nanoseconds, `_unix_s` seconds of the wall clock.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from exporter.core.facts import GpuSource, ModelFacts, ModelStatistics
from exporter.core.outcome import Outcome, Reason, SkipReason, SweepStatus, error_ratio
from exporter.core.probe import LoadLevel, Probe, Signal
from exporter.core.units import NS
from exporter.core.window import ClientHealth, ConnectionTimes, OutputError

SCHEMA = "triton-canary-result"
SCHEMA_VERSION = 1
"""Of a result as JSON, which `analyze` writes and `compare` reads. The version grows when the meaning of a key changes
or a key goes; new keys may come at any time."""


@dataclass(frozen=True, slots=True)
class PercentileValue:
    """A percentile with the confidence interval (95 %, order statistics) that the sample supports; None: it supports
    no bound on that side."""

    percentile: float
    value_ns: int
    low_ns: int | None
    high_ns: int | None


@dataclass(frozen=True, slots=True)
class LatencySummary:
    """Latency of `count` requests: exact figures over the raw sample, not from buckets."""

    count: int
    mean_ns: float
    stddev_ns: float
    min_ns: int
    max_ns: int
    percentiles: tuple[PercentileValue, ...]

    def at(self, percentile: float) -> int:
        """The value at `percentile`; KeyError if it was not asked for."""
        for entry in self.percentiles:
            if entry.percentile == percentile:
                return entry.value_ns
        raise KeyError(percentile)


@dataclass(frozen=True, slots=True)
class Repeat:
    """One of several runs of a level: its inferences a second, its latency, and whether its windows agreed."""

    throughput: float
    latency: LatencySummary | None
    stable: bool


@dataclass(frozen=True, slots=True)
class GpuFigures:
    """One GPU, or one MIG instance, over the judged windows, by perf_analyzer's aggregation: utilization, power and
    clock are means, used memory and temperature the largest, total memory the first. `energy_joules` is what it took
    from the first reading to the last; `throttled` the part of the readings by reason. None: not reported."""

    uuid: str
    source: GpuSource
    utilization_ratio: float | None = None
    power_watts: float | None = None
    memory_used_bytes: float | None = None
    memory_total_bytes: float | None = None
    energy_joules: float | None = None
    temperature_celsius: float | None = None
    clock_hertz: float | None = None
    throttled: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class ServerPercentile:
    """A percentile by a histogram of the server's. It is between the two bounds; `seconds` is interpolated, None where
    it is above the last bound."""

    percentile: float
    seconds: float | None
    low_seconds: float
    high_seconds: float | None


@dataclass(frozen=True, slots=True)
class ServerMetrics:
    """The server's metrics page over the judged windows. None: the page does not report it.

    `up` is whether the last reading worked, `error` why the last one that failed did not. `rates` are the model's
    counters a second (seconds of a duration a second), `gauges` what else the page has, both by our names.
    `percentiles` are by part of a request, from the server's own histograms: of all clients, over the windows.
    """

    readings: int
    failed: int
    up: bool
    error: str = ""
    pending_requests_max: float | None = None
    running_requests_max: float | None = None
    kv_cache_usage_ratio_max: float | None = None
    cpu_utilization_ratio: float | None = None
    cpu_memory_used_bytes: float | None = None
    pinned_memory_used_bytes: float | None = None
    cache_hit_ratio: float | None = None
    rates: Mapping[str, float] = field(default_factory=dict)
    gauges: Mapping[str, float] = field(default_factory=dict)
    percentiles: Mapping[str, tuple[ServerPercentile, ...]] = field(default_factory=dict)


class TokenSource(enum.StrEnum):
    """Whether tokens were counted, by the server or a tokenizer file, or only the chunks that they came in. Closed: a
    label value."""

    COUNTED = "counted"
    CHUNKS = "chunks"


@dataclass(frozen=True, slots=True)
class TokenFigures:
    """What a level of a language model showed, of `requests` ok ones (see `analysis.tokens` for the definitions).

    The four summaries are in nanoseconds, None without streams; `per_output_token` also where tokens were not counted.
    Tokens are sums, and None where they are not known of each request; `cached_tokens` are those of prompts that the
    server had in its prefix cache. `chunks` are the events with content. `early_ends` are requests that ended before
    the tokens that were asked for.
    """

    source: TokenSource
    stream_open: LatencySummary | None
    first_token: LatencySummary | None
    per_output_token: LatencySummary | None
    inter_token: LatencySummary | None
    output_tokens_per_second: float | None
    prompt_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    chunks: int | None
    early_ends: int
    requests: int

    @property
    def cached_ratio(self) -> float | None:
        """The part of the prompt tokens that the server had; None where it did not count both."""
        return (
            self.cached_tokens / self.prompt_tokens if self.prompt_tokens and self.cached_tokens is not None else None
        )


@dataclass(frozen=True, slots=True)
class StreamFigures:
    """What a level of streams showed (see `analysis.streams` for the definitions).

    `final_latency` is from the deadline of a sequence's last step to its last response, None where no sequence ended.
    `real_time_factor` is None without ok steps. `steps` were judged, and `late` of them had no response before the
    next one was due. `streams` are the sequences that had a judged step, and `on_time` those of them without a late
    one.
    """

    step_interval_ns: int
    final_latency: LatencySummary | None
    real_time_factor: float | None
    steps: int
    late: int
    streams: int
    on_time: int

    @property
    def late_ratio(self) -> float | None:
        """The part of the steps that were late."""
        return self.late / self.steps if self.steps else None

    @property
    def on_time_ratio(self) -> float | None:
        """The part of the streams that kept real time."""
        return self.on_time / self.streams if self.streams else None


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one level showed: the merged judged windows, as the client saw them, joined with what the server reported.

    `latency` is from *sent*, ok requests only, None if there was none; `response_time` from *intended*, time-outs at
    their limit, open-loop modes only. `breakdown_ns` holds mean nanoseconds by component, which add up to the mean
    latency; `negative_remainder_ns` is what had to be taken from zero where the server claims more than the client saw.
    `outcomes` counts the judged windows' requests. `server` is the difference of the server's statistics over them,
    `composing` those of the models that an ensemble is made of; `server_note` is why a figure of the server's is
    missing that others would expect.

    `threshold_met` is whether the level kept the probe's threshold (see `analysis.threshold`), None where it has
    none. `warm_up_requests` ended before measuring began, the cold first one included. Where the sweep was run several
    times, all figures are of the judged windows of all `repeats` together (requests are pooled, percentiles are never
    averaged), and `repeats` has the figures of each; it is empty for a sweep that was run once.

    `validated` responses were compared with what is expected, None where nothing is; `output_error` is how far they
    were from it at most, and `output_difference` how the first wrong one was wrong. For `unchecked` ones there was no
    time.

    `responses_per_request` is the mean of the ok requests, None where there was none. `sequences` counts those that
    ended with an ok request, None where the probe sends none. `first_response` is from
    *sent* to the first response, `inter_response` from a response to the next of its request; None without a stream.

    `tokens` are the figures of a target that takes prompts, which then has no `first_response` and `inter_response`.
    `slo_good` is how many requests kept all of the slo, None where the level is none that it names.

    `streams` are the figures of a level of streams, at the pace of real time.

    `modes_ns` are both median latencies of a level whose windows form two groups, None where they form one.
    """

    level: LoadLevel
    stable: bool
    reason: Reason
    reason_text: str
    windows_run: int
    windows_merged: int
    duration_ns: int
    throughput: float
    offered: float
    unsent_ratio: float
    latency: LatencySummary | None
    response_time: LatencySummary | None
    send_lag: LatencySummary | None
    outcomes: Mapping[Outcome, int]
    responses: int
    spread_ratio: float | None
    breakdown_ns: Mapping[str, float]
    negative_remainder_ns: float
    client_send_ns: float
    client_receive_ns: float
    server: ModelStatistics | None
    foreign_requests: int | None
    health: ClientHealth
    client_limited: bool
    window_summaries: tuple[WindowSummary, ...]
    bytes_out: int = 0
    bytes_in: int = 0
    threshold_met: bool | None = None
    warm_up_requests: int = 0
    repeats: tuple[Repeat, ...] = ()
    composing: tuple[ModelStatistics, ...] = ()
    server_note: str = ""
    server_metrics: ServerMetrics | None = None
    gpu: tuple[GpuFigures, ...] = ()
    energy_per_inference_joules: float | None = None
    validated: int | None = None
    output_error: OutputError | None = None
    output_difference: str = ""
    sequences: int | None = None
    first_response: LatencySummary | None = None
    inter_response: LatencySummary | None = None
    responses_per_request: float | None = None
    unchecked: int = 0
    modes_ns: tuple[float, float] | None = None
    tokens: TokenFigures | None = None
    slo_good: int | None = None
    streams: StreamFigures | None = None

    @property
    def goodput(self) -> float | None:
        """Requests a second that kept all of the slo; None where the level is none that it names."""
        return None if self.slo_good is None or not self.duration_ns else self.slo_good * NS / self.duration_ns

    @property
    def error_ratio(self) -> float | None:
        """Requests neither ok nor cancelled, over all but the cancelled; None where there were none. Of the unchecked
        as many are taken for wrong as of those that were checked."""
        known = error_ratio(self.outcomes)
        if known is None or not self.validated or not self.unchecked:
            return known
        wrong = self.outcomes.get(Outcome.WRONG_OUTPUT, 0)
        judged = sum(count for outcome, count in self.outcomes.items() if outcome is not Outcome.CANCELLED)
        return known + min(wrong / self.validated, 1.0) * self.unchecked / judged


@dataclass(frozen=True, slots=True)
class WindowSummary:
    """One window in figures, after its columns are gone: a row of the windows file. `backlog_growth` is a window's."""

    index: int
    start_unix_s: float
    duration_ns: int
    sent: int
    unsent: int
    outcomes: Mapping[Outcome, int]
    throughput: float
    latency: LatencySummary | None
    judged: bool
    health: ClientHealth = ClientHealth()
    backlog_growth: int = 0


class Withheld(enum.StrEnum):
    """Why there is no verdict on a signal. Closed: a label value."""

    NO_BASELINE = "no_baseline"
    NO_REQUESTS = "no_requests"
    CLIENT_LIMITED = "client_limited"
    FEW_REQUESTS = "few_requests"
    NO_FIGURE = "no_figure"
    NOISY = "noisy"


@dataclass(frozen=True, slots=True)
class SignalVerdict:
    """One signal of a level, compared with its baseline.

    `baseline` is what it should be at this hour (nanoseconds, or inferences a second), `ratio` now over that. `tiers`
    has for each tier whether the regression holds; a tier is absent where no verdict can be given, and `withheld` has
    why, `reason` in a word. `limits` is, by tier, the ratio above which a sweep is bad; `counts` is (bad sweeps, of so
    many, bad ones that it takes). `began_unix_s` is when the first bad sweep of what holds ended. `version_ratio` is
    the served version over the accepted one, None where that is the one served. `modes` are both values of a signal
    that has two, the lower one first.
    """

    signal: Signal
    baseline: float | None = None
    ratio: float | None = None
    tiers: Mapping[str, bool] = field(default_factory=dict)
    withheld: str = ""
    version_ratio: float | None = None
    reason: Withheld | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    began_unix_s: float | None = None
    modes: tuple[float, float] | None = None


class VerdictChange(enum.StrEnum):
    """What changed with a sweep. Closed: an event in the log."""

    PINNED = "pinned"
    BEGAN = "began"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class VerdictEvent:
    """Something that changed with this sweep; `signal` and `tier` are of a regression, `text` has details."""

    change: VerdictChange
    text: str = ""
    signal: Signal | None = None
    tier: str = ""


@dataclass(frozen=True, slots=True)
class LevelChange:
    """A change point: at `unix_s` a series of sweeps went from `before` to `after` (its own unit, nanoseconds for a
    latency), each the median up to the change beside it. `ratio` is after over before, without what the hours of the
    week explain."""

    unix_s: float
    before: float
    after: float
    ratio: float


@dataclass(frozen=True, slots=True)
class LevelVerdict:
    """The baseline's verdicts on a level of one sweep. `components_ns` is the change of each component of the mean
    latency, while a regression holds; `pinned_unix_s` is when its baseline was made, None where there is none yet. From
    a `provisional` baseline no page is raised. `events` are what changed with this sweep. `last_change` is the latest
    change point of p50, which no verdict depends on."""

    level: LoadLevel
    signals: tuple[SignalVerdict, ...]
    components_ns: Mapping[str, float] = field(default_factory=dict)
    pinned_unix_s: float | None = None
    provisional: bool = False
    events: tuple[VerdictEvent, ...] = ()
    last_change: LevelChange | None = None

    @property
    def regressed(self) -> bool:
        """Whether a regression of any tier holds."""
        return any(holds for signal in self.signals for holds in signal.tiers.values())


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What one run of a probe found. `measurements` holds the levels that gave usable data, in the order run: in a
    search all that it visited.
    `outcomes` counts everything that the sweep sent and that has ended, warm-up included; `sent` is all it sent.
    `input_faults` are all that were found in the input, where the text has only the first. `seed` is that of random
    arrivals, None without such: with it as `load.seed` the same moments come again. `tokens` are all that it spent, of
    targets that take prompts: what a budget counts."""

    id: str
    probe: Probe
    status: SweepStatus
    reason: Reason
    reason_text: str
    started_unix_s: float
    duration_ns: int
    facts: ModelFacts | None = None
    measurements: tuple[Measurement, ...] = ()
    connection: ConnectionTimes = ConnectionTimes()
    outcomes: Mapping[Outcome, int] = field(default_factory=dict)
    verdicts: tuple[LevelVerdict, ...] = ()
    sent: int = 0
    input_faults: tuple[str, ...] = ()
    seed: int | None = None
    tokens: int = 0

    @property
    def usable(self) -> bool:
        """Whether the sweep gave usable data: what `up` exports. A sweep that ran out of its own budget did, for the
        levels that it came to."""
        if self.reason in (Reason.REQUEST_BUDGET, Reason.TOKEN_BUDGET, Reason.TIME_BUDGET):
            return any(measurement.latency for measurement in self.measurements)
        return self.status in (SweepStatus.OK, SweepStatus.UNSTABLE)

    @property
    def best(self) -> Measurement | None:
        """The highest level that kept the probe's threshold, None if none did or there is no threshold. In a search an
        unstable level kept nothing: as in perf_analyzer it ends the search like one above the threshold."""
        kept = [m for m in self.measurements if m.threshold_met and (m.stable or self.probe.search is None)]
        return max(kept, key=lambda measurement: measurement.level.value, default=None)


_RENARD = {
    3: (1.0, 2.0, 5.0),
    5: (1.0, 1.6, 2.5, 4.0, 6.3),
    10: (1.0, 1.25, 1.6, 2.0, 2.5, 3.15, 4.0, 5.0, 6.3, 8.0),
    20: (1.0, 1.12, 1.25, 1.4, 1.6, 1.8, 2.0, 2.24, 2.5, 2.8, 3.15, 3.55, 4.0, 4.5, 5.0, 5.6, 6.3, 7.1, 8.0, 9.0),
    40: (
        *(1.0, 1.06, 1.12, 1.18, 1.25, 1.32, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0, 2.12, 2.24, 2.36, 2.5, 2.65, 2.8, 3.0),
        *(3.15, 3.35, 3.55, 3.75, 4.0, 4.25, 4.5, 4.75, 5.0, 5.3, 5.6, 6.0, 6.3, 6.7, 7.1, 7.5, 8.0, 8.5, 9.0, 9.5),
    ),
}
"""Preferred numbers (ISO 3), so that a finer set has the bounds of a coarser one."""


@functools.cache
def duration_buckets(per_decade: int) -> tuple[float, ...]:
    """Upper bounds of the request duration histogram in seconds, so many (3, 5, 10, 20 or 40) in each decade from 1 ms
    to 10 s: one set for the whole daemon, since mixed bounds aggregate wrongly."""
    fine = tuple(round(number * 10**power, 6) for power in (-3, -2, -1, 0) for number in _RENARD[per_decade])
    return (0.0005, *fine, 10.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class TokenWindowCounts:
    """What a window adds of tokens, as far as they are known: those of failed requests and of the warm-up included. The
    buckets are of ok requests outside of it, by the probe's `duration_buckets`."""

    prompt: int
    output: int
    cached: int
    first_token_buckets: tuple[int, ...]
    first_token_sum_ns: int
    per_output_token_buckets: tuple[int, ...]
    per_output_token_sum_ns: int


@dataclass(frozen=True, slots=True)
class WindowCounts:
    """What one window adds to the cumulative counters, at the moment that it ended; warm-up and drain included.

    `inferences` is in Triton's own unit (ok requests x batch). `bucket_counts` has one entry for each bound of the
    probe's `duration_buckets` and a last one for what is above; not cumulative; ok requests outside warm-up only, as
    is `duration_sum_ns`. The slo counts are 0 where the level is not one that the slo names.
    """

    level: LoadLevel
    outcomes: Mapping[Outcome, int]
    inferences: int
    bucket_counts: tuple[int, ...]
    duration_sum_ns: int
    slo_requests: int = 0
    slo_bad: int = 0
    tokens: TokenWindowCounts | None = None


class Sink(Protocol):
    """Takes in what happens. No method blocks for long or raises: a sink never slows or fails a sweep."""

    def sweep_started(self, probe: Probe, started_unix_s: float) -> None:
        """A sweep of the probe begins now."""

    def window_ended(self, probe: Probe, counts: WindowCounts) -> None:
        """A window of the running sweep ended: cumulative counters move."""

    def sweep_ended(self, result: SweepResult) -> None:
        """A sweep is over, however it went."""

    def sweep_skipped(self, probe: Probe, reason: SkipReason) -> None:
        """A sweep that was due does not run."""
