"""The history: what a day keeps of any run of sweeps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.outcome import Reason, SweepStatus
from exporter.core.probe import Probe, Signal
from exporter.core.result import LevelVerdict, SignalVerdict, SweepResult
from exporter.core.units import MS, NS
from exporter.state.day_ring import (
    CONCLUSIONS,
    DAY_SECONDS,
    MAX_LEVELS,
    SLOT_SECONDS,
    Conclusion,
    Day,
    LevelPoint,
    Ring,
    SweepPoint,
)
from exporter.state.history import History
from exporter.state.history_format import HistoryReader, SectionWriter
from exporter.state.state_file import ProbeKey
from tests.builders import concurrency, make_probe
from tests.metrics.results import Clock, make_counts, make_measurement, make_result, make_summary

START = 1_700_000_100.0  # a slot begins here
KEY = ProbeKey("addsub", "triton-http", "addsub")


def point(at_s: float, conclusion: Conclusion = Conclusion.OK, **figures: float) -> SweepPoint:
    return SweepPoint(START + at_s, 12.0, conclusion, levels=(LevelPoint("concurrency 1", **figures),))


def ring_of(*points: SweepPoint) -> Ring:
    ring = Ring()
    for each in points:
        if ring.keeps(each):
            ring.add(each)
    return ring


def through_a_file(points: list[SweepPoint]) -> Ring:
    """What a restart makes of the same points."""
    section, reader, ring = SectionWriter(), HistoryReader(-math.inf), Ring()
    reader.add(b"".join(section.encode(KEY, each) for each in points))
    assert reader.bad == 0
    for key, rows, recent in reader.days():
        assert key == KEY
        ring.extend(rows)
        ring.recent.extend(recent)
    return ring


def started(day: Day) -> list[float]:
    return [float(at) - START for at in day.started_unix_s]


def history(keep: Callable[[ProbeKey, SweepPoint], None], clock: Clock) -> History:
    return History(lambda result: Conclusion(result.status.value), keep, clock)


def result_at(probe: Probe, at_s: float, status: SweepStatus = SweepStatus.OK, p50_ms: float = 4.0) -> SweepResult:
    result = make_result(probe, status, started_unix_s=START + at_s)
    levels = [make_measurement(level, latency=make_summary(p50_ms)) for level in probe.levels if result.measurements]
    return replace(result, measurements=tuple(levels))


def test_the_figures_of_a_sweep() -> None:
    probe = make_probe()
    verdict = LevelVerdict(
        concurrency(1),
        (
            SignalVerdict(Signal.LATENCY_P50, baseline=3.0 * MS, limits={"page": 1.25, "warn": 1.1}),
            SignalVerdict(Signal.LATENCY_P99, withheld="no baseline yet"),
        ),
    )
    kept: list[SweepPoint] = []
    reported = history(lambda _key, each: kept.append(each), Clock(START + 60))
    reported.window_ended(probe, make_counts(slo_requests=10, slo_bad=2))
    reported.window_ended(probe, make_counts(slo_requests=20, slo_bad=1))
    reported.sweep_ended(replace(result_at(probe, 0), verdicts=(verdict,)))
    (one,) = kept
    assert (one.duration_s, one.slo_requests, one.slo_bad) == (12.0, 30, 3)
    (level,) = one.levels
    figures = (level.level, level.p50, level.p95, level.p99, level.throughput, level.error_ratio)
    assert figures == ("concurrency 1", 0.004, 0.012, 0.016, 333.25, 0.001)
    assert (level.baseline_p50, level.limit_p50) == (0.003, 1.1)
    assert math.isnan(level.baseline_p99)
    day = reported.day(probe)
    assert day.levels["concurrency 1"]["p99"].tolist() == [pytest.approx(0.016)]
    assert day.burn_rate(START + 60, 3600, 0.99) == pytest.approx(0.1 / 0.01)
    assert day.burn_rate(START + 7200, 3600, 0.99) is None
    assert day.recent == (one,)


def test_a_slot_keeps_its_first_sweep_or_a_worse_one() -> None:
    ring = ring_of(
        point(0, p50=1.0),
        point(60, p50=2.0),
        point(120, Conclusion.UNSTABLE, p50=3.0),
        point(180, Conclusion.OK, p50=4.0),
        point(SLOT_SECONDS, p50=5.0),
    )
    day = ring.day(START + 400)
    assert started(day) == [120.0, SLOT_SECONDS]
    assert day.levels["concurrency 1"]["p50"].tolist() == [3.0, 5.0]
    assert [CONCLUSIONS[code] for code in day.severity] == [Conclusion.UNSTABLE, Conclusion.OK]


def test_slo_counts_of_sweeps_that_are_not_kept_are_not_lost() -> None:
    probe, clock = make_probe(), Clock(START)
    reported = history(lambda _key, _point: None, clock)
    for at_s in range(0, 1200, 30):
        reported.window_ended(probe, make_counts(slo_requests=10, slo_bad=1))
        reported.sweep_ended(result_at(probe, at_s))
        clock.at_s = START + at_s
    day = reported.day(probe)
    assert len(day.started_unix_s) == 4
    # What came after the last kept sweep is counted with the next one.
    assert (day.slo_requests.sum(), day.slo_bad.sum()) == (310, 31)


@given(
    st.lists(
        st.tuples(
            st.floats(-2000, 9000), st.sampled_from(CONCLUSIONS), st.lists(st.integers(0, 11), max_size=3, unique=True)
        ),
        max_size=700,
    )
)
def test_a_ring_has_a_bound_and_a_restart_finds_the_same(
    steps: list[tuple[float, Conclusion, list[int]]],
) -> None:
    """Also where the clock is set back, and for sweeps of more levels than are kept."""
    ring, kept, at_s = Ring(), [], START
    for gap_s, conclusion, levels in steps:
        at_s += gap_s / 4
        each = SweepPoint(at_s, 1.0, conclusion, levels=tuple(LevelPoint(f"l{n}", p50=n + 0.5) for n in levels))
        if ring.keeps(each):
            ring.add(each)
            kept.append(each)
    assert ring.bytes <= (DAY_SECONDS / SLOT_SECONDS + 16) * (25 + MAX_LEVELS * 36)
    day, again = ring.day(at_s), through_a_file(kept).day(at_s)
    assert len(day.started_unix_s) <= DAY_SECONDS / SLOT_SECONDS + 16
    assert all(at_s - DAY_SECONDS < at <= at_s + 60 for at in day.started_unix_s)
    assert list(day.started_unix_s) == sorted(day.started_unix_s)
    np.testing.assert_array_equal(day.started_unix_s, again.started_unix_s)
    np.testing.assert_array_equal(day.severity, again.severity)
    assert len(day.levels) <= MAX_LEVELS
    for name, figures in day.levels.items():
        # A file has also what a ring lost, of levels that were not seen for long and came back.
        known = ~np.isnan(figures["p50"])
        if not known.any():
            continue
        if name not in again.levels:
            # Of more levels than are kept, a clock that was set back makes others the oldest.
            assert len({level.level for each in kept for level in each.levels}) > MAX_LEVELS
            continue
        np.testing.assert_array_equal(figures["p50"][known], again.levels[name]["p50"][known])
        found = again.levels[name]["p50"]
        assert set(found[~np.isnan(found)].tolist()) <= {int(name[1:]) + 0.5}


def test_probes_without_a_sweep_for_a_day_are_forgotten() -> None:
    clock = Clock(START)
    reported = history(lambda _key, _point: None, clock)
    reported.sweep_ended(result_at(make_probe(), 0))
    clock.at_s += DAY_SECONDS
    reported.sweep_ended(result_at(make_probe(name="other"), DAY_SECONDS))
    assert len(reported.day(make_probe()).recent) == 0
    assert len(reported.day(make_probe(name="other")).recent) == 1


def test_a_point_of_a_failed_sweep() -> None:
    kept: list[SweepPoint] = []
    reported = history(lambda _key, each: kept.append(each), Clock(START))
    reported.sweep_ended(replace(result_at(make_probe(), 0, SweepStatus.FAILED), reason=Reason.AUTH, duration_ns=NS))
    (one,) = kept
    assert (one.conclusion, one.reason, one.text, one.levels) == (Conclusion.FAILED, "auth", "connection refused", ())


def test_what_a_reader_got_never_changes() -> None:
    """The arrays are the ring's own: a worse sweep in the same slot must not be written over them."""
    ring = ring_of(point(0, p50=1.0), point(300, p50=2.0))
    before = ring.day(START + 310)
    worse = point(320, Conclusion.FAILED, p50=3.0)
    assert ring.keeps(worse)
    ring.add(worse)
    for number in range(2, 40):
        ring.add(point(300 * number, p50=4.0))
    assert started(before) == [0.0, 300.0]
    assert before.levels["concurrency 1"]["p50"].tolist() == [1.0, 2.0]
    assert before.severity.tolist() == [0, 0]
    assert started(ring.day(START + 12_000))[:3] == [0.0, 320.0, 600.0]


def test_what_came_before_the_kept_day_was_read_stays_behind_it() -> None:
    clock = Clock(START + 610)
    reported = history(lambda _key, _point: None, clock)
    probe = make_probe()
    kept = through_a_file([point(0, p50=1.0), replace(point(300, p50=2.0), slo_requests=10)])
    for at_s, status in ((310, SweepStatus.FAILED), (600, SweepStatus.OK)):
        reported.window_ended(probe, make_counts(slo_requests=5, slo_bad=1))
        reported.sweep_ended(result_at(probe, at_s, status))
    reported.restore(KEY, kept.rows, tuple(kept.recent))
    day = reported.day(probe)
    assert started(day) == [0.0, 310.0, 600.0]  # of the second slot the worse one, with the requests of both
    assert day.slo_requests.tolist() == [0, 15, 5]
    assert [each.started_unix_s - START for each in day.recent] == [600.0, 310.0, 300.0, 0.0]
    reported.sweep_ended(result_at(probe, 620))  # the slot is known: not kept
    assert started(reported.day(probe)) == [0.0, 310.0, 600.0]
