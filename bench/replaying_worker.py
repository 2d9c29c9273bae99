"""A worker process that sends nothing: it reports windows of made-up rows at the rate that its level asks for. For
`bench.pool`, which measures what the client of many such workers does."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import numpy as np

from exporter.core.facts import ModelFacts
from exporter.core.outcome import Outcome
from exporter.core.probe import Probe
from exporter.core.units import MS, NS
from exporter.core.window import ConnectionTimes, LevelEnd, RecordColumns, Window
from exporter.engine.guard import Stop
from exporter.engine.level import Publish
from exporter.engine.plan import LevelPlan, LevelStarted, LevelWaiting
from exporter.services import SERVICES
from exporter.worker import main as worker_main
from exporter.worker.session import Session
from tests.builders import make_facts

_MEAN_NS = 2 * MS


class Replaying(Session):
    """Its load is a schedule, and latencies of an exponential distribution."""

    async def preflight(self, probe: Probe) -> ModelFacts:
        return make_facts()

    async def run_level(self, plan: LevelPlan, publish: Publish) -> None:
        self._over: Stop | None = None
        self._meet = asyncio.get_running_loop().create_future()
        await publish(LevelStarted(ConnectionTimes()))
        begins_ns = await self._all(publish) if plan.members > 1 else time.monotonic_ns()
        dice, sent, index = np.random.default_rng(plan.member), 0, 0
        window_ns = plan.probe.measurement.window_ns
        per_window = round(plan.level.value * window_ns / NS / plan.members)
        if plan.members > 1:  # warm-up is over at once
            begins_ns = await self._all(publish)
        while not self._over and (not plan.max_windows or index < plan.max_windows):
            start_ns = begins_ns + index * window_ns
            await asyncio.sleep((start_ns + window_ns - time.monotonic_ns()) / NS)
            columns = _rows(dice, start_ns, window_ns, per_window)
            await publish(
                Window(index=index, start_ns=start_ns, end_ns=start_ns + window_ns, columns=columns, sent=per_window)
            )
            sent, index = sent + per_window, index + 1
        over = self._over or Stop()
        await publish(LevelEnd(over.reason, over.text, sent, 0))

    async def _all(self, publish: Publish) -> int:
        await publish(LevelWaiting())
        at_ns, self._meet = await self._meet, asyncio.get_running_loop().create_future()
        return int(at_ns)

    def proceed(self, at_ns: int) -> None:
        self._meet.set_result(at_ns)

    def stop(self, stop: Stop | None = None) -> None:
        self._over = stop or Stop()


def _rows(dice: np.random.Generator, start_ns: int, window_ns: int, count: int) -> RecordColumns:
    last_ns = start_ns + np.sort(dice.integers(0, window_ns, count))
    sent_ns = last_ns - dice.exponential(_MEAN_NS, count).astype(np.int64) - MS // 2
    return replace(
        RecordColumns.empty(count),
        intended_ns=sent_ns - dice.integers(1000, 90_000, count),
        sent_ns=sent_ns,
        send_done_ns=sent_ns + dice.integers(5_000, 30_000, count),
        first_ns=last_ns - dice.integers(1_000, 20_000, count),
        last_ns=last_ns,
        responses=np.ones(count, np.uint32),
        outcome=np.full(count, int(Outcome.OK), np.uint8),
        bytes_out=np.full(count, 412, np.int64),
        bytes_in=np.full(count, 388, np.int64),
    )


if __name__ == "__main__":
    vars(worker_main)["Session"] = Replaying
    worker_main.main({kind: make() for kind, make in SERVICES.items()})
