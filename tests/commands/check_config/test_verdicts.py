"""check-config reports which signals of a probe can never be judged."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.commands.check_config.verdicts import batching_notes, verdict_notes, verdict_warnings
from exporter.core.probe import PAGE, BaselineOptions, LoadLevel, MeasurementOptions, Mode, WindowMode
from exporter.core.units import NS
from tests.builders import concurrency, make_probe, make_target

SLOW_RATE = LoadLevel(Mode.REQUEST_RATE, 2.0, "2")


@pytest.mark.parametrize(
    ("changes", "warnings"),
    [
        ({}, []),
        ({"levels": (SLOW_RATE,)}, ["at request rate 2 can never be judged: a sweep measures 6 requests", "4s"]),
        ({"levels": (LoadLevel(Mode.REQUEST_RATE, 20.0, "20"),)}, []),
        ({"measurement": MeasurementOptions(request_count=10)}, ["measures 10 requests, and needs 20"]),
        (
            {"measurement": MeasurementOptions(window_mode=WindowMode.COUNT, window_requests=5)},
            ["measures 15 requests"],
        ),
        ({"measurement": MeasurementOptions(percentiles=(90.0, 99.0), request_count=50)}, ["50 is not in measurement"]),
        ({"measurement": MeasurementOptions(percentiles=(50.0,))}, ["latency_p99 can never be judged: 99 is not in"]),
        ({"levels": (SLOW_RATE,), "baseline": BaselineOptions(tiers=(PAGE,))}, []),
        ({"levels": (SLOW_RATE,), "baseline": BaselineOptions(enabled=False)}, []),
    ],
)
def test_what_can_never_be_judged(changes: dict[str, Any], warnings: list[str]) -> None:
    found = verdict_warnings(make_probe(**({"levels": (concurrency(64),)} | changes)))
    assert len(found) == bool(warnings)
    for text in warnings:
        assert text in found[0]


def test_how_slow_a_model_may_be() -> None:
    options = MeasurementOptions(window_ns=5 * NS)
    (note,) = verdict_notes(make_probe(levels=(concurrency(1), concurrency(4)), measurement=options))
    assert "latency_p99 at concurrency 1 can never be judged on a model slower than 750ms" in note
    assert verdict_notes(make_probe(levels=(concurrency(16),), measurement=options)) == []
    assert verdict_notes(make_probe(baseline=BaselineOptions(enabled=False))) == []


def test_a_closed_loop_of_several_requests_is_pointed_to_a_rate() -> None:
    paused = LoadLevel(Mode.CONCURRENCY, 4.0, "4", think_ns=NS)
    alone = [
        make_probe(levels=(concurrency(1),)),
        make_probe(levels=(SLOW_RATE,)),
        make_probe(levels=(paused,)),
        make_probe(levels=(concurrency(2),), baseline=BaselineOptions(enabled=False)),
        make_probe(levels=(concurrency(2),), target=make_target(kind="tensorflow")),
    ]
    assert batching_notes(alone) == []
    several = [make_probe(name=f"p{number}", levels=(concurrency(1), concurrency(2))) for number in range(7)]
    (note,) = batching_notes([*alone, *several])
    assert note.startswith("probes p0, p1, p2, p3, p4 and 2 more: ")
    assert "load.request_rate" in note
