"""Requests that we gave up on and that the server may still be working at. Pure: time is an argument.

Neither HTTP nor gRPC shows a client whether the server has dropped a request: when tried, of 40 gRPC requests
cancelled on a model of 20 ms 32 still ran, and over HTTP all 40. So an abandoned request keeps its place in the
in-flight budget, or a client whose requests time out would pile up more and more work on a server that is too slow
already.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable


class Abandoned:
    """The abandoned requests at a model, each until it is presumed dropped. `until_ns` are those of levels before.

    A request is held for as long after it was given up as it was waited for before: with that the server was granted
    twice the time-out, and one that has not ended it by then gives no reason to believe that it ever will.
    """

    __slots__ = ("held",)

    def __init__(self, until_ns: Iterable[int] = ()) -> None:
        self.held: deque[int] = deque(sorted(until_ns))
        """When each is presumed dropped, in order. Always the same object: a look whether it is empty is quick."""

    def hold(self, until_ns: int) -> None:
        """One more is held until then."""
        if self.held and until_ns < self.held[-1]:
            insort(self.held, until_ns)  # another sweep's time-out was longer
        else:
            self.held.append(until_ns)

    def count(self, now_ns: int) -> int:
        """How many are held now."""
        while self.held and self.held[0] <= now_ns:
            self.held.popleft()
        return len(self.held)

    def next_expiry_ns(self) -> int | None:
        """When the next one is presumed dropped; None if none is held."""
        return self.held[0] if self.held else None

    def last_expiry_ns(self) -> int | None:
        """When the last one is presumed dropped; None if none is held."""
        return self.held[-1] if self.held else None

    def until_ns(self, now_ns: int) -> tuple[int, ...]:
        """When each that is held now is presumed dropped, in order."""
        self.count(now_ns)
        return tuple(self.held)

    def __bool__(self) -> bool:
        return bool(self.held)
