"""The join of what the client saw with what the server said about the same windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from exporter.model import ModelStatistics

FOREIGN_LIMIT_RATIO = 0.05
"""Part of the server's requests that may be somebody else's before its means say nothing of ours."""

_SERVER_PARTS = ("queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Mean nanoseconds by component, adding up to the mean latency plus `negative_remainder_ns`: what the server (or a
    part of it) claims beyond the whole, as happens where snapshots and windows do not quite meet."""

    components_ns: Mapping[str, float]
    negative_remainder_ns: float


def foreign_requests(server: ModelStatistics, ours: int, concurrency: int) -> int:
    """Requests that the server counted and we did not send. Up to the concurrency it is the windows' edge: 0."""
    surplus = server.success.count + server.fail.count - ours
    return surplus if surplus > concurrency else 0


def foreign_ratio(server: ModelStatistics, foreign: int) -> float:
    """The foreign part of what the server counted, 0..1."""
    return foreign / max(1, server.success.count + server.fail.count)


def breakdown(mean_latency_ns: float, send_ns: float, receive_ns: float, server: ModelStatistics | None) -> Breakdown:
    """Where the mean latency went.

    Each server component is its nanoseconds over the windows divided by the successful requests in them, so that the
    parts add up. `server_overhead` is what the server's own request time leaves after them, `network` what the
    client's mean leaves after the server's and after its own sending and receiving. Without server figures there is
    no telling network from server: only the client's own parts are given.
    """
    components = {"client_send": send_ns, "client_receive": receive_ns}
    if server is None or server.success.count == 0:
        return Breakdown(components, 0.0)
    requests = server.success.count
    inside = 0.0
    for name in _SERVER_PARTS:
        part_ns = getattr(server, name).ns / requests
        # A model without a response cache has no cache figures: absent, not 0.
        if part_ns > 0.0 or not name.startswith("cache_"):
            components[name] = part_ns
            inside += part_ns
    request_ns = server.success.ns / requests
    remainders = {
        "server_overhead": request_ns - inside,
        "network": mean_latency_ns - send_ns - receive_ns - max(request_ns, inside),
    }
    components.update({name: max(0.0, value) for name, value in remainders.items()})
    # An overhead below zero is already in `network`, which starts from the larger of the two server figures.
    return Breakdown(components, max(0.0, -remainders["network"]))
