"""Which shares of the server's time hold."""

from __future__ import annotations

from bench.breakdown import rows


def test_rows() -> None:
    found = {
        (10, 1, "compute_infer"): [1.043, 1.041, 1.045],
        (50, 1, "compute_infer"): [1.01, 1.5, 0.99],
        (100, 2, "queue"): [0.96, 1.2, 0.5],
    }
    assert rows(found) == [
        ["10", "1", "compute_infer", "1.0430 (1.0410 to 1.0450)", "+0.43", ""],
        ["50", "1", "compute_infer", "1.0100 (0.9900 to 1.5000)", "+0.50", "yes"],
        ["100", "2", "queue", "0.9600 (0.5000 to 1.2000)", "-4.00", "**no**"],
    ]
