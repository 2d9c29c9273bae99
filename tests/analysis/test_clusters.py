"""Whether figures form two groups."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.analysis.clusters import two_groups, window_modes_ns
from exporter.core.result import WindowSummary
from exporter.core.units import MS, NS
from tests.metrics.results import make_summary


@pytest.mark.parametrize("part", [0.1, 0.3, 0.5])
def test_two_modes(part: float) -> None:
    random = np.random.default_rng(1)
    upper = random.random(2000) < part
    groups = two_groups(random.normal(0, 0.03, 2000) + 0.6 * upper, 20)
    assert groups is not None
    assert (groups.low, groups.high) == pytest.approx((0.0, 0.6), abs=0.02)
    assert groups.high_part == pytest.approx(upper.mean(), abs=0.01)


@pytest.mark.parametrize("kind", ["normal", "uniform", "heavy", "near", "few"])
def test_one_group(kind: str) -> None:
    random = np.random.default_rng(1)
    values = {
        "normal": random.normal(0, 0.15, 2000),
        "uniform": random.uniform(0, 1, 2000),
        "heavy": 0.05 * random.standard_t(3, 2000),
        "near": random.normal(0, 0.01, 2000) + 0.1 * (random.random(2000) < 0.5),
        "few": np.array([0.0] * 1990 + [0.7] * 10),
    }[kind]
    assert two_groups(values, 20) is None


def window(p50_ms: float) -> WindowSummary:
    return WindowSummary(0, 0.0, NS, 100, 0, {}, 100.0, make_summary(p50_ms), judged=True)


def test_windows_that_flip_between_one_batch_and_two() -> None:
    """Dynamic batching: two requests in flight meet in one batch (21 ms) or alternate (41 ms)."""
    modes = window_modes_ns([window(p50) for p50 in (21.0, 41.2, 21.1, 20.9, 41.0, 21.2)])
    assert modes == pytest.approx((21.05 * MS, 41.1 * MS), rel=0.01)
    assert window_modes_ns([window(p50) for p50 in (21.0, 21.2, 41.0)]) is None
    assert window_modes_ns([window(p50) for p50 in (20.0, 22.0, 24.0, 26.0, 28.0)]) is None
    assert window_modes_ns([]) is None
