"""When each of many streams sends its next step. Pure: no clock, no loop; every time is an argument.

A microphone has its next chunk ready at a fixed time, whatever became of earlier chunks. Each stream therefore has a
grid of absolute deadlines, start + k * interval. Its steps are sent at these times: never earlier, and later only while
the response to the previous step is missing, because the steps of a sequence must arrive in order. A late step is sent
as soon as possible and keeps its deadline: its lateness is part of its response time. Lateness never moves the grid.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple


def starts_ns(streams: int, interval_ns: int, ramp_ns: int, seed: int) -> list[int]:
    """When each stream begins, in nanoseconds after the level's start: one after the other, evenly over the ramp, each
    at its own position within an interval.

        start(i) = floor(i * ramp / n) + floor((p(i) + u(i)) * interval / n)

    p is a random permutation of 0 .. n - 1, and u(i) is uniform in [0, 1): each n-th part of the interval has one
    stream. The steps of all streams then arrive spread out, like those of independent users. The same seed gives the
    same starts.
    """
    generator = random.Random(seed)  # noqa: S311 - load, not secrets
    order = list(range(streams))
    generator.shuffle(order)
    return [
        number * ramp_ns // streams + int((place + generator.random()) * interval_ns / streams)
        for number, place in enumerate(order)
    ]


class Due(NamedTuple):
    """A step to send now, and its deadline."""

    stream: int
    deadline_ns: int


class StreamClock:
    """The deadlines of all streams. `tick`, `retry` and `ended` return steps to send: each is in flight until `ended`
    or `failed`, unless it was `held_back`. A stream has at most one step in flight.

    `unsent` counts deadlines without a step, because the previous step failed or could not be sent.
    """

    def __init__(self, starts: Sequence[int], interval_ns: int) -> None:
        self._interval_ns = interval_ns
        self._next_ns = list(starts)
        """The stream's next deadline; all earlier ones are sent, missed or given up."""
        self._missed = [0] * len(starts)
        """Deadlines just before `_next_ns` that have passed with their steps still waiting."""
        self._busy = [False] * len(starts)
        self._resume_ns = [0] * len(starts)
        self._held: dict[int, None] = {}
        self._queue = [(start_ns, stream) for stream, start_ns in enumerate(starts)]
        heapq.heapify(self._queue)
        self.unsent = 0

    @property
    def next_ns(self) -> int:
        """The earliest deadline that has not passed yet; never decreases."""
        return self._queue[0][0]

    def tick(self, now_ns: int) -> Iterator[Due]:
        """Processes all deadlines up to now, and yields the steps to send."""
        queue, interval_ns = self._queue, self._interval_ns
        while queue[0][0] <= now_ns:
            deadline_ns, stream = queue[0]
            heapq.heapreplace(queue, (deadline_ns + interval_ns, stream))
            self._next_ns[stream] = deadline_ns + interval_ns
            if deadline_ns < self._resume_ns[stream]:
                self.unsent += 1
                continue
            self._missed[stream] += 1
            if not self._busy[stream] and stream not in self._held:
                yield self._take(stream)

    def ended(self, stream: int, *, sequence_over: bool) -> Due | None:
        """The response to the stream's step came. Returns the step to send now, if one was waiting. A new sequence
        begins at the next deadline: there was no user in between."""
        self._busy[stream] = False
        if sequence_over:
            self._missed[stream] = 0
        return self._take(stream) if self._missed[stream] else None

    def failed(self, stream: int, resume_ns: int) -> None:
        """The stream's step failed: gives up the deadlines before `resume_ns`."""
        self._busy[stream] = False
        self._resume_ns[stream] = resume_ns
        self._give_up(stream, self._missed[stream])

    def held_back(self, due: Due) -> None:
        """The step could not be sent and waits for `retry`."""
        self._busy[due.stream] = False
        self._missed[due.stream] += 1
        self._held[due.stream] = None

    def retry(self) -> Iterator[Due]:
        """The steps that were held back, each at its most recent deadline. Earlier deadlines are given up: their steps
        would all follow in one burst."""
        held, self._held = self._held, {}
        for stream in held:
            self._give_up(stream, self._missed[stream] - 1)
            yield self._take(stream)

    def waiting(self, steps_left: Callable[[int], int]) -> int:
        """How many steps are due but not sent; `steps_left` returns how many a stream's sequence has left."""
        return sum(min(missed, steps_left(stream)) for stream, missed in enumerate(self._missed) if missed)

    def _take(self, stream: int) -> Due:
        """The oldest missed deadline of the stream."""
        deadline_ns = self._next_ns[stream] - self._missed[stream] * self._interval_ns
        self._missed[stream] -= 1
        self._busy[stream] = True
        return Due(stream, deadline_ns)

    def _give_up(self, stream: int, count: int) -> None:
        self.unsent += count
        self._missed[stream] -= count
