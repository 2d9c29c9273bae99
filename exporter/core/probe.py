"""What to measure: a probe and all that belongs to it, as set by the configuration or a command line.

The types are frozen and can be pickled. A name carries its unit: `_ns` is integer nanoseconds.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace

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
        """Whether the clock decides when requests are due, not the responses to earlier ones."""
        return self not in (Mode.CONCURRENCY, Mode.PERIODIC, Mode.SESSIONS)

    @property
    def runs_once(self) -> bool:
        """Whether the load has an end of its own, and no steady state: all of it is measured."""
        return self in (Mode.SCHEDULE, Mode.PERIODIC, Mode.SESSIONS)

    @property
    def has_places(self) -> bool:
        """Whether its value is how many requests are in flight at most, each in a place of its own."""
        return self in (Mode.CONCURRENCY, Mode.STREAMS)


class Distribution(enum.StrEnum):
    """How the requests of a rate are spread in time."""

    CONSTANT = "constant"
    POISSON = "poisson"


class OverloadPolicy(enum.StrEnum):
    """What a server that reports overload (429, 503, RESOURCE_EXHAUSTED) gets: the same load and a count of its
    refusals, or a pause as long as it asks for, or longer each time."""

    COUNT = "count"
    BACK_OFF = "back_off"


class SearchKind(enum.StrEnum):
    """Which levels a search visits: one after the other up to the first that fails, or by halving."""

    LINEAR = "linear"
    BINARY = "binary"


class StabilityRule(enum.StrEnum):
    """What makes windows agree: see `sweep.stability`."""

    CANARY = "canary"
    PERF_ANALYZER = "perf_analyzer"


class WindowMode(enum.StrEnum):
    """What ends a measurement window: its time, or so many requests that ended in it."""

    TIME = "time"
    COUNT = "count"


@dataclass(frozen=True, slots=True)
class LoadLevel:
    """One load. `label` is the configured value as text ("4", "100"; a file's stem for intervals and schedules).

    `value` is the concurrency (of sessions and streams: how many are under way at once) or the requests a second; for
    an interval file the mean of these, for a schedule the number of its requests. `distribution` is of request rates,
    `seed` (None: another in each sweep) of these and of streams; `file` and the digest of what was in it when it was
    checked are of intervals and schedules: a file that has changed is refused, since `config_hash` covers it.
    `duration_ns` is when the last request of a schedule is due; 0 for loads that have no end of their own.
    Periodic concurrency begins with `start` requests and adds `step` whenever the last ones added have had
    `request_period` responses each, until there were `value` of them. In a closed loop each request in flight pauses
    for some `think_ns` after its end, half as much more or less. Each of so many streams sends a step of its sequence
    every `step_interval_ns`; they begin one after the other within `ramp_ns` (see `engine.streams`). `batch_size` and
    `shapes` are of a matrix of levels, in place of the input's (see `at_level`).
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
        """Whether a seed decides when its requests are due."""
        return self.distribution is Distribution.POISSON or self.mode is Mode.STREAMS

    @property
    def requests_per_second(self) -> float:
        """How many requests are due by the clock; 0 where it is the responses that decide, and for schedules."""
        if self.mode in (Mode.REQUEST_RATE, Mode.INTERVALS):
            return self.value
        return self.value * NS / self.step_interval_ns if self.step_interval_ns else 0.0


MAX_REQUEST_RATE = 1_000_000.0
"""Requests a second: the most that a configuration may ask for, and where a search with an open end ends."""

COUNT_WINDOW_LIMIT = 12
"""A window that ends by its requests ends at the latest after so many of the lengths that one of time would have: a
minute by default, so that a server that stops responding delays no other probe for long."""

MAX_COMPOSING_MODELS = 16
"""Of one probe, named or found: a cap on series, and on what is asked for at each window's edge."""

MAX_SEARCH_LEVELS = 64
"""The most levels that a search with an open end visits: it must end."""


@dataclass(frozen=True, slots=True)
class Search:
    """Looks for the highest level that keeps the latency threshold, from `start` to `end` (0: open), in the levels' own
    unit. `step` is the distance of a linear search's levels, and the precision of a binary one."""

    kind: SearchKind
    mode: Mode
    start: float
    end: float
    step: float


@dataclass(frozen=True, slots=True)
class MeasurementOptions:
    """How a level is measured: windows of `window_ns`, until the last `stability_windows` agree within
    `stability_ratio` on latency (its mean, or `stability_percentile`) and throughput, by `stability_rule`, at most
    `max_windows`.

    Under `WindowMode.COUNT` a window ends once `window_requests` requests have ended in it. With a `request_count` (0:
    none) a level sends exactly so many and is measured in one window. Measuring begins once the load has run for
    `warm_up_ns` and `warm_up_requests` have ended. The whole sweep is run `repeats` times.

    A level keeps `latency_threshold_ns` (0: there is none) where the figure that stability is judged by is within it,
    and it got at least `min_reached_ratio` of what was asked of it.
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
"""What the path of an endpoint that takes prompts ends with, by which the form of its requests is known."""


def prompt_api(endpoint: str) -> str:
    """The one of `PROMPT_APIS` that this path is of. Raises ValueError."""
    path = endpoint.rstrip("/")
    for api in PROMPT_APIS:
        if path == api or path.endswith(f"/{api}"):
            return api
    raise ValueError(f"must end with {', '.join(PROMPT_APIS[:-1])} or {EMBEDDINGS}: the request's form is known by it")


@dataclass(frozen=True, slots=True)
class PromptOptions:
    """What a language model is asked. There are `count` generated prompts of about `tokens` tokens each (normally
    distributed with `tokens_stddev`), and `output_tokens` are asked for; `fixed_output` asks the server not to end
    before. `system` goes before each prompt, and `template`, if given, is the prompt with `{prompt}` in it. `endpoint`
    is the path below the target's. Unless `allow_cache`, each request begins with a text of its own, so that no prefix
    that the server has cached is measured. `tokenizer` is a file (tokenizer.json) that counts tokens where the server
    does not."""

    tokens: int = 128
    tokens_stddev: float = 0.0
    count: int = 16
    output_tokens: int = 64
    fixed_output: bool = True
    system: str = ""
    template: str = ""
    endpoint: str = "v1/chat/completions"
    allow_cache: bool = False
    tokenizer: str = ""


def most_tokens(tokens: int, output_tokens: int, *texts: str) -> int:
    """What a request with a generated prompt of so many tokens spends at most, with these texts around it; half as many
    tokens more are reckoned for what a server adds to a prompt."""
    return math.ceil(1.5 * (tokens + sum(len(text.split()) for text in texts))) + output_tokens


DEFAULT_PROMPT = PromptOptions()
PROMPT_PLACE = "{prompt}"
"""Where a template has the prompt."""


@dataclass(frozen=True, slots=True)
class InputOptions:
    """What is sent. `shapes` gives full shapes without the batch dimension, for inputs with a -1 dimension. The `paths`
    of source `files` are one directory or JSON files, and `files_digest` is of all that was in them when they were
    checked: files that have changed are refused, since `config_hash` covers them. `string_data` fills each generated
    string. `parameters` are the request's. `format` and `output_format` (binary, json) are of tensors over HTTP, and
    `compression` (none, gzip, deflate) is of the requests. `shared_memory` is none, system or cuda; an output of
    unknown size gets `output_shared_memory_bytes` of it for each inference of a request. `priority` is default, or low:
    the last of the model's priority levels. `datatypes` name the inputs of a model whose server does not report them;
    `signature` is TensorFlow Serving's, `content_type` ("": the kind's default) TorchServe's.
    `optional_inputs` (send, omit) are the model's optional ones in generated data."""

    source: str = "random"
    seed: int = 0
    batch_size: int = 1
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    string_length: int = 128
    compression: str = "none"
    paths: tuple[str, ...] = ()
    files_digest: str = ""
    string_data: str = ""
    parameters: tuple[tuple[str, str | int | float | bool], ...] = ()
    format: str = "binary"
    output_format: str = "binary"
    shared_memory: str = "none"
    output_shared_memory_bytes: int = 102_400
    priority: str = "default"
    datatypes: tuple[tuple[str, str], ...] = ()
    signature: str = "serving_default"
    content_type: str = ""
    optional_inputs: str = "send"
    prompt: PromptOptions = DEFAULT_PROMPT


