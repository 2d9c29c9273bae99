"""The core types: how one request ended, what the server said, and what a sweep found.

All of them are frozen. A name carries its unit: `_ns` is integer nanoseconds on the monotonic clock, `_unix_s`
seconds of the wall clock. Everything here can be pickled, since it crosses the border to the worker process.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Protocol

import numpy as np
import numpy.typing as npt

from exporter.probe import LoadLevel, Probe, Signal


class Outcome(enum.IntEnum):
    """How one request ended. Closed: these are label values and the codes of the record columns."""

    OK = 0
    TIMEOUT = 1
    CONNECT_ERROR = 2
    TLS_ERROR = 3
    PROTOCOL_ERROR = 4
    CLIENT_ERROR = 5
    AUTH_ERROR = 6
    OVERLOAD = 7
    SERVER_ERROR = 8
    WRONG_OUTPUT = 9
    SEQUENCE_CONFLICT = 10
    CANCELLED = 11

    @property
    def label(self) -> str:
        """The outcome as a label value and as text for people."""
        return self.name.lower()


class SweepStatus(enum.StrEnum):
    """How a sweep ended. `ok` and `unstable` give usable data (`up` 1), the others do not (`up` 0)."""

    OK = "ok"
    UNSTABLE = "unstable"
    ABORTED = "aborted"
    FAILED = "failed"


class Reason(enum.StrEnum):
    """Why a sweep was not ok. Closed: label values; the free text beside them goes to log, page and archive."""

    NONE = ""
    UNSTABLE = "unstable"
    # failed: the server or the model is not fit to be measured
    UNREACHABLE = "unreachable"
    TLS = "tls"
    AUTH = "auth"
    PREFLIGHT_TIMEOUT = "preflight_timeout"
    PROTOCOL = "protocol"
    SERVER_NOT_LIVE = "server_not_live"
    SERVER_NOT_READY = "server_not_ready"
    MODEL_UNKNOWN = "model_unknown"
    MODEL_NOT_READY = "model_not_ready"
    BAD_INPUT = "bad_input"
    UNSUPPORTED = "unsupported"
    # aborted: it ran, and was stopped
    NO_VALID_REQUESTS = "no_valid_requests"
    ERROR_RATIO = "error_ratio"
    REQUEST_BUDGET = "request_budget"
    TIME_BUDGET = "time_budget"
    LATENCY = "latency"
    PENDING_QUEUE = "pending_queue"
    DEADLINE = "deadline"
    WORKER_CRASH = "worker_crash"
    SHUTDOWN = "shutdown"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Load:
    """How much load: requests, and the time that sweeps took. What was caused, or what is allowed."""

    requests: int = 0
    duration_ns: int = 0


class SkipReason(enum.StrEnum):
    """Why a sweep that was due did not run. A skip is our own decision and never changes `up`."""

    OVERLAP = "overlap"
    MISFIRE = "misfire"
    BUDGET = "budget"
    PAUSED = "paused"
    ASLEEP = "asleep"
    SHUTDOWN = "shutdown"


# --- what the server says --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A model's input or output. `shape` is without the batch dimension; -1 is a dimension that varies. The values of a
    `shape_tensor` are a shape themselves: it belongs to the request, and has no batch dimension in it."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False
    shape_tensor: bool = False


@dataclass(frozen=True, slots=True)
class ModelKey:
    """A model as an ensemble's configuration names it. `version` "" is the server's choice."""

    name: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What preflight learned of the model. `version` is the version that will answer, "" where nobody says;
    `max_batch_size` 0 means that the model takes no batch dimension. `address` is where it was asked, and where the
    load goes: the numeric address to which the target's name was resolved, "" if each connection resolves it.
    `asked_version` is the one that the probe names; `composing` are the models that this one calls, those that they
    call included. `priority_levels` are those of its dynamic batcher, 1 the highest; 0: it has none. `binary_tensors`:
    whether tensors go over HTTP in binary form, as Triton's do."""

    name: str
    version: str
    platform: str
    backend: str
    max_batch_size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    decoupled: bool = False
    sequence: bool = False
    ensemble: bool = False
    response_cache: bool = False
    has_statistics: bool = True
    config_hash: str = ""
    server_name: str = ""
    server_version: str = ""
    address: str = ""
    asked_version: str = ""
    composing: tuple[ModelKey, ...] = ()
    priority_levels: int = 0
    binary_tensors: bool = True


