"""What to measure: a probe and its options, from the configuration or the command line.

The types are frozen and can be pickled. Names carry the unit: `_ns` is integer nanoseconds.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field, replace

from exporter.core.target import Target
from exporter.core.units import NS


class Mode(enum.StrEnum):
    """What a load level holds constant."""

    CONCURRENCY = "concurrency"
    REQUEST_RATE = "request_rate"
    INTERVALS = "intervals"
    SCHEDULE = "schedule"
    PERIODIC = "periodic"
    STREAMS = "streams"
    SESSIONS = "sessions"

    @property
    def is_open_loop(self) -> bool:
        """Whether the clock decides when requests are due, not the responses to earlier requests."""
        return self not in (Mode.CONCURRENCY, Mode.PERIODIC, Mode.SESSIONS)

    @property
    def runs_once(self) -> bool:
        """Whether the load ends by itself and has no steady state: all of it is measured."""
        return self in (Mode.SCHEDULE, Mode.PERIODIC, Mode.SESSIONS)

    @property
    def has_places(self) -> bool:
        """Whether its value is the maximum of requests in flight, each in a place of its own."""
        return self in (Mode.CONCURRENCY, Mode.STREAMS)


class Distribution(enum.StrEnum):
    """The arrival process of a request rate."""

    CONSTANT = "constant"
    POISSON = "poisson"


class OverloadPolicy(enum.StrEnum):
    """The reaction to a server that reports overload (429, 503, RESOURCE_EXHAUSTED): only count its refusals, or back
    off by its Retry-After, or exponentially without one."""

    COUNT = "count"
    BACK_OFF = "back_off"


class SearchKind(enum.StrEnum):
    """Which levels a search visits: in order up to the first that fails, or by bisection."""

    LINEAR = "linear"
    BINARY = "binary"


class StabilityRule(enum.StrEnum):
    """How windows are judged stable: see `sweep.stability`."""

    CANARY = "canary"
    PERF_ANALYZER = "perf_analyzer"


class WindowMode(enum.StrEnum):
    """What ends a measurement window: its length in time, or a number of completed requests."""

    TIME = "time"
    COUNT = "count"


@dataclass(frozen=True, slots=True)
class LoadLevel:
    """One load level. `label` is the configured value as text ("4", "100"; the file's stem for intervals and
    schedules).

    `value` is the concurrency (number of concurrent sessions or streams) or the request rate per second; for an
    interval file its mean rate, for a schedule its number of requests. `distribution` applies to request rates, `seed`
    (None: new in each sweep) to request rates and streams. `file` and `file_digest` apply to intervals and schedules; a
    file that has changed since it was checked is refused, because `config_hash` covers it. `duration_ns` is when a
    schedule's last request is due; 0 for loads without an end.

    Periodic concurrency begins with `start` requests and adds `step` more whenever each of the last ones added has had
    `request_period` responses, up to `value`. In a closed loop each slot pauses for `think_ns` ± 50 % after a response.
    Each stream sends a step of its sequence every `step_interval_ns`; the streams start one after the other within
    `ramp_ns` (see `engine.streams`). `batch_size` and `shapes` override the input's in a matrix of levels (see
    `at_level`).
    """

    mode: Mode
    value: float
    label: str
    distribution: Distribution = Distribution.CONSTANT
    seed: int | None = None
    file: str = ""
    file_digest: str = ""
    duration_ns: int = 0
    start: int = 0
    step: int = 0
    request_period: int = 0
    think_ns: int = 0
    step_interval_ns: int = 0
    ramp_ns: int = 0
    batch_size: int | None = None
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @property
    def is_random(self) -> bool:
        """Whether its request times depend on a seed."""
        return self.distribution is Distribution.POISSON or self.mode is Mode.STREAMS

    @property
    def requests_per_second(self) -> float:
        """Requests due per second by the clock; 0 for closed loops and schedules."""
        if self.mode in (Mode.REQUEST_RATE, Mode.INTERVALS):
            return self.value
        return self.value * NS / self.step_interval_ns if self.step_interval_ns else 0.0


MAX_REQUEST_RATE = 1_000_000.0
"""Requests per second: the highest rate that a configuration may set, and the end of an open-ended search."""

COUNT_WINDOW_LIMIT = 12
"""A window that ends by request count lasts at most this many times `window_ns`: a minute by default. A server that
stops responding then delays no other probe for long."""

MAX_COMPOSING_MODELS = 16
"""Per probe, configured or discovered. Limits the number of series, and the queries at each window edge."""

MAX_SEARCH_LEVELS = 64
"""The most levels of an open-ended search, which must end."""


@dataclass(frozen=True, slots=True)
class Search:
    """Searches for the highest level that meets the latency threshold, from `start` to `end` (0: open), in the levels'
    unit. `step` is the distance between a linear search's levels, and the precision of a binary search."""

    kind: SearchKind
    mode: Mode
    start: float
    end: float
    step: float


