"""What a user may configure of a probe, and of all probes as their defaults. What holds between keys is in `checks`."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr, model_validator

from exporter.config import text
from exporter.config.baseline_settings import BaselineSettings
from exporter.config.cron import parse_cron
from exporter.config.fields import (
    FilledLabelValue,
    LabelValue,
    Name,
    Number,
    NumberAsLabelValue,
    Percentile,
    Section,
    exactly_one,
)
from exporter.config.input_settings import InputSettings, ValidationSettings
from exporter.config.load_settings import LoadSettings
from exporter.config.quantities import duration, ratio
from exporter.core.probe import COUNT_WINDOW_LIMIT, DEFAULT_MAX_TOKENS, MAX_COMPOSING_MODELS, Mode, most_tokens
from exporter.core.units import NS

MAX_PERCENTILES = 10
MAX_PLACES = 16
_RATES = (Mode.REQUEST_RATE, Mode.INTERVALS)
_KEPT_PERCENTILES = (50.0, 99.0)
WINDOW = duration("100ms", "1h")
LATENCY_THRESHOLD = duration("0s", "1h")


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
        default="UTC", description="The time zone of `cron`, such as `Europe/Berlin`."
    )
    jitter_ns: Annotated[int, duration("0s", "1d")] = Field(
        default=0, description="Each start is delayed at random by up to this."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        exactly_one({"every": self.every_ns, "cron": self.cron})
        return self


class MeasurementSettings(Section):
    """How a level is measured."""

    window_ns: Annotated[int, WINDOW] = Field(default=5 * NS, description="The length of one measurement window.")
    stability_ratio: Annotated[float, ratio("0.1%", "1000%")] = Field(
        default=0.1,
        alias="stability",
        description="How far apart the judged windows may be: max/min of latency, and in a closed loop of "
        "throughput, minus 1.",
    )
    stability_percentile: Percentile | None = Field(
        default=None, description="The percentile of latency that is judged; its mean by default."
    )
    stability_windows: Annotated[StrictInt, Field(ge=1, le=100)] = Field(
        default=3, description="How many windows in a row must agree; they are merged into the result."
    )
    stability_rule: Literal["canary", "perf_analyzer"] = Field(
        default="canary",
        description="When windows agree. `canary`: they differ by no more than `stability` or chance explains, the "
        "latency does not drift by more than a third of it, and in an open loop requests do not pile "
        "up. `perf_analyzer`: max/min of throughput and latency is within `stability`, even if chance "
        "explains the difference.",
    )
    max_windows: Annotated[StrictInt, Field(ge=1, le=1000)] = Field(
        default=10, description="After this many windows the level is unstable."
    )
    percentiles: Annotated[tuple[Percentile, ...], Field(max_length=MAX_PERCENTILES)] = Field(
        default=(50.0, 90.0, 95.0, 99.0, 99.9),
        description="The percentiles of latency that are exported; 50, 99 and those named by "
        "`stability_percentile` and `slo` always are. At most 10.",
    )
    request_timeout_ns: Annotated[int, duration("1ms", "1h")] = Field(
        default=10 * NS, description="A request without a response is given up after this time."
    )
    window_mode: Literal["time", "count"] = Field(
        default="time",
        description="What ends a window: `time`, after `window`; `count`, once `window_requests` requests have ended "
        f"in it, or {COUNT_WINDOW_LIMIT} times `window` have passed.",
    )
    window_requests: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = Field(
        default=50, description="The least number of requests in a window of mode `count`."
    )
    request_count: Annotated[StrictInt, Field(ge=0, le=100_000_000)] = Field(
        default=0,
        description="Above 0, each level sends exactly this many requests after its warm-up, and is measured in one "
        "window, from the start of the first to the end of the last.",
    )
    warm_up_requests: Annotated[StrictInt, Field(ge=0, le=100_000_000)] = Field(
        default=0,
        description="How many requests must end before a level is measured, not counting the cold first one.",
    )
    warm_up_ns: Annotated[int, duration("0s", "1h")] = Field(
        default=0, description="How long the load runs before a level is measured."
    )
    repeats: Annotated[StrictInt, Field(ge=1, le=100)] = Field(
        default=1, description="How many times the whole sweep runs; a level's figures cover all runs together."
    )
    latency_threshold_ns: Annotated[int, LATENCY_THRESHOLD] = Field(
        default=0,
        description="The latency that a level must keep: its mean, or `stability_percentile`; at a rate, from the "
        "moment a request was due. 0 is no threshold.",
    )
    min_reached_ratio: Annotated[float, ratio("0%", "100%")] = Field(
        default=0.99,
        alias="min_reached",
        description="The part of the requested load that must succeed; otherwise the level does not keep its "
        "threshold.",
    )


class StopSettings(Section):
    """Limits that protect the server: when a sweep ends early."""

    max_in_flight: Annotated[StrictInt, Field(ge=1, le=65_536)] | None = Field(
        default=None,
        description="The most requests at the server at one time, abandoned ones included. 256 by default; at rates "
        "100 ms of the highest rate if that is more, and at most 4096. Further requests wait their turn.",
    )
    max_requests: Annotated[StrictInt, Field(ge=1)] = Field(
        default=1_000_000, description="The most requests of a sweep."
    )
    max_tokens: Annotated[StrictInt, Field(ge=1)] = Field(
        default=DEFAULT_MAX_TOKENS,
        description="The most tokens of a sweep, prompts and responses together, for targets that take prompts. "
        "With generated prompts, no request is sent that could exceed it.",
    )
    max_duration_ns: Annotated[int, duration("1s", "1d")] = Field(
        default=300 * NS, description="The longest duration of a sweep."
    )
    max_error_ratio: Annotated[float, ratio("0%", "100%")] = Field(
        default=0.1, description="A sweep ends above this part of errors."
    )
    error_min_requests: Annotated[StrictInt, Field(ge=1)] = Field(
        default=20,
        description="The least number of responses before errors are judged; this many consecutive failures also "
        "end the sweep.",
    )
    on_overload: Literal["count", "back_off"] = Field(
        default="back_off",
        description="The reaction to 429, 503 or RESOURCE_EXHAUSTED. `back_off` pauses as long as the server "
        "requests (Retry-After, in seconds or as a date), or longer each time; requests of an open loop that are "
        "due meanwhile count as unsent. `count` continues.",
    )
    max_latency_ns: Annotated[int, duration("0s", "1h")] | None = Field(
        default=None,
        description="The sweep ends once responses above this latency outnumber the others by `error_min_requests`. "
        "Half of `measurement.request_timeout` by default; 0s is none.",
    )
    pending_growth: Annotated[StrictInt, Field(ge=0, le=1000)] = Field(
        default=5,
        description="A sweep ends once the model's queue in the server, from `metrics_url`, grew in each of this "
        "many consecutive readings, and doubled overall. 0 is never.",
    )


class SloSettings(Section):
    """The service level objective: what a user of the model can expect."""

    name: FilledLabelValue = Field(description="Its name, a label value.")
    latency_ns: Annotated[int, duration("1us", "1h")] | None = Field(
        default=None, description="A request is good if it is ok within this time."
    )
    time_to_first_token_ns: Annotated[int, duration("1us", "1h")] | None = Field(
        default=None,
        description="And its first token arrived within this time. This and the next two need a stream, of a target "
        "that takes prompts.",
    )
    time_per_output_token_ns: Annotated[int, duration("1us", "1h")] | None = Field(
        default=None, description="And its time per output token after the first was no longer."
    )
    inter_token_latency_ns: Annotated[int, duration("1us", "1h")] | None = Field(
        default=None, description="And no gap between two of its tokens was longer."
    )
    percentile: Percentile = Field(
        default=95.0, description="The slo is met if this percentile of a level is within `latency`."
    )
    objective: Annotated[float, ratio("50%", "99.999%")] | None = Field(
        default=None,
        description="The part of requests that must be good over 30 days, for the burn-rate alerts; by default what "
        "`percentile` implies.",
    )
    levels: tuple[NumberAsLabelValue, ...] = Field(
        default=(), description="The levels it applies to; optional if there is only one."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.latency_ns or self.of_tokens):
            raise ValueError("needs latency, or one of the limits on tokens")
        return self

    @property
    def of_tokens(self) -> list[str]:
        """The keys that are given of those that only targets that take prompts have."""
        keys = ("time_to_first_token", "time_per_output_token", "inter_token_latency")
        return [key for key in keys if getattr(self, f"{key}_ns")]


class UnitSettings(Section):
    """The unit of one inference, as users count it."""

    name: FilledLabelValue = Field(description="The unit, a label value, such as `audio_seconds`.")
    per_inference: Annotated[Number, Field(gt=0)] = Field(description="Units in one inference, such as 0.3.")


class ServerSettingsSection(Section):
    """The server's trace settings of the model during a sweep. They are restored afterwards, also when the process is
    stopped, but not when it is killed (SIGKILL)."""

    trace_level: tuple[Literal["OFF", "TIMESTAMPS", "TENSORS"], ...] | None = Field(
        default=None, description="What is traced."
    )
    trace_rate: Annotated[StrictInt, Field(ge=1)] | None = Field(
        default=None, description="One request in this many is traced."
    )
    trace_count: Annotated[StrictInt, Field(ge=-1)] | None = Field(
        default=None, description="The most traces; -1 is no limit."
    )
    log_frequency: Annotated[StrictInt, Field(ge=0)] | None = Field(
        default=None, description="The server starts a new trace file after this many traces; 0 is one file."
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
    validation: ValidationSettings | None = Field(default=None, description="What responses are compared with.")
    slo: SloSettings | None = Field(default=None, description="The service level objective of the model.")
    unit: UnitSettings | None = Field(default=None, description="The unit of one inference.")
    variant: LabelValue = Field(default="", description="Which variant of a model this is, for comparisons.")
    variant_group: LabelValue = Field(default="", description="The variants of one group are compared with each other.")
    labels: dict[str, LabelValue] = Field(
        default={}, description="Up to 5 labels of your own, on `triton_canary_probe_info`."
    )
    streaming: StrictBool = Field(
        default=False,
        description="Whether requests use gRPC's bidirectional stream, one for each request in flight; decoupled "
        "models need it. For targets that take prompts: whether responses are streamed, as server-sent "
        "events.",
    )
    places: Annotated[tuple[Name, ...], Field(max_length=MAX_PLACES)] = Field(
        default=(),
        alias="from",
        description="The places to measure from, such as `[zone-a, zone-b]`: a probe `NAME/PLACE` for each, at the "
        "same times, one after the other. A place is a resource of `load.pool`'s Dask workers: `dask worker "
        '--resources "zone-a=1"`. At most 16.',
    )
    histogram: StrictBool = Field(
        default=True,
        description="Whether histograms are exported: 47 series per level; see limits.histogram_buckets_per_decade.",
    )
    baseline: BaselineSettings = Field(
        default_factory=BaselineSettings,
        description="What the levels are compared with, and when that is a regression.",
    )


class ProbeSettings(DefaultsSettings):
    """What to measure on a target, how, and when."""

    name: Name = Field(description="Its name, a label value: letters, digits, `.`, `_`, `-`.")
    target: StrictStr = Field(description="The name of its target.")
    model: FilledLabelValue = Field(default="", description="The model's name.")
    models: Literal["all-ready"] | None = Field(
        default=None, description="In place of `model`: one probe for each model that the server reports as ready."
    )
    version: NumberAsLabelValue = Field(default="", description="The model's version; the server's choice by default.")
    composing_models: Annotated[tuple[FilledLabelValue, ...], Field(max_length=MAX_COMPOSING_MODELS)] = Field(
        default=(),
        description="Models, MODEL or MODEL:VERSION, that this one calls without listing them in its configuration, "
        "for example from a Python backend; the parts of an ensemble are found automatically. At most "
        "16.",
    )
    server_settings: ServerSettingsSection | None = Field(
        default=None, description="Trace settings of the model during a sweep."
    )


_IN_FLIGHT, _MOST_IN_FLIGHT, _IN_FLIGHT_SECONDS = 256, 4096, 0.1


def default_in_flight(highest_rate: float, at_least: int = _IN_FLIGHT) -> int:
    """How many requests may be in flight where the user does not set it: those of 100 ms of the highest rate, so that
    a server that takes so long is not kept from being loaded."""
    return max(at_least, min(_MOST_IN_FLIGHT, math.ceil(highest_rate * _IN_FLIGHT_SECONDS)))


def max_in_flight_of(probe: ProbeSettings) -> int:
    """How many requests the server may have at one time."""
    if probe.stop.max_in_flight is not None:
        return probe.stop.max_in_flight
    return default_in_flight(max((level.value for level in probe.load.levels if level.mode in _RATES), default=0.0))


def token_requests_of(probe: ProbeSettings) -> int | None:
    """How many requests stop.max_tokens allows, of a target that takes prompts; None where only files know."""
    prompt = probe.input.prompt
    if probe.input.source == "files":
        return None
    each = most_tokens(prompt.tokens, prompt.output_tokens, prompt.system, prompt.template)
    return max(1, probe.stop.max_tokens // each)


def percentiles_of(probe: ProbeSettings) -> tuple[float, ...]:
    """All percentiles that must be known of the probe's latency, ascending."""
    wanted = {*probe.measurement.percentiles, *_KEPT_PERCENTILES}
    if probe.measurement.stability_percentile is not None:
        wanted.add(probe.measurement.stability_percentile)
    if probe.slo is not None:
        wanted.add(probe.slo.percentile)
    return tuple(sorted(wanted))