def request_priority(probe: Probe, facts: ModelFacts) -> int:
    """The priority level that the probe's requests ask for, 1 the highest; 0: none, so that the model's default holds.
    Where a model has no levels all requests are alike."""
    return facts.priority_levels if probe.input.priority == "low" else 0


@dataclass(frozen=True, slots=True)
class DurationStat:
    """A cumulative count and the nanoseconds that belong to it, as in Triton's statistics extension."""

    count: int = 0
    ns: int = 0

    def __add__(self, other: DurationStat) -> DurationStat:
        return DurationStat(self.count + other.count, self.ns + other.ns)

    def __sub__(self, before: DurationStat) -> DurationStat:
        return DurationStat(self.count - before.count, self.ns - before.ns)


@dataclass(frozen=True, slots=True)
class BatchStat:
    """Executions of one batch size, and the nanoseconds that they spent in the model."""

    size: int
    executions: int = 0
    infer_ns: int = 0


@dataclass(frozen=True, slots=True)
class ModelStatistics:
    """Cumulative statistics of one version of one model, or the difference of two such."""

    name: str
    version: str
    inference_count: int = 0
    execution_count: int = 0
    success: DurationStat = DurationStat()
    fail: DurationStat = DurationStat()
    queue: DurationStat = DurationStat()
    compute_input: DurationStat = DurationStat()
    compute_infer: DurationStat = DurationStat()
    compute_output: DurationStat = DurationStat()
    cache_hit: DurationStat = DurationStat()
    cache_miss: DurationStat = DurationStat()
    batches: tuple[BatchStat, ...] = ()

    @property
    def tells_computing(self) -> bool:
        """Whether the server tells what is inside of a request's time: not all do, and then there is no 0 to show."""
        parts = (self.compute_input, self.compute_infer, self.compute_output, self.cache_hit, self.cache_miss)
        return any(part.count or part.ns for part in parts)


@dataclass(frozen=True, slots=True)
class ServerSnapshot:
    """What the server said at one moment: asked at `asked_ns`, answered at `answered_ns` (monotonic)."""

    asked_ns: int
    answered_ns: int
    models: tuple[ModelStatistics, ...]


