from __future__ import annotations

import numpy as np
import pytest

from bench.poisson import exponential_p_value, pacer_row, planned_gaps, scaled_gaps, uniform_p_value


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # Distances of 0.1340 and 0.1603 at 100 values are the 5 % and 1 % points of Kolmogorov's tables.
        ((np.arange(100) + 0.5) / 100 * (1 - 0.1340 * 2) + 0.1340, 0.05),
        ((np.arange(100) + 0.5) / 100, 1.0),
    ],
)
def test_p_values(values: np.ndarray[tuple[int], np.dtype[np.float64]], expected: float) -> None:
    assert uniform_p_value(values) == pytest.approx(expected, abs=0.015)


def test_gaps_are_multiples_of_the_mean_gap_in_the_order_of_time() -> None:
    times_ns = np.array([5_000_000, 0, 2_000_000], dtype=np.int64)
    assert scaled_gaps(times_ns, 200.0).tolist() == pytest.approx([0.4, 0.6])


def test_evenly_spaced_gaps_are_not_exponential() -> None:
    assert exponential_p_value(np.ones(100)) < 1e-6


def test_several_workers_send_the_same_gaps() -> None:
    assert planned_gaps(3, 2).tolist() == planned_gaps(3, 1).tolist()


def test_the_pacers_row() -> None:
    what, seeds, gaps, *p_values = pacer_row(2)
    assert (what, seeds, gaps) == ("pacer, 2 workers", "20", "20000")
    assert float(p_values[-1]) > 0.01