@dataclass(frozen=True, slots=True)
class MeasurementOptions:
    """How a level is measured: windows of `window_ns`, until the last `stability_windows` agree within
    `stability_ratio` on latency (mean, or `stability_percentile`) and throughput, by `stability_rule`, at most
    `max_windows`.

    Under `WindowMode.COUNT` a window ends after `window_requests` completed requests. With a `request_count` (0: none)
    a level sends exactly that many and measures them in one window. Measuring begins once the load has run for
    `warm_up_ns` and `warm_up_requests` have ended. The whole sweep runs `repeats` times.

    A level meets `latency_threshold_ns` (0: none) if its latency (mean, or `stability_percentile`) is within the
    threshold and it reached at least `min_reached_ratio` of the intended load.
    """

    window_ns: int = 5 * NS
    stability_ratio: float = 0.1
    stability_percentile: float | None = None
    stability_windows: int = 3
    max_windows: int = 10
    percentiles: tuple[float, ...] = (50.0, 90.0, 95.0, 99.0, 99.9)
    request_timeout_ns: int = 10 * NS
    window_mode: WindowMode = WindowMode.TIME
    window_requests: int = 50
    request_count: int = 0
    warm_up_requests: int = 0
    warm_up_ns: int = 0
    repeats: int = 1
    latency_threshold_ns: int = 0
    min_reached_ratio: float = 0.99
    stability_rule: StabilityRule = StabilityRule.CANARY


CHAT, COMPLETIONS, EMBEDDINGS = "chat/completions", "completions", "embeddings"
PROMPT_APIS = (CHAT, COMPLETIONS, EMBEDDINGS)
"""The last part of an endpoint's path, which determines the form of its requests."""


def prompt_api(endpoint: str) -> str:
    """The entry of `PROMPT_APIS` that this path ends with. Raises ValueError if there is none."""
    path = endpoint.rstrip("/")
    for api in PROMPT_APIS:
        if path == api or path.endswith(f"/{api}"):
            return api
    raise ValueError(f"must end with {', '.join(PROMPT_APIS[:-1])} or {EMBEDDINGS}: the request's form is known by it")


@dataclass(frozen=True, slots=True)
class PromptOptions:
    """The requests to a language model.

    There are `count` generated prompts of about `tokens` tokens each (normally distributed with `tokens_stddev`).
    `output_tokens` is the requested output length; `fixed_output` asks the server not to stop earlier. `system` is the
    system prompt; `template`, if set, is the prompt, with `{prompt}` as placeholder for the generated text. `endpoint`
    is the path below the target's. Unless `allow_cache` is set, each request begins with a unique text, to avoid
    measuring the server's prefix cache. `tokenizer` is a file (tokenizer.json) that counts tokens if the server does
    not.
    """

    tokens: int = 128
    tokens_stddev: float = 0.0
    count: int = 16
    output_tokens: int = 64
    fixed_output: bool = True
    system: str = field(default="", repr=False)
    template: str = field(default="", repr=False)
    endpoint: str = "v1/chat/completions"
    allow_cache: bool = False
    tokenizer: str = ""


def most_tokens(tokens: int, output_tokens: int, *texts: str) -> int:
    """The most tokens that a request can use with a generated prompt of `tokens` tokens and these additional texts.
    Prompt tokens count 1.5 times, for what the server adds to a prompt."""
    return math.ceil(1.5 * (tokens + sum(len(text.split()) for text in texts))) + output_tokens


