"""Results of a sweep, and the consumer of results (`Sink`).

The types are frozen. Names carry the unit: `_ns` is nanoseconds, `_unix_s` seconds of the wall clock.
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
"""Schema of the JSON result that `analyze` writes and `compare` reads. The version increases when a key is removed or
changes its meaning; new keys may appear at any time."""


@dataclass(frozen=True, slots=True)
class PercentileValue:
    """A percentile with its 95 % confidence interval (order statistics). None: the sample is too small for a bound on
    that side."""

    percentile: float
    value_ns: int
    low_ns: int | None
    high_ns: int | None


@dataclass(frozen=True, slots=True)
class LatencySummary:
    """Latency of `count` requests: exact values from the raw sample, not from buckets."""

    count: int
    mean_ns: float
    stddev_ns: float
    min_ns: int
    max_ns: int
    percentiles: tuple[PercentileValue, ...]

    def at(self, percentile: float) -> int:
        """The value at `percentile`; raises KeyError if it was not computed."""
        for entry in self.percentiles:
            if entry.percentile == percentile:
                return entry.value_ns
        raise KeyError(percentile)


@dataclass(frozen=True, slots=True)
class Repeat:
    """One of several runs of a level: throughput in inferences per second, latency, and whether its windows agreed."""

    throughput: float
    latency: LatencySummary | None
    stable: bool


@dataclass(frozen=True, slots=True)
class GpuFigures:
    """One GPU or MIG instance over the judged windows, aggregated as in perf_analyzer: utilization, power and clock are
    means, used memory and temperature are maxima, total memory is the first value. `energy_joules` is the energy used
    between the first and the last reading; `throttled` is the ratio of throttled readings, by reason. None: not
    reported."""

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
    """A percentile from one of the server's histograms. It lies between the two bounds; `seconds` is interpolated, None
    above the last bound."""

    percentile: float
    seconds: float | None
    low_seconds: float
    high_seconds: float | None


@dataclass(frozen=True, slots=True)
class ServerMetrics:
    """The server's metrics page over the judged windows. None: not reported by the page.

    `up` is whether the last reading worked, `error` is why the latest failed reading failed. `rates` are the model's
    counters per second (seconds per second for durations), `gauges` are the remaining metrics; both use our names.
    `percentiles`, by part of a request, come from the server's own histograms: all clients, over the windows.
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
    """Whether tokens were counted, by the server or a tokenizer file, or only the chunks that carried them. Closed: a
    label value."""

    COUNTED = "counted"
    CHUNKS = "chunks"


@dataclass(frozen=True, slots=True)
class TokenFigures:
    """Token statistics of a level of a language model, over `requests` ok requests (definitions: `analysis.tokens`).

    The four summaries are in nanoseconds, None without streams; `per_output_token` also if tokens were not counted.
    Token counts are sums, None unless known for every request; `cached_tokens` are prompt tokens found in the server's
    prefix cache. `chunks` counts events with content. `early_ends` counts requests that ended before the requested
    number of tokens.
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
        """The ratio of prompt tokens in the server's cache; None if either count is missing."""
        return (
            self.cached_tokens / self.prompt_tokens if self.prompt_tokens and self.cached_tokens is not None else None
        )


