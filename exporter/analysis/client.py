"""Whether it was this client, not the server, that bounded a figure."""

from __future__ import annotations

from collections.abc import Sequence

from exporter.core.window import ClientHealth

CPU_LIMIT_RATIO = 0.95
"""A worker is one event loop, so one core: at this part of it the loop has no time left."""
LAG_LIMIT_NS = 50_000_000
"""A loop that came this late at least once was held up by something else than its own work between two requests."""
THROTTLE_LIMIT_RATIO = 0.01
"""Part of the time in which a cgroup limit kept the worker from running."""


def worst_health(parts: Sequence[ClientHealth]) -> ClientHealth:
    """Several windows as one: the largest lag, the largest cpu ratio, all of the throttling."""
    return ClientHealth(
        loop_lag_ns=max((part.loop_lag_ns for part in parts), default=0),
        cpu_ratio=max((part.cpu_ratio for part in parts), default=0.0),
        throttled_ns=sum(part.throttled_ns for part in parts),
    )


def is_client_limited(health: ClientHealth, duration_ns: int) -> bool:
    """The verdict: no cpu left, a loop that lagged, or a cgroup that throttled."""
    return (
        health.cpu_ratio >= CPU_LIMIT_RATIO
        or health.loop_lag_ns >= LAG_LIMIT_NS
        or health.throttled_ns > THROTTLE_LIMIT_RATIO * duration_ns
    )