class GpuSource(enum.StrEnum):
    """Who tells of a GPU. Closed: a label value."""

    TRITON = "triton"
    DCGM = "dcgm"
    NVML = "nvml"


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU, or one MIG instance, at one moment. None: the source does not tell it. `energy_joules` is cumulative.
    `throttle_reasons` are those that held at that moment."""

    uuid: str
    source: GpuSource
    utilization_ratio: float | None = None
    power_watts: float | None = None
    memory_used_bytes: float | None = None
    memory_total_bytes: float | None = None
    energy_joules: float | None = None
    temperature_celsius: float | None = None
    clock_hertz: float | None = None
    throttle_reasons: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ServerReading:
    """What a metrics page, or the driver, said at one moment (`at_ns`, monotonic, the middle of asking).

    `gauges` are figures of that moment and `counters` cumulative ones, both by our names and in base units, of the
    model alone where they are a model's. With an `error` there is nothing else. `from_page` is false for the driver's.
    """

    at_ns: int
    from_page: bool
    error: str = ""
    gauges: Mapping[str, float] = field(default_factory=dict)
    counters: Mapping[str, float] = field(default_factory=dict)
    gpus: tuple[GpuReading, ...] = ()


# --- what the client saw ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RecordColumns:
    """The requests that ended in one window, one row each, as parallel arrays.

    `intended_ns`, `sent_ns` (first byte given to the socket), `send_done_ns` (last byte given), `first_ns` (first
    byte of the answer) and `last_ns` (last byte) are int64 monotonic nanoseconds, 0 where it never happened;
    `last_ns` is always set: for a request that failed, the moment that it was known. `outcome` holds `Outcome` codes.
    `sequence_end` is 1 for the last request of a sequence.

    `response_ns` is no column: of requests over a stream it holds when each response came, `responses` of them a row,
    row after row. It is empty where a request has one response at most. `sequence_ids` has one entry a row, or is empty
    where requests go in no sequences.
    """

    intended_ns: npt.NDArray[np.int64]
    sent_ns: npt.NDArray[np.int64]
    send_done_ns: npt.NDArray[np.int64]
    first_ns: npt.NDArray[np.int64]
    last_ns: npt.NDArray[np.int64]
    responses: npt.NDArray[np.uint32]
    outcome: npt.NDArray[np.uint8]
    bytes_out: npt.NDArray[np.int64]
    bytes_in: npt.NDArray[np.int64]
    sequence_end: npt.NDArray[np.uint8]
    response_ns: npt.NDArray[np.int64]
    sequence_ids: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.outcome)

    @classmethod
    def empty(cls, rows: int = 0) -> RecordColumns:
        """Columns of `rows` zeroed rows."""
        return cls(
            intended_ns=np.zeros(rows, np.int64),
            sent_ns=np.zeros(rows, np.int64),
            send_done_ns=np.zeros(rows, np.int64),
            first_ns=np.zeros(rows, np.int64),
            last_ns=np.zeros(rows, np.int64),
            responses=np.zeros(rows, np.uint32),
            outcome=np.zeros(rows, np.uint8),
            bytes_out=np.zeros(rows, np.int64),
            bytes_in=np.zeros(rows, np.int64),
            sequence_end=np.zeros(rows, np.uint8),
            response_ns=np.zeros(0, np.int64),
            sequence_ids=np.zeros(0, np.int64),
        )

    @classmethod
    def concatenate(cls, parts: list[RecordColumns]) -> RecordColumns:
        """All rows of `parts`, in their order."""
        if not parts:
            return cls.empty()
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})


@dataclass(frozen=True, slots=True)
class ClientHealth:
    """How this client fared during a window, so that it is not the client that is blamed on the server.

    `loop_lag_ns` is the largest delay of the worker's event loop, `cpu_ratio` its cpu time over the window's time
    (1.0 is a whole core), and `throttled_ns` what a cgroup limit took away.
    """

    loop_lag_ns: int = 0
    cpu_ratio: float = 0.0
    throttled_ns: int = 0


@dataclass(frozen=True, slots=True)
class OutputError:
    """How far the numbers of answers were from the expected ones: the largest absolute and relative difference (where
    the expected number is not 0), and the sums of squares of expected numbers and of differences."""

    absolute: float = 0.0
    relative: float = 0.0
    signal: float = 0.0
    noise: float = 0.0

    def __add__(self, other: OutputError) -> OutputError:
        return OutputError(
            absolute=max(self.absolute, other.absolute),
            relative=max(self.relative, other.relative),
            signal=self.signal + other.signal,
            noise=self.noise + other.noise,
        )

    @property
    def signal_to_noise_db(self) -> float | None:
        """10 log10(signal / noise), decibels; None where nothing differs, or there is no signal."""
        if not 0 < self.noise < math.inf or not 0 < self.signal < math.inf:
            return None
        return 10 * math.log10(self.signal / self.noise)


@dataclass(frozen=True, slots=True)
class Checked:
    """Answers that were held against what is expected of them, and the first difference in words."""

    answers: int = 0
    wrong: int = 0
    error: OutputError | None = None
    difference: str = ""

    def __add__(self, other: Checked) -> Checked:
        errors = [error for error in (self.error, other.error) if error is not None]
        return Checked(
            answers=self.answers + other.answers,
            wrong=self.wrong + other.wrong,
            error=sum(errors[1:], errors[0]) if errors else None,
            difference=self.difference or other.difference,
        )


def sum_checked(parts: Iterable[Checked | None]) -> Checked | None:
    """All checks as one; None where nothing is checked."""
    given = [part for part in parts if part is not None]
    return sum(given[1:], given[0]) if given else None


@dataclass(frozen=True, slots=True)
class Window:
    """One measurement interval inside a level. Windows of a level are contiguous: each starts where the last ended; but
    the one window of a request count starts with its first request and ends with its last.

    `columns` holds the requests that ended inside it; `sent` counts those begun inside it, `unsent` those that an
    open loop could not send for want of a place in flight, `in_flight` those that the server may have at its end.
    `before` and `after` are the server's snapshots at its edges, None where the server gives none. `warm_up` windows
    are counted, never measured. `readings` are those of the server's metrics page and driver, from that at the
    window's start to that at its end, both included. `checked` is None where answers are not validated.
    """

    index: int
    start_ns: int
    end_ns: int
    columns: RecordColumns
    sent: int
    unsent: int = 0
    in_flight: int = 0
    before: ServerSnapshot | None = None
    after: ServerSnapshot | None = None
    health: ClientHealth = ClientHealth()
    warm_up: bool = False
    error_text: str = ""
    readings: tuple[ServerReading, ...] = ()
    checked: Checked | None = None

    @property
    def duration_ns(self) -> int:
        return self.end_ns - self.start_ns


@dataclass(frozen=True, slots=True)
class LevelEnd:
    """How the worker's part of a level ended: by `stop` (reason none) or by a stop rule. `sent` is all that the level
    sent, warm-up included; `abandoned` are requests given up on that the server may still be working at."""

    reason: Reason
    text: str
    sent: int
    abandoned: int = 0


@dataclass(frozen=True, slots=True)
class ConnectionTimes:
    """What it took to open the level's first connection, and the latency of the first request on it.
    None where it did not happen. Never part of a latency."""

    connect_ns: int | None = None
    tls_ns: int | None = None
    cold_first_request_ns: int | None = None
    certificate_expiry_unix_s: float | None = None


# --- what was found --------------------------------------------------------------------------------------------------


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
    from the first reading to the last; `throttled` the part of the readings by reason. None: not told."""

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
class ServerMetrics:
    """The server's metrics page over the judged windows. None: the page does not tell it.

    `up` says whether the last reading worked, `error` why the last one that failed did not. `rates` are the model's
    counters a second (seconds of a duration a second), `gauges` what else the page tells, both by our names.
    """

    readings: int
    failed: int
    up: bool
    error: str = ""
    pending_requests_max: float | None = None
    cpu_utilization_ratio: float | None = None
    cpu_memory_used_bytes: float | None = None
    pinned_memory_used_bytes: float | None = None
    cache_hit_ratio: float | None = None
    rates: Mapping[str, float] = field(default_factory=dict)
    gauges: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one level showed: the merged judged windows, as the client saw them, joined with what the server said.

    `latency` is from *sent*, ok requests only, None if there was none; `response_time` from *intended*, time-outs at
    their limit, open-loop modes only. `breakdown_ns` holds mean nanoseconds by component, which add up to the mean
    latency; `negative_remainder_ns` is what had to be taken from zero where the server claims more than the client saw.
    `outcomes` counts the judged windows' requests. `server` is the difference of the server's statistics over them,
    `composing` those of the models that an ensemble is made of; `server_note` says why a figure of the server's is
    missing that others would expect.

    `threshold_met` says whether the level kept the probe's threshold (see `analysis.threshold`), None where it has
    none. `warm_up_requests` ended before measuring began, the cold first one included. Where the sweep was run several
    times, all figures are of the judged windows of all `repeats` together (requests are pooled, percentiles are never
    averaged), and `repeats` has the figures of each; it is empty for a sweep that was run once.

    `validated` answers were held against what is expected, None where nothing is; `output_error` says how far they were
    from it at most, and `output_difference` how the first wrong one was wrong.

    `sequences` counts those that ended with an ok request, None where the probe sends none. `first_response` is from
    *sent* to the first response, `inter_response` from a response to the next of its request; None without a stream.
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

    @property
    def error_ratio(self) -> float | None:
        """Requests neither ok nor cancelled, over all but the cancelled; None where there were none."""
        return error_ratio(self.outcomes)


