"""perf_analyzer's rule, at its edges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.sweep.stability import judge


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
    verdict = judge(throughputs, latencies, 0.1, 3)
    assert verdict.stable is stable
    assert verdict.spread_ratio == (None if spread is None else pytest.approx(spread))


positive = st.floats(0.1, 1e9)


@given(st.lists(st.tuples(positive, positive), min_size=3, max_size=8), st.floats(0, 2))
def test_stable_is_max_over_min_of_the_last_three(windows: list[tuple[float, float]], limit: float) -> None:
    throughputs, latencies = [w[0] for w in windows], [w[1] for w in windows]
    ratios = [max(values[-3:]) / min(values[-3:]) for values in (throughputs, latencies)]
    assert judge(throughputs, latencies, limit, 3).stable == all(ratio <= 1 + limit for ratio in ratios)
