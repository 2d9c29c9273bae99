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
