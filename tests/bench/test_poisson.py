from __future__ import annotations

import numpy as np
import pytest

from bench.poisson import gaps_p_value, p_value, poisson_section


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # Distances of 0.1340 and 0.1603 at 100 values are the 5 % and 1 % points of Kolmogorov's tables.
        ((np.arange(100) + 0.5) / 100 * (1 - 0.1340 * 2) + 0.1340, 0.05),
        ((np.arange(100) + 0.5) / 100, 1.0),
    ],
)
def test_p_values(values: np.ndarray[tuple[int], np.dtype[np.float64]], expected: float) -> None:
    assert p_value(values) == pytest.approx(expected, abs=0.015)


def test_several_workers_send_the_same_gaps() -> None:
    assert gaps_p_value(3, 2) == gaps_p_value(3, 1)


def test_the_section() -> None:
    lines = poisson_section().splitlines()
    assert len(lines) == 4
    assert all(float(line.split("|")[-2]) > 0.01 for line in lines[2:])
