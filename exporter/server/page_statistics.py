"""A model's cumulative statistics, from the metrics pages of servers that have no statistics call. Pure.

`exporter.core.kinds` lists which families count requests and sum up their times.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from exporter.core.facts import DurationStat, ModelStatistics
from exporter.core.kinds import KINDS, Take
from exporter.server.metrics import find_samples

_FAMILIES: Final[Mapping[str, tuple[Take, ...]]] = {
    name: takes for kind in KINDS.values() for name, takes in kind.families.items()
}
_MODEL_LABELS: Final = ("model_name", "model")
_VERSION_LABELS: Final = ("model_version", "version")


def parse_statistics(
    text: str, model: str, version: str = "", stopped: threading.Event | None = None
) -> tuple[ModelStatistics, ...]:
    """What the page reports about the model's versions (of one, if given); a page without versions is taken to speak of
    that one. What it has of a version's requests has their count. Raises PageError for a page that is no metrics
    page."""
    counts: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    times_ns: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for sample in find_samples(text, _FAMILIES, _FAMILIES, model, stopped):
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
        inference_count=counts.get("inferences"),
        execution_count=None,
        success=stat("success"),
        fail=DurationStat(counts["fail"]) if "fail" in counts else None,
        queue=stat("queue"),
        compute_input=stat("compute_input"),
        compute_infer=stat("compute_infer"),
        compute_output=stat("compute_output"),
        prefill=stat("prefill"),
        decode=stat("decode"),
    )
