"""The data of one sweep: read once, however many levels it has, and away from the loop, since that may take long."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from exporter import logs
from exporter.load.protocol import LevelPlan
from exporter.payload import Dataset, Step, make_dataset, round_robin
from exporter.probe import NS

PROGRESS_GAP_NS = 5 * NS
"""How often a large file that is being read tells how far it is."""

_log = logging.getLogger(__name__)


class Data:
    """The dataset of a sweep's probe."""

    def __init__(self) -> None:
        self._dataset: Dataset | None = None

    async def dataset(self, plan: LevelPlan) -> Dataset:
        """The dataset, made at the first call. Raises InputError."""
        if self._dataset is None:
            self._dataset = await asyncio.to_thread(
                make_dataset, plan.facts, plan.probe.input, _Progress(plan.probe.name)
            )
        return self._dataset

    async def requests(self, plan: LevelPlan) -> list[Step]:
        """The steps as requests with their batch, in the order in which they are sent. Raises InputError.

        Workers that share a level begin at different ones, evenly spread, so that they do not all send the same.
        """
        dataset = await self.dataset(plan)
        steps = await asyncio.to_thread(round_robin, dataset.steps, plan.facts, plan.probe.input.batch_size)
        first = plan.member * len(steps) // plan.members
        return steps[first:] + steps[:first]


class _Progress:
    """Tells the log now and then how far the reading is."""

    def __init__(self, probe: str) -> None:
        self._probe = probe
        self._told_ns = time.monotonic_ns()

    def __call__(self, path: Path, read: int, size: int) -> None:
        now_ns = time.monotonic_ns()
        if now_ns - self._told_ns >= PROGRESS_GAP_NS:
            self._told_ns = now_ns
            done = logs.fields(probe=self._probe, file=str(path), read_bytes=read, of_bytes=size)
            _log.info("reading input data", extra=done)