DEFAULT_PROMPT = PromptOptions()
PROMPT_PLACE = "{prompt}"
"""The placeholder for the prompt in a template."""


@dataclass(frozen=True, slots=True)
class InputOptions:
    """The input of the requests.

    `shapes` gives full shapes without the batch dimension, for inputs with a -1 dimension. For source `files`, `paths`
    is one directory or JSON files, and `files_digest` their digest when they were checked; changed files are refused,
    because `config_hash` covers them. `string_data` fills each generated string. `parameters` are request parameters.
    `format` and `output_format` (binary, json) apply to tensors over HTTP, `compression` (none, gzip, deflate) to
    requests. `shared_memory` is none, system or cuda; an output of unknown size gets `output_shared_memory_bytes` per
    inference. `priority` is default, or low: the model's lowest priority level. `datatypes` declares the inputs if the
    server does not report them; `signature` is TensorFlow Serving's; `content_type` ("": the kind's default) is
    TorchServe's. `optional_inputs` (send, omit) applies to generated data. `moved` are paths that the data names
    (`Kind.path_input`), each with where a worker of another machine has that file.
    """

    source: str = "random"
    seed: int = 0
    batch_size: int = 1
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    string_length: int = 128
    compression: str = "none"
    paths: tuple[str, ...] = ()
    files_digest: str = ""
    string_data: str = field(default="", repr=False)
    parameters: tuple[tuple[str, str | int | float | bool], ...] = field(default=(), repr=False)
    format: str = "binary"
    output_format: str = "binary"
    shared_memory: str = "none"
    output_shared_memory_bytes: int = 102_400
    priority: str = "default"
    datatypes: tuple[tuple[str, str], ...] = ()
    signature: str = "serving_default"
    content_type: str = ""
    optional_inputs: str = "send"
    moved: tuple[tuple[str, str], ...] = ()
    prompt: PromptOptions = DEFAULT_PROMPT


DEFAULT_INPUT = InputOptions()


@dataclass(frozen=True, slots=True)
class Validation:
    """What responses are compared with: the expected outputs in the data, or the outputs of a reference model, called
    once for each input (`reference_version` "": the server chooses).

    A number matches if it differs by at most `absolute` + `relative` x expected value. If both are None, outputs must
    be equal to those in the data; differences from a reference model are then only reported.
    """

    reference_model: str = ""
    reference_version: str = ""
    absolute: float | None = None
    relative: float | None = None


DEFAULT_SEQUENCE_LENGTH = 20


@dataclass(frozen=True, slots=True)
class SequenceOptions:
    """Requests in sequences: each request has a sequence id; the first and the last are flagged.

    An open loop runs `count` sequences concurrently; a closed loop has one per request in flight, and each stream has
    one. A sequence has `length` requests, plus or minus `length_variation_ratio`; length 0 is that of its stream of
    input data, or 20 without one. Ids are assigned in turn from the `id_range` ids that begin with `start_id`; with
    range 0 they start at a random 63-bit number. A `serial` sequence has at most one request in flight.
    """

    count: int = 4
    length: int = 0
    length_variation_ratio: float = 0.2
    start_id: int = 0
    id_range: int = 0
    serial: bool = False


DEFAULT_MAX_TOKENS = 250_000
"""Per sweep: a canary's tokens cost as much as a user's."""


@dataclass(frozen=True, slots=True)
class StopRules:
    """First do no harm. A level never has more than `max_in_flight` requests at the server. A sweep never sends more
    than `max_requests` and never runs longer than `max_duration_ns`. It stops if, after `error_min_requests` responses,
    more than `max_error_ratio` of them are errors, or if `error_min_requests` fail in a row; a ratio of 1 disables
    both. `on_overload` is the reaction to an overloaded server.

    A level also stops once the responses slower than `max_latency_ns` outnumber the others by `error_min_requests`, and
    once the server's queue of the model has grown at `pending_growth` readings in a row. 0 disables either rule.
    """

    max_in_flight: int = 256
    max_requests: int = 1_000_000
    max_duration_ns: int = 300 * NS
    max_error_ratio: float = 0.1
    error_min_requests: int = 20
    on_overload: OverloadPolicy = OverloadPolicy.BACK_OFF
    max_latency_ns: int = 5 * NS
    pending_growth: int = 5
    max_tokens: int = DEFAULT_MAX_TOKENS
    """Prompt and response tokens of a sweep, as counted by the server; for kinds that take prompts."""


