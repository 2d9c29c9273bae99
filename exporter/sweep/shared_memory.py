"""Memory that a sweep may have left registered at its server: when that can happen, and the clean-up.

Does not know how memory is shared: a worker's preflight removes leftover regions.
"""

from __future__ import annotations

import asyncio
import contextlib

from exporter.core.errors import PreflightError, WorkerLostError
from exporter.core.facts import ModelFacts
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import Probe
from exporter.core.result import SweepResult
from exporter.engine.plan import Borrow, Worker
from exporter.sweep.leftovers import Leftovers
from exporter.sweep.preflight import Pins


def is_shared(probe: Probe) -> bool:
    """Whether the probe's sweeps share memory with the server."""
    return probe.input.shared_memory != "none"


def may_be_left(result: SweepResult, facts: ModelFacts | None) -> bool:
    """Whether an unresponsive server, or a lost worker, may have left the regions registered."""
    was_shared = facts is not None or result.reason is Reason.PREFLIGHT_TIMEOUT
    return is_shared(result.probe) and was_shared and (not result.usable or Outcome.TIMEOUT in result.outcomes)


async def clean_up(borrow: Borrow, probe: Probe, pins: Pins, limit_s: float) -> bool:
    """A lost or killed worker may have left shared memory behind, here and at the server: another worker's preflight
    removes it, if the server responds by now. Returns whether it did."""
    done = False
    with contextlib.suppress(WorkerLostError, PreflightError, TimeoutError):
        async with asyncio.timeout(limit_s), borrow() as worker:
            await pins.preflight(worker, probe)
            done = True
            await worker.end_sweep()
    return done


async def take_back(worker: Worker, probe: Probe, pins: Pins, leftovers: Leftovers) -> None:
    """Removes regions that earlier sweeps of any probe left behind: the preflight of that probe does it, and this
    probe's own preflight for its kind of memory."""
    for other in leftovers.shared(probe):
        if other.input.shared_memory != probe.input.shared_memory:
            with contextlib.suppress(PreflightError):
                await pins.preflight(worker, other)
                leftovers.unshare(other)
