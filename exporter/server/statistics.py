"""Differences of Triton's cumulative statistics over windows: what the model, and those it calls, did in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce
from itertools import chain, pairwise
from typing import Any

from exporter.core.facts import BatchStat, DurationStat, ModelFacts, ModelKey, ModelStatistics, ServerSnapshot

_FIGURES = tuple(f.name for f in fields(ModelStatistics) if isinstance(f.default, int | DurationStat))
"""What counts, all but the batches."""

SNAPSHOT_MISSING = "the server gave no statistics at a window's edge"
NOTHING_MOVED = "the server's statistics of the model did not move"
NOTHING_REPORTED = (
    "the server's statistics, or its metrics page, report nothing of this model, or of the version asked for"
)
RESET = "the server's statistics restarted: it was restarted, or the model was loaded again"
SEVERAL_VERSIONS = "the repeats were served by several versions of the model"
SEVERAL_CALLED = "several versions of the model were called, and which of them served these requests is not known"


@dataclass(frozen=True, slots=True)
class ServerDelta:
    """What the server did between the first and the last of some snapshots. `note` is why there is no `model` where
    there could be one; without statistics at all it is empty. Where no version was asked for, `other_versions` of the
    model moved, too."""

    model: ModelStatistics | None = None
    composing: tuple[ModelStatistics, ...] = ()
    note: str = ""
    other_versions: tuple[str, ...] = ()


def difference(snapshots: Sequence[ServerSnapshot | None], facts: ModelFacts) -> ServerDelta:
    """What the model did from the first snapshot to the last: of its versions, where none was asked for, the highest
    that moved, since that is the one that a server sends such requests to. (So does perf_analyzer, and warns.)

    All snapshots in between are looked at, since a counter that restarted can have passed its old value by the last.
    """
    there = [snapshot for snapshot in snapshots if snapshot is not None]
    if not facts.has_statistics or not there:
        return ServerDelta()
    if snapshots[0] is None or snapshots[-1] is None:
        return ServerDelta(note=SNAPSHOT_MISSING)
    if any(_restarted(before, after) for before, after in pairwise(there)):
        return ServerDelta(note=RESET)
    key = ModelKey(facts.name, facts.asked_version)
    moved = _moved(there[0], there[-1], key)
    if not moved:
        reported = any(_is(entry, key) for entry in there[-1].models)
        return ServerDelta(note=NOTHING_MOVED if reported else NOTHING_REPORTED)
    parts = chain.from_iterable(_moved(there[0], there[-1], key)[:1] for key in facts.composing)
    # A model that is named with its version, and called without, is the same one.
    return ServerDelta(
        moved[0], tuple(dict.fromkeys(parts)), other_versions=tuple(other.version for other in moved[1:])
    )


def _restarted(before: ServerSnapshot, after: ServerSnapshot) -> bool:
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
        if _is(entry, key)
    ]
    return sorted((delta for delta in deltas if delta.requests > 0), key=_rank, reverse=True)


def _rank(delta: ModelStatistics) -> tuple[int, int]:
    """Triton's versions are numbers; of other servers', which have no order, the busiest is the highest."""
    return int(delta.version) if delta.version.isdecimal() else -1, delta.requests


def _is(entry: ModelStatistics, key: ModelKey) -> bool:
    return entry.name == key.name and key.version in ("", entry.version)


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
    first = parts[0]
    batches: dict[int, BatchStat] = {}
    for batch in chain.from_iterable(part.batches for part in parts):
        known = batches.get(batch.size, BatchStat(batch.size))
        batches[batch.size] = BatchStat(
            batch.size, known.executions + batch.executions, known.infer_ns + batch.infer_ns
        )
    return replace(
        first,
        batches=tuple(batches[size] for size in sorted(batches)),
        **{name: reduce(_plus, (getattr(part, name) for part in parts)) for name in _FIGURES},
    )


def _subtract(after: ModelStatistics, before: ModelStatistics) -> ModelStatistics:
    differences = {name: _minus(getattr(after, name), getattr(before, name)) for name in _FIGURES}
    return replace(after, batches=tuple(_batches(after, before)), **differences)


def _plus(one: Any, other: Any) -> Any:
    """The sum of two counts or durations; what one of them does not report is nothing, and what neither reports is not
    reported."""
    if one is None or other is None:
        return one if other is None else other
    return one + other


def _minus(after: Any, before: Any) -> Any:
    """The difference: a page can begin to report something with the first request that it counts. What is reported no
    more fell, if it had counted."""
    if before is None:
        return after
    nothing = type(before)()
    if after is None:
        return None if before == nothing else nothing - before
    return after - before


def _batches(after: ModelStatistics, before: ModelStatistics) -> Iterator[BatchStat]:
    """The batch sizes that were executed in between."""
    earlier = {batch.size: batch for batch in before.batches}
    for batch in after.batches:
        old = earlier.get(batch.size, BatchStat(batch.size))
        if batch.executions > old.executions:
            yield BatchStat(batch.size, batch.executions - old.executions, batch.infer_ns - old.infer_ns)


def _fell(delta: ModelStatistics) -> bool:
    reported = [figure for name in _FIGURES if (figure := getattr(delta, name)) is not None]
    return min(min(figure.count, figure.ns) if isinstance(figure, DurationStat) else figure for figure in reported) < 0
