"""The simulated fleet, small: what it shows, and that its audit finds what it is there to find."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.fleet import month as month_module
from bench.fleet.audit import Audit, slot_of
from bench.fleet.made import Size
from bench.fleet.month import Month, moved
from exporter.core.units import NS
from exporter.schedule.slots import IntervalSlots
from tests.builders import make_probe, make_target

SMALL = Size(endpoints=200, groups=60, shards=3)


def test_a_fleet_that_grows_in_two_steps_sweeps_no_group_and_no_slot_twice(tmp_path: Path) -> None:
    month = Month(SMALL, tmp_path, days=4, grown=4)
    month.run()
    audit = month.audit
    assert audit.problems == []
    assert audit.lost(month.probes, month.ended_unix_s) == []
    # Half of them hourly, four in ten each six hours, the rest each night; one in 50 is missing on a day.
    expected = 4 * (100 * 24 + 80 * 4 + 20) * 49 / 50
    assert audit.counts["sweeps"] == pytest.approx(expected, rel=0.05)
    assert audit.counts["due"] == audit.counts["sweeps"] + sum(audit.skips.values())
    assert audit.drift_s < 1e-5
    assert sorted(month.daemons) == [0, 1, 2, 3]


def test_one_that_grows_at_once_sweeps_slots_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the audit would find nothing above, either. Each daemon takes an hour to be replaced."""
    monkeypatch.setattr(month_module, "REPLACED_S", 3600.0)
    month = Month(SMALL, tmp_path, days=2, grown=4, two_steps=False)
    month.run()
    assert month.audit.counts["slots run twice"] > 10


def test_the_audit_finds_a_group_that_is_swept_twice_at_once() -> None:
    one, other = (make_probe(name=name, target=make_target(name=name, group="g")) for name in "ab")
    audit = Audit()
    for probe in (one, other):
        audit.due(probe, 10**18)
        audit.started(probe, 1e9)
    assert audit.counts["groups swept twice at once"] == 1


def test_the_audit_s_slots_are_those_of_the_schedule() -> None:
    probe = make_probe()
    slot_us = IntervalSlots(probe).next_after(10**15)
    index, late_s = slot_of(probe, slot_us * 1000 + 3 * NS)
    assert late_s == pytest.approx(3, abs=1e-6)
    assert slot_of(probe, slot_us * 1000 - NS)[0] == index - 1


def test_groups_that_move_go_to_new_shards() -> None:
    groups = [f"group-{number}" for number in range(1000)]
    moving, between_old = moved(groups, 12, 16)
    assert 200 < moving < 300  # a quarter
    assert between_old == 0
