"""The board: what each event changes, what expires, what a new configuration keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.core.outcome import Outcome, Reason, SkipReason, SweepStatus
from exporter.core.probe import Probe, Slo
from exporter.core.units import MS, NS
from exporter.state.probe_state import Board, ProbeView
from tests.builders import concurrency, make_facts, make_probe, make_target
from tests.metrics.results import Clock, make_counts, make_measurement, make_result

ENDED = 1_700_000_012.0  # of make_result


def make_board(*probes: Probe, monotonic: Clock | None = None) -> Board:
    board = Board(None, Clock(), monotonic=monotonic or Clock(0.0))
    board.configure(probes or (make_probe(),))
    return board


def only(board: Board) -> ProbeView:
    (view,) = board.probes()
    return view


def test_a_new_probe_knows_nothing() -> None:
    view = only(make_board())
    assert (view.result, view.fresh, view.measured, view.facts, view.up) == (None,) * 5
    assert (view.last_run_unix_s, view.last_success_unix_s, view.running_since_unix_s) == (0.0, 0.0, None)
    assert view.skipped == dict.fromkeys(SkipReason, 0)
    assert view.last_skip is None
    assert view.measurements == ()
    assert view.counters.requests == dict.fromkeys(Outcome, 0)
    assert view.counters.sweeps == {(SweepStatus.OK, Reason.NONE): 0}


def test_a_good_sweep() -> None:
    board, probe = make_board(), make_probe()
    board.sweep_started(probe, 1_700_000_000.0)
    assert only(board).running_since_unix_s == 1_700_000_000.0
    result = make_result(probe)
    board.sweep_ended(result)
    view = only(board)
    assert view.result is view.fresh is view.measured is result
    assert view.running_since_unix_s is None
    assert (view.last_run_unix_s, view.last_success_unix_s) == (ENDED, ENDED)
    assert view.up is True
    assert view.facts == make_facts()
    assert view.measurements == result.measurements


def test_a_failed_sweep_leaves_the_last_usable_result_standing() -> None:
    board, probe = make_board(), make_probe()
    good, bad = make_result(probe), make_result(probe, SweepStatus.FAILED, started_unix_s=1_700_000_060.0)
    board.sweep_ended(good)
    board.sweep_ended(bad)
    view = only(board)
    assert view.result is view.fresh is bad
    assert view.measured is good
    assert (view.last_run_unix_s, view.last_success_unix_s) == (1_700_000_072.0, ENDED)
    assert view.up is False
    assert view.facts == good.facts
    assert view.counters.sweeps == {
        (SweepStatus.OK, Reason.NONE): 1,
        (SweepStatus.FAILED, Reason.UNREACHABLE): 1,
    }


@pytest.mark.parametrize(
    ("status", "reason", "up"),
    [
        (SweepStatus.OK, Reason.NONE, True),
        (SweepStatus.UNSTABLE, Reason.UNSTABLE, True),
        (SweepStatus.ABORTED, Reason.ERROR_RATIO, False),
        (SweepStatus.FAILED, Reason.MODEL_UNKNOWN, False),
        (SweepStatus.ABORTED, Reason.SHUTDOWN, None),
        (SweepStatus.ABORTED, Reason.MODEL_CHANGED, None),
    ],
)
def test_up(status: SweepStatus, reason: Reason, up: bool | None) -> None:
    board = make_board()
    board.sweep_ended(make_result(status=status, reason=reason))
    assert only(board).up is up


@pytest.mark.parametrize(("version", "kept"), [("1", True), ("2", False)])
def test_figures_of_a_version_are_not_kept_under_the_name_of_the_next(version: str, kept: bool) -> None:
    probe = make_probe()
    board = make_board(probe)
    board.sweep_ended(make_result(probe))
    failed = make_result(probe, SweepStatus.ABORTED, reason=Reason.ERROR_RATIO)
    board.sweep_ended(replace(failed, facts=make_facts(version=version), measurements=()))
    view = only(board)
    assert bool(view.measurements) is kept
    assert view.facts is not None
    assert view.facts.version == version


def test_results_expire_three_intervals_after_their_sweep_ended() -> None:
    clock, probe = Clock(1000.0), make_probe()
    board = make_board(probe, monotonic=clock)
    good, bad = make_result(probe), make_result(probe, SweepStatus.FAILED)
    board.sweep_ended(good)
    clock.at_s = 1100.0
    board.sweep_ended(bad)
    clock.at_s = 1000.0 + 180.0
    assert only(board).measured is good
    clock.at_s += 0.5
    view = only(board)
    assert view.measured is None
    assert view.fresh is bad
    clock.at_s = 1100.0 + 180.5
    view = only(board)
    assert view.fresh is None
    assert view.result is bad
    assert view.up is False


def test_counters_move_window_by_window() -> None:
    probe = make_probe(levels=(concurrency(1), concurrency(2)))
    board = make_board(probe)
    board.window_ended(probe, make_counts(concurrency(2)))
    board.window_ended(probe, make_counts(concurrency(2), slo_requests=10, slo_bad=3))
    counters = only(board).counters
    assert counters.requests == dict.fromkeys(Outcome, 0) | {
        Outcome.OK: 16,
        Outcome.TIMEOUT: 2,
        Outcome.OVERLOAD: 2,
    }
    assert counters.inferences == 64
    assert (counters.slo_requests, counters.slo_bad) == (10, 3)
    assert counters.histograms[concurrency(1)].bucket_counts == (0,) * 45
    assert counters.histograms[concurrency(2)].bucket_counts == (0, 0, 0, 16, *[0] * 41)
    assert counters.histograms[concurrency(2)].sum_ns == 64 * MS


def test_a_window_of_a_level_that_is_no_longer_configured_counts_without_a_histogram() -> None:
    board = make_board()
    board.window_ended(make_probe(), make_counts(concurrency(99)))
    counters = only(board).counters
    assert counters.requests[Outcome.OK] == 8
    assert list(counters.histograms) == [concurrency(1)]


def test_a_probe_can_do_without_histograms() -> None:
    probe = make_probe(histogram=False)
    board = make_board(probe)
    board.window_ended(probe, make_counts())
    assert only(board).counters.histograms == {}


def test_skips_are_counted_and_never_change_up() -> None:
    board, probe = make_board(), make_probe()
    board.sweep_ended(make_result(probe))
    board.sweep_skipped(probe, SkipReason.OVERLAP)
    board.sweep_skipped(probe, SkipReason.BUDGET)
    board.sweep_skipped(probe, SkipReason.BUDGET)
    view = only(board)
    assert view.skipped == dict.fromkeys(SkipReason, 0) | {SkipReason.OVERLAP: 1, SkipReason.BUDGET: 2}
    assert view.last_skip == (SkipReason.BUDGET, Clock().at_s)
    assert view.up is True


def test_a_view_is_the_same_object_until_something_changes() -> None:
    first, second = make_probe(name="a"), make_probe(name="b")
    board = make_board(first, second)
    before = board.probes()
    board.configure((make_probe(name="a"), second))
    board.window_ended(second, make_counts())
    after = board.probes()
    assert after[0] is before[0]
    assert after[1] is not before[1]
    assert before[1].counters.inferences == 0


def test_configuring_removes_adds_and_keeps_the_order() -> None:
    a, b, c = (make_probe(name=name) for name in "abc")
    board = make_board(a, b)
    board.configure((c, a))
    assert [view.probe.name for view in board.probes()] == ["c", "a"]
    board.sweep_started(b, 1.0)
    board.window_ended(b, make_counts())
    board.sweep_skipped(b, SkipReason.PAUSED)
    board.sweep_ended(make_result(b))
    assert [view.result for view in board.probes()] == [None, None]


def test_a_changed_probe_keeps_its_counters_and_loses_the_levels_that_are_gone() -> None:
    old = make_probe(levels=(concurrency(1), concurrency(2)), slo=Slo("fast", 5 * MS, 99.0, ("1",)))
    board = make_board(old)
    board.sweep_ended(make_result(old))
    board.window_ended(old, make_counts(concurrency(2), slo_requests=10, slo_bad=1))
    new = replace(old, levels=(concurrency(2), concurrency(4)), slo=Slo("fast", 9 * MS, 99.0, ("2",)))
    board.configure((new,))
    view = only(board)
    assert view.probe is new
    assert view.measurements == (make_measurement(concurrency(2)),)
    assert view.counters.requests[Outcome.OK] == 8
    assert (view.counters.slo_requests, view.counters.slo_bad) == (0, 0)
    assert {level.label: sum(h.bucket_counts) for level, h in view.counters.histograms.items()} == {"2": 8, "4": 0}


@pytest.mark.parametrize(
    "other", [make_probe(model="other"), make_probe(target=make_target(name="other"))], ids=["model", "target"]
)
def test_a_probe_whose_labels_changed_is_another_one(other: Probe) -> None:
    board, probe = make_board(), make_probe()
    board.sweep_ended(make_result(probe))
    board.configure((other,))
    board.window_ended(probe, make_counts())
    view = only(board)
    assert view.result is None
    assert view.counters.inferences == 0


def test_a_longer_interval_keeps_a_result_longer() -> None:
    clock, probe = Clock(0.0), make_probe()
    board = make_board(probe, monotonic=clock)
    board.sweep_ended(make_result(probe))
    board.configure((replace(probe, schedule=replace(probe.schedule, interval_ns=120 * NS)),))
    clock.at_s = 300.0
    assert only(board).measured is not None
