"""The knee on curves whose power is easily seen."""

from __future__ import annotations

import pytest

from exporter.commands.analyze.report.plot import knee


@pytest.mark.parametrize(
    ("throughputs", "latencies", "found"),
    [
        ([100, 190, 200, 201], [10, 11, 20, 40], 1),
        ([100, 200, 300, 310], [10, 10, 10, 13], 2),
        ([100, 100, 100], [10, 20, 30], None),
        ([100, 200, 400], [10, 10, 10], None),
        ([100, 200, 200, 100], [10, 10, 10, 10], 1),
        ([100, 200], [10, 11], None),
        ([], [], None),
    ],
)
def test_knee(throughputs: list[float], latencies: list[float], found: int | None) -> None:
    assert knee(throughputs, latencies) == found
