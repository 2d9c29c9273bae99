"""A month of the fleet in simulated time: daily reloads, restarts, jumps of the wall clock, and growth from 12 shards
to 16 in its middle."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.fleet.audit import Audit
from bench.fleet.clock import SimulatedLoop, simulated_time
from bench.fleet.made import Size, on_day, probes_of
from bench.fleet.shard import SimulatedDaemon
from exporter.core.probe import Probe
from exporter.core.units import NS
from exporter.schedule.sharding import Shard, shard_of

DAY_S = 86_400.0
REPLACED_S = 40.0
"""How long there is no daemon while one is replaced."""
JUMPS_S = (170.0, -170.0, 40.0, -40.0)


@dataclass
class Month:
    """Runs `days` of the fleet, which grows to `grown` shards half-way, in two steps or at once."""

    size: Size
    folder: Path
    days: int = 30
    grown: int = 16
    two_steps: bool = True
    audit: Audit = field(default_factory=Audit)
    daemons: dict[int, SimulatedDaemon] = field(default_factory=dict)
    cpu_s: float = 0.0

    def run(self) -> None:
        """Returns when the month is over, with the daemons as they are then."""
        self._probes = probes_of(self.size, self.folder)
        self._day = 0
        self._dice = random.Random(2)
        loop = SimulatedLoop()
        self.loop = loop
        began_s = time.process_time()
        with simulated_time(loop), asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(self._month())
        self.cpu_s = time.process_time() - began_s

    @property
    def probes(self) -> list[Probe]:
        """Those configured now."""
        return on_day(self._probes, self._day)

    async def _month(self) -> None:
        for index in range(self.size.shards):
            self._start(Shard(index, self.size.shards))
        growth = asyncio.create_task(self._grow())
        for day in range(1, self.days + 1):
            self._day = day
            await self._one_day()
        await growth
        self.ended_unix_s = self.loop.unix_s
        for daemon in list(self.daemons.values()):
            await daemon.stop()

    async def _one_day(self) -> None:
        """Each daemon takes the next day's file within minutes; one restarts; on some days the clock jumps."""
        probes, began_s = self.probes, self.loop.time()
        self.audit.configured(probes)
        for daemon in list(self.daemons.values()):
            await asyncio.sleep(self._dice.random() * 60)
            if daemon in self.daemons.values():
                daemon.reload(probes)
        self.audit.configured(probes)  # some ran once more, by the day before
        await asyncio.sleep(self._dice.random() * DAY_S / 3)
        index = self._day % self.size.shards
        if not self._growing:
            await self._replace(index, self.daemons[index].shard)
        await asyncio.sleep(self._dice.random() * DAY_S / 3)
        if self._day % 3 == 0:
            self.loop.wall_offset_ns += round(JUMPS_S[self._day // 3 % len(JUMPS_S)] * NS)
        await asyncio.sleep(began_s + DAY_S - self.loop.time())

    _growing = False

    async def _grow(self) -> None:
        await asyncio.sleep((self.days // 2 + 0.4) * DAY_S)
        self._growing = True
        old = self.size.shards
        for before in (old, 0) if self.two_steps else (0,):
            # The new ones at once, then one after the other, as a StatefulSet does.
            for index in range(old, self.grown):
                await self._replace(index, Shard(index, self.grown, before))
            for index in reversed(range(old)):
                await self._replace(index, Shard(index, self.grown, before))
        self._growing = False

    async def _replace(self, index: int, shard: Shard) -> None:
        if (daemon := self.daemons.pop(index, None)) is not None:
            await daemon.stop()
        await asyncio.sleep(REPLACED_S)
        self._start(shard)

    def _start(self, shard: Shard) -> None:
        daemon = SimulatedDaemon(self.loop, shard, self.audit, self.folder / f"shard-{shard.index}", shard.index)
        daemon.start(self.probes)
        self.daemons[shard.index] = daemon


def moved(groups: Sequence[str], old: int, new: int) -> tuple[int, int]:
    """How many groups get another shard, and how many of those one that there was before."""
    pairs = [(shard_of(group, old), shard_of(group, new)) for group in groups]
    return sum(a != b for a, b in pairs), sum(a != b and b < old for a, b in pairs)