@dataclass(frozen=True, slots=True)
class Slo:
    """A request is good if it is ok within `latency_ns` and meets each other limit that is set (0: none): time to first
    token, mean time per output token after the first, and every gap between two tokens. A level meets the slo if
    `percentile` of its requests are good. The slo applies to `levels` only: overload levels would distort it."""

    name: str
    latency_ns: int
    percentile: float
    levels: tuple[str, ...]
    objective: float = 0.0
    """The target ratio of good requests over time, such as 0.99; 0 uses the percentile."""
    first_token_ns: int = 0
    per_output_token_ns: int = 0
    inter_token_ns: int = 0

    @property
    def is_of_tokens(self) -> bool:
        """Whether it has token limits."""
        return bool(self.first_token_ns or self.per_output_token_ns or self.inter_token_ns)

    @property
    def objective_ratio(self) -> float:
        """The objective of the error budget."""
        return self.objective or self.percentile / 100


@dataclass(frozen=True, slots=True)
class Unit:
    """The value of one inference to a user, for example 0.3 seconds_of_audio."""

    name: str
    per_inference: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a probe runs: every `interval_ns`, or by `cron` (five fields, in `timezone`), each run delayed by up to
    `jitter_ns`. Under cron `interval_ns` is the longest gap between runs."""

    interval_ns: int
    cron: str = ""
    timezone: str = "UTC"
    jitter_ns: int = 0


class Signal(enum.StrEnum):
    """A figure of a level that is compared with a baseline."""

    LATENCY_P50 = "latency_p50"
    LATENCY_P99 = "latency_p99"
    THROUGHPUT = "throughput"
    FIRST_TOKEN_P50 = "time_to_first_token_p50"  # noqa: S105  # not a password
    FIRST_TOKEN_P99 = "time_to_first_token_p99"  # noqa: S105
    PER_OUTPUT_TOKEN_P50 = "time_per_output_token_p50"  # noqa: S105
    OUTPUT_TOKENS = "output_tokens_per_second"

    @property
    def is_rate(self) -> bool:
        """Whether higher is better. The other signals are times: lower is better."""
        return self in _RATES

    @property
    def is_of_tokens(self) -> bool:
        """Whether only targets that take prompts have it."""
        return self not in _OF_ALL


_RATES = frozenset({Signal.THROUGHPUT, Signal.OUTPUT_TOKENS})
_OF_ALL = frozenset({Signal.LATENCY_P50, Signal.LATENCY_P99, Signal.THROUGHPUT})


_WITH_TOKENS, _WITHOUT = tuple(Signal), tuple(signal for signal in Signal if signal in _OF_ALL)


def signals_of(target: Target) -> tuple[Signal, ...]:
    """The signals of this target's levels that are compared with baselines."""
    return _WITH_TOKENS if target.takes_prompts else _WITHOUT


@dataclass(frozen=True, slots=True)
class Tier:
    """A severity of regressions. A sweep is bad if a signal is worse than its baseline by more than `ratio` and by more
    than e^(`noise_factor` x baseline noise). A regression begins once `bad` of the last `of` sweeps are bad, and ends
    once at most `clear` are. The counts apply to one interval and are scaled for others. `also_over` names a tier with
    a longer period over which the same ratio is checked, too: it finds what noise hides over hours."""

    name: str
    ratio: float
    noise_factor: float
    bad: int
    of: int
    clear: int
    signals: tuple[Signal, ...]
    also_over: str = ""


TOKEN_SIGNALS = (Signal.FIRST_TOKEN_P50, Signal.PER_OUTPUT_TOKEN_P50)
"""Signals that every tier checks in addition, if the target takes prompts and the user lists no signals."""

