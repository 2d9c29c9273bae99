"""Which turn of which session is sent next. Pure: no clock, no loop, no bytes.

A session is a series of requests (turns); each contains the turns before it. Each slot holds one session at a time.
Each session runs once. A turn without an ok response ends its session: the next turn would have a gap in its history.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple


class SessionTurn(NamedTuple):
    """One request: its step of the input data, and whether it is the first of a session."""

    step: int
    is_first: bool


class Sessions:
    """The sessions of a level. `streams` holds the step numbers of each session; `delays_ns` is, for each step, the
    pause from the end of its request to the session's next one."""

    def __init__(self, streams: Sequence[Sequence[int]], delays_ns: Sequence[int], slots: int) -> None:
        self._waiting = deque(deque(stream) for stream in streams)
        self._delays_ns = delays_ns
        self._left: list[deque[int]] = [deque() for _ in range(slots)]
        self._is_first = [True] * slots
        self._sent = [0] * slots
        self.unsent = 0
        """Turns not sent because an earlier one failed."""
        for slot in range(slots):
            self._begin(slot)

    def has_turn(self, slot: int) -> bool:
        """Whether the slot has something to send."""
        return bool(self._left[slot])

    def take(self, slot: int) -> SessionTurn:
        """The slot's next turn. The slot must have one, and none in flight."""
        step, is_first = self._left[slot].popleft(), self._is_first[slot]
        self._is_first[slot], self._sent[slot] = False, step
        return SessionTurn(step, is_first)

    def ended(self, slot: int, *, is_ok: bool) -> int:
        """The slot's turn ended. Returns the pause before its next one; the first turn of a session has none."""
        left = self._left[slot]
        if not is_ok:
            self.unsent += len(left)
            left.clear()
        if left:
            return self._delays_ns[self._sent[slot]]
        self._begin(slot)
        return 0

    def _begin(self, slot: int) -> None:
        if self._waiting:
            self._left[slot], self._is_first[slot] = self._waiting.popleft(), True
