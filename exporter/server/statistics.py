"""Differences of Triton's cumulative statistics between two snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from exporter.model import DurationStat, ModelStatistics, ServerSnapshot

_DURATIONS = tuple(f.name for f in fields(ModelStatistics) if isinstance(f.default, DurationStat))


def difference(before: ServerSnapshot | None, after: ServerSnapshot | None, model: str) -> ModelStatistics | None:
    """What the model did between the snapshots: of its versions the one that moved most.

    None where a snapshot is missing, the model is not in them, nothing moved, or a counter fell: then the server was
    restarted or the model loaded again in between, and any figure would be wrong.
    """
    if before is None or after is None:
        return None
    earlier = {(entry.name, entry.version): entry for entry in before.models}
    moved = [
        _subtract(entry, earlier.get((entry.name, entry.version), ModelStatistics(entry.name, entry.version)))
        for entry in after.models
        if entry.name == model
    ]
    if any(_fell(delta) for delta in moved):
        return None
    busiest = max(moved, key=lambda delta: delta.success.count + delta.fail.count, default=None)
    if busiest is None or busiest.success.count + busiest.fail.count == 0:
        return None
    return busiest


def add_statistics(parts: Sequence[ModelStatistics | None]) -> ModelStatistics | None:
    """The sum of several differences; None if one of them is missing, or they are of several versions."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or len({part.version for part in known}) != 1:
        return None
    first, *others = known
    return replace(
        first,
        inference_count=sum(part.inference_count for part in known),
        execution_count=sum(part.execution_count for part in known),
        **{name: sum((getattr(part, name) for part in others), getattr(first, name)) for name in _DURATIONS},
    )


def _subtract(after: ModelStatistics, before: ModelStatistics) -> ModelStatistics:
    durations = {name: getattr(after, name) - getattr(before, name) for name in _DURATIONS}
    return ModelStatistics(
        name=after.name,
        version=after.version,
        inference_count=after.inference_count - before.inference_count,
        execution_count=after.execution_count - before.execution_count,
        **durations,
    )


def _fell(delta: ModelStatistics) -> bool:
    stats: list[DurationStat] = [getattr(delta, name) for name in _DURATIONS]
    return min(delta.inference_count, delta.execution_count, *(min(stat.count, stat.ns) for stat in stats)) < 0
