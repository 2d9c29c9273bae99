"""Pins: the address of a name that is resolved once for the daemon's life."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from exporter.core.errors import PreflightError
from exporter.core.facts import ModelFacts
from exporter.core.outcome import Reason
from exporter.core.probe import LoadLevel, Mode, Probe
from exporter.core.target import Resolve
from exporter.core.units import MS
from exporter.engine.plan import LevelEvent, LevelPlan
from exporter.sweep.preflight import Pins, meets_in_batches
from tests.builders import make_facts, make_probe, make_target


class Resolving:
    """A worker that settles on the address that it is given, or on the next one of a list."""

    def __init__(self, *found: str) -> None:
        self.found = list(found)
        self.probes: list[str] = []
        self.sent = 0
        self.asked = self.tokens = 0
        self.error: PreflightError | None = None

    async def preflight(self, probe: Probe) -> ModelFacts:
        self.probes.append(probe.target.address)
        if self.error is not None:
            raise self.error
        return make_facts(address=probe.target.address or self.found.pop(0))

    async def served_version(self, probe: Probe) -> str:
        return ""

    async def run_level(self, plan: LevelPlan) -> AsyncGenerator[LevelEvent, None]:
        nothing: list[LevelEvent] = []
        for event in nothing:
            yield event

    async def stop_level(self) -> None: ...
    async def silence(self) -> None: ...
    async def end_sweep(self) -> None: ...
    async def kill(self) -> None: ...


def probe(resolve: Resolve, host: str = "replicas.test", port: int = 8000, name: str = "t") -> Probe:
    return make_probe(target=make_target(name=name, host=host, port=port, resolve=resolve))


async def test_a_pinned_name_is_resolved_once_whatever_worker_asks() -> None:
    pins = Pins()
    first, second = Resolving("10.0.0.1"), Resolving("10.0.0.2")
    found = [(await pins.preflight(worker, probe(Resolve.PIN))).address for worker in (first, second, second)]
    assert found == ["10.0.0.1"] * 3
    assert (first.probes, second.probes) == ([""], ["10.0.0.1"] * 2)


async def test_two_targets_of_one_endpoint_share_the_pin_and_other_endpoints_have_their_own() -> None:
    pins, worker = Pins(), Resolving("10.0.0.1", "10.0.0.2", "10.0.0.3")
    probes = [
        probe(Resolve.PIN, name="one"),
        probe(Resolve.PIN, name="two"),
        probe(Resolve.PIN, port=8001),
        probe(Resolve.PIN, "other.test"),
    ]
    found = [(await pins.preflight(worker, each)).address for each in probes]
    assert found == ["10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.3"]


async def test_each_pool_and_each_place_of_it_has_its_own_pin() -> None:
    """A name can have another address in another network."""
    pins, worker = Pins(), Resolving("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")
    it = probe(Resolve.PIN)
    probes = [
        it,
        *(replace(it, pool=f"tls://{pool}:8786", place=place) for pool, place in [("a", "x"), ("a", "y"), ("b", "x")]),
    ]
    found = [(await pins.preflight(worker, each)).address for each in probes + probes]
    assert found == ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"] * 2


async def test_the_other_policies_pin_nothing() -> None:
    pins, worker = Pins(), Resolving("10.0.0.1", "10.0.0.2", "")
    for policy in (Resolve.SWEEP, Resolve.SWEEP, Resolve.CONNECTION):
        await pins.preflight(worker, probe(policy))
    assert worker.probes == [""] * 3


async def test_what_was_not_reached_is_not_pinned_and_what_was_stays() -> None:
    pins, worker = Pins(), Resolving("", "10.0.0.1")
    worker.error = PreflightError(Reason.UNREACHABLE, "the name 'replicas.test' does not resolve")
    with pytest.raises(PreflightError):
        await pins.preflight(worker, probe(Resolve.PIN))
    worker.error = None
    assert (await pins.preflight(worker, probe(Resolve.PIN))).address == ""
    assert (await pins.preflight(worker, probe(Resolve.PIN))).address == "10.0.0.1"
    worker.error = PreflightError(Reason.UNREACHABLE, "connection refused")
    with pytest.raises(PreflightError):
        await pins.preflight(worker, probe(Resolve.PIN))
    worker.error = None
    assert (await pins.preflight(worker, probe(Resolve.PIN))).address == "10.0.0.1"


async def test_the_probe_itself_stays_as_it_was_configured() -> None:
    pins, worker = Pins(), Resolving("10.0.0.1")
    pinned = probe(Resolve.PIN)
    before = replace(pinned)
    await pins.preflight(worker, pinned)
    await pins.preflight(worker, pinned)
    assert pinned == before


@pytest.mark.parametrize(
    ("level", "batching", "expected"),
    [
        (LoadLevel(Mode.CONCURRENCY, 2.0, "2"), True, True),
        (LoadLevel(Mode.CONCURRENCY, 2.0, "2"), False, False),
        (LoadLevel(Mode.CONCURRENCY, 1.0, "1"), True, False),
        (LoadLevel(Mode.CONCURRENCY, 2.0, "2", think_ns=MS), True, False),
        (LoadLevel(Mode.REQUEST_RATE, 60.0, "60"), True, False),
    ],
)
def test_requests_that_meet_in_batches_by_chance(level: LoadLevel, batching: bool, expected: bool) -> None:
    assert meets_in_batches(make_probe(levels=(level,)), make_facts(dynamic_batching=batching)) is expected
