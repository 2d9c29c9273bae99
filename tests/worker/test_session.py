"""A sweep keeps to one address: preflight settles on it, and every level goes there, whichever worker runs it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from exporter.core.facts import ModelFacts
from exporter.core.outcome import Reason
from exporter.core.probe import InputOptions, Probe, StopRules, Validation
from exporter.core.target import Resolve, Target
from exporter.core.units import NS
from exporter.core.window import LevelEnd
from exporter.engine.plan import LevelPlan, MemberEvent
from exporter.services.base import Tensors
from exporter.storage.account import Account
from exporter.transport import resolve
from exporter.transport.call import EncodedRequest, Listener
from exporter.transport.resolve import Address
from exporter.worker.session import Session
from tests.builders import make_facts, make_target
from tests.engine.fakes import FakeChannel, FakeControl, FakeService, make_plan

NAME = "replicas.test"


@dataclass
class Remembering(FakeService):
    """Remembers by which target each of its parts was made."""

    controls: list[Target] = field(default_factory=list)
    channels: list[Target] = field(default_factory=list)
    encoded: list[Target] = field(default_factory=list)

    def control(self, target: Target, timeout_ns: int) -> FakeControl:
        self.controls.append(target)
        return super().control(target, timeout_ns)

    def encode(self, probe: Probe, facts: ModelFacts, steps: Sequence[Tensors], sweep_id: str) -> list[EncodedRequest]:
        self.encoded.append(probe.target)
        return super().encode(probe, facts, steps, sweep_id)

    def channel(
        self, target: Target, listener: Listener, *, streaming: bool = False, keep_responses: bool = False
    ) -> FakeChannel:
        self.channels.append(target)
        return super().channel(target, listener)


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the name stands for."""
    hosts = ["10.0.0.1"]

    async def look_up(host: str, port: int) -> list[Address]:
        assert host == NAME
        return [(socket.AF_INET, (each, port)) for each in hosts]

    monkeypatch.setattr(resolve, "look_up", look_up)
    return hosts


@pytest.mark.parametrize(
    ("policy", "settled"), [(Resolve.PIN, "10.0.0.1"), (Resolve.SWEEP, "10.0.0.1"), (Resolve.CONNECTION, "")]
)
async def test_a_sweep_keeps_to_the_address_of_its_preflight(zone: list[str], policy: Resolve, settled: str) -> None:
    service, other = Remembering(), Remembering()
    target = make_target(kind="fake", host=NAME, resolve=policy)
    plan = make_plan(max_requests=20)
    plan = replace(plan, probe=replace(plan.probe, target=target))
    first, second = Session({"fake": service}), Session({"fake": other})
    facts = await first.preflight(plan.probe)
    assert facts.address == settled
    zone[:] = ["10.0.0.2"]
    ended: list[MemberEvent] = []

    async def publish(event: MemberEvent) -> None:
        if isinstance(event, LevelEnd):
            ended.append(event)

    for session in (first, second):
        await session.run_level(replace(plan, facts=facts), publish)
        await session.end_sweep()
    assert len(ended) == 2
    expected = replace(target, address=settled)
    for each in (service, other):
        assert set(each.controls) == set(each.channels) == set(each.encoded) == {expected}
    assert (await first.preflight(plan.probe)).address == (settled and "10.0.0.2")
    await first.end_sweep()


async def test_an_address_that_was_given_is_kept(zone: list[str]) -> None:
    service = Remembering()
    session = Session({"fake": service})
    target = make_target(kind="fake", host=NAME, resolve=Resolve.PIN, address="10.0.0.9")
    facts = await session.preflight(replace(make_plan().probe, target=target))
    assert facts == make_facts(address="10.0.0.9")
    assert service.controls == [target]
    await session.end_sweep()


async def test_what_sweeps_before_left_at_the_server_takes_its_places() -> None:
    service = Remembering()
    session = Session({"fake": service})
    plan = make_plan(max_duration_ms=200, max_in_flight=2)
    plan = replace(plan, probe=replace(plan.probe, target=make_target(kind="fake")))
    until_ns = (time.monotonic_ns() + 60 * NS,) * 2
    ended: list[MemberEvent] = []

    async def publish(event: MemberEvent) -> None:
        if isinstance(event, LevelEnd):
            ended.append(event)

    await session.run_level(replace(plan, abandoned_until_ns=until_ns), publish)
    await session.end_sweep()
    assert service.sent_ns == []
    (end,) = ended
    assert isinstance(end, LevelEnd)
    assert (end.abandoned, end.abandoned_until_ns) == (2, until_ns)


def compared(path: Path, steps: int, max_requests: int) -> LevelPlan:
    """A level with so many steps of data, whose responses a reference model gives."""
    path.write_text(json.dumps({"data": [{"INPUT0": [float(number)] * 16} for number in range(steps)]}))
    plan = make_plan(max_requests=max_requests)
    options = InputOptions(source="files", paths=(str(path),))
    validation = Validation(reference_model="ref")
    target = make_target(kind="fake")
    stop = StopRules(max_error_ratio=1.0)  # the fake's responses are not the reference's
    return replace(plan, probe=replace(plan.probe, target=target, input=options, validation=validation, stop=stop))


@pytest.mark.parametrize(("steps", "max_requests", "asked"), [(5, 60, 5), (150, 1000, 100), (150, 60, 30), (150, 1, 0)])
async def test_requests_to_a_reference_model_are_of_the_budget(
    tmp_path: Path, steps: int, max_requests: int, asked: int
) -> None:
    service, account, ended = FakeService(), Account(), list[LevelEnd]()

    async def publish(event: MemberEvent) -> None:
        if isinstance(event, LevelEnd):
            ended.append(event)

    session = Session({"fake": service}, account)
    await session.run_level(compared(tmp_path / "data.json", steps, max_requests), publish)
    assert (len(service.inferred), account.asked) == (asked, asked)
    assert ended[0].reason is Reason.REQUEST_BUDGET
    assert ended[0].sent == len(service.bodies) == max_requests - asked
    assert account.sent == max_requests
    # They are asked once a sweep.
    await session.run_level(compared(tmp_path / "data.json", steps, max_requests), publish)
    assert account.sent == 2 * max_requests
    assert account.asked == asked
    await session.end_sweep()


async def test_no_reference_model_is_asked_once_the_level_is_stopped(tmp_path: Path) -> None:
    class Stopping(FakeControl):
        async def infer(self, *arguments: Any) -> Tensors:
            if len(service.inferred) == 2:
                session.stop()
            return await super().infer(*arguments)

    class Service(FakeService):
        def control(self, target: Target, timeout_ns: int) -> FakeControl:
            return Stopping(self)

    async def publish(event: MemberEvent) -> None:
        """Nothing is done with it."""

    service, account = Service(), Account()
    session = Session({"fake": service}, account)
    await session.run_level(compared(tmp_path / "data.json", 50, 1000), publish)
    assert len(service.inferred) == account.asked == 3
    await session.end_sweep()
