"""Pause, resume, sweep now: by hand, and by the paths with a token."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from exporter.limits import GroupBudget, Maintenance
from exporter.outcome import Reason, SkipReason, SweepStatus
from exporter.probe import Probe
from exporter.result import SweepResult
from exporter.schedule.actions import ProbeActions
from exporter.schedule.gate import Gate
from exporter.schedule.ledger import Ledger
from exporter.schedule.maintenance import MaintenanceCalendar
from exporter.schedule.pauses import Pauses
from exporter.schedule.scheduler import Scheduler
from exporter.units import NS
from exporter.web.actions import action_routes
from exporter.web.auth import TokenGuard
from tests.builders import make_probe, make_target
from tests.schedule.fakes import FakeClocks

BEARER = {"Authorization": "Bearer open sesame"}
A, B = (make_probe(name=name, target=make_target(name=f"door-of-{name}", group="g")) for name in ("a", "b"))
REPLICA = make_probe(name="asr/10.0.0.1:8001", target=make_target(name="fleet/10.0.0.1:8001", group="10.0.0.1"))


class Stage:
    """A scheduler with its gate, whose sweeps last until a test ends them, behind the paths."""

    def __init__(self, folder: Path) -> None:
        (folder / "token").write_text("open sesame\n")
        self.fake = FakeClocks()
        self.ledger = Ledger(GroupBudget(1000, 1.0), lambda: self.fake.monotonic_ns)
        self.calendar = MaintenanceCalendar((), lambda: self.fake.wall_ns)
        self.pauses = Pauses(folder / "pauses.json")
        self.gate = Gate(self.pauses, self.calendar, self.ledger)
        self.running: dict[str, asyncio.Future[None]] = {}
        self.skipped: list[tuple[str, SkipReason]] = []
        self.scheduler = Scheduler(
            self._run, lambda p, r: self.skipped.append((p.name, r)), 2, self.fake.clocks, refuse=self.gate.refusal
        )
        actions = ProbeActions(self.scheduler, self.gate, self.pauses, lambda: [A, B, REPLICA])
        self.app = Starlette(routes=action_routes(actions, TokenGuard(str(folder / "token"), {})))
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://canary")

    async def post(self, path: str) -> tuple[int, str]:
        response = await self.client.post(f"/api/probes/{path}", headers=BEARER)
        await asyncio.sleep(0)  # a sweep's task begins
        is_json = response.headers["content-type"] == "application/json"
        return response.status_code, response.json()["done"] if is_json else response.text.strip()

    async def end(self, probe: Probe) -> None:
        self.running.pop(probe.name).set_result(None)
        for _ in range(5):
            await asyncio.sleep(0)

    async def _run(self, probe: Probe) -> None:
        self.running[probe.name] = asyncio.get_running_loop().create_future()
        await self.running[probe.name]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    await stage.client.aclose()
    assert await stage.scheduler.drain(1)


async def test_sweep_now_takes_its_turn(stage: Stage) -> None:
    assert await stage.post("a/sweep-now") == (202, "the sweep begins")
    assert await stage.post("a/sweep-now") == (409, "a sweep of the probe runs")
    for _ in range(2):
        assert await stage.post("b/sweep-now") == (202, "the sweep waits its turn, at most one interval")
    assert list(stage.running) == ["a"]
    await stage.end(A)
    assert list(stage.running) == ["b"]
    assert stage.skipped == []  # nothing that was due was lost


async def test_sweep_now_keeps_the_budget(stage: Stage) -> None:
    stage.ledger.sweep_ended(SweepResult("id", A, SweepStatus.OK, Reason.NONE, "", 0.0, NS, sent=1000))
    for name in "ab":
        assert await stage.post(f"{name}/sweep-now") == (429, "the budget of group 'g' has no room for a sweep now")
    assert (stage.running, stage.skipped) == ({}, [])
    stage.scheduler.due(A)
    assert stage.skipped == [("a", SkipReason.BUDGET)]
    stage.fake.advance(3600)
    assert await stage.post("b/sweep-now") == (202, "the sweep begins")


async def test_a_pause_holds_until_it_is_resumed(stage: Stage, tmp_path: Path) -> None:
    assert await stage.post("a/pause") == (200, "paused; a sweep that runs goes on")
    assert await stage.post("a/sweep-now") == (409, "the probe is paused by hand")
    stage.scheduler.due(A)
    assert stage.skipped == [("a", SkipReason.PAUSED)]
    restarted = Gate(Pauses(tmp_path / "pauses.json"), stage.calendar, stage.ledger)
    assert [restarted.pause(A), restarted.pause(B), restarted.refusal(A)] == [
        "paused by hand",
        "",
        SkipReason.PAUSED,
    ]
    assert await stage.post("a/resume") == (200, "resumed; it runs from its next slot on")
    assert await stage.post("a/sweep-now") == (202, "the sweep begins")


async def test_a_pause_ends_a_wait(stage: Stage) -> None:
    stage.scheduler.due(A)
    stage.scheduler.due(B)
    await stage.post("b/pause")
    assert stage.skipped == [("b", SkipReason.PAUSED)]


async def test_maintenance(stage: Stage) -> None:
    stage.scheduler.due(A)
    stage.scheduler.due(B)
    await asyncio.sleep(0)
    stage.calendar.configure([Maintenance("* * * * *", 60 * NS, probes=("b",))])
    assert stage.gate.pause(A) == ""
    assert stage.gate.pause(B).startswith("in maintenance until 20")
    await stage.end(A)
    assert stage.skipped == [("b", SkipReason.PAUSED)]  # it was in line when the maintenance began
    status, text = await stage.post("b/sweep-now")
    assert (status, text.partition(" until ")[0]) == (409, "the probe is in maintenance")
    await stage.post("b/pause")
    status, text = await stage.post("b/resume")
    assert (status, text.partition(" until ")[0]) == (200, "resumed, and in maintenance")


async def test_a_replica_has_a_slash_in_its_name(stage: Stage) -> None:
    assert await stage.post("asr/10.0.0.1:8001/sweep-now") == (202, "the sweep begins")
    assert list(stage.running) == ["asr/10.0.0.1:8001"]


async def test_what_is_refused_changes_nothing(stage: Stage) -> None:
    assert await stage.post("nobody/pause") == (404, "there is no probe 'nobody'")
    response = await stage.client.post("/api/probes/a/pause")
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    response = await stage.client.post("/api/probes/a/sweep-now", headers={"Authorization": "Bearer guess"})
    assert response.status_code == 401
    assert (await stage.client.get("/api/probes/a/pause", headers=BEARER)).status_code == 405
    assert (await stage.client.post("/api/probes/a/destroy", headers=BEARER)).status_code == 404
    assert (stage.gate.pause(A), stage.running) == ("", {})


async def test_a_pause_that_cannot_be_kept_is_refused(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "pauses.json").mkdir()
    status, text = await stage.post("a/pause")
    assert status == 500
    assert text.startswith("the pause cannot be kept over a restart: ")
    assert stage.gate.pause(A) == ""


async def test_the_audit_log(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "exporter.audit")
    await stage.post("a/pause")
    await stage.post("a/sweep-now")
    told = [(record.getMessage(), record.fields) for record in caplog.records]  # type: ignore[attr-defined]
    whose = {"target": "door-of-a", "probe": "a", "by": "127.0.0.1"}
    assert told == [
        ("probe action", {"action": "pause", **whose, "done": "paused; a sweep that runs goes on"}),
        ("probe action refused", {"action": "sweep-now", **whose, "error": "the probe is paused by hand"}),
    ]
