"""What a user may configure of the load: its levels, and the sequences of its requests. What files hold is in
`levels`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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
from exporter.config.fields import (
    Section,
    Shapes,
    exactly_one,
)
from exporter.config.levels import (
    MAX_CONCURRENCY,
    MAX_LEVELS,
    Levels,
    matrix,
    parse_concurrency,
    parse_intervals_file,
    parse_periodic,
    parse_request_rate,
    parse_schedule_file,
    parse_streams,
)
from exporter.config.quantities import duration, ratio
from exporter.core.probe import Distribution, LoadLevel, Mode, Search, SearchKind
from exporter.core.units import NS
from exporter.payload.timing_files import TimingFile

_MAX_ID = 10**18 - 1
"""The largest whole number that YAML gives us; an id may be twice as large, and is still within 63 bits."""


STEP_INTERVAL = duration("1ms", "60s")
RAMP = duration("0s", "5m")


def _levels(parse: Callable[[object, str], Levels]) -> PlainValidator:
    """What a range means depends on the search, whose field therefore comes first."""

    def validate(given: object, info: ValidationInfo) -> Levels:
        return parse(given, info.data.get("search", "every"))

    return PlainValidator(validate)


class SequenceSettings(Section):
    """Sequences: requests with an id, and a flag on the first and the last. Sequence models always get them."""

    count: Annotated[StrictInt, Field(ge=1, le=65_536)] = Field(
        default=4,
        description="Sequences that are active at once in an open loop. A closed loop has one for each request in "
        "flight.",
    )
    length: Annotated[StrictInt, Field(ge=0, le=1_000_000)] = Field(
        default=0, description="Requests in a sequence. 0: as many as its stream of input data has; 20 without one."
    )
    length_variation_ratio: Annotated[float, ratio("0%", "100%")] = Field(
        default=0.2, alias="length_variation", description="How much longer or shorter than `length` a sequence may be."
    )
    start_id: Annotated[StrictInt, Field(ge=0, le=_MAX_ID)] = Field(
        default=0, description="The first id; at random by default, so that two clients do not meet in one sequence."
    )
    id_range: Annotated[StrictInt, Field(ge=0, le=_MAX_ID)] = Field(
        default=0,
        description="How many ids are used in turn, starting with `start_id`; 4294967295 if only that is given.",
    )
    serial: StrictBool = Field(
        default=False,
        description="Whether a sequence has at most one request in flight. Otherwise an open loop can have several, "
        "except for the first and the last request.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.id_range and not self.start_id:
            raise ValueError("id_range needs start_id")
        return self


class LoadSettings(Section):
    """The levels: `concurrency`, `request_rate`, `streams`, `periodic_concurrency`, `session_concurrency`,
    `intervals_file` or `schedule_file`."""

    search: Literal["every", "linear", "binary"] = Field(
        default="every",
        description="Which levels of a range run: `every` level; or upwards until the first that is unstable or "
        "above `measurement.latency_threshold` (`linear`); or, by halving, until the highest level that "
        "keeps it is known to one step (`binary`).",
    )
    concurrency: Annotated[Levels, _levels(parse_concurrency)] | None = Field(
        default=None,
        description="Closed loop: requests in flight at once. A number, a list, or `start:end[:step]`; for a linear "
        "search the end may be 0: open.",
    )
    request_rate: Annotated[Levels, _levels(parse_request_rate)] | None = Field(
        default=None, description="Open loop: requests per second. Written like `concurrency`."
    )
    distribution: Literal["constant", "poisson"] = Field(
        default="constant", description="How the requests of a rate are spread: evenly, or at random."
    )
    seed: Annotated[StrictInt, Field(ge=0, le=2**32 - 1)] | None = Field(
        default=None,
        description="The seed of `poisson` and of the starts of `streams`, from which each level derives its own "
        "schedule. By default each sweep uses a different seed, which its result records; a fixed seed repeats the "
        "same schedule in each sweep, and the same luck.",
    )
    streams: Annotated[Levels, _levels(parse_streams)] | None = Field(
        default=None,
        description="Sequences at the pace of real time: so many streams at once, each of which sends a step of its "
        "sequence every `step_interval`. Written like `concurrency`.",
    )
    step_interval_ns: Annotated[int, STEP_INTERVAL] | None = Field(
        default=None,
        description="How often each of the `streams` has a step ready: the length of a chunk of audio. Steps have "
        "fixed deadlines; one is sent later only while the response to the step before is missing.",
    )
    ramp_ns: Annotated[int, RAMP] = Field(
        default=0,
        description="Over how long the `streams` begin, one after the other. In any case they are spread over an "
        "interval.",
    )
    intervals_file: Annotated[TimingFile, PlainValidator(parse_intervals_file)] | None = Field(
        default=None,
        description="Open loop: the gaps between requests, one whole number of microseconds per line, repeated from "
        "the start. The level is named after the file, without its extension.",
    )
    schedule_file: Annotated[TimingFile, PlainValidator(parse_schedule_file)] | None = Field(
        default=None,
        description="Open loop: when requests are sent, in milliseconds after the start, one per line, ascending; "
        "or a JSON file of input data whose steps have a `timestamp`. Run once and measured whole. The "
        "level is named after the file, without its extension.",
    )
    periodic_concurrency: Annotated[tuple[int, int, int], PlainValidator(parse_periodic)] | None = Field(
        default=None,
        description="Closed loop over streams, run once and measured whole: `start:end:step`. It starts with "
        "`start` requests and adds `step` more each time the last ones have had `request_period` "
        "responses, until `end` were sent.",
    )
    session_concurrency: Annotated[StrictInt, Field(ge=1, le=MAX_CONCURRENCY)] | None = Field(
        default=None,
        description="Chat sessions at once, of `openai` targets: each request has the turns before it and their "
        "responses. The turns of a session bear one `session_id` in the input files. Each session is run once, and all "
        "of it is measured.",
    )
    request_period: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = Field(
        default=10, description="Responses to each request before the next step of `periodic_concurrency`."
    )
    think_time_ns: Annotated[int, duration("0s", "60s")] = Field(
        default=0,
        description="Closed loop: the mean pause between the end of a request and the next one; each pause is drawn "
        "from half to one and a half times that. With dynamic batching, requests in flight meet in one "
        "batch or not, by chance: pauses, or better a `request_rate`, keep that out of the figures.",
    )
    batch_size: Annotated[tuple[Annotated[StrictInt, Field(ge=1, le=65_536)], ...], Field(max_length=64)] = Field(
        default=(),
        description="A matrix of levels: each `concurrency` or `request_rate` with each of these batch sizes in place "
        "of `input.batch_size`. The label of a level then has both, as `8@b4`.",
    )
    shapes: Annotated[tuple[Shapes, ...], Field(max_length=64)] = Field(
        default=(),
        description="The same with shapes, also of `streams`: each entry is like `input.shapes`, and takes precedence. "
        "Labels are `8@1x320000`.",
    )
    max_levels: Annotated[StrictInt, Field(ge=1, le=MAX_LEVELS)] = Field(
        default=64, description="The most levels that a matrix may have."
    )
    workers: Annotated[StrictInt, Field(ge=1, le=16)] = Field(
        default=1, description="Processes that share each level, for loads that exceed one core."
    )
    pool: Annotated[StrictStr, AfterValidator(text.pool_address)] = Field(
        default="",
        description="The Dask scheduler whose workers make the load, as `tls://scheduler:8786`; needs "
        "`triton-canary[dask]`. `workers` is then how many of them. Without it they are processes of this machine.",
    )
    sequences: SequenceSettings | None = Field(default=None, description="The requests' sequences.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        choices = {
            "concurrency": self.concurrency,
            "request_rate": self.request_rate,
            "streams": self.streams,
            "intervals_file": self.intervals_file,
            "schedule_file": self.schedule_file,
            "periodic_concurrency": self.periodic_concurrency,
            "session_concurrency": self.session_concurrency,
        }
        exactly_one(choices)
        return self

    @property
    def levels(self) -> tuple[LoadLevel, ...]:
        """The levels with their labels."""
        return matrix(self._plain_levels, self.batch_size, self.shapes)

    @property
    def _plain_levels(self) -> tuple[LoadLevel, ...]:
        if numbered := self._numbered:
            shared, values = numbered
            return tuple(replace(shared, value=value, label=text.as_number(value)) for value in values)
        if self.periodic_concurrency:
            start, end, step = self.periodic_concurrency
            label = f"{start}:{end}:{step}"
            period = self.request_period
            return (LoadLevel(Mode.PERIODIC, float(end), label, start=start, step=step, request_period=period),)
        if self.session_concurrency:
            return (LoadLevel(Mode.SESSIONS, float(self.session_concurrency), str(self.session_concurrency)),)
        return self._of_file()

    @property
    def _numbered(self) -> tuple[LoadLevel, tuple[float, ...]] | None:
        """What the levels share that differ by a number alone, and these numbers."""
        if self.concurrency:
            return LoadLevel(Mode.CONCURRENCY, 0.0, "", think_ns=self.think_time_ns), self.concurrency.values
        if self.request_rate:
            distribution = Distribution(self.distribution)
            return LoadLevel(Mode.REQUEST_RATE, 0.0, "", distribution, self.seed), self.request_rate.values
        if self.streams:
            interval_ns, ramp_ns = self.step_interval_ns or 0, self.ramp_ns
            level = LoadLevel(Mode.STREAMS, 0.0, "", seed=self.seed, step_interval_ns=interval_ns, ramp_ns=ramp_ns)
            return level, self.streams.values
        return None

    def _of_file(self) -> tuple[LoadLevel, ...]:
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
        return ()

    @property
    def searched(self) -> Search | None:
        """The search for the highest level that keeps the threshold, if there is to be one."""
        for mode, levels in (
            (Mode.CONCURRENCY, self.concurrency),
            (Mode.REQUEST_RATE, self.request_rate),
            (Mode.STREAMS, self.streams),
        ):
            if levels is not None and levels.span is not None:
                span = levels.span
                return Search(SearchKind(self.search), mode, span.start, span.end, span.step)
        return None
