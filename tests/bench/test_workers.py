from __future__ import annotations

import pytest

from bench.workers import Shares, bound


@pytest.mark.parametrize(
    ("server", "busiest", "all_workers", "expected"),
    [
        (0.9, 0.95, 0.95, "a worker's core"),
        (1.2, 0.4, 0.7, "the machine: server and workers take 1.90 of 2 cores"),
        (0.9, 0.5, 0.5, "neither: 0.60 of 2 cores are left, to others or idle"),
    ],
)
def test_bound(server: float, busiest: float, all_workers: float, expected: str) -> None:
    assert bound(Shares(1.0, server, busiest, all_workers), 2) == expected
