"""One level's windows from those of the workers that share it. Pure: no clock, no loop, no processes.

All members cut their windows at the edges of one grid, on the monotonic clock of the one machine that they run on. One
that was late left an edge out, or cut one time more because its rows were full: so what is merged is what all of them
have up to an edge that each of them has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

from exporter.core.window import ClientHealth, RecordColumns, Window, sum_checked, worst_clock_error_ns

EARLY_NS = 5_000_000
"""A cut this much before an edge of the grid, or less, is meant for it. The shortest window is twenty times as long."""


class Merger:
    """Takes in the windows of the members and gives those of the level."""

    def __init__(self, members: int, window_ns: int) -> None:
        self._grid_ns: int | None = None
        self._window_ns = window_ns
        self._pending: list[deque[Window]] = [deque() for _ in range(members)]
        self._running = set(range(members))
        self._edge = -1
        self._index = 0
        self._end_ns = 0

    def start_grid(self, at_ns: int) -> None:
        """A grid begins at this moment: one as the load starts, and another as measuring begins, where the last warm-up
        window of each member ends."""
        self._grid_ns = at_ns
        self._edge = -1

    def add(self, member: int, window: Window) -> None:
        """The member's next window."""
        self._pending[member].append(window)

    def ended(self, member: int) -> None:
        """The member has no more windows."""
        self._running.discard(member)

    def merged(self) -> Iterator[Window]:
        """The level's windows that are complete by now."""
        while self._running and self._grid_ns is not None:
            reached = [{self._edge_of(window) for window in self._pending[member]} for member in self._running]
            common = [edge for edge in set.intersection(*reached) if edge > self._edge]
            if not common:
                return
            self._edge = min(common)
            yield self._merge([list(self._up_to_edge(pending)) for pending in self._pending])

    def rest(self, *, measured: bool) -> Iterator[Window]:
        """What is left once all have ended, in no whole window any more."""
        if any(self._pending):
            yield replace(self._merge([list(pending) for pending in self._pending]), warm_up=not measured)

    def _edge_of(self, window: Window) -> int:
        """The number of the grid's last edge at its end."""
        assert self._grid_ns is not None
        return (window.end_ns - self._grid_ns + EARLY_NS) // self._window_ns

    def _up_to_edge(self, pending: deque[Window]) -> Iterator[Window]:
        while pending and self._edge_of(pending[0]) <= self._edge:
            window = pending.popleft()
            yield window
            if self._edge_of(window) == self._edge:
                return

    def _merge(self, members: Sequence[Sequence[Window]]) -> Window:
        """The windows of each member, which follow each other, as one of them all."""
        parts = [window for windows in members for window in windows]
        asked = members[0]  # the others take no snapshots
        window = Window(
            index=self._index,
            start_ns=self._end_ns or min(part.start_ns for part in parts),
            end_ns=max(part.end_ns for part in parts),
            columns=RecordColumns.concatenate([part.columns for part in parts]),
            sent=sum(part.sent for part in parts),
            unsent=sum(part.unsent for part in parts),
            backlog_growth=sum(part.backlog_growth for part in parts),
            in_flight=sum(windows[-1].in_flight for windows in members if windows),
            before=asked[0].before if asked else None,
            after=asked[-1].after if asked else None,
            health=_worst([part.health for part in parts]),
            warm_up=any(part.warm_up for part in parts),
            error_text=next((part.error_text for part in parts if part.error_text), ""),
            readings=tuple(reading for part in asked for reading in part.readings),
            checked=sum_checked(part.checked for part in parts),
        )
        self._index += 1
        self._end_ns = window.end_ns
        return window


def _worst(parts: Sequence[ClientHealth]) -> ClientHealth:
    """That of the worst member: one that is limited spoils the figures of all. They share one cgroup, so that each of
    them reports the same throttling."""
    return ClientHealth(
        loop_lag_ns=max(part.loop_lag_ns for part in parts),
        cpu_ratio=max(part.cpu_ratio for part in parts),
        throttled_ns=max(part.throttled_ns for part in parts),
        clock_error_ns=worst_clock_error_ns(parts),
    )
