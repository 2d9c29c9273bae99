"""What the server reports about its model, its work and its hardware.

The types are frozen and can be pickled. Names carry the unit: `_ns` is integer nanoseconds on the monotonic clock.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.core.probe import Probe


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A model's input or output. `shape` omits the batch dimension; -1 marks a variable dimension. The values of a
    `shape_tensor` are themselves a shape; it belongs to the request and has no batch dimension. `alternative` inputs
    are optional: a request has exactly one of them, which the user chooses."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False
    shape_tensor: bool = False
    alternative: bool = False


@dataclass(frozen=True, slots=True)
class ModelKey:
    """A model as an ensemble's configuration names it. With `version` "" the server chooses."""

    name: str
    version: str = ""

    @classmethod
    def parse(cls, text: str) -> ModelKey:
        """Parses MODEL or MODEL:VERSION. Versions are numeric: any other text after a colon is part of the name."""
        name, colon, version = text.rpartition(":")
        return cls(name, version) if colon and name and version.isdecimal() else cls(text)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What preflight learned about the model.

    `version` is the version that will serve, "" if it is not reported; `asked_version` is the probe's configured
    version. `max_batch_size` 0: the model has no batch dimension. `address` is the numeric address of preflight and
    load, "" if each connection resolves the name. `composing` are all models that this one calls, directly or
    indirectly. `priority_levels` is the dynamic batcher's number of levels, 0 without any; 1 is the highest.
    `binary_tensors`: HTTP carries tensors in binary form, as in Triton. `dynamic_batching`: the server batches
    concurrent requests.
    """

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
    """Requests are prompts or whole payloads, not tensors of the model."""


def request_priority(probe: Probe, facts: ModelFacts) -> int:
    """The priority level of the probe's requests, 1 the highest; 0 keeps the model's default. Models without levels
    treat all requests alike."""
    return facts.priority_levels if probe.input.priority == "low" else 0


@dataclass(frozen=True, slots=True)
class DurationStat:
    """A cumulative count and its total nanoseconds, as in Triton's statistics extension."""

    count: int = 0
    ns: int = 0

    def __add__(self, other: DurationStat) -> DurationStat:
        return DurationStat(self.count + other.count, self.ns + other.ns)

    def __sub__(self, before: DurationStat) -> DurationStat:
        return DurationStat(self.count - before.count, self.ns - before.ns)


@dataclass(frozen=True, slots=True)
class BatchStat:
    """Executions with one batch size, and the nanoseconds they spent in the model."""

    size: int
    executions: int = 0
    infer_ns: int = 0


@dataclass(frozen=True, slots=True)
class ModelStatistics:
    """Cumulative statistics of one model version, or the difference of two readings. None: not reported by the server.
    Pages that count requests report neither inferences nor executions."""

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
        """Requests that the server counted: successful ones, plus failed ones where it reports them."""
        return self.success.count + (self.fail.count if self.fail else 0)

    @property
    def reports_compute(self) -> bool:
        """Whether the server reports a breakdown of the request time. Not all do; a missing part is absent, not 0."""
        parts = (self.compute_input, self.compute_infer, self.compute_output, self.cache_hit, self.cache_miss)
        return any(part.count or part.ns for part in parts)


@dataclass(frozen=True, slots=True)
class ServerSnapshot:
    """The server's statistics at one moment: requested at `asked_ns`, received at `received_ns` (monotonic)."""

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
    """One GPU or MIG instance at one moment. None: not reported by the source. `energy_joules` is cumulative.
    `throttle_reasons` are those active at that moment."""

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
    """What a metrics page or the driver reported at one moment (`at_ns`, monotonic, the middle of the fetch).

    `gauges` are current values, `counters` cumulative ones. Both use our names and base units; model metrics are of the
    probe's model only. With an `error` all other fields are empty. `from_page` is false for the driver's readings.
    """

    at_ns: int
    from_page: bool
    error: str = ""
    gauges: Mapping[str, float] = field(default_factory=dict)
    counters: Mapping[str, float] = field(default_factory=dict)
    gpus: tuple[GpuReading, ...] = ()
