"""The verdict on the client, and how windows' health adds up."""

import pytest

from exporter.core.units import NS
from exporter.core.window import ClientHealth
from exporter.sweep.measure import is_client_limited, worst_health


def test_worst_health() -> None:
    parts = [ClientHealth(5, 0.2, 1), ClientHealth(3, 0.9, 2)]
    assert worst_health(parts) == ClientHealth(5, 0.9, 3)
    assert worst_health([]) == ClientHealth()


@pytest.mark.parametrize(
    ("health", "limited"),
    [
        (ClientHealth(), False),
        (ClientHealth(cpu_ratio=0.94), False),
        (ClientHealth(cpu_ratio=0.95), True),
        (ClientHealth(loop_lag_ns=49_999_999), False),
        (ClientHealth(loop_lag_ns=50_000_000), True),
        (ClientHealth(throttled_ns=NS // 100), False),
        (ClientHealth(throttled_ns=NS // 100 + 1), True),
    ],
)
def test_client_limited(health: ClientHealth, limited: bool) -> None:
    assert is_client_limited(health, NS) is limited


@pytest.mark.parametrize(
    ("errors_ns", "worst_ns", "uncertain"),
    [([None, None], None, False), ([4_999_999, None], 4_999_999, False), ([5_000_001, 3], 5_000_001, True)],
)
def test_the_clock_of_windows_of_half_a_second(
    errors_ns: list[int | None], worst_ns: int | None, uncertain: bool
) -> None:
    health = worst_health([ClientHealth(clock_error_ns=error_ns) for error_ns in errors_ns])
    assert health.clock_error_ns == worst_ns
    assert health.is_clock_uncertain(NS // 2) is uncertain