PAGE = Tier("page", 1.25, 4.0, 14, 18, 6, (Signal.LATENCY_P50,), also_over="slow")

WARN = Tier("warn", 1.10, 3.0, 20, 24, 9, (Signal.LATENCY_P50, Signal.LATENCY_P99), also_over="slow")

SLOW = Tier("slow", 1.06, 3.0, 173, 288, 115, (Signal.LATENCY_P50,))


MOST_POOLED_SWEEPS = 50
"""The most sweeps over which p99 is pooled."""


@dataclass(frozen=True, slots=True)
class BaselineOptions:
    """How a level is compared with its baseline.

    The baseline is pinned after `pin_ns` of sweeps, provisionally after `provisional_ns`, and refined once after
    `refine_ns`. A longer pin keeps the previous value if the new one is worse by more than `replace_ratio`. A newly
    served version may be worse than the accepted one by `version_ratio`. `timezone` ("": the schedule's) is the users'
    timezone, for the hours of the week. Above `max_noise` (None: no limit) there is no verdict. p99 is pooled over
    sweeps until it covers `p99_min_requests` requests. Differences up to the floor are ignored. The tiers' counts apply
    to sweeps every `counts_interval_ns`.
    """

    enabled: bool = True
    pin_ns: int = 7 * 86_400 * NS
    provisional_ns: int = 86_400 * NS
    refine_ns: int = 28 * 86_400 * NS
    timezone: str = ""
    replace_ratio: float = 1.05
    version_ratio: float = 1.10
    max_noise: float | None = None
    p99_min_requests: int = 1000
    p50_floor_ns: int = 200_000
    p99_floor_ns: int = 1_000_000
    counts_interval_ns: int = 300 * NS
    tiers: tuple[Tier, ...] = (PAGE, WARN, SLOW)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Trace settings of the model on the server during a sweep, as in Triton's trace extension. None keeps the server's
    value."""

    trace_level: tuple[str, ...] | None = None
    trace_rate: int | None = None
    trace_count: int | None = None
    log_frequency: int | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """What to measure on a target, how, and when. `config_hash` covers all of it. With `version` "" the server chooses.
    `parent` is as in `Target`. `workers` processes share each level's load, on this machine or in the Dask scheduler
    `pool`; those of a `place` are the scheduler's workers with a resource of this name. With a `search`, `levels` are
    its configured start and end; otherwise all levels to run. `composing_models` are models that this model calls in
    ways its configuration does not report; an ensemble's are found automatically. `streaming` uses gRPC's bidirectional
    stream."""

    name: str
    target: Target
    model: str
    version: str
    schedule: Schedule
    levels: tuple[LoadLevel, ...]
    measurement: MeasurementOptions = MeasurementOptions()
    input: InputOptions = InputOptions()
    stop: StopRules = StopRules()
    slo: Slo | None = None
    unit: Unit | None = None
    workers: int = 1
    pool: str = ""
    place: str = ""
    histogram: bool = True
    buckets_per_decade: int = 10
    variant: str = ""
    variant_group: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    config_hash: str = ""
    search: Search | None = None
    composing_models: tuple[str, ...] = ()
    server_settings: ServerSettings | None = None
    validation: Validation | None = None
    sequences: SequenceOptions | None = None
    streaming: bool = False
    baseline: BaselineOptions = BaselineOptions()
    parent: str = ""

    @property
    def request_tokens(self) -> int:
        """The most tokens that one request of a target that takes prompts can use; 1 if only the input files determine
        it."""
        prompt = self.input.prompt
        if self.input.source == "files":
            return 1
        return most_tokens(prompt.tokens, prompt.output_tokens, prompt.system, prompt.template)


def at_level(probe: Probe, level: LoadLevel) -> Probe:
    """The probe with the input of this level: each level of a matrix has its own batch size or shapes."""
    if level.batch_size is None and not level.shapes:
        return probe
    given = probe.input
    shapes = tuple(sorted((dict(given.shapes) | dict(level.shapes)).items()))
    return replace(probe, input=replace(given, batch_size=level.batch_size or given.batch_size, shapes=shapes))
