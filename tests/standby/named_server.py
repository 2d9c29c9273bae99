"""A model server that records when each request came, and from which daemon: by a header that each sets."""

from __future__ import annotations

import re
import time

from tests.daemon.counting_server import CountingServer

_DAEMON = re.compile(rb"^x-daemon: *(\w+)\r$", re.IGNORECASE | re.MULTILINE)


class NamedServer(CountingServer):
    """`arrivals` holds (monotonic seconds, daemon) of each inference request."""

    def __init__(self, delay_s: float = 0.002) -> None:
        super().__init__(delay_s)
        self.arrivals: list[tuple[float, str]] = []

    def received(self, head: bytes) -> None:
        """An inference request came."""
        found = _DAEMON.search(head)
        self.arrivals.append((time.monotonic(), found[1].decode() if found else ""))

    def turns(self) -> list[tuple[str, float, float]]:
        """Who sent, from when to when, in order; each daemon's requests in a row are one turn."""
        turns: list[tuple[str, float, float]] = []
        for at_s, daemon in list(self.arrivals):
            if turns and turns[-1][0] == daemon:
                turns[-1] = daemon, turns[-1][1], at_s
            else:
                turns.append((daemon, at_s, at_s))
        return turns

    def sent_by(self, daemon: str) -> int:
        """How many requests came from it."""
        return sum(name == daemon for _, name in list(self.arrivals))