@dataclass(frozen=True, slots=True)
class StreamFigures:
    """Statistics of a level of streams (definitions: `analysis.streams`).

    `final_latency` is from the deadline of a sequence's last step to its last response, None if no sequence ended.
    `real_time_factor` is None without ok steps. `steps` is the number of judged steps; `late` of them had no response
    before the next step was due. `streams` counts sequences with a judged step, `on_time` those without a late step.
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
        """The ratio of late steps."""
        return self.late / self.steps if self.steps else None

    @property
    def on_time_ratio(self) -> float | None:
        """The ratio of streams that kept up with real time."""
        return self.on_time / self.streams if self.streams else None


@dataclass(frozen=True, slots=True)
class Measurement:
    """Results of one level: the merged judged windows, as the client saw them, joined with the server's statistics.

    `latency` is measured from *sent*, ok requests only, None without any. `response_time` is measured from *intended*,
    with time-outs at their limit, in open-loop modes only. `breakdown_ns` holds mean nanoseconds by component; they add
    up to the mean latency. `negative_remainder_ns` is the amount clipped to 0 where the server reports more time than
    the client saw. `outcomes` counts the requests of the judged windows. `server` is the difference of the server's
    statistics over these windows, `composing` those of an ensemble's models; `server_note` explains a missing server
    figure.

    `threshold_met` is whether the level met the probe's threshold (see `analysis.threshold`), None without one.
    `warm_up_requests` ended before measuring began, the cold first one included. With several `repeats`, all figures
    cover the judged windows of all repeats together (requests are pooled, percentiles are never averaged), and
    `repeats` has the figures of each; it is empty for a single run.

    `validated` responses were compared with the expected ones, None without validation. `output_error` is the largest
    error, `output_difference` describes the first wrong response. `unchecked` responses were skipped for lack of time.

    `responses_per_request` is the mean over ok requests, None without any. `sequences` counts sequences that ended with
    an ok request, None without sequences. `first_response` is measured from *sent* to the first response,
    `inter_response` between consecutive responses of a request; None without a stream.

    `tokens` replaces `first_response` and `inter_response` for targets that take prompts. `slo_good` counts requests
    within all limits of the slo, None if the slo does not apply to the level.

    `streams` has the figures of a level of streams.

    `modes_ns` are both median latencies if the windows form two groups, None otherwise.
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
    clock_uncertain: bool = False
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
        """Requests per second within all limits of the slo; None if the slo does not apply to the level."""
        return None if self.slo_good is None or not self.duration_ns else self.slo_good * NS / self.duration_ns

    @property
    def error_ratio(self) -> float | None:
        """Failed requests over all requests, without cancelled ones; None if there were none. Unchecked responses are
        assumed to be wrong as often as checked ones."""
        known = error_ratio(self.outcomes)
        if known is None or not self.validated or not self.unchecked:
            return known
        wrong = self.outcomes.get(Outcome.WRONG_OUTPUT, 0)
        judged = sum(count for outcome, count in self.outcomes.items() if outcome is not Outcome.CANCELLED)
        return known + min(wrong / self.validated, 1.0) * self.unchecked / judged


@dataclass(frozen=True, slots=True)
class WindowSummary:
    """One window's figures, kept after its columns are freed: a row of the windows file. `backlog_growth` is as in
    `Window`."""

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

    `baseline` is the expected value at this hour (nanoseconds, or inferences per second); `ratio` is current over
    baseline. `tiers` has, for each tier, whether a regression is active; a tier without a verdict is absent, and
    `withheld` explains why (`reason` as a label). `limits` is the ratio per tier above which a sweep is bad. `counts`
    per tier is (bad sweeps, sweeps considered, bad sweeps required). `began_unix_s` is when the first bad sweep of an
    active regression ended. `version_ratio` is the served version over the accepted one, None if they are the same.
    `modes` are both values of a bimodal signal, the lower one first.
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
    """A change with this sweep. `signal` and `tier` are set for regressions; `text` has details."""

    change: VerdictChange
    text: str = ""
    signal: Signal | None = None
    tier: str = ""


@dataclass(frozen=True, slots=True)
class LevelChange:
    """A change point: at `unix_s` a series of sweeps moved from `before` to `after` (in the series' unit, nanoseconds
    for latencies), each the median up to the adjacent change point. `ratio` is after over before, adjusted for the
    hours of the week."""

    unix_s: float
    before: float
    after: float
    ratio: float


