"""What a user may say of a probe, and of all probes as their defaults. What holds between keys is in `checks`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationInfo,
    model_validator,
)

from exporter.config import text
from exporter.config.baseline_settings import BaselineSettings
from exporter.config.cron import parse_cron
from exporter.config.fields import (
    FilledLabelValue,
    LabelValue,
    Name,
    Number,
    NumberAsLabelValue,
    OneOf,
    Percentile,
    Section,
    exactly_one,
)
from exporter.config.inputs import Parameter, parse_parameter, parse_paths
from exporter.config.levels import (
    Levels,
    parse_concurrency,
    parse_intervals_file,
    parse_periodic,
    parse_request_rate,
    parse_schedule_file,
)
from exporter.config.quantities import duration, ratio
from exporter.input_files import InputFiles
from exporter.probe import Distribution, LoadLevel, Mode, Search, SearchKind
from exporter.timing_files import TimingFile
from exporter.units import NS

DATATYPES = (
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BF16",
    "BYTES",
)
"""Of tensors, by the Open Inference Protocol's names."""

MAX_PERCENTILES = 10
_MAX_ID = 10**18 - 1
"""The largest whole number that YAML gives us; an id may be twice as large, and is still within 63 bits."""
_KEPT_PERCENTILES = (50.0, 99.0)


