"""Given-up requests that the server may still be processing. Pure: time is an argument.

Neither HTTP nor gRPC shows a client whether the server dropped a request. In a test with a 20 ms model, 32 of 40
cancelled gRPC requests still ran, and all 40 over HTTP. An abandoned request therefore keeps its place in the in-flight
budget: a client whose requests time out would otherwise pile up work on a server that is already too slow.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable


class Abandoned:
    """The abandoned requests at a model, each held until it is presumed dropped. `until_ns` has the ones from earlier
    levels.

    A request is held for one more time-out after it was given up. The server has then had twice the time-out; if it is
    not done by then, there is no reason to expect that it ever will be.
    """

    __slots__ = ("held",)

    def __init__(self, until_ns: Iterable[int] = ()) -> None:
        self.held: deque[int] = deque(sorted(until_ns))
        """When each is presumed dropped, in order. Never replaced: callers keep a reference for a fast check if it is
        empty."""

    def hold(self, until_ns: int) -> None:
        """Holds one more request until then."""
        if self.held and until_ns < self.held[-1]:
            insort(self.held, until_ns)  # another sweep's time-out was longer
        else:
            self.held.append(until_ns)

    def count(self, now_ns: int) -> int:
        """How many are currently held."""
        while self.held and self.held[0] <= now_ns:
            self.held.popleft()
        return len(self.held)

    def next_expiry_ns(self) -> int | None:
        """When the next one is presumed dropped; None without any."""
        return self.held[0] if self.held else None

    def last_expiry_ns(self) -> int | None:
        """When the last one is presumed dropped; None without any."""
        return self.held[-1] if self.held else None

    def until_ns(self, now_ns: int) -> tuple[int, ...]:
        """When each held request is presumed dropped, in order."""
        self.count(now_ns)
        return tuple(self.held)

    def __bool__(self) -> bool:
        return bool(self.held)
