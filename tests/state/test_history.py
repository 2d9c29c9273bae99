"""The history: what a day keeps of any run of sweeps, and that a restart finds exactly the same."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.outcome import Reason, SweepStatus
from exporter.core.probe import Probe, Signal
from exporter.core.result import LevelVerdict, SignalVerdict, SweepResult
from exporter.core.units import MS, NS
from exporter.state.history import (
    CONCLUSIONS,
    DAY_SECONDS,
    MAX_LEVELS,
    SLOT_SECONDS,
    Conclusion,
    Day,
    History,
    LevelPoint,
    Ring,
    SweepPoint,
    key_of,
)
from exporter.state.history_file import HistoryFile
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
    day, again = ring.day(at_s), ring_of(*kept).day(at_s)
    assert len(day.started_unix_s) <= DAY_SECONDS / SLOT_SECONDS + 16
    assert all(at_s - DAY_SECONDS < at <= at_s + 60 for at in day.started_unix_s)
    assert list(day.started_unix_s) == sorted(day.started_unix_s)
    np.testing.assert_array_equal(day.started_unix_s, again.started_unix_s)
    np.testing.assert_array_equal(day.severity, again.severity)
    assert len(day.levels) <= MAX_LEVELS
    for name, figures in day.levels.items():
        np.testing.assert_array_equal(figures["p50"], again.levels[name]["p50"])
        assert set(figures["p50"][~np.isnan(figures["p50"])].tolist()) <= {int(name[1:]) + 0.5}


def test_probes_without_a_sweep_for_a_day_are_forgotten() -> None:
    clock = Clock(START)
    reported = history(lambda _key, _point: None, clock)
    reported.sweep_ended(result_at(make_probe(), 0))
    clock.at_s += DAY_SECONDS
    reported.sweep_ended(result_at(make_probe(name="other"), DAY_SECONDS))
    assert len(reported.day(make_probe()).recent) == 0
    assert len(reported.day(make_probe(name="other")).recent) == 1


def reloaded(folder: Path, clock: Clock) -> History:
    again = history(lambda _key, _point: None, clock)
    file = HistoryFile(folder, now=clock)
    file.load(again.restore)
    file.close()
    return again


def test_a_day_outlives_a_restart(tmp_path: Path) -> None:
    probe, clock = make_probe(levels=(concurrency(1), concurrency(4))), Clock(START)
    file = HistoryFile(tmp_path / "history", now=clock)
    reported = history(file.append, clock)
    for number in range(500):
        clock.at_s = START + 300 * number
        status = SweepStatus.FAILED if number % 50 == 0 else SweepStatus.OK
        reported.window_ended(probe, make_counts(slo_requests=100, slo_bad=number % 3))
        reported.sweep_ended(result_at(probe, 300 * number, status, p50_ms=1 + number / 7))
    file.close()
    day, again = reported.day(probe), reloaded(tmp_path / "history", clock).day(probe)
    assert len(again.started_unix_s) == 288
    for name in ("started_unix_s", "severity", "slo_requests", "slo_bad"):
        np.testing.assert_array_equal(getattr(day, name), getattr(again, name))
    for level in ("concurrency 1", "concurrency 4"):
        np.testing.assert_allclose(day.levels[level]["p99"], again.levels[level]["p99"], rtol=1e-5)
    assert [each.started_unix_s for each in again.recent] == [each.started_unix_s for each in day.recent]
    assert {each.text for each in again.recent if each.conclusion is Conclusion.FAILED} <= {"connection refused"}
    # The hours that are over are gone from the disk.
    assert len(list((tmp_path / "history").iterdir())) <= 27


def test_what_cannot_be_read_is_left_out_with_one_log_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    probe, clock = make_probe(), Clock(START)
    file = HistoryFile(tmp_path, now=clock)
    reported = history(file.append, clock)
    reported.sweep_ended(result_at(probe, 0))
    file.close()
    (path,) = tmp_path.iterdir()
    good = path.read_text().strip()
    newer = json.loads(good)
    newer[0] = 2
    bad_level = json.loads(good)
    bad_level[9][0].append(1.0)
    infinite = good.replace(str(json.loads(good)[2]), "1e999")
    lines = [json.dumps(newer), json.dumps(bad_level), infinite, "[" * 100_000, "{}", "\x00\xff", '{"probes": []}']
    path.write_text("\n".join([*lines, good, good[:40]]))
    (tmp_path / "notes.jsonl").write_text("not ours")
    with caplog.at_level(logging.WARNING):
        again = reloaded(tmp_path, clock)
    assert started(again.day(probe)) == [0.0]
    (record,) = caplog.records
    assert record.__dict__["fields"]["lines"] == len(lines) + 1


def test_a_torn_line_does_not_spoil_the_next_one(tmp_path: Path) -> None:
    probe, clock = make_probe(), Clock(START)
    file = HistoryFile(tmp_path, now=clock)
    reported = history(file.append, clock)
    reported.sweep_ended(result_at(probe, 0))
    file.close()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-20])
    file = HistoryFile(tmp_path, now=clock)
    history(file.append, clock).sweep_ended(result_at(probe, 0))
    file.close()
    assert started(reloaded(tmp_path, clock).day(probe)) == [0.0]


def test_an_hour_has_a_bound_on_the_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    probe, clock = make_probe(), Clock(START)
    file = HistoryFile(tmp_path, now=clock, max_file_bytes=500)
    for number in range(10):
        file.append(key_of(probe), point(300 * number))
    file.close()
    (path,) = tmp_path.iterdir()
    assert 300 < path.stat().st_size <= 500
    assert [record.message for record in caplog.records] == ["the history cannot be written"]


def test_nothing_is_written_into_a_folder_of_another_daemon(tmp_path: Path) -> None:
    def refuse() -> None:
        raise OSError("another process writes here")

    file = HistoryFile(tmp_path / "history", refuse)
    file.append(KEY, point(0))
    file.close()
    assert not (tmp_path / "history").exists()


def test_a_point_of_a_failed_sweep() -> None:
    kept: list[SweepPoint] = []
    reported = history(lambda _key, each: kept.append(each), Clock(START))
    reported.sweep_ended(replace(result_at(make_probe(), 0, SweepStatus.FAILED), reason=Reason.AUTH, duration_ns=NS))
    (one,) = kept
    assert (one.conclusion, one.reason, one.text, one.levels) == (Conclusion.FAILED, "auth", "connection refused", ())