DEFAULT_INPUT = InputOptions()


@dataclass(frozen=True, slots=True)
class Validation:
    """What responses are compared with: the outputs expected in the data, or those of a reference model, which is asked
    once for each input (`reference_version` "" is the server's choice).

    A number is as expected if it differs by at most `absolute` + `relative` x its expected value. None for both: by
    nothing at all where the data has the expected outputs; a reference model is then only compared, and no response
    wrong.
    """

    reference_model: str = ""
    reference_version: str = ""
    absolute: float | None = None
    relative: float | None = None


DEFAULT_SEQUENCE_LENGTH = 20


@dataclass(frozen=True, slots=True)
class SequenceOptions:
    """Requests as sequences: each has an id, and a flag at its first and at its last request.

    `count` sequences are under way at once in an open loop; a closed loop has one for each request in flight, and
    streams have one each. A
    sequence has `length` requests, more or less by up to `length_variation_ratio`; length 0 is that of its stream of
    input data, or 20 where there is none. Ids are taken in turn from the `id_range` that begin with `start_id`; range 0
    is a random place among 63 bits. A `serial` sequence never has more than one request in flight.
    """

    count: int = 4
    length: int = 0
    length_variation_ratio: float = 0.2
    start_id: int = 0
    id_range: int = 0
    serial: bool = False