class ScheduleSettings(Section):
    """When a probe runs: `every` or `cron`."""

    every_ns: Annotated[int, duration("1s", "366d")] | None = Field(
        default=None, description="The interval between two starts."
    )
    cron: Annotated[StrictStr, AfterValidator(lambda given: parse_cron(given).text)] | None = Field(
        default=None,
        description="Minute, hour, day of the month, month, day of the week (0 and 7 are Sunday; names are fine).",
    )
    timezone: Annotated[StrictStr, AfterValidator(text.timezone)] = Field(
        default="UTC", description="The time zone in which `cron` is meant, as `Europe/Berlin`."
    )
    jitter_ns: Annotated[int, duration("0s", "1d")] = Field(
        default=0, description="Each start is moved later by up to this, at random."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        exactly_one({"every": self.every_ns, "cron": self.cron})
        return self


def _levels(parse: Callable[[object, str], Levels]) -> PlainValidator:
    """What a range means depends on the search, whose field therefore comes first."""

    def validate(given: object, info: ValidationInfo) -> Levels:
        return parse(given, info.data.get("search", "every"))

    return PlainValidator(validate)


class SequenceSettings(Section):
    """Sequences: requests with an id, and a flag at the first and at the last. Sequence models get them anyway."""

    count: Annotated[StrictInt, Field(ge=1, le=65_536)] = Field(
        default=4,
        description="How many are under way at once in an open loop. A closed loop has one for each request in flight.",
    )
    length: Annotated[StrictInt, Field(ge=0, le=1_000_000)] = Field(
        default=0, description="Requests in a sequence. 0: as many as its stream of input data has; 20 without such."
    )
    length_variation_ratio: Annotated[float, ratio("0%", "100%")] = Field(
        default=0.2, alias="length_variation", description="How much longer or shorter than `length` one may be."
    )
    start_id: Annotated[StrictInt, Field(ge=0, le=_MAX_ID)] = Field(
        default=0, description="The first id; at random by default, so that two clients do not meet in one sequence."
    )
    id_range: Annotated[StrictInt, Field(ge=0, le=_MAX_ID)] = Field(
        default=0, description="How many ids are used in turn, from `start_id` on; 4294967295 where only that is given."
    )
    serial: StrictBool = Field(
        default=False,
        description="Whether a sequence never has more than one request in flight. In an open loop it otherwise may, "
        "but for its first and its last request.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.id_range and not self.start_id:
            raise ValueError("id_range needs start_id")
        return self


class LoadSettings(Section):
    """The levels: `concurrency`, `request_rate`, `periodic_concurrency`, `intervals_file` or `schedule_file`."""

    search: Literal["every", "linear", "binary"] = Field(
        default="every",
        description="What is run of a range: `every` level; or up to the first that is unstable or above "
        "`measurement.latency_threshold` (`linear`); or, by halving, down to one step below and above the highest that "
        "keeps it (`binary`).",
    )
    concurrency: Annotated[Levels, _levels(parse_concurrency)] | None = Field(
        default=None,
        description="Closed loop: requests in flight at once. A number, a list, or `start:end[:step]`; for a linear "
        "search the end may be 0: open.",
    )
    request_rate: Annotated[Levels, _levels(parse_request_rate)] | None = Field(
        default=None, description="Open loop: requests a second. Written as `concurrency` is."
    )
    distribution: Literal["constant", "poisson"] = Field(
        default="constant", description="How the requests of a rate are spread: evenly, or at random."
    )
    seed: Annotated[StrictInt, Field(ge=0, le=2**32 - 1)] = Field(
        default=0, description="The seed of `poisson`; each level has a schedule of its own, the same in each sweep."
    )
    intervals_file: Annotated[TimingFile, PlainValidator(parse_intervals_file)] | None = Field(
        default=None,
        description="Open loop: the gaps between requests, one whole number of microseconds a line, over and over. "
        "The level bears the file's name, without its ending.",
    )
    schedule_file: Annotated[TimingFile, PlainValidator(parse_schedule_file)] | None = Field(
        default=None,
        description="Open loop: when requests are sent, in milliseconds after the start, one a line, ascending; or a "
        "JSON file of input data whose steps have a `timestamp`. Run once and measured whole. The level bears the "
        "file's name, without its ending.",
    )
    periodic_concurrency: Annotated[tuple[int, int, int], PlainValidator(parse_periodic)] | None = Field(
        default=None,
        description="Closed loop over streams, run once and measured whole: `start:end:step`. `start` requests, and "
        "`step` more each time that the last ones added have had `request_period` responses, until `end` were sent.",
    )
    request_period: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = Field(
        default=10, description="Responses to each request before the next step of `periodic_concurrency`."
    )
    workers: Annotated[StrictInt, Field(ge=1, le=16)] = Field(
        default=1, description="Processes that share each level, for loads above what one core can make."
    )
    sequences: SequenceSettings | None = Field(default=None, description="The requests' sequences.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        choices = {
            "concurrency": self.concurrency,
            "request_rate": self.request_rate,
            "intervals_file": self.intervals_file,
            "schedule_file": self.schedule_file,
            "periodic_concurrency": self.periodic_concurrency,
        }
        exactly_one(choices)
        return self

    @property
    def levels(self) -> tuple[LoadLevel, ...]:
        """The levels with their labels."""
        if self.concurrency:
            values = self.concurrency.values
            return tuple(LoadLevel(Mode.CONCURRENCY, value, text.as_number(value)) for value in values)
        if self.periodic_concurrency:
            start, end, step = self.periodic_concurrency
            label = f"{start}:{end}:{step}"
            period = self.request_period
            return (LoadLevel(Mode.PERIODIC, float(end), label, start=start, step=step, request_period=period),)
        if file := self.intervals_file:
            mean_rate = len(file.entries_ns) * NS / sum(file.entries_ns)
            return (LoadLevel(Mode.INTERVALS, mean_rate, file.stem, file=file.path, file_digest=file.digest),)
        if file := self.schedule_file:
            requests, last_ns = float(len(file.entries_ns)), file.entries_ns[-1]
            return (
                LoadLevel(
                    Mode.SCHEDULE,
                    requests,
                    file.stem,
                    file=file.path,
                    file_digest=file.digest,
                    duration_ns=last_ns,
                ),
            )
        distribution = Distribution(self.distribution)
        return tuple(
            LoadLevel(Mode.REQUEST_RATE, value, text.as_number(value), distribution, self.seed)
            for value in (self.request_rate.values if self.request_rate else ())
        )

    @property
    def searched(self) -> Search | None:
        """The search for the highest level that keeps the threshold, if there is to be one."""
        for mode, levels in ((Mode.CONCURRENCY, self.concurrency), (Mode.REQUEST_RATE, self.request_rate)):
            if levels is not None and levels.span is not None:
                span = levels.span
                return Search(SearchKind(self.search), mode, span.start, span.end, span.step)
        return None


class MeasurementSettings(Section):
    """How a level is measured."""

    window_ns: Annotated[int, duration("100ms", "1h")] = Field(
        default=5 * NS, description="The length of one measurement window."
    )
    stability_ratio: Annotated[float, ratio("0.1%", "1000%")] = Field(
        default=0.1,
        alias="stability",
        description="How far apart the judged windows may be: max/min of throughput and latency, less 1.",
    )
    stability_percentile: Percentile | None = Field(
        default=None, description="The percentile of latency that is judged; its mean by default."
    )
    stability_windows: Annotated[StrictInt, Field(ge=1, le=100)] = Field(
        default=3, description="How many windows in a row must agree; they are merged into the result."
    )
    max_windows: Annotated[StrictInt, Field(ge=1, le=1000)] = Field(
        default=10, description="After so many the level is unstable."
    )
    percentiles: Annotated[tuple[Percentile, ...], Field(max_length=MAX_PERCENTILES)] = Field(
        default=(50.0, 90.0, 95.0, 99.0, 99.9),
        description="The percentiles of latency that are exported; 50, 99 and those named by "
        "`stability_percentile` and `slo` always are. At most 10.",
    )
    request_timeout_ns: Annotated[int, duration("1ms", "1h")] = Field(
        default=10 * NS, description="When a request is given up."
    )
    window_mode: Literal["time", "count"] = Field(
        default="time",
        description="What ends a window: `time`, after `window`; `count`, once `window_requests` requests have ended "
        "in it, or 12 times `window` have passed.",
    )
    window_requests: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = Field(
        default=50, description="How many requests end in a window of mode `count`, at least."
    )
    request_count: Annotated[StrictInt, Field(ge=0, le=100_000_000)] = Field(
        default=0,
        description="Above 0 each level sends exactly so many requests after its warm-up, and is measured in one "
        "window, from the first one's start to the last one's end.",
    )
    warm_up_requests: Annotated[StrictInt, Field(ge=0, le=100_000_000)] = Field(
        default=0,
        description="How many requests must have ended before a level is measured, the cold first one not counted.",
    )
    warm_up_ns: Annotated[int, duration("0s", "1h")] = Field(
        default=0, description="How long the load must have gone on before a level is measured."
    )
    repeats: Annotated[StrictInt, Field(ge=1, le=100)] = Field(
        default=1, description="How many times the whole sweep is run; a level's figures are of all of them together."
    )
    latency_threshold_ns: Annotated[int, duration("0s", "1h")] = Field(
        default=0,
        description="The latency that a level must keep: its mean, or `stability_percentile`; at a rate from the "
        "intended send time on. 0 is none.",
    )
    min_reached_ratio: Annotated[float, ratio("0%", "100%")] = Field(
        default=0.99,
        alias="min_reached",
        description="The part of the requests asked for that must have been ok, or the level did not keep its "
        "threshold.",
    )


class InputSettings(Section):
    """What is sent."""

    source: Literal["random", "zero", "files"] = Field(default="random", description="What fills the input tensors.")
    seed: Annotated[StrictInt, Field(ge=0, le=2**32 - 1)] = Field(
        default=0, description="The seed of the random input."
    )
    batch_size: Annotated[StrictInt, Field(ge=1, le=65_536)] = Field(
        default=1, description="Inferences in one request."
    )
    shapes: dict[str, Annotated[tuple[Annotated[StrictInt, Field(ge=1)], ...], Field(max_length=16)]] = Field(
        default={},
        description="Full shapes by input, without the batch dimension, for inputs that vary in size.",
    )
    string_length: Annotated[StrictInt, Field(ge=0, le=16 * 2**20)] = Field(
        default=128, description="Characters in a string element."
    )
    compression: Literal["none", "gzip", "deflate"] = Field(
        default="none", description="How requests are compressed: once, before the load; the server unpacks each."
    )
    paths: Annotated[InputFiles | None, PlainValidator(parse_paths)] = Field(
        default=None,
        description="With `source: files`: one directory with a file for each tensor, or JSON files. See "
        "[inputs](inputs.md).",
    )
    string_data: Annotated[StrictStr, Field(max_length=16 * 2**20)] = Field(
        default="", description="What each generated string element is, in place of random characters."
    )
    parameters: Annotated[dict[str, Annotated[Parameter, PlainValidator(parse_parameter)]], Field(max_length=64)] = (
        Field(default={}, description="Request parameters by name, which the model's code can read.")
    )
    format: Literal["binary", "json"] = Field(default="binary", description="How input tensors are sent over HTTP.")
    output_format: Literal["binary", "json"] = Field(
        default="binary", description="How output tensors are asked for over HTTP."
    )
    shared_memory: Literal["none", "system", "cuda"] = Field(
        default="none",
        description="Where tensors go by shared memory: `system`, where the server runs on this machine with the same "
        "`/dev/shm`, or `cuda`, with a GPU that both have.",
    )
    output_shared_memory_bytes: Annotated[StrictInt, Field(ge=1, le=2**31 - 1)] = Field(
        default=102_400,
        alias="output_shared_memory_size",
        description="Bytes of shared memory for one inference's output whose size the model does not tell.",
    )
    priority: Literal["default", "low"] = Field(
        default="default",
        description="`low` asks for the last of the model's priority levels, where it has any: users' requests go "
        "first, and what is measured is a class that they are not in.",
    )
    datatypes: Annotated[dict[str, Annotated[str, OneOf(DATATYPES)]], Field(max_length=64)] = Field(
        default={},
        description="Kinds `oip` and `tfserving`: the datatype of each input, as FP32, of a model whose server does "
        "not tell its inputs; `shapes` go with it.",
    )
    signature: FilledLabelValue = Field(
        default="serving_default", description="Kind `tfserving`: the signature that is asked."
    )
    content_type: Annotated[StrictStr, AfterValidator(text.header_value)] = Field(
        default="",
        description="Kind `torchserve`: of what is sent. By default files go as `multipart/form-data`, and bodies as "
        "`application/json` if that is what they are, else as `application/octet-stream`.",
    )


class ValidationSettings(Section):
    """What answers are held against, beside or in place of the outputs that the data expects."""

    reference_model: LabelValue = Field(
        default="",
        description="Another model of the same server, which is asked once for each input: its outputs are the "
        "expected ones.",
    )
    reference_version: NumberAsLabelValue = Field(
        default="", description="Its version; the server's choice by default."
    )
    absolute: Annotated[Number, Field(ge=0)] | None = Field(
        default=None, description="How far a number may be from the expected one, on top of `relative`."
    )
    relative: Annotated[Number, Field(ge=0)] | None = Field(
        default=None,
        description="The same, as a part of the expected number. With neither, outputs must be exactly as the data "
        "expects; those of a reference model are only compared.",
    )


class StopSettings(Section):
    """First do no harm: when a sweep ends at once."""

    max_in_flight: Annotated[StrictInt, Field(ge=1, le=65_536)] = Field(
        default=256, description="Requests that the server may have at one time, abandoned ones included."
    )
    max_requests: Annotated[StrictInt, Field(ge=1)] = Field(
        default=1_000_000, description="The most requests of a sweep."
    )
    max_duration_ns: Annotated[int, duration("1s", "1d")] = Field(
        default=300 * NS, description="The longest that a sweep may run."
    )
    max_error_ratio: Annotated[float, ratio("0%", "100%")] = Field(
        default=0.1, description="The part of errors that ends a sweep."
    )
    error_min_requests: Annotated[StrictInt, Field(ge=1)] = Field(
        default=20,
        description="How many answers there must be before their errors are judged; "
        "as many failures in a row end the sweep, too.",
    )
    on_overload: Literal["count", "back_off"] = Field(
        default="back_off",
        description="What follows 429, 503 or RESOURCE_EXHAUSTED: `back_off` pauses as long as the server asks "
        "(Retry-After), or longer each time, and counts as unsent what an open loop would have sent meanwhile; `count` "
        "goes on.",
    )
    max_latency_ns: Annotated[int, duration("0s", "1h")] | None = Field(
        default=None,
        description="The latency that most answers must keep: a sweep ends once `error_min_requests` more ok answers "
        "took longer than did not. Half of `measurement.request_timeout` by default; 0s is none.",
    )
    pending_growth: Annotated[StrictInt, Field(ge=0, le=1000)] = Field(
        default=5,
        description="A sweep ends once the requests that wait in the server for the model, by `metrics_url`, were more "
        "at each of so many readings in a row, and twice as many in all. 0 is never.",
    )


class SloSettings(Section):
    """What a user of the model may expect."""

    name: FilledLabelValue = Field(description="Its name, a label value.")
    latency_ns: Annotated[int, duration("1us", "1h")] = Field(
        description="A request is good if it is ok within this time."
    )
    percentile: Percentile = Field(
        default=95.0, description="The slo is met where this percentile of a level is within `latency`."
    )
    levels: tuple[NumberAsLabelValue, ...] = Field(
        default=(), description="The levels at which it holds; can be left out where there is only one."
    )


class UnitSettings(Section):
    """What one inference is worth to a user."""

    name: FilledLabelValue = Field(description="The unit, a label value, as `audio_seconds`.")
    per_inference: Annotated[Number, Field(gt=0)] = Field(description="Units in one inference, as 0.3.")


class ServerSettingsSection(Section):
    """The server's trace settings of the model for the time of a sweep; put back afterwards."""

    trace_level: tuple[Literal["OFF", "TIMESTAMPS", "TENSORS"], ...] | None = Field(
        default=None, description="What is traced."
    )
    trace_rate: Annotated[StrictInt, Field(ge=1)] | None = Field(
        default=None, description="Every so many requests one is traced."
    )
    trace_count: Annotated[StrictInt, Field(ge=-1)] | None = Field(
        default=None, description="How many traces are made at most; -1 is no limit."
    )
    log_frequency: Annotated[StrictInt, Field(ge=0)] | None = Field(
        default=None, description="After so many traces the server begins another file; 0 is one file."
    )


class DefaultsSettings(Section):
    """What probes inherit."""

    schedule: ScheduleSettings = Field(description="When the probe runs.")
    load: LoadSettings = Field(description="Its load levels.")
    measurement: MeasurementSettings = Field(
        default_factory=MeasurementSettings, description="How levels are measured."
    )
    input: InputSettings = Field(default_factory=InputSettings, description="What is sent.")
    stop: StopSettings = Field(default_factory=StopSettings, description="When a sweep ends at once.")
    validation: ValidationSettings | None = Field(default=None, description="What answers are held against.")
    slo: SloSettings | None = Field(default=None, description="What is expected of the model.")
    unit: UnitSettings | None = Field(default=None, description="What one inference is worth.")
    variant: LabelValue = Field(default="", description="Which variant of a model this is, for comparisons.")
    variant_group: LabelValue = Field(default="", description="The variants of one group are compared with each other.")
    labels: dict[str, LabelValue] = Field(
        default={}, description="Up to 5 labels of your own, on `triton_canary_probe_info`."
    )
    streaming: StrictBool = Field(
        default=False,
        description="Whether requests go over gRPC's bidirectional stream, one for each in flight: decoupled models "
        "take no other.",
    )
    histogram: StrictBool = Field(default=True, description="Whether histograms are exported: 19 series a level.")
    baseline: BaselineSettings = Field(
        default_factory=BaselineSettings, description="What the levels are held against, and when that is a regression."
    )


class ProbeSettings(DefaultsSettings):
    """What to measure on a target, how, and when."""

    name: Name = Field(description="Its name, a label value: letters, digits, `.`, `_`, `-`.")
    target: StrictStr = Field(description="The name of its target.")
    model: FilledLabelValue = Field(default="", description="The model's name.")
    models: Literal["all-ready"] | None = Field(
        default=None, description="In place of `model`: a probe for each model that the server has ready."
    )
    version: NumberAsLabelValue = Field(default="", description="The model's version; the server's choice by default.")
    composing_models: Annotated[tuple[FilledLabelValue, ...], Field(max_length=16)] = Field(
        default=(),
        description="Models that this one calls and its configuration does not tell, as from a Python backend; an "
        "ensemble's are found. At most 16.",
    )
    server_settings: ServerSettingsSection | None = Field(
        default=None, description="Trace settings of the model for the time of a sweep."
    )


def percentiles_of(probe: ProbeSettings) -> tuple[float, ...]:
    """All percentiles that must be known of the probe's latency, ascending."""
    wanted = {*probe.measurement.percentiles, *_KEPT_PERCENTILES}
    if probe.measurement.stability_percentile is not None:
        wanted.add(probe.measurement.stability_percentile)
    if probe.slo is not None:
        wanted.add(probe.slo.percentile)
    return tuple(sorted(wanted))
