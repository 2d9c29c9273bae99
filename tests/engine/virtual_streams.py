"""Streams in virtual time: the real sender and sequences before a server of known delays, to the nanosecond.

There is no clock and no loop: the moments are those of a heap of events, so that a slow machine changes nothing.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from exporter.core.outcome import Outcome
from exporter.core.probe import OverloadPolicy, SequenceOptions
from exporter.core.window import RecordColumns
from exporter.engine import paced_streams
from exporter.engine.paced_streams import PacedStreams
from exporter.engine.sequences import Sequences, Turn
from exporter.engine.streams import starts_ns
from exporter.transport.call import Call


@dataclass(frozen=True)
class Fate:
    """When the response to a step comes, and what it is."""

    last_ns: int
    outcome: Outcome = Outcome.OK


Server = Callable[[int, int], Fate]
"""From a step's stream and the moment at which it was sent to its fate."""


def one_worker(service_ns: int) -> Server:
    """Works on one step at a time, in the order in which they come."""
    free_ns = 0

    def server(_stream: int, sent_ns: int) -> Fate:
        nonlocal free_ns
        free_ns = max(free_ns, sent_ns) + service_ns
        return Fate(free_ns)

    return server


@dataclass
class Row:
    stream: int
    deadline_ns: int
    sent_ns: int
    last_ns: int
    outcome: Outcome
    sequence_id: int
    end: bool


@dataclass
class VirtualStreams:
    """Runs `streams` before `server` until `until_ns`; `rows` are the steps that ended by then, in that order.
    `full` closes the in-flight budget: (from, to)."""

    server: Server
    streams: int
    interval_ns: int
    ramp_ns: int = 0
    seed: int = 1
    length: int = 4
    on_overload: OverloadPolicy = OverloadPolicy.BACK_OFF
    full: tuple[int, int] = (0, 0)
    now_ns: int = 0
    rows: list[Row] = field(default_factory=list)
    in_flight: set[int] = field(default_factory=set)
    warm_at_ns: int | None = None

    def run(self, monkeypatch: pytest.MonkeyPatch, until_ns: int) -> PacedStreams:
        events, numbers = self._events, itertools.count()

        def at(moment_ns: int, then: Callable[[], None]) -> None:
            heapq.heappush(events, (moment_ns, next(numbers), then))

        class VirtualAlarm:
            def __init__(self, callback: Callable[[], None]) -> None:
                self._callback = callback

            def set(self, at_ns: int) -> None:
                at(at_ns, self._callback)

            def close(self) -> None:
                pass

        self._at = at
        monkeypatch.setattr(paced_streams, "Alarm", VirtualAlarm)
        monkeypatch.setattr(time, "monotonic_ns", lambda: self.now_ns)
        options = SequenceOptions(length=self.length, length_variation_ratio=0.0)
        self._sequences = Sequences(options, ((0,),), self.streams, self.seed)
        self._sender = PacedStreams(
            [Call(slot) for slot in range(self.streams)],
            self._offer,
            self._warm,
            starts_ns(self.streams, self.interval_ns, self.ramp_ns, self.seed),
            self.interval_ns,
            steps_left=self._sequences.left,
            on_overload=self.on_overload,
        )
        self._sender.start(0)
        if self.full[1]:
            at(self.full[1], self._sender.space)
        while events and events[0][0] <= until_ns:
            self.now_ns, _, then = heapq.heappop(events)
            then()
        return self._sender

    def columns(self) -> RecordColumns:
        columns = RecordColumns.empty(len(self.rows))
        values: dict[str, list[Any]] = {
            "intended_ns": [row.deadline_ns for row in self.rows],
            "sent_ns": [row.sent_ns for row in self.rows],
            "last_ns": [row.last_ns for row in self.rows],
            "outcome": [int(row.outcome) for row in self.rows],
            "sequence_end": [row.end for row in self.rows],
        }
        for name, each in values.items():
            getattr(columns, name)[:] = each
        columns.responses[:] = 1
        ids = np.array([row.sequence_id for row in self.rows], np.int64)
        return replace(columns, sequence_ids=ids)

    def __post_init__(self) -> None:
        self._events: list[tuple[int, int, Callable[[], None]]] = []

    def _warm(self) -> None:
        self.warm_at_ns = self.now_ns

    def _offer(self, call: Call, intended_ns: int, now_ns: int) -> bool:
        if self.full[0] <= self.now_ns < self.full[1]:
            return False
        assert call.slot not in self.in_flight
        assert intended_ns <= now_ns == self.now_ns
        self.in_flight.add(call.slot)
        turn = self._sequences.take(call.slot)
        call.sequence_id, call.sequence_end = turn.place.sequence_id, turn.place.end
        call.intended_ns, call.sent_ns = intended_ns, now_ns
        fate = self.server(call.slot, now_ns)
        self._at(fate.last_ns, lambda: self._ended(call, turn, fate))
        return True

    def _ended(self, call: Call, turn: Turn, fate: Fate) -> None:
        call.last_ns, call.outcome = fate.last_ns, fate.outcome
        self.in_flight.discard(call.slot)
        place = turn.place
        self.rows.append(
            Row(
                call.slot,
                call.intended_ns,
                call.sent_ns,
                fate.last_ns,
                fate.outcome,
                place.sequence_id,
                place.end,
            )
        )
        self._sequences.ended(turn, fate.outcome, was_sent=True)
        self._sender.ended(call)