DEFAULT_MAX_TOKENS = 250_000
"""Of one sweep: a canary's tokens cost what users' do."""


@dataclass(frozen=True, slots=True)
class StopRules:
    """First do no harm. A level never has more than `max_in_flight` requests at the server, a sweep never sends more
    than `max_requests` nor runs longer than `max_duration_ns`, and it ends as soon as, after `error_min_requests`
    responses, more than `max_error_ratio` of them are errors, or `error_min_requests` fail in a row. `on_overload`
    states what an overloaded server gets. A ratio of 1 lets everything fail.

    A level also ends once `error_min_requests` more ok responses took longer than `max_latency_ns` than did not, and
    once the server's queue of the model has grown at `pending_growth` readings in a row. 0 switches either off."""

    max_in_flight: int = 256
    max_requests: int = 1_000_000
    max_duration_ns: int = 300 * NS
    max_error_ratio: float = 0.1
    error_min_requests: int = 20
    on_overload: OverloadPolicy = OverloadPolicy.BACK_OFF
    max_latency_ns: int = 5 * NS
    pending_growth: int = 5
    max_tokens: int = DEFAULT_MAX_TOKENS
    """Tokens of a sweep, of prompts and responses together, by what the server counted; of kinds that take prompts."""


@dataclass(frozen=True, slots=True)
class Slo:
    """A request is good if it is ok within `latency_ns`, and keeps each other limit that is given (0: none): the time
    to its first token, its mean time per output token after the first, and each gap between two of its tokens. The slo
    is met where `percentile` of a level's requests are good. It holds at the levels named: an overload level would
    poison it."""

    name: str
    latency_ns: int
    percentile: float
    levels: tuple[str, ...]
    objective: float = 0.0
    """The part of requests that are to be good over time, 0.99; 0: that of the percentile."""
    first_token_ns: int = 0
    per_output_token_ns: int = 0
    inter_token_ns: int = 0

    @property
    def is_of_tokens(self) -> bool:
        """Whether it limits more than the latency."""
        return bool(self.first_token_ns or self.per_output_token_ns or self.inter_token_ns)

    @property
    def objective_ratio(self) -> float:
        """What the error budget is counted by."""
        return self.objective or self.percentile / 100


@dataclass(frozen=True, slots=True)
class Unit:
    """What one inference is worth to a user, for example 0.3 seconds_of_audio."""

    name: str
    per_inference: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a probe runs: every `interval_ns`, or by `cron` (five fields, in `timezone`), each moved later by up to
    `jitter_ns`. Under cron `interval_ns` is the longest gap ahead."""

    interval_ns: int
    cron: str = ""
    timezone: str = "UTC"
    jitter_ns: int = 0


class Signal(enum.StrEnum):
    """A figure of a level that is compared with a baseline."""

    LATENCY_P50 = "latency_p50"
    LATENCY_P99 = "latency_p99"
    THROUGHPUT = "throughput"
    FIRST_TOKEN_P50 = "time_to_first_token_p50"  # noqa: S105  # no password
    FIRST_TOKEN_P99 = "time_to_first_token_p99"  # noqa: S105
    PER_OUTPUT_TOKEN_P50 = "time_per_output_token_p50"  # noqa: S105
    OUTPUT_TOKENS = "output_tokens_per_second"

    @property
    def is_rate(self) -> bool:
        """Whether more is better: of the others, which are times, less is."""
        return self in _RATES

    @property
    def is_of_tokens(self) -> bool:
        """Whether only targets that take prompts have it."""
        return self not in _OF_ALL


_RATES = frozenset({Signal.THROUGHPUT, Signal.OUTPUT_TOKENS})
_OF_ALL = frozenset({Signal.LATENCY_P50, Signal.LATENCY_P99, Signal.THROUGHPUT})


_WITH_TOKENS, _WITHOUT = tuple(Signal), tuple(signal for signal in Signal if signal in _OF_ALL)


def signals_of(target: Target) -> tuple[Signal, ...]:
    """What is compared with baselines of a target's levels."""
    return _WITH_TOKENS if target.takes_prompts else _WITHOUT


