"""The requests in flight of a level whose requests are bound to places: each place in flight has its own, since what
they are answered goes to memory of its own."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from exporter.engine.abandoned import Abandoned
from exporter.engine.guard import Guard
from exporter.engine.in_flight import Flight
from exporter.transport.call import Call, EncodedRequest


class PlaceFlight(Flight):
    """A `Flight`. `by_place` holds the same steps once for each place; where there are more calls, some share one."""

    def __init__(
        self,
        guard: Guard,
        by_place: Sequence[Sequence[EncodedRequest]],
        abandoned: Abandoned,
        max_in_flight: int,
        timeout_ns: int,
    ) -> None:
        super().__init__(guard, (), abandoned, max_in_flight, timeout_ns)
        self.next_request = self._next_of_place
        self._by_place = by_place
        self._steps = itertools.cycle(range(len(by_place[0])))
        self._place = 0

    def offer(self, call: Call, intended_ns: int, now_ns: int) -> bool:
        """As `Flight.offer`. Hot."""
        self._place = call.slot % len(self._by_place)
        return super().offer(call, intended_ns, now_ns)

    def _next_of_place(self) -> tuple[int, EncodedRequest]:
        step = next(self._steps)
        return step, self._by_place[self._place][step]
