"""Sweeps on demand: whose they are, what is heard of them, and that they end in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from exporter.core.errors import WorkerLostError
from exporter.core.limits import GroupBudget
from exporter.core.outcome import Reason, SkipReason
from exporter.core.probe import Probe
from exporter.core.result import SweepResult
from exporter.core.units import NS
from exporter.daemon.on_demand import OnDemand
from exporter.engine.plan import Borrow, Worker
from exporter.schedule.ledger import Ledger
from exporter.schedule.scheduler import Scheduler
from exporter.state.probe_state import Board
from exporter.sweep.preflight import Pins
from exporter.web.probe_routes import NoSweep
from tests.builders import make_probe, make_target

PROBE = make_probe()


class Desk:
    """On-demand sweeps whose worker never comes, or is lost at once."""

    def __init__(self) -> None:
        self.lost = False
        self.refusal: SkipReason | None = None
        self.board = Board(None)
        self.board.configure([PROBE])
        self.ledger = Ledger(GroupBudget(duty_ratio=0.01))
        self.scheduler = Scheduler(self._scheduled, lambda probe, reason: None, 1, refuse=self._refuse)
        self.on_demand = OnDemand(
            self.scheduler, lambda: [PROBE], self._lend, [self.board], pins=Pins(), ledger=self.ledger
        )

    def _refuse(self, probe: Probe) -> SkipReason | None:
        return self.refusal or self.ledger.refusal(probe)

    async def _scheduled(self, probe: Probe) -> None:
        raise AssertionError("none is due")

    def _lend(self, probe: Probe, sweep_id: str) -> Borrow:
        @asynccontextmanager
        async def borrow() -> AsyncIterator[Worker]:
            if self.lost:
                raise WorkerLostError(Reason.WORKER_CRASH, "it is gone")
            await asyncio.Event().wait()
            yield  # type: ignore[misc]  # never reached

        return borrow


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    yield desk
    assert await desk.scheduler.drain(1)


@pytest.mark.parametrize(
    ("target", "name", "found"),
    [("triton-http", "addsub", True), ("triton-http", "x", False), ("x", "addsub", False), ("", "", False)],
)
async def test_only_what_is_configured_is_found(target: str, name: str, found: bool, desk: Desk) -> None:
    assert (desk.on_demand.find(target, name) is PROBE) == found


async def test_what_takes_too_long_is_ended(desk: Desk) -> None:
    result = await desk.on_demand.run(PROBE, 0.02)
    assert isinstance(result, SweepResult)
    assert (result.reason, result.reason_text) == (Reason.SHUTDOWN, "not done within 0.02 s")
    assert not result.usable
    assert desk.ledger.caused(PROBE).duration_ns == result.duration_ns > 0


async def test_one_that_the_budget_does_not_allow_does_not_run(desk: Desk) -> None:
    desk.ledger.budget = GroupBudget(requests_per_hour=1, duty_ratio=1 / 3600 / NS)
    await desk.on_demand.run(PROBE, 0.02)
    assert await desk.on_demand.run(PROBE, 0.02) is NoSweep.BUDGET


async def test_none_runs_while_paused_nor_at_the_end(desk: Desk) -> None:
    desk.refusal = SkipReason.PAUSED
    assert await desk.on_demand.run(PROBE, 0.02) is NoSweep.PAUSED
    await desk.scheduler.drain(1)
    assert await desk.on_demand.run(PROBE, 0.02) is NoSweep.SHUTDOWN


async def test_a_second_one_is_refused_meanwhile_and_welcome_after(desk: Desk) -> None:
    first = asyncio.create_task(desk.on_demand.run(PROBE, 0.05))
    await asyncio.sleep(0)
    assert await desk.on_demand.run(PROBE, 0.05) is NoSweep.GROUP_BUSY
    elsewhere = make_probe(target=make_target(name="elsewhere", group="elsewhere"))
    assert await desk.on_demand.run(elsewhere, 0.05) is NoSweep.ALL_BUSY  # one sweep at a time, whosever it is
    await first
    assert isinstance(await desk.on_demand.run(PROBE, 0.01), SweepResult)


async def test_its_result_is_for_who_asked_alone(desk: Desk) -> None:
    desk.lost = True
    result = await desk.on_demand.run(PROBE, 1)
    assert isinstance(result, SweepResult)
    assert (result.reason, result.reason_text) == (Reason.WORKER_CRASH, "it is gone")
    (view,) = desk.board.probes()
    assert (view.result, view.up, view.last_run_unix_s, view.running_since_unix_s) == (None, None, 0.0, None)