@dataclass(frozen=True, slots=True)
class WindowSummary:
    """One window in figures, after its columns are gone: a row of the windows file."""

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


@dataclass(frozen=True, slots=True)
class SignalVerdict:
    """One signal of a level, held against its baseline.

    `baseline` is what it should be at this hour (nanoseconds, or inferences a second), `ratio` now over that. `tiers`
    says of each tier whether the regression holds; a tier is absent where no verdict can be given, and `withheld` says
    why. `version_ratio` is the served version over the accepted one, None where that is the one served.
    """

    signal: Signal
    baseline: float | None = None
    ratio: float | None = None
    tiers: Mapping[str, bool] = field(default_factory=dict)
    withheld: str = ""
    version_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class LevelVerdict:
    """What the baseline says of a level of one sweep. `components_ns` is the change of each component of the mean
    latency, while a regression holds; `pinned_unix_s` is when its baseline was made, None where there is none yet."""

    level: LoadLevel
    signals: tuple[SignalVerdict, ...]
    components_ns: Mapping[str, float] = field(default_factory=dict)
    pinned_unix_s: float | None = None

    @property
    def regressed(self) -> bool:
        """Whether a regression of any tier holds."""
        return any(holds for signal in self.signals for holds in signal.tiers.values())


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What one run of a probe found. `measurements` holds the levels that gave usable data, in the order run: in a
    search all that it visited.
    `outcomes` counts everything that the sweep sent and that has ended, warm-up included; `sent` is all it sent."""

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

    @property
    def usable(self) -> bool:
        """Whether the sweep gave usable data: what `up` says. A sweep that ran out of its own budget did, for the
        levels that it came to."""
        if self.reason in (Reason.REQUEST_BUDGET, Reason.TIME_BUDGET):
            return any(measurement.latency for measurement in self.measurements)
        return self.status in (SweepStatus.OK, SweepStatus.UNSTABLE)

    @property
    def best(self) -> Measurement | None:
        """The highest level that kept the probe's threshold, None if none did or there is no threshold. In a search an
        unstable level kept nothing: as in perf_analyzer it ends the search like one above the threshold."""
        kept = [m for m in self.measurements if m.threshold_met and (m.stable or self.probe.search is None)]
        return max(kept, key=lambda measurement: measurement.level.value, default=None)


DURATION_BUCKETS_SECONDS = (
    0.0005,
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
    30.0,
    60.0,
)
"""Upper bounds of the request duration histogram: one set for the whole daemon; mixed bounds aggregate wrongly."""


@dataclass(frozen=True, slots=True)
class WindowCounts:
    """What one window adds to the cumulative counters, at the moment that it ended; warm-up and drain included.

    `inferences` is in Triton's own unit (ok requests x batch). `bucket_counts` has one entry for each bound of
    `DURATION_BUCKETS_SECONDS` and a last one for what is above; not cumulative; ok requests outside warm-up only, as
    is `duration_sum_ns`. The slo counts are 0 where the level is not one that the slo names.
    """

    level: LoadLevel
    outcomes: Mapping[Outcome, int]
    inferences: int
    bucket_counts: tuple[int, ...]
    duration_sum_ns: int
    slo_requests: int = 0
    slo_bad: int = 0


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


def error_ratio(outcomes: Mapping[Outcome, int]) -> float | None:
    """Requests neither ok nor cancelled, over all but the cancelled; None where there were none."""
    judged = sum(count for outcome, count in outcomes.items() if outcome is not Outcome.CANCELLED)
    if judged == 0:
        return None
    return (judged - outcomes.get(Outcome.OK, 0)) / judged
