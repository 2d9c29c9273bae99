"""One daemon of the fleet: the product's schedule, gate, ledger, state and probe set, joined as the daemon joins them.
Only the sweep is made up: it lasts its time, and has a result."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.fleet.audit import Audit
from bench.fleet.clock import SimulatedLoop
from exporter.core.limits import GroupBudget, Maintenance
from exporter.core.outcome import Reason, SkipReason, SweepStatus
from exporter.core.probe import Probe
from exporter.core.result import Sink, SweepResult
from exporter.core.units import NS
from exporter.daemon.reload import ProbeSet
from exporter.schedule.gate import Gate
from exporter.schedule.ledger import Ledger
from exporter.schedule.maintenance import MaintenanceCalendar
from exporter.schedule.pauses import Pauses
from exporter.schedule.scheduler import Scheduler
from exporter.schedule.sharding import Shard
from exporter.state.probe_state import Board
from tests.metrics.results import make_result

CONCURRENT_SWEEPS = 16
DRAIN_SECONDS = 10.0
MAINTENANCE = Maintenance("30 2 * * 6", 3600 * NS, targets=tuple(f"triton-{number}" for number in range(0, 10_000, 40)))
"""A part of the servers, on Saturdays."""
_FAILED, _CUT = "failed", "cut"


class _AuditedScheduler(Scheduler):
    audit: Audit
    wall_ns: object

    def due(self, probe: Probe) -> None:
        self.audit.due(probe, self._clocks.wall_ns())
        super().due(probe)


class SimulatedDaemon:
    """Runs a shard's probes of those given, from `start` until `stop`; `data` keeps what outlives it."""

    def __init__(self, loop: SimulatedLoop, shard: Shard, audit: Audit, data: Path, seed: int) -> None:
        data.mkdir(parents=True, exist_ok=True)
        self._loop, self._audit, self.shard = loop, audit, shard
        self._dice = random.Random(seed)
        clocks = loop.clocks
        self.board = Board(data / "state.json", lambda: loop.unix_s, monotonic=loop.time)
        self.ledger = Ledger(GroupBudget(), clocks.monotonic_ns, now_unix_s=lambda: loop.unix_s)
        gate = Gate(Pauses(data / "pauses.json"), MaintenanceCalendar([MAINTENANCE], clocks.wall_ns), self.ledger)
        self.scheduler = _AuditedScheduler(self._sweep, self._skipped, CONCURRENT_SWEEPS, clocks, gate.refusal)
        self.scheduler.audit = audit
        self.gate = gate
        self._probe_set = ProbeSet(self.board, self.scheduler)
        self._sinks: list[Sink] = [self.board, self.ledger]
        self._templates: dict[tuple[object, str], SweepResult] = {}

    def own(self, probes: Sequence[Probe]) -> list[Probe]:
        return [probe for probe in probes if self.shard.has(probe.target.group)]

    def start(self, probes: Sequence[Probe]) -> None:
        self._probe_set.start(self.own(probes))

    def reload(self, probes: Sequence[Probe]) -> None:
        self._probe_set.apply(self.own(probes))

    async def stop(self) -> None:
        await self.scheduler.drain(DRAIN_SECONDS)
        self.board.close()

    async def _sweep(self, probe: Probe) -> None:
        loop, began_s = self._loop, self._loop.unix_s
        self._audit.started(probe, began_s)
        for sink in self._sinks:
            sink.sweep_started(probe, began_s)
        kind = _CUT
        try:
            # Two levels of three windows of 2.5 s and their preflight; some find no server, some a slow one.
            chance = self._dice.random()
            kind = _FAILED if chance < 0.02 else ""
            await asyncio.sleep(0.05 if kind else 120.0 if chance > 0.99 else 16 + 14 * self._dice.random())
        except asyncio.CancelledError:
            kind = _CUT
            raise
        finally:
            self._audit.ended(probe)
            result = replace(
                self._template(probe, kind), started_unix_s=began_s, duration_ns=round((loop.unix_s - began_s) * NS)
            )
            for sink in self._sinks:
                sink.sweep_ended(result)

    def _template(self, probe: Probe, kind: str) -> SweepResult:
        key = (probe, kind)
        if key not in self._templates:
            status = {_FAILED: SweepStatus.FAILED, _CUT: SweepStatus.ABORTED}.get(kind, SweepStatus.OK)
            reason = {_FAILED: Reason.UNREACHABLE, _CUT: Reason.SHUTDOWN}.get(kind, Reason.NONE)
            self._templates[key] = make_result(probe, status, reason=reason)
        return self._templates[key]

    def _skipped(self, probe: Probe, reason: SkipReason) -> None:
        self._audit.skips[reason.value] += 1
        for sink in self._sinks:
            sink.sweep_skipped(probe, reason)
