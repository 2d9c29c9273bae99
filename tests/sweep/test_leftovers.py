"""Requests that were given up on, from sweep to sweep."""

from __future__ import annotations

import dataclasses
from typing import Literal

from exporter.core.probe import InputOptions, MeasurementOptions, Probe, StopRules
from exporter.core.units import NS
from exporter.sweep.leftovers import Leftovers
from tests.builders import make_probe, make_target

PROBE = make_probe(measurement=MeasurementOptions(request_timeout_ns=10 * NS), stop=StopRules(max_in_flight=3))


class Clock:
    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def test_each_is_held_until_its_moment_for_all_probes_of_the_model() -> None:
    clock = Clock()
    left = Leftovers(clock)
    left.keep(PROBE, (20, 10))
    other = dataclasses.replace(PROBE, name="other")
    assert left.of(other) == (10, 20)
    clock.now_ns = 10
    assert left.of(PROBE) == (20,)
    assert left.of(dataclasses.replace(PROBE, model="another")) == ()
    assert left.of(make_probe(target=make_target(group="elsewhere"))) == ()
    clock.now_ns = 20
    left.keep(make_probe(), ())
    assert left._until_ns == {}


def test_of_a_lost_level_as_many_as_may_have_been_in_flight() -> None:
    left = Leftovers(Clock())
    left.keep(PROBE, (5,))
    left.add(PROBE, 100)
    assert left.of(PROBE) == (5, 20 * NS, 20 * NS, 20 * NS)


def sharing(shared_memory: Literal["system", "cuda"], group: str = "g") -> Probe:
    return make_probe(target=make_target(group=group), input=InputOptions(shared_memory=shared_memory))


def test_memory_is_remembered_by_server_and_kind_until_it_was_taken_back() -> None:
    left, other = Leftovers(), make_probe(target=make_target(group="g"))
    system, cuda = sharing("system"), sharing("cuda")
    left.share(system)
    left.share(system)
    left.share(cuda)
    assert left.shared(other) == (system, cuda)
    assert left.shared(sharing("system", "elsewhere")) == ()
    left.unshare(other)
    left.unshare(system)
    assert left.shared(other) == (cuda,)
    left.unshare(cuda)
    left.unshare(cuda)
    assert left.shared(other) == ()
    for number in range(3000):
        left.share(sharing("system", str(number)))
    assert len(left._shared) == 1000
    assert left.shared(sharing("cuda", "2999")) == (sharing("system", "2999"),)