@dataclass(frozen=True, slots=True)
class Tier:
    """One loudness of a regression. A sweep is bad where a signal is worse than its baseline by more than `ratio`, and
    by more than e^(`noise_factor` * noise of the baseline). The regression holds once `bad` of the last `of` sweeps
    are, until at most `clear` are; the counts are meant for one interval, and scaled for others. `also_over` names a
    tier over whose longer time the same ratio is looked for, too: what noise hides in hours shows in a day."""

    name: str
    ratio: float
    noise_factor: float
    bad: int
    of: int
    clear: int
    signals: tuple[Signal, ...]
    also_over: str = ""


TOKEN_SIGNALS = (Signal.FIRST_TOKEN_P50, Signal.PER_OUTPUT_TOKEN_P50)
"""What each tier looks at, too, where the target takes prompts and the user names no signals."""

PAGE = Tier("page", 1.25, 4.0, 14, 18, 6, (Signal.LATENCY_P50,), also_over="slow")

WARN = Tier("warn", 1.10, 3.0, 20, 24, 9, (Signal.LATENCY_P50, Signal.LATENCY_P99), also_over="slow")

SLOW = Tier("slow", 1.06, 3.0, 173, 288, 115, (Signal.LATENCY_P50,))


MOST_POOLED_SWEEPS = 50
"""Sweeps over which p99 is pooled at most."""


@dataclass(frozen=True, slots=True)
class BaselineOptions:
    """How a level is compared with what it was.

    The baseline is pinned after `pin_ns` of sweeps, provisionally after `provisional_ns`, and refined once after
    `refine_ns`. A longer pin keeps the level of the one before where it is worse by more than `replace_ratio`. A newly
    served version may be worse than the accepted one by `version_ratio`. `timezone` ("": the schedule's) is where the
    hours of the week are those of the model's users. Above `max_noise` (None: no limit) no verdict is given. The 99th
    percentile is pooled over sweeps until it rests on `p99_min_requests` requests. What differs by no more than the
    floor, differs not. The counts of the tiers are meant for sweeps every `counts_interval_ns`.
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
    """The server's trace settings of the model for the time of a sweep, as Triton's trace extension has them; what is
    None stays as it is."""

    trace_level: tuple[str, ...] | None = None
    trace_rate: int | None = None
    trace_count: int | None = None
    log_frequency: int | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """What to measure on a target, how, and when. `config_hash` covers it all; `version` "" is the server's choice.
    `parent` is as a target's. `workers` processes share the load of each level: of this machine, or of the Dask
    scheduler `pool`. With a `search`, `levels` are its declared start and end; without one, all that are run.
    `composing_models` are called by the model in ways that its configuration does not report; those of an ensemble are
    found without being named. `streaming` sends over gRPC's bidirectional stream."""

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
        """What one request spends at most, of a target that takes prompts; 1 where only its files know."""
        prompt = self.input.prompt
        if self.input.source == "files":
            return 1
        return most_tokens(prompt.tokens, prompt.output_tokens, prompt.system, prompt.template)


def at_level(probe: Probe, level: LoadLevel) -> Probe:
    """The probe with the input of this level: in a matrix each has its own batch size or shapes."""
    if level.batch_size is None and not level.shapes:
        return probe
    given = probe.input
    shapes = tuple(sorted((dict(given.shapes) | dict(level.shapes)).items()))
    return replace(probe, input=replace(given, batch_size=level.batch_size or given.batch_size, shapes=shapes))
