"""Differences of Triton's cumulative statistics over windows: what the model, and those it calls, did in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain, pairwise

from exporter.facts import BatchStat, DurationStat, ModelFacts, ModelKey, ModelStatistics, ServerSnapshot

_DURATIONS = tuple(f.name for f in fields(ModelStatistics) if isinstance(f.default, DurationStat))

SNAPSHOT_MISSING = "the server gave no statistics at a window's edge"
NOTHING_MOVED = "the server's statistics of the model did not move"
RESET = "the server's statistics began anew: it was restarted, or the model was loaded again"
SEVERAL_VERSIONS = "the repeats were answered by several versions of the model"
SEVERAL_CALLED = "several versions of the model were called, and which of them answered these requests is not known"


@dataclass(frozen=True, slots=True)
class ServerDelta:
    """What the server did between the first and the last of some snapshots. `note` says why there is no `model` where
    there could be one; without statistics at all it is empty. Where no version was asked for, `other_versions` of the
    model moved, too."""

    model: ModelStatistics | None = None
    composing: tuple[ModelStatistics, ...] = ()
    note: str = ""
    other_versions: tuple[str, ...] = ()


def difference(snapshots: Sequence[ServerSnapshot | None], facts: ModelFacts) -> ServerDelta:
    """What the model did from the first snapshot to the last: of its versions, where none was asked for, the highest
    that moved, since that is the one that a server sends such requests to. (So does perf_analyzer, and warns.)

    All snapshots in between are looked at, since a counter that began anew can have passed its old value by the last.
    """
    there = [snapshot for snapshot in snapshots if snapshot is not None]
    if not facts.has_statistics or not there:
        return ServerDelta()
    if snapshots[0] is None or snapshots[-1] is None:
        return ServerDelta(note=SNAPSHOT_MISSING)
    if any(_began_anew(before, after) for before, after in pairwise(there)):
        return ServerDelta(note=RESET)
    moved = _moved(there[0], there[-1], ModelKey(facts.name, facts.asked_version))
    if not moved:
        return ServerDelta(note=NOTHING_MOVED)
    parts = chain.from_iterable(_moved(there[0], there[-1], key)[:1] for key in facts.composing)
    # A model that is named with its version, and called without, is the same one.
    return ServerDelta(
        moved[0], tuple(dict.fromkeys(parts)), other_versions=tuple(other.version for other in moved[1:])
    )


def _began_anew(before: ServerSnapshot, after: ServerSnapshot) -> bool:
    """Whether a counter fell, or a version that had counted is gone."""
    later = {(entry.name, entry.version): entry for entry in after.models}
    return any(
        _fell(_subtract(later.get((entry.name, entry.version), ModelStatistics(entry.name, entry.version)), entry))
        for entry in before.models
    )


def _moved(before: ServerSnapshot, after: ServerSnapshot, key: ModelKey) -> list[ModelStatistics]:
    """The differences of the model's versions that moved, the highest version first."""
    earlier = {(entry.name, entry.version): entry for entry in before.models}
    deltas = [
        _subtract(entry, earlier.get((entry.name, entry.version), ModelStatistics(entry.name, entry.version)))
        for entry in after.models
        if entry.name == key.name and key.version in ("", entry.version)
    ]
    return sorted((delta for delta in deltas if _requests(delta) > 0), key=_rank, reverse=True)


def _rank(delta: ModelStatistics) -> tuple[int, int]:
    """Triton's versions are numbers; of other servers', which have no order, the busiest is the highest."""
    return int(delta.version) if delta.version.isdecimal() else -1, _requests(delta)


def _requests(delta: ModelStatistics) -> int:
    return delta.success.count + delta.fail.count


def add_deltas(parts: Sequence[ServerDelta]) -> ServerDelta:
    """What the server did in several stretches of time together; no figures where one of them has none, or where they
    are of several versions."""
    note = next((part.note for part in parts if part.note), "")
    models = [part.model for part in parts if part.model is not None]
    if len(models) < len(parts) or not parts:
        return ServerDelta(note=note)
    if len({model.version for model in models}) > 1:
        return ServerDelta(note=SEVERAL_VERSIONS)
    composing: dict[tuple[str, str], list[ModelStatistics]] = {}
    for entry in chain.from_iterable(part.composing for part in parts):
        composing.setdefault((entry.name, entry.version), []).append(entry)
    return ServerDelta(_sum(models), tuple(map(_sum, composing.values())), note)


def _sum(parts: Sequence[ModelStatistics]) -> ModelStatistics:
    first, *others = parts
    batches: dict[int, BatchStat] = {}
    for batch in chain.from_iterable(part.batches for part in parts):
        known = batches.get(batch.size, BatchStat(batch.size))
        batches[batch.size] = BatchStat(
            batch.size, known.executions + batch.executions, known.infer_ns + batch.infer_ns
        )
    return replace(
        first,
        inference_count=sum(part.inference_count for part in parts),
        execution_count=sum(part.execution_count for part in parts),
        batches=tuple(batches[size] for size in sorted(batches)),
        **{name: sum((getattr(part, name) for part in others), getattr(first, name)) for name in _DURATIONS},
    )


def _subtract(after: ModelStatistics, before: ModelStatistics) -> ModelStatistics:
    durations = {name: getattr(after, name) - getattr(before, name) for name in _DURATIONS}
    return replace(
        after,
        inference_count=after.inference_count - before.inference_count,
        execution_count=after.execution_count - before.execution_count,
        batches=tuple(_batches(after, before)),
        **durations,
    )


def _batches(after: ModelStatistics, before: ModelStatistics) -> Iterator[BatchStat]:
    """The batch sizes that were executed in between."""
    earlier = {batch.size: batch for batch in before.batches}
    for batch in after.batches:
        old = earlier.get(batch.size, BatchStat(batch.size))
        if batch.executions > old.executions:
            yield BatchStat(batch.size, batch.executions - old.executions, batch.infer_ns - old.infer_ns)


def _fell(delta: ModelStatistics) -> bool:
    stats: list[DurationStat] = [getattr(delta, name) for name in _DURATIONS]
    return min(delta.inference_count, delta.execution_count, *(min(stat.count, stat.ns) for stat in stats)) < 0
