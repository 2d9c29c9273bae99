"""What the server reports: of its model, of what it did, and of the hardware under it.

The types are frozen and can be pickled. A name carries its unit: `_ns` is integer nanoseconds on the monotonic clock.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.core.probe import Probe


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A model's input or output. `shape` is without the batch dimension; -1 is a dimension that varies. The values of a
    `shape_tensor` are a shape themselves: it belongs to the request, and has no batch dimension in it. Of `alternative`
    inputs, which are optional, a request has one: which, the user chooses."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False
    shape_tensor: bool = False
    alternative: bool = False


@dataclass(frozen=True, slots=True)
class ModelKey:
    """A model as an ensemble's configuration names it. `version` "" is the server's choice."""

    name: str
    version: str = ""

    @classmethod
    def parse(cls, text: str) -> ModelKey:
        """MODEL or MODEL:VERSION. Versions are numbers: anything else behind a colon belongs to the name."""
        name, colon, version = text.rpartition(":")
        return cls(name, version) if colon and name and version.isdecimal() else cls(text)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What preflight learned of the model. `version` is the version that will serve, "" where it is not reported;
    `max_batch_size` 0 means that the model takes no batch dimension. `address` is where it was asked, and where the
    load goes: the numeric address to which the target's name was resolved, "" if each connection resolves it.
    `asked_version` is the one that the probe names; `composing` are the models that this one calls, those that they
    call included. `priority_levels` are those of its dynamic batcher, 1 the highest; 0: it has none. `binary_tensors`:
    whether tensors go over HTTP in binary form, as Triton's do. `dynamic_batching`: the server makes batches of
    requests that meet."""

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
    dynamic_batching: bool = False
    takes_prompts: bool = False
    """Requests are prompts, or whole payloads, and not tensors of the model's."""


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
    """Cumulative statistics of one version of one model, or the difference of two such. None: the server does not
    report it. Pages that count requests report neither how many inferences were in them nor how many executions were
    made."""

    name: str
    version: str
    inference_count: int | None = 0
    execution_count: int | None = 0
    success: DurationStat = DurationStat()
    fail: DurationStat | None = DurationStat()
    queue: DurationStat = DurationStat()
    compute_input: DurationStat = DurationStat()
    compute_infer: DurationStat = DurationStat()
    compute_output: DurationStat = DurationStat()
    cache_hit: DurationStat = DurationStat()
    cache_miss: DurationStat = DurationStat()
    prefill: DurationStat = DurationStat()
    decode: DurationStat = DurationStat()
    batches: tuple[BatchStat, ...] = ()

    @property
    def requests(self) -> int:
        """Those that the server counted: successful ones, and failed ones where it reports them."""
        return self.success.count + (self.fail.count if self.fail else 0)

    @property
    def reports_compute(self) -> bool:
        """Whether the server reports the parts of a request's time. Not all do; a missing part is absent, never 0."""
        parts = (self.compute_input, self.compute_infer, self.compute_output, self.cache_hit, self.cache_miss)
        return any(part.count or part.ns for part in parts)


@dataclass(frozen=True, slots=True)
class ServerSnapshot:
    """What the server reported at one moment: asked at `asked_ns`, received at `received_ns` (monotonic)."""

    asked_ns: int
    received_ns: int
    models: tuple[ModelStatistics, ...]


class GpuSource(enum.StrEnum):
    """The source of a GPU's figures. Closed: a label value."""

    TRITON = "triton"
    DCGM = "dcgm"
    NVML = "nvml"


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU, or one MIG instance, at one moment. None: the source does not report it. `energy_joules` is cumulative.
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
    """What a metrics page, or the driver, reported at one moment (`at_ns`, monotonic, the middle of asking).

    `gauges` are figures of that moment and `counters` cumulative ones, both by our names and in base units, of the
    model alone where they are a model's. With an `error` there is nothing else. `from_page` is false for the driver's.
    """

    at_ns: int
    from_page: bool
    error: str = ""
    gauges: Mapping[str, float] = field(default_factory=dict)
    counters: Mapping[str, float] = field(default_factory=dict)
    gpus: tuple[GpuReading, ...] = ()
