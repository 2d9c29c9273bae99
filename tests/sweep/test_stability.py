"""perf_analyzer's rule, at its edges; ours on made-up queues and servers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import stability_simulation as simulation
from exporter.analysis.windows import summarise_window
from exporter.core.probe import Distribution, LoadLevel, MeasurementOptions, Mode, StabilityRule
from exporter.sweep.stability import judge, judge_like_perf_analyzer
from tests.builders import make_probe, make_window


@pytest.mark.parametrize(
    ("throughputs", "latencies", "stable", "spread"),
    [
        ([], [], False, None),
        ([100], [10], False, 1.0),  # one window agrees with itself and is not enough
        ([100, 100], [10, 10], False, 1.0),
        ([100, 100, 100], [10, 10, 10], True, 1.0),
        ([100, 105, 110], [10, 10, 10], True, 1.1),
        ([100, 105, 111], [10, 10, 10], False, 1.11),
        ([100, 100, 100], [10, 10.5, 11.1], False, 1.11),  # latency counts as much as throughput
        ([1, 100, 100, 100], [99, 10, 10, 10], True, 1.0),  # only the last three
        ([100, 100, 0], [10, 10, 10], False, None),
        ([100, 100, 100], [10, 0, 10], False, None),
    ],
)
def test_judge(throughputs: list[float], latencies: list[float], stable: bool, spread: float | None) -> None:
    verdict = judge_like_perf_analyzer(throughputs, latencies, 0.1, 3)
    assert verdict.stable is stable
    assert verdict.spread_ratio == (None if spread is None else pytest.approx(spread))


positive = st.floats(0.1, 1e9)


@given(st.lists(st.tuples(positive, positive), min_size=3, max_size=8), st.floats(0, 2))
def test_stable_is_max_over_min_of_the_last_three(windows: list[tuple[float, float]], limit: float) -> None:
    throughputs, latencies = [w[0] for w in windows], [w[1] for w in windows]
    ratios = [max(values[-3:]) / min(values[-3:]) for values in (throughputs, latencies)]
    verdict = judge_like_perf_analyzer(throughputs, latencies, limit, 3)
    assert verdict.stable == all(ratio <= 1 + limit for ratio in ratios)


# --- our own rule -----------------------------------------------------------------------------------------------------

ONE = LoadLevel(Mode.CONCURRENCY, 1.0, "1")
CANARY, THEIRS = StabilityRule.CANARY, StabilityRule.PERF_ANALYZER


@pytest.mark.parametrize("seconds", [0.75, 0.9, 1.4])
@pytest.mark.parametrize("places", [1, 4])
def test_a_constant_server_is_stable_whatever_its_windows_hold(seconds: float, places: int) -> None:
    windows = simulation.closed_loop(lambda _: seconds, places)
    level = LoadLevel(Mode.CONCURRENCY, float(places), str(places))
    judged = simulation.run_level(windows, level, CANARY)
    assert (judged.stable, judged.windows) == (True, 3)
    assert not simulation.run_level(windows, level, THEIRS).stable


def test_a_warming_server_is_not() -> None:
    random = np.random.default_rng(4)
    windows = simulation.closed_loop(lambda t: 0.02 * (1 + np.exp(-t / 22)) * random.lognormal(0, 0.02))
    theirs = simulation.run_level(windows, ONE, THEIRS)
    assert theirs.stable
    assert theirs.latencies_s.mean() > 1.2 * 0.02
    ours = simulation.run_level(windows, ONE, CANARY)
    assert not ours.stable
    assert ours.why.startswith("the latency fell by ")


def test_a_server_that_warms_for_a_minute_is_not() -> None:
    """Over the judged 15 s it drifts by less than matters; it is 15 % too slow all the same."""
    random = np.random.default_rng(4)
    for _ in range(5):
        windows = simulation.closed_loop(lambda t: 0.02 * (1 + 0.3 * np.exp(-t / 60)) * random.lognormal(0, 0.02))
        judged = simulation.run_level(windows, ONE, CANARY)
        assert not judged.stable
        assert "falling since the level began" in judged.why or "fell by" in judged.why


@pytest.mark.parametrize("spread", [0.02, 0.3])
def test_a_server_that_is_warm_is_stable(spread: float) -> None:
    random = np.random.default_rng(8)
    levels = [simulation.closed_loop(lambda _: 0.02 * random.lognormal(0, spread)) for _ in range(40)]
    judged = [simulation.run_level(windows, ONE, CANARY) for windows in levels]
    assert all(each.stable for each in judged)
    assert sum(each.windows == 3 for each in judged) >= 38


def test_a_step_of_the_server_is_not_stable_until_it_is_over() -> None:
    random = np.random.default_rng(5)
    windows = simulation.closed_loop(lambda t: (0.02 if t < 8 else 0.03) * random.lognormal(0, 0.02))
    judged = simulation.run_level(windows, ONE, CANARY)
    assert judged.stable
    assert judged.latencies_s.min() > 0.025


@pytest.mark.parametrize("memoryless", [False, True])
def test_poisson_levels_are_stable_and_not_selected(memoryless: bool) -> None:
    random = np.random.default_rng(6)
    level = LoadLevel(Mode.REQUEST_RATE, 10.0, "10", Distribution.POISSON)
    levels = [simulation.poisson_queue(random, 10.0, 0.5, memoryless=memoryless) for _ in range(60)]
    judged = [simulation.run_level(windows, level, CANARY) for windows in levels]
    assert sum(each.stable for each in judged) >= 58
    truth = simulation.p99([simulation.pooled_s(windows) for windows in levels])
    assert simulation.p99([each.latencies_s for each in judged]) / truth > 0.85
    theirs = [simulation.run_level(windows, level, THEIRS) for windows in levels]
    assert sum(each.stable for each in theirs) < 30


def test_a_server_that_does_not_keep_up_is_not_stable() -> None:
    random = np.random.default_rng(7)
    level = LoadLevel(Mode.REQUEST_RATE, 100.0, "100", Distribution.POISSON)
    for _ in range(5):
        windows = simulation.poisson_queue(random, 100.0, 1.2, memoryless=True)
        judged = simulation.run_level(windows, level, CANARY)
        assert not judged.stable


def test_a_rate_is_judged_by_latency_alone() -> None:
    windows = [make_window(index, [5.0] * count) for index, count in enumerate((20, 30, 25))]
    summaries = [summarise_window(window, make_probe(), 0.0) for window in windows]
    open_loop = LoadLevel(Mode.REQUEST_RATE, 25.0, "25", Distribution.POISSON)
    assert judge(windows, summaries, open_loop, MeasurementOptions()).stable
    assert not judge(windows, summaries, ONE, MeasurementOptions()).stable
