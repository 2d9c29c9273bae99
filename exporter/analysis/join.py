"""The join of what the client saw with what the server reported about the same windows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from exporter.core.facts import DurationStat, ModelStatistics
from exporter.core.outcome import Outcome
from exporter.core.window import RecordColumns, Window

FOREIGN_LIMIT_RATIO = 0.05
"""Part of the server's requests that may be other clients' before its means contain no information about ours."""

_SERVER_PARTS = (
    "queue",
    "compute_input",
    "compute_infer",
    "compute_output",
    "cache_hit",
    "cache_miss",
    "prefill",
    "decode",
)
TOKEN_COMPONENTS = ("prefill", "decode")
"""Those that only language models have."""
COMPONENTS = ("client_send", "client_receive", "network", "server_overhead", *_SERVER_PARTS, "composing")
"""All that a breakdown can have; `composing` takes the place of the computing of an ensemble."""


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Mean nanoseconds by component, adding up to the mean latency plus `negative_remainder_ns`: what the server (or a
    part of it) claims beyond the whole, as happens where snapshots and windows do not quite meet."""

    components_ns: Mapping[str, float]
    negative_remainder_ns: float


COUNTED_FEWER = (
    "the server counted {counted} requests but responded to {responded}: its statistics restarted, or do not cover all "
    "replicas behind this url"
)


@dataclass(frozen=True, slots=True)
class OurShare:
    """What the server must have counted of ours between two of its snapshots: `requests` at most, of which `responded`
    were ok, give or take `edge`. A decoupled model's requests, too, are counted between their start and their end."""

    requests: int
    responded: int
    edge: int


def our_share(columns: RecordColumns, windows: Sequence[Window]) -> OurShare | None:
    """Our requests between the first and the last snapshot of these windows, `columns` being all their records; None
    where one of the two is missing.

    Snapshots come some milliseconds after the edges that they belong to, at high rates that is many requests: so what
    ended before the first one is left out, and what ended after the last window is taken from the rate. The edge is
    what was in flight, and what ended while the server was being asked.
    """
    before, after, end_ns = windows[0].before, windows[-1].after, windows[-1].end_ns
    if before is None or after is None:
        return None
    duration_ns = max(1, sum(window.duration_ns for window in windows))
    first_ns, last_ns = (before.asked_ns + before.received_ns) / 2, (after.asked_ns + after.received_ns) / 2
    # What never came to a socket (no connection, no TLS) the server can't have counted.
    sent = columns.sent_ns > 0
    inside = sent & (columns.last_ns > first_ns)
    ok = columns.outcome == Outcome.OK
    later = max(0.0, last_ns - end_ns) / duration_ns
    asking_ns = (before.received_ns - before.asked_ns) + max(0, after.received_ns - end_ns)
    return OurShare(
        requests=round(int(np.count_nonzero(inside)) + later * int(np.count_nonzero(sent))),
        responded=round(int(np.count_nonzero(inside & ok)) + later * int(np.count_nonzero(ok))),
        # A server counts a request a moment after its response: one at least may be on the wrong side.
        edge=max(1, *(window.in_flight for window in windows)) + math.ceil(len(columns) * asking_ns / duration_ns),
    )


def foreign_requests(server: ModelStatistics, ours: int, edge: int) -> int:
    """Requests that the server counted and we did not send. A difference of up to `edge` is none: 0."""
    surplus = server.requests - ours
    return surplus if surplus > edge else 0


def contradiction(server: ModelStatistics, share: OurShare) -> str:
    """Why the server's figures can't be of our requests, "" if they can: it must have counted what it responded to."""
    if server.success.count >= share.responded - share.edge:
        return ""
    return COUNTED_FEWER.format(counted=server.success.count, responded=share.responded)


def foreign_ratio(server: ModelStatistics, foreign: int) -> float:
    """The foreign part of what the server counted, 0..1."""
    return min(1.0, max(0, foreign) / max(1, server.requests))


def breakdown(
    mean_latency_ns: float,
    send_ns: float,
    receive_ns: float,
    server: ModelStatistics | None,
    parts: Sequence[ModelStatistics] | None = None,
) -> Breakdown:
    """Where the mean latency went.

    Each server component is its nanoseconds over the windows divided by the successful requests in them, so that the
    parts add up. `server_overhead` is what the server's own request time leaves after them, `network` what the
    client's mean leaves after the server's and after its own sending and receiving. Without server figures there is
    no separating network from server: only the client's own parts are given.

    `parts` are the models of an ensemble, None where it is none. They can run at the same time, so that one component,
    `composing`, stands for them all: their computing on the ensemble's behalf, which is in its own statistics, and
    their mean queues, which are not; at most what its request time leaves.
    """
    components = {"client_send": send_ns, "client_receive": receive_ns}
    if server is None or server.success.count == 0:
        return Breakdown(components, 0.0)
    request_ns = server.success.ns / server.success.count
    inside = _inside_ns(server) if parts is None else _inside_ensemble_ns(server, parts, request_ns)
    components |= inside
    inside_ns = sum(inside.values())
    remainders = {
        "server_overhead": request_ns - inside_ns,
        "network": mean_latency_ns - send_ns - receive_ns - max(request_ns, inside_ns),
    }
    components.update({name: max(0.0, value) for name, value in remainders.items()})
    # An overhead below zero is already in `network`, which starts from the larger of the two server figures.
    return Breakdown(components, max(0.0, -remainders["network"]))


def _inside_ns(server: ModelStatistics) -> dict[str, float]:
    requests = server.success.count
    parts: dict[str, DurationStat] = {name: getattr(server, name) for name in _SERVER_PARTS}
    # A model without a response cache has no cache figures, and some servers report no queue or nothing inside a
    # request: absent, not 0.
    computes = server.reports_compute
    reported = {name: part.ns > 0 or (computes and name.startswith("compute_")) for name, part in parts.items()}
    reported["queue"] = server.queue.count > 0 or server.queue.ns > 0
    return {name: part.ns / requests for name, part in parts.items() if reported[name]}


def _inside_ensemble_ns(
    server: ModelStatistics, parts: Sequence[ModelStatistics], request_ns: float
) -> dict[str, float]:
    own = _inside_ns(server)
    inside = {name: ns for name, ns in own.items() if not name.startswith("compute_")}
    composing_ns = sum(ns for name, ns in own.items() if name.startswith("compute_"))
    composing_ns += sum(part.queue.ns / part.queue.count for part in parts if part.queue.count)
    return inside | {"composing": max(0.0, min(composing_ns, request_ns - sum(inside.values())))}
