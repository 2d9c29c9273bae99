"""The set of probes that the daemon runs, and how it changes while the daemon runs.

It owns the order in which the parts learn of a new set. It must not know where a set comes from.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from exporter.logs import fields
from exporter.probe import Probe
from exporter.schedule.phase import ProbeKey, probe_key
from exporter.schedule.scheduler import Scheduler
from exporter.sinks.board import Board

_log = logging.getLogger("exporter.reload")


@dataclass(frozen=True, slots=True)
class Changes:
    """How many probes a new set added, changed, removed and left alone."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


class ProbeSet:
    """The probes that run now. All methods belong to the event loop's thread."""

    def __init__(self, board: Board, scheduler: Scheduler) -> None:
        self._board = board
        self._scheduler = scheduler
        self._probes: dict[ProbeKey, Probe] = {}

    def start(self, probes: Sequence[Probe]) -> None:
        """The first set: begins to schedule. Called once, on the running loop."""
        self._probes = {probe_key(probe): probe for probe in probes}
        self._board.configure(probes)
        self._scheduler.start(probes, self._last_runs())

    def apply(self, probes: Sequence[Probe]) -> Changes:
        """Takes the whole new set in the place of the present one, at once, between two rounds of the loop.

        Probes are known by target and name. One that is equal to what it was keeps its slots, its running sweep, its
        place in line, its results and its counters. A changed one keeps results and counters as far as `Board.configure`
        says, and its slots unless its schedule changed. The series of a removed one are gone with the next scrape."""
        new = {probe_key(probe): probe for probe in probes}
        have = self._probes
        kept = have.keys() & new.keys()
        changed = sum(have[key] != new[key] for key in kept)
        changes = Changes(len(new) - len(kept), changed, len(have) - len(kept), len(kept) - changed)
        self._probes = new
        self._board.configure(probes)  # first: a skip of a removed probe must find nothing to be counted at
        if changes:
            self._scheduler.replace(probes, self._last_runs())
            _log.info("probes changed", extra=fields(**asdict(changes)))
        return changes

    def _last_runs(self) -> dict[ProbeKey, float]:
        """When each probe ran last, or began to run if it does now."""
        runs = {}
        for view in self._board.probes():
            if last_unix_s := view.running_since_unix_s or view.last_run_unix_s:
                runs[probe_key(view.probe)] = last_unix_s
        return runs
