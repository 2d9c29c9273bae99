"""Ends a level while the server's queue of its model only grows, by what the readings of the metrics page say.

Knows nothing of how a level ends, nor of the page.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from exporter.core.facts import ServerReading
from exporter.core.probe import Probe
from exporter.engine.guard import QueueGuard, Stop
from exporter.server.poller import Poller


@contextlib.contextmanager
def queue_watched(probe: Probe, pollers: Sequence[Poller], stop: Callable[[Stop], None]) -> Iterator[None]:
    """While it lasts, each reading of the pollers is held against `probe.stop`; `stop` is called where it must end."""
    guard = QueueGuard(probe.stop.pending_growth, probe.target.metrics_interval_ns)

    def take(reading: ServerReading) -> None:
        pending = reading.gauges.get("pending_requests")
        if pending is not None and (found := guard.read(pending, reading.at_ns)) is not None:
            stop(found)

    watched = pollers if probe.stop.pending_growth else ()
    for poller in watched:
        poller.on_reading = take
    try:
        yield
    finally:
        for poller in watched:
            poller.on_reading = None
