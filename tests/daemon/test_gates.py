"""The daemon's gates: known by their id, in turn with other sweeps, and undecided after whatever cuts them short."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from exporter.core.errors import ConfigError
from exporter.core.probe import Probe
from exporter.core.result import SweepResult
from exporter.core.rollout import GateVerdict
from exporter.daemon import gates as gates_module
from exporter.daemon.gates import MAX_KEPT, MAX_RUNNING, Gates
from exporter.schedule.actions import RefusalKind, RefusedError
from exporter.web.probe_routes import NoSweep
from tests.rollout.scripted import CANDIDATE, STABLE, result_of
from tests.waiting import PATIENCE_SECONDS

REQUEST = {"id": "r1", "stable": "old", "candidate": "other/new"}


@dataclass
class Desk:
    """Gates whose halves come from here: at once, or as `gives` states."""

    path: Path
    gives: list[NoSweep] = field(default_factory=list)
    slower: float = 1.0
    ran: list[Probe] = field(default_factory=list)
    block: bool = False
    probes: list[Probe] = field(default_factory=lambda: [STABLE, CANDIDATE])

    def __post_init__(self) -> None:
        self.gates = Gates(self.path, lambda: self.probes, self.run)
        self.gates.load()

    async def run(self, probe: Probe, short: Probe, seconds: float) -> SweepResult | NoSweep:
        assert probe is short
        assert seconds > 2
        await asyncio.sleep(0)
        if self.gives:
            return self.gives.pop(0)
        if self.block:
            await asyncio.Event().wait()
        self.ran.append(short)
        return result_of(short, 10 * (self.slower if short.name == "new" else 1))

    async def ended(self, gate_id: str = "r1") -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                document = self.gates.get(gate_id)
                assert document is not None
                if not document["running"]:
                    return document
                await asyncio.sleep(0.01)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(gates_module, "TURN_SECONDS", 0.001)
    return Desk(tmp_path / "gates.json")


@pytest.mark.parametrize(("slower", "verdict"), [(1.0, "equivalent"), (1.5, "worse"), (0.6, "better")])
async def test_one_gate(desk: Desk, slower: float, verdict: str) -> None:
    desk.slower = slower
    first = desk.gates.start(REQUEST, "10.0.0.1")
    assert (first["state"], first["running"], first["passed"]) == ("running", True, False)
    assert desk.gates.running == 1
    document = await desk.ended()
    assert (document["state"], document["verdict"], document["passed"]) == (verdict, verdict, verdict != "worse")
    assert (document["pairs"], len(desk.ran)) == (10, 20)
    last = desk.gates.last()
    assert last is not None
    assert (last.stable, last.candidate, last.verdict) == ("old", "new", GateVerdict(verdict))
    assert last.ratios["p99"][0] == pytest.approx(slower)


async def test_an_id_is_one_gate(desk: Desk) -> None:
    desk.gates.start(REQUEST, "")
    assert desk.gates.start(dict(REQUEST), "")["running"]
    await desk.ended()
    assert not desk.gates.start(REQUEST, "")["running"]
    assert len(desk.ran) == 20
    with pytest.raises(RefusedError, match="gate r1 was requested with other options") as caught:
        desk.gates.start(REQUEST | {"window": "3s"}, "")
    assert caught.value.kind is RefusalKind.CONFLICT


async def test_only_what_is_configured_is_compared(desk: Desk) -> None:
    with pytest.raises(RefusedError, match="no probe is named grpc://elsewhere/x") as caught:
        desk.gates.start(REQUEST | {"stable": "grpc://elsewhere/x"}, "")
    assert caught.value.kind is RefusalKind.UNKNOWN
    desk.probes.append(replace(CANDIDATE, target=STABLE.target))
    with pytest.raises(RefusedError, match="several probes are named new: write TARGET/PROBE"):
        desk.gates.start(REQUEST | {"candidate": "new"}, "")
    with pytest.raises(ConfigError, match="is the same model at the same server"):
        desk.gates.start(REQUEST | {"candidate": "old"}, "")
    assert desk.gates.all() == []


async def test_it_waits_its_turn(desk: Desk) -> None:
    desk.gives = [NoSweep.GROUP_BUSY, NoSweep.ALL_BUSY] * 20
    desk.gates.start(REQUEST, "")
    document = await desk.ended()
    assert (document["verdict"], desk.gives) == ("equivalent", [])


@pytest.mark.parametrize("refusal", [NoSweep.PAUSED, NoSweep.BUDGET, NoSweep.SHUTDOWN])
async def test_what_may_not_run_ends_it_undecided(desk: Desk, refusal: NoSweep) -> None:
    desk.gives = [NoSweep.GROUP_BUSY, refusal]
    desk.gates.start(REQUEST, "")
    document = await desk.ended()
    assert (document["verdict"], document["passed"], document["pairs"]) == ("undecided", False, 0)
    assert refusal.value[1] in document["text"]


async def test_a_turn_that_never_comes_ends_it(desk: Desk) -> None:
    desk.gives = [NoSweep.GROUP_BUSY] * 100_000
    desk.gates.start(REQUEST | {"max_duration": "1s"}, "")
    document = await desk.ended()
    assert document["verdict"] == "undecided"
    assert "its turn did not come: another sweep of the group runs" in document["text"]


async def test_a_probe_that_changes_ends_it(desk: Desk) -> None:
    desk.block = True
    desk.gates.start(REQUEST, "")
    await asyncio.sleep(0.01)
    desk.probes[1] = replace(CANDIDATE, model="another")
    desk.block = False
    desk.gates.start(REQUEST | {"id": "r2", "candidate": "new"}, "")
    assert (await desk.ended("r2"))["candidate"]["model"] == "another"
    await desk.gates.close()
    changed = desk.gates.get("r1")
    assert changed is not None
    assert not changed["passed"]


async def test_no_more_than_so_many_at_once_and_kept(desk: Desk) -> None:
    desk.block = True
    for number in range(MAX_RUNNING):
        desk.gates.start(REQUEST | {"id": f"b{number}"}, "")
    with pytest.raises(RefusedError, match="10 gates run already") as caught:
        desk.gates.start(REQUEST, "")
    assert caught.value.kind is RefusalKind.BUDGET
    await desk.gates.close()
    desk.block, desk.gives = False, []
    for number in range(MAX_KEPT + 5):
        desk.gives = [NoSweep.PAUSED]
        desk.gates.start(REQUEST | {"id": f"k{number}"}, "")
        await desk.ended(f"k{number}")
    kept = [document["id"] for document in desk.gates.all()]
    assert len(kept) == MAX_KEPT
    assert kept[0] == f"k{MAX_KEPT + 4}"


async def test_results_outlive_a_restart(desk: Desk) -> None:
    desk.slower = 1.5
    desk.gates.start(REQUEST, "")
    document = await desk.ended()
    await desk.gates.close()
    again = Desk(desk.path)
    assert again.gates.get("r1") == document
    assert again.gates.last() == desk.gates.last()
    assert again.gates.start(REQUEST, "") == document
    assert again.ran == []


@pytest.mark.parametrize("killed", [True, False])
async def test_what_the_daemons_end_cuts_short_is_undecided(desk: Desk, killed: bool) -> None:
    desk.block = True
    desk.gates.start(REQUEST, "")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not desk.path.exists():
            await asyncio.sleep(0.01)
    if not killed:
        await desk.gates.close()
    again = Desk(desk.path)
    document = again.gates.get("r1")
    assert document is not None
    assert (document["state"], document["verdict"], document["passed"]) == ("undecided", "undecided", False)
    assert document["text"] == (
        "undecided: the daemon ended during the gate"
        if killed
        else "undecided: the daemon was shut down during the gate"
    )
    last = again.gates.last()
    assert last is not None
    assert last.verdict is GateVerdict.UNDECIDED
    await desk.gates.close()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"gates": [{}]}', '{"gates": [{"request": {"id": "x"}}]}'])
def test_a_damaged_file_is_set_aside(tmp_path: Path, text: str) -> None:
    path = tmp_path / "gates.json"
    path.write_text(text)
    assert Desk(path).gates.all() == []
    assert (tmp_path / "gates.json.damaged").read_text() == text


async def test_a_stored_gate_whose_options_are_refused_today_is_kept(desk: Desk) -> None:
    desk.gates.start(REQUEST, "")
    ended = await desk.ended()
    await desk.gates.close()
    stored = json.loads(desk.path.read_text())
    stored["gates"][0]["request"] |= {"min_pairs": 5, "max_pairs": 6}
    desk.path.write_text(json.dumps(stored))
    assert Desk(desk.path).gates.all() == [ended]


async def test_a_file_that_cannot_be_written_costs_no_gate(desk: Desk) -> None:
    def claim() -> None:
        raise OSError("the data directory is another daemon's")

    gates = Gates(desk.path, lambda: desk.probes, desk.run, claim)
    desk.gates = gates
    gates.start(REQUEST, "")
    assert (await desk.ended())["verdict"] == "equivalent"
    assert not desk.path.exists()


async def test_what_is_kept_is_json(desk: Desk) -> None:
    desk.gates.start(REQUEST, "")
    document = await desk.ended()
    await desk.gates.close()
    (kept,) = json.loads(desk.path.read_text())["gates"]
    assert kept["document"] == json.loads(json.dumps(document))
