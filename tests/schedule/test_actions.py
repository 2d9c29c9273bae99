"""Pause, resume, sweep now: by hand, and by the paths with a token."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from exporter.core.limits import GroupBudget, Maintenance
from exporter.core.outcome import Reason, SkipReason, SweepStatus
from exporter.core.probe import Probe
from exporter.core.result import SweepResult
from exporter.core.units import NS
from exporter.schedule.actions import ProbeActions
from exporter.schedule.gate import Gate
from exporter.schedule.ledger import Ledger
from exporter.schedule.maintenance import MaintenanceCalendar
from exporter.schedule.pauses import Pauses
from exporter.schedule.scheduler import Scheduler
from exporter.web.action_routes import action_routes
from exporter.web.auth import TokenGuard
from tests.builders import make_probe, make_target
from tests.schedule.fakes import FakeClocks

BEARER = {"Authorization": "Bearer open sesame"}
A, B = (make_probe(name=name, target=make_target(name=f"endpoint-of-{name}", group="g")) for name in ("a", "b"))
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
        self.probes = [A, B, REPLICA]
        actions = ProbeActions(self.scheduler, self.gate, self.pauses, lambda: self.probes, lambda: [("fleet", "asr")])
        self.seconds = 0.0
        guard = TokenGuard(str(folder / "token"), {}, lambda: self.seconds)
        self.app = Starlette(routes=action_routes(actions, guard))
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
        assert await stage.post(f"{name}/sweep-now") == (429, "the budget of group 'g' does not allow a sweep now")
    assert (stage.running, stage.skipped) == ({}, [])
    stage.scheduler.due(A)
    assert stage.skipped == [("a", SkipReason.BUDGET)]
    stage.fake.advance(3600)
    assert await stage.post("b/sweep-now") == (202, "the sweep begins")


async def test_a_pause_holds_until_it_is_resumed(stage: Stage, tmp_path: Path) -> None:
    assert await stage.post("a/pause") == (200, "paused; a running sweep continues")
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


async def test_everything_is_stopped_now_and_after_a_restart(stage: Stage, tmp_path: Path) -> None:
    stage.scheduler.due(A)
    stage.scheduler.due(B)  # waits: it is of the same group
    stage.scheduler.due(REPLICA)
    await asyncio.sleep(0)
    assert sorted(stage.running) == ["a", "asr/10.0.0.1:8001"]
    response = await stage.client.post("/api/pause", headers=BEARER)
    assert response.json() == {"done": "everything is paused; running sweeps that end now: 2", "not_kept": ""}
    await asyncio.sleep(0)
    assert all(future.cancelled() for future in stage.running.values())
    assert stage.skipped == [("b", SkipReason.PAUSED)]
    for probe in (A, B, REPLICA):
        assert await stage.post(f"{probe.name}/sweep-now") == (
            409,
            "the probe is paused by hand, with everything",
        )
    restarted = Gate(Pauses(tmp_path / "pauses.json"), stage.calendar, stage.ledger)
    assert [restarted.refusal(probe) for probe in (A, B, REPLICA)] == [SkipReason.PAUSED] * 3
    assert restarted.counts() == {"all": 1, "target": 0, "probe": 0}
    assert restarted.notices() == ["Everything is paused by hand: no probe runs until it is resumed"]
    response = await stage.client.post("/api/resume", headers=BEARER)
    assert response.json()["done"] == "resumed; probes run from their next slots on"
    assert await stage.post("a/sweep-now") == (202, "the sweep begins")
    assert (await stage.client.post("/api/resume", headers=BEARER)).status_code == 409


@pytest.mark.parametrize(
    ("target", "stopped"),
    [("endpoint-of-a", [A]), ("fleet", [REPLICA]), ("fleet/10.0.0.1:8001", [REPLICA])],
)
async def test_a_target_is_stopped_and_no_other(stage: Stage, target: str, stopped: list[Probe]) -> None:
    stage.scheduler.due(A)
    stage.scheduler.due(REPLICA)
    await asyncio.sleep(0)
    response = await stage.client.post("/api/pause", params={"target": target}, headers=BEARER)
    assert response.json()["done"] == f"all of target {target} is paused; running sweeps that end now: 1"
    await asyncio.sleep(0)
    assert [p for p in (A, REPLICA) if stage.running[p.name].cancelled()] == stopped
    assert [probe for probe in (A, B, REPLICA) if stage.gate.pause(probe)] == stopped
    assert stage.gate.counts() == {"all": 0, "target": 1, "probe": 0}
    assert stage.gate.notices() == [f"Paused by hand, with all of their probes: {target}"]
    await stage.post("a/pause")
    response = await stage.client.post("/api/resume", params={"target": target}, headers=BEARER)
    still = ", but for 1 still paused" if A in stopped else ""
    assert response.json()["done"] == f"resumed; probes run from their next slots on{still}"


async def test_a_sweep_on_demand_is_stopped_too(stage: Stage) -> None:
    async def work(_: Probe) -> None:
        await asyncio.Event().wait()

    started = stage.scheduler.run_extra(A, work)
    assert isinstance(started, asyncio.Task)
    await asyncio.sleep(0)
    await stage.client.post("/api/pause", params={"target": "endpoint-of-a"}, headers=BEARER)
    await asyncio.wait({started}, timeout=1)
    assert started.cancelled()
    assert stage.scheduler.run_extra(A, work) is SkipReason.PAUSED


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("pause?target=nothing", 404),
        ("pause?targte=endpoint-of-a", 400),
        ("resume", 409),
        ("resume?target=endpoint-of-a", 409),
    ],
)
async def test_what_stops_nothing(stage: Stage, path: str, status: int) -> None:
    assert (await stage.client.post(f"/api/{path}", headers=BEARER)).status_code == status
    assert (await stage.client.post(f"/api/{path}")).status_code == 401
    assert stage.gate.counts() == {"all": 0, "target": 0, "probe": 0}


async def test_everything_is_stopped_even_where_that_cannot_be_kept(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "pauses.json").mkdir()
    response = await stage.client.post("/api/pause", headers=BEARER)
    assert response.status_code == 200
    assert response.json()["not_kept"].startswith("it cannot be saved for a restart: ")
    assert stage.gate.refusal(A) is SkipReason.PAUSED


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


def replica(number: int) -> Probe:
    where = f"10.0.0.{number}:8001"
    return make_probe(name=f"asr/{where}", target=make_target(name=f"fleet/{where}", group=where))


async def test_a_pattern_is_paused_with_all_that_will_be_found_of_it(stage: Stage, tmp_path: Path) -> None:
    stage.probes = [A, replica(1), replica(2)]
    text = "paused, with all that is found of it, now 2; a running sweep continues"
    assert await stage.post("asr/pause") == (200, text)
    stage.probes = [A, replica(3)]  # all others are gone; this one has come
    gate = Gate(Pauses(tmp_path / "pauses.json"), stage.calendar, stage.ledger)  # as after a restart
    assert [gate.pause(probe) for probe in (A, replica(3))] == ["", "paused by hand, with all of asr"]
    assert await stage.post("asr/10.0.0.3:8001/sweep-now") == (409, "the probe is paused by hand, with all of asr")
    text = "resumed, and paused by hand, with all of asr"  # one of them alone can't be resumed, and that is reported
    assert await stage.post("asr/10.0.0.3:8001/resume") == (200, text)
    await stage.post("asr/10.0.0.3:8001/pause")
    text = "resumed, with all that is found of it, now 1; it runs from its next slot on"
    assert await stage.post("asr/resume") == (200, text)
    assert (list(stage.pauses), stage.gate.pause(replica(3))) == ([], "")


async def test_a_pattern_of_which_nothing_is_found_yet(stage: Stage) -> None:
    stage.probes = [A]
    text = "paused, with all that is found of it, now 0; a running sweep continues"
    assert await stage.post("asr/pause") == (200, text)
    assert stage.gate.pause(replica(1)) == "paused by hand, with all of asr"
    assert stage.gate.pause(A) == ""


async def test_a_pause_of_a_pattern_ends_the_waits(stage: Stage) -> None:
    stage.probes = [replica(1), replica(2), replica(3)]
    for probe in stage.probes:
        stage.scheduler.due(probe)
    await asyncio.sleep(0)
    await stage.post("asr/pause")
    assert sorted(stage.running) == ["asr/10.0.0.1:8001", "asr/10.0.0.2:8001"]
    assert stage.skipped == [("asr/10.0.0.3:8001", SkipReason.PAUSED)]
    for probe in stage.probes[:2]:
        await stage.end(probe)


async def test_a_pattern_cannot_be_swept_now(stage: Stage) -> None:
    text = "the name covers several probes; sweep-now needs the name of one"
    assert await stage.post("asr/sweep-now") == (409, text)
    assert stage.running == {}


async def test_what_is_refused_changes_nothing(stage: Stage) -> None:
    assert await stage.post("nosuch/pause") == (404, "there is no probe 'nosuch'")
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
    assert text.startswith("the pause cannot be saved for a restart: ")
    assert stage.gate.pause(A) == ""


def reported(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, object]]]:
    return [(record.getMessage(), record.fields) for record in caplog.records]  # type: ignore[attr-defined]


async def test_the_audit_log(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "exporter.audit")
    await stage.post("a/pause")
    await stage.post("a/sweep-now")
    await stage.post("nosuch/pause")
    whose = {"target": "endpoint-of-a", "probe": "a", "by": "127.0.0.1"}
    nosuch = {"target": "", "probe": "nosuch", "by": "127.0.0.1"}
    assert reported(caplog) == [
        ("probe action", {"action": "pause", **whose, "done": "paused; a running sweep continues"}),
        ("probe action refused", {"action": "sweep-now", **whose, "error": "the probe is paused by hand"}),
        ("probe action refused", {"action": "pause", **nosuch, "error": "there is no probe 'nosuch'"}),
    ]


async def test_the_audit_log_of_those_without_the_token(
    stage: Stage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "exporter.audit")

    async def guess(path: str, address: str = "10.0.0.1") -> int:
        transport = httpx.ASGITransport(stage.app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://canary") as client:
            return (await client.post(path, headers={"Authorization": "Bearer guess"})).status_code

    for _ in range(5):
        assert await guess("/api/probes/a/pause") == 401
    assert await guess("/api/probes/nosuch/pause", "10.0.0.2") == 401
    stage.seconds = 60.0
    (tmp_path / "token").write_text("")
    assert await guess("/api/probes/a/pause") == 403
    stage.seconds = 120.0
    (tmp_path / "token").unlink()
    assert await guess(f"/api/probes/{'x' * 500}/pause") == 503
    wrong = "the request has no valid token: Authorization: Bearer <token>"
    none = "changes are refused: no token is configured; set web.api_token_file or TRITON_CANARY_API_TOKEN"
    unread = f"web.api_token_file cannot be read: No such file or directory: {tmp_path / 'token'}"
    path, long_path = "/api/probes/a/pause", f"/api/probes/{'x' * 188}"
    refused = [
        {"path": path, "by": "10.0.0.1", "status": 401, "error": wrong, "left_out": 0},
        {"path": "/api/probes/nosuch/pause", "by": "10.0.0.2", "status": 401, "error": wrong, "left_out": 4},
        {"path": path, "by": "10.0.0.1", "status": 403, "error": none, "left_out": 0},
        {"path": long_path, "by": "10.0.0.1", "status": 503, "error": unread, "left_out": 0},
    ]
    assert reported(caplog) == [("request refused", fields) for fields in refused]


async def test_strangers_of_many_addresses_do_not_fill_the_log(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "exporter.audit")
    for number in range(100):
        transport = httpx.ASGITransport(stage.app, client=(f"10.0.1.{number}", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://canary") as client:
            await client.post("/api/probes/a/pause")
    assert len(caplog.records) == 30
    stage.seconds = 60.0
    await stage.client.post("/api/probes/a/pause")
    assert reported(caplog)[-1][1]["left_out"] == 70
