"""Two machines' monotonic clocks: how far they are apart, within which error, and windows moved from one to the other.

Pure. Latencies are differences within one machine and stay as they are, to the nanosecond: a whole window moves by one
number. Only starts and window edges need the offset.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from exporter.core.facts import ServerReading, ServerSnapshot
from exporter.core.window import LevelEnd, RecordColumns, Window
from exporter.engine.plan import LevelPlan, MemberEvent

_MOMENTS = frozenset({"intended_ns", "sent_ns", "send_done_ns", "first_ns", "last_ns", "response_ns", "opened_ns"})
"""The columns that hold moments; 0 in them is no moment."""


LATER_SAMPLES = 10
"""Questions in a level of which the best counts."""

MAX_DRIFT = 1e-3
"""Nanoseconds per nanosecond by which two clocks drift apart at most, while none is corrected: Linux keeps a clock's
frequency within half of that. A correction may slew one faster (chronyd: by up to 83 ms per second), and a virtual
machine's pause moves it; the next question shows that."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One question for the other clock: when it was asked and when the response came, by ours, and what it was."""

    asked_ns: int
    received_ns: int
    theirs_ns: int


@dataclass(frozen=True, slots=True)
class Offset:
    """Their clock less ours, and the most by which that may be wrong."""

    ns: int = 0
    error_ns: int = 0


def offset_of(samples: Sequence[Sample]) -> Offset:
    """By the sample with the shortest round trip: their clock was read at some moment within it."""
    best = min(samples, key=lambda sample: sample.received_ns - sample.asked_ns)
    round_trip_ns = best.received_ns - best.asked_ns
    middle_ns = best.asked_ns + round_trip_ns // 2
    return Offset(best.theirs_ns - middle_ns, round_trip_ns - round_trip_ns // 2)


class LevelClock:
    """The offset of one level, which stays: the windows of all members are cut on one grid. Meanwhile the clocks drift
    apart, so that its error is looked at again, and again by the best of the last questions."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._offset = offset_of(samples)
        self._first = self._known(self._offset, samples[0].asked_ns)
        self._later: deque[_Known] = deque(maxlen=LATER_SAMPLES)

    def add(self, sample: Sample) -> None:
        """One more question, in the level."""
        self._later.append(self._known(offset_of([sample]), sample.asked_ns))

    def offset_at(self, now_ns: int) -> Offset:
        """The level's, with the most by which it may be wrong at this moment of our clock. That does not cover a
        correction since the last question. A question before a correction is of no more use: a later one found more
        than it allows."""
        error_ns, shown_ns = math.inf, 0.0
        for known in reversed((self._first, *self._later)):
            drift_ns = MAX_DRIFT * (now_ns - known.at_ns)
            if known.error_ns + drift_ns >= shown_ns:
                error_ns = min(error_ns, known.error_ns + drift_ns)
            shown_ns = max(shown_ns, known.at_least_ns + drift_ns)
        return replace(self._offset, error_ns=math.ceil(error_ns))

    def _known(self, found: Offset, at_ns: int) -> _Known:
        apart_ns = abs(found.ns - self._offset.ns)
        return _Known(at_ns, apart_ns + found.error_ns, apart_ns - found.error_ns)


@dataclass(frozen=True, slots=True)
class _Known:
    """By how much the level's offset may have been wrong at a moment, and by how much it was at least."""

    at_ns: int
    error_ns: int
    at_least_ns: int


def plan_there(plan: LevelPlan, offset: Offset) -> LevelPlan:
    """The plan by their clock."""
    return replace(
        plan,
        abandoned_until_ns=tuple(moment + offset.ns for moment in plan.abandoned_until_ns),
        spared_until_ns=plan.spared_until_ns + offset.ns if plan.spared_until_ns else 0,
    )


def event_here(event: MemberEvent, offset: Offset) -> MemberEvent:
    """What a level reports, by our clock."""
    if isinstance(event, Window):
        health = replace(event.health, clock_error_ns=offset.error_ns)
        return replace(_window(event, offset.ns), health=health)
    if isinstance(event, LevelEnd):
        until_ns = tuple(moment - offset.ns for moment in event.abandoned_until_ns)
        spared_ns = event.spared_until_ns - offset.ns if event.spared_until_ns else 0
        return replace(event, abandoned_until_ns=until_ns, spared_until_ns=spared_ns)
    return event


def _window(window: Window, offset_ns: int) -> Window:
    return replace(
        window,
        start_ns=window.start_ns - offset_ns,
        end_ns=window.end_ns - offset_ns,
        columns=_columns(window.columns, offset_ns),
        before=_snapshot(window.before, offset_ns),
        after=_snapshot(window.after, offset_ns),
        readings=tuple(_reading(reading, offset_ns) for reading in window.readings),
    )


def _columns(columns: RecordColumns, offset_ns: int) -> RecordColumns:
    moved = {}
    for field in fields(columns):
        if field.name in _MOMENTS:
            values = getattr(columns, field.name)
            moved[field.name] = np.where(values == 0, 0, values - offset_ns)
    return replace(columns, **moved)


def _snapshot(snapshot: ServerSnapshot | None, offset_ns: int) -> ServerSnapshot | None:
    if snapshot is None:
        return None
    return replace(snapshot, asked_ns=snapshot.asked_ns - offset_ns, received_ns=snapshot.received_ns - offset_ns)


def _reading(reading: ServerReading, offset_ns: int) -> ServerReading:
    return replace(reading, at_ns=reading.at_ns - offset_ns)
