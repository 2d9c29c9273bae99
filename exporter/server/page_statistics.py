"""A model's cumulative statistics, from the metrics pages of servers that have no statistics call. Pure.

Owns the families of TorchServe, TensorFlow Serving, MLServer and KServe that count requests and sum up their times.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from exporter.facts import DurationStat, ModelStatistics
from exporter.server.metrics import find_samples
from exporter.units import NS, US


@dataclass(frozen=True, slots=True)
class _Take:
    """To which of a model's statistics a family adds: to its count, or, with the nanoseconds that its unit has, to its
    time."""

    name: str
    unit_ns: int = 0


_FAMILIES: Final[Mapping[str, tuple[_Take, ...]]] = {
    # TorchServe: running sums, in microseconds.
    "ts_inference_requests_total": (_Take("success"),),
    "ts_inference_latency_microseconds": (_Take("success", US),),
    "ts_queue_latency_microseconds": (_Take("queue", US),),
    # TensorFlow Serving: a histogram, in microseconds.
    ":tensorflow:serving:request_latency_count": (_Take("success"),),
    ":tensorflow:serving:request_latency_sum": (_Take("success", US),),
    # MLServer: a summary, in seconds, and counters.
    "model_infer_request_success_total": (_Take("success"),),
    "model_infer_request_failure_total": (_Take("fail"),),
    "model_infer_request_duration_sum": (_Take("success", NS),),
    # KServe: histograms of the parts of a request, in seconds.
    "request_predict_seconds_count": (_Take("success"),),
    "request_preprocess_seconds_sum": (_Take("success", NS), _Take("compute_input", NS)),
    "request_predict_seconds_sum": (_Take("success", NS), _Take("compute_infer", NS)),
    "request_postprocess_seconds_sum": (_Take("success", NS), _Take("compute_output", NS)),
}
_MODEL_LABELS: Final = ("model_name", "model")
_VERSION_LABELS: Final = ("model_version", "version")


def parse_statistics(text: str, model: str, version: str = "") -> tuple[ModelStatistics, ...]:
    """What the page says of the model's versions (of one, if given); a page without versions is taken to speak of that
    one. What it has of a version's requests has their count. Raises PageError for a page that is no metrics page."""
    counts: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    times_ns: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for sample in find_samples(text, _FAMILIES, _FAMILIES, model):
        found = _label(sample.labels, _VERSION_LABELS, version)
        if _label(sample.labels, _MODEL_LABELS, "") != model or version not in ("", found):
            continue
        for take in _FAMILIES[sample.name]:
            if take.unit_ns:
                times_ns[found][take.name] += round(sample.value * take.unit_ns)
            else:
                counts[found][take.name] += round(sample.value)
    return tuple(_statistics(model, found, counts[found], times_ns[found]) for found in sorted({*counts, *times_ns}))


def _label(labels: Mapping[str, str], names: tuple[str, ...], default: str) -> str:
    return next((labels[name] for name in names if name in labels), default)


def _statistics(model: str, version: str, counts: Mapping[str, int], times_ns: Mapping[str, int]) -> ModelStatistics:
    requests = counts.get("success", 0)

    def stat(name: str) -> DurationStat:
        return DurationStat(requests if name == "success" or name in times_ns else 0, times_ns.get(name, 0))

    return ModelStatistics(
        name=model,
        version=version,
        inference_count=requests,
        success=stat("success"),
        fail=DurationStat(counts.get("fail", 0)),
        queue=stat("queue"),
        compute_input=stat("compute_input"),
        compute_infer=stat("compute_infer"),
        compute_output=stat("compute_output"),
    )
