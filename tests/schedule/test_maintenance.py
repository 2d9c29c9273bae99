from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from exporter.core.limits import Maintenance
from exporter.core.probe import Probe
from exporter.core.units import NS
from exporter.schedule.maintenance import MaintenanceCalendar
from tests.builders import make_probe, make_target

HOUR_NS = 3600 * NS


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * NS


class Calendar:
    def __init__(self, *windows: Maintenance) -> None:
        self.now_ns = 0
        self.calendar = MaintenanceCalendar(windows, lambda: self.now_ns)

    def until(self, now: str, probe: Probe | None = None) -> str | None:
        self.now_ns = at(now)
        end_s = self.calendar.until(probe or make_probe())
        return None if end_s is None else datetime.fromtimestamp(end_s, UTC).strftime("%m-%d %H:%M")


NIGHTLY = Maintenance("0 2 * * *", 2 * HOUR_NS)


@pytest.mark.parametrize(
    ("window", "now", "until"),
    [
        (NIGHTLY, "2026-03-10T01:59:59", None),
        (NIGHTLY, "2026-03-10T02:00:00", "03-10 04:00"),
        (NIGHTLY, "2026-03-10T03:59:59", "03-10 04:00"),
        (NIGHTLY, "2026-03-10T04:00:00", None),
        (Maintenance("30 23 * * sat", 2 * HOUR_NS), "2026-03-15T01:00:00", "03-15 01:30"),  # a Sunday
        (Maintenance("0 * * * *", 2 * HOUR_NS), "2026-03-10T05:30:00", "03-10 06:00"),  # it never ends
        (Maintenance("0 2 * * *", HOUR_NS, "Europe/Berlin"), "2026-01-10T01:30:00", "01-10 02:00"),
        (Maintenance("0 2 * * *", HOUR_NS, "Europe/Berlin"), "2026-07-10T00:30:00", "07-10 01:00"),
    ],
)
def test_when(window: Maintenance, now: str, until: str | None) -> None:
    assert Calendar(window).until(now) == until


def test_as_time_goes_by_and_the_clock_jumps_back() -> None:
    calendar = Calendar(NIGHTLY)
    moments = ["10T01:00", "10T02:30", "10T04:30", "11T02:30", "11T05:00", "10T02:30", "10T01:00", "13T03:00"]
    assert [calendar.until(f"2026-03-{moment}:00") for moment in moments] == [
        None,
        "03-10 04:00",
        None,
        "03-11 04:00",
        None,
        "03-10 04:00",
        None,
        "03-13 04:00",
    ]


@pytest.mark.parametrize(
    ("window", "concerned"),
    [
        (NIGHTLY, True),
        (replace(NIGHTLY, targets=("triton-http",)), True),
        (replace(NIGHTLY, targets=("other",)), False),
        (replace(NIGHTLY, probes=("addsub",)), True),
        (replace(NIGHTLY, probes=("other",)), False),
        (replace(NIGHTLY, targets=("other",), probes=("addsub",)), True),
    ],
)
def test_who(window: Maintenance, concerned: bool) -> None:
    assert (Calendar(window).until("2026-03-10T03:00:00") is not None) is concerned


@pytest.mark.parametrize(
    ("window", "concerned"),
    [
        (replace(NIGHTLY, targets=("fleet",)), True),
        (replace(NIGHTLY, probes=("every",)), True),
        (replace(NIGHTLY, targets=("every",), probes=("fleet",)), False),
        (replace(NIGHTLY, targets=("flee",)), False),
    ],
)
def test_what_is_discovered_pauses_with_its_pattern(window: Maintenance, concerned: bool) -> None:
    probe = make_probe(name="every/asr/10.0.0.1:8001", target=make_target(name="fleet/10.0.0.1:8001"))
    assert (Calendar(window).until("2026-03-10T03:00:00", probe) is not None) is concerned


def test_the_last_of_several_and_none() -> None:
    calendar = Calendar(NIGHTLY, Maintenance("0 3 * * *", 5 * HOUR_NS))
    assert calendar.until("2026-03-10T03:30:00") == "03-10 08:00"
    calendar.calendar.configure(())
    assert calendar.until("2026-03-10T03:30:00") is None