@dataclass(frozen=True, slots=True)
class LevelVerdict:
    """The baseline's verdicts on a level of one sweep. `components_ns` is the change of each component of the mean
    latency while a regression is active. `pinned_unix_s` is when the baseline was pinned, None before. A `provisional`
    baseline raises no page. `events` are the changes with this sweep. `last_change` is the latest change point of p50;
    no verdict depends on it."""

    level: LoadLevel
    signals: tuple[SignalVerdict, ...]
    components_ns: Mapping[str, float] = field(default_factory=dict)
    pinned_unix_s: float | None = None
    provisional: bool = False
    events: tuple[VerdictEvent, ...] = ()
    last_change: LevelChange | None = None

    @property
    def regressed(self) -> bool:
        """Whether a regression of any tier is active."""
        return any(holds for signal in self.signals for holds in signal.tiers.values())


@dataclass(frozen=True, slots=True)
class SweepResult:
    """The result of one run of a probe.

    `measurements` holds the levels with usable data, in the order run; for a search all levels visited. `outcomes`
    counts all requests that ended, warm-up included; `sent` counts all requests sent. `input_faults` lists all input
    errors; `reason_text` has only the first. `seed` is that of random arrivals, None without any; set as `load.seed` it
    reproduces them. `tokens` is the total of targets that take prompts, as counted against budgets.
    """

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
        """Whether the sweep gave usable data: exported as `up`. A sweep that ran out of its own budget did, if it
        measured any level."""
        if self.reason in (Reason.REQUEST_BUDGET, Reason.TOKEN_BUDGET, Reason.TIME_BUDGET):
            return any(measurement.latency for measurement in self.measurements)
        return self.status in (SweepStatus.OK, SweepStatus.UNSTABLE)

    @property
    def best(self) -> Measurement | None:
        """The highest level that met the probe's threshold, None if none did or there is no threshold. In a search an
        unstable level does not count: as in perf_analyzer it ends the search, like a level above the threshold."""
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
"""Preferred numbers (ISO 3): a finer set contains the bounds of a coarser one."""


@functools.cache
def duration_buckets(per_decade: int) -> tuple[float, ...]:
    """Upper bounds of the request duration histogram in seconds, with `per_decade` (3, 5, 10, 20 or 40) bounds per
    decade from 1 ms to 10 s. One set for the whole daemon: histograms with mixed bounds cannot be aggregated."""
    fine = tuple(round(number * 10**power, 6) for power in (-3, -2, -1, 0) for number in _RENARD[per_decade])
    return (0.0005, *fine, 10.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class TokenWindowCounts:
    """A window's token counts, as far as known; failed and warm-up requests included. The buckets are of ok requests
    without warm-up, by the probe's `duration_buckets`."""

    prompt: int
    output: int
    cached: int
    first_token_buckets: tuple[int, ...]
    first_token_sum_ns: int
    per_output_token_buckets: tuple[int, ...]
    per_output_token_sum_ns: int


@dataclass(frozen=True, slots=True)
class WindowCounts:
    """A window's increments of the cumulative counters, at its end; warm-up and drain included.

    `inferences` is in Triton's unit (ok requests x batch). `bucket_counts` has one entry per bound of the probe's
    `duration_buckets` and a last one for values above; it is not cumulative. It covers ok requests without warm-up, as
    does `duration_sum_ns`. The slo counts are 0 if the slo does not apply to the level.
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
    """A consumer of sweep events. Methods never block for long and never raise: a sink must not slow or fail a
    sweep."""

    def sweep_started(self, probe: Probe, started_unix_s: float) -> None:
        """A sweep of the probe begins."""

    def window_ended(self, probe: Probe, counts: WindowCounts) -> None:
        """A window of the running sweep ended: update the cumulative counters."""

    def sweep_ended(self, result: SweepResult) -> None:
        """A sweep ended, with any status."""

    def sweep_skipped(self, probe: Probe, reason: SkipReason) -> None:
        """A due sweep was skipped."""
