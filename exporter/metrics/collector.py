"""The samples of all probes as text, made again only where something changed.

It owns the cache by probe, the joining of families over probes, and the limit on series. It must not know asyncio,
HTTP, or where the views come from. One thread at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from exporter.core.bounds import SERIES_BYTES
from exporter.core.result import SweepResult
from exporter.core.target import Target
from exporter.metrics.exposition import Block, Format, header
from exporter.metrics.families import PAGE_ORDER, by_sample_name
from exporter.metrics.family import Family
from exporter.metrics.replicas import by_pattern, replica_blocks
from exporter.metrics.samples import ProbeExtras, level_blocks, state_blocks, target_blocks
from exporter.state.probe_state import ProbeView

_log = logging.getLogger(__name__)

Blocks = Mapping[Family, Block]


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """A probe's view and the scheduler's view of it at the same moment; None: it could not be asked."""

    view: ProbeView
    next_run_unix_s: float | None
    paused: bool | None


@dataclass(slots=True)
class _Slot:
    """What is rendered of one probe, and of which view. `reserved` is the most space that its levels ever took; its
    level results can be `dropped`, and all of it `hidden`."""

    view: ProbeView | None = None
    extras: ProbeExtras | None = None
    state: Blocks = field(default_factory=dict)
    level: Blocks = field(default_factory=dict)
    state_series: int = 0
    level_series: int = 0
    reserved: int = 0
    dropped: bool = False
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class _TargetState:
    """What is known of a target; None: no sweep saw it."""

    target: Target
    certificate_expiry_unix_s: float | None = None
    server_metrics_up: bool | None = None


class ProbeSamples:
    """Holds the rendered samples. Past `max_series` the level results of the probes configured last are left out: each
    probe reserves the most space that its levels ever took, so that a result that expires makes nothing flap. Where not
    even the states of all probes fit, those of the last are left out, then targets and replicas. A series
    that is longer than `SERIES_BYTES` counts as several, so that the limit is one of bytes, too.

    `on_error` is called once for each probe, and for the targets, whose samples could not be made; they are absent.
    """

    def __init__(self, max_series: int, on_error: Callable[[], None]) -> None:
        self._max_series = max_series
        self._on_error = on_error
        self._slots: dict[str, _Slot] = {}
        self._targets: dict[str, _TargetState] = {}
        self._target_blocks: list[Blocks] = []
        self._replicas: dict[tuple[str, str, str], list[ProbeView]] = {}
        self._replica_blocks: list[Blocks] = []
        self._shown_of_targets: list[Blocks] = []
        self.version = 0
        """Grows whenever the text is another one."""

    @property
    def series(self) -> int:
        """Series on the page."""
        shown = sum(slot.state_series for slot in self._slots.values() if not slot.hidden)
        shown += sum(slot.level_series for slot in self._slots.values() if not slot.dropped)
        return shown + sum(map(_count, self._shown_of_targets))

    @property
    def series_dropped(self) -> int:
        """Series left out to keep the limit."""
        left_out = sum(slot.level_series for slot in self._slots.values() if slot.dropped)
        left_out += sum(slot.state_series for slot in self._slots.values() if slot.hidden)
        every = sum(map(_count, [*self._target_blocks, *self._replica_blocks]))
        return left_out + every - sum(map(_count, self._shown_of_targets))

    def update(self, rows: Sequence[ProbeRow], other_series: int) -> None:
        """Brings the samples up to these rows, in their order. `other_series` also count towards the limit."""
        slots = {row.view.probe.name: self._slots.get(row.view.probe.name) or _Slot() for row in rows}
        changed = list(slots) != list(self._slots)
        self._slots = slots
        for row, slot in zip(rows, slots.values(), strict=True):
            changed |= self._render_levels(slot, row.view)
            changed |= self._render_state(slot, row)
        changed |= self._render_targets(rows)
        changed |= self._render_replicas(rows)
        changed |= self._apply_limit(other_series)
        for row, slot in zip(rows, slots.values(), strict=True):
            changed |= self._render_state(slot, row)
        self.version += changed

    def page(self, page_format: Format) -> str:
        """All families that have samples, each once."""
        return "".join(self._parts(page_format, PAGE_ORDER))

    def selected(self, page_format: Format, names: Iterable[str]) -> str:
        """The page with the samples of these names alone."""
        wanted = by_sample_name(names)
        parts = []
        for (head, *blocks), chosen in zip(self._families(page_format, wanted), wanted.values(), strict=True):
            lines = [line for block in blocks for line in block.split("\n") if line.partition("{")[0] in chosen]
            parts += [head, *(f"{line}\n" for line in lines)] if lines else []
        return "".join(parts)

    def _parts(self, page_format: Format, families: Iterable[Family]) -> Iterator[str]:
        for part in self._families(page_format, families):
            if len(part) > 1:
                yield from part

    def _families(self, page_format: Format, families: Iterable[Family]) -> Iterator[list[str]]:
        """For each family its header and its blocks."""
        sources = [slot.state for slot in self._slots.values() if not slot.hidden]
        sources += [slot.level for slot in self._slots.values() if not slot.dropped]
        sources += self._shown_of_targets
        for family in families:
            blocks = [block for source in sources if (block := source.get(family)) is not None]
            yield [header(family, page_format), *blocks]

    def _render_levels(self, slot: _Slot, view: ProbeView) -> bool:
        old = slot.view
        if old is not None and old.measured is view.measured and old.probe is view.probe and old.facts is view.facts:
            return False
        slot.level = self._guarded(partial(level_blocks, view), f"level results of probe {view.probe.name}")
        slot.level_series = _count(slot.level)
        kept = slot.reserved if old is not None and old.probe is view.probe else 0
        slot.reserved = max(kept, _size(slot.level))
        return True

    def _render_state(self, slot: _Slot, row: ProbeRow) -> bool:
        extras = ProbeExtras(row.next_run_unix_s, row.paused, slot.dropped)
        if slot.view is row.view and slot.extras == extras:
            return False
        slot.view, slot.extras = row.view, extras
        slot.state = self._guarded(partial(state_blocks, row.view, extras), f"state of probe {row.view.probe.name}")
        slot.state_series = _count(slot.state)
        return True

    def _render_targets(self, rows: Sequence[ProbeRow]) -> bool:
        targets = _targets([row.view for row in rows])
        if targets == self._targets:
            return False
        self._targets = targets
        self._target_blocks = [
            self._guarded(
                partial(target_blocks, state.target, state.certificate_expiry_unix_s, state.server_metrics_up),
                f"target {state.target.name}",
            )
            for state in targets.values()
        ]
        return True

    def _render_replicas(self, rows: Sequence[ProbeRow]) -> bool:
        replicas = by_pattern([row.view for row in rows])
        if replicas == self._replicas:
            return False
        self._replicas = replicas
        self._replica_blocks = [
            self._guarded(partial(replica_blocks, key, views), f"replicas of {key[1]}")
            for key, views in replicas.items()
        ]
        return True

    def _apply_limit(self, other_series: int) -> bool:
        """Chooses what is shown; returns whether that changed, except for a state's own samples."""
        left, hidden, shown = self._max_series - other_series, [], []
        for slot in self._slots.values():
            left -= _size(slot.state)
            hidden.append(left < 0)
        for blocks in (*self._target_blocks, *self._replica_blocks):
            left -= _size(blocks)
            if left >= 0:
                shown.append(blocks)
        changed = hidden != [slot.hidden for slot in self._slots.values()] or len(shown) != len(self._shown_of_targets)
        self._shown_of_targets = shown
        for slot, is_hidden in zip(self._slots.values(), hidden, strict=True):
            left -= slot.reserved
            slot.hidden, slot.dropped = is_hidden, left < 0
        return changed

    def _guarded(self, make: Callable[[], Blocks], what: str) -> Blocks:
        try:
            return make()
        except Exception:
            _log.exception("no samples can be made of the %s", what)
            self._on_error()
            return {}


def _targets(views: Sequence[ProbeView]) -> dict[str, _TargetState]:
    """Each target once, with what the latest sweep that saw it reported."""
    targets: dict[str, _TargetState] = {}
    for view in views:
        targets.setdefault(view.probe.target.name, _TargetState(view.probe.target))
    results = [result for view in views for result in (view.measured, view.fresh) if result is not None]
    for result in sorted(results, key=lambda result: result.started_unix_s):
        state = targets[result.probe.target.name]
        expiry, up = result.connection.certificate_expiry_unix_s, _metrics_up(result)
        targets[result.probe.target.name] = replace(
            state,
            certificate_expiry_unix_s=state.certificate_expiry_unix_s if expiry is None else expiry,
            server_metrics_up=state.server_metrics_up if up is None else up,
        )
    return targets


def _metrics_up(result: SweepResult) -> bool | None:
    """Whether the last reading of the server's metrics page worked; None where there was none."""
    ups = [measurement.server_metrics.up for measurement in result.measurements if measurement.server_metrics]
    return ups[-1] if ups else None


def _size(blocks: Blocks) -> int:
    """The series that the blocks take of the limit."""
    return max(_count(blocks), sum(map(len, blocks.values())) // SERIES_BYTES)


def _count(blocks: Blocks) -> int:
    return sum(block.count("\n") for block in blocks.values())
