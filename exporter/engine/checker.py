"""Compares responses with the expected ones, outside the timed path.

A response is queued after its request was recorded and the next request sent. The loop checks queued responses in
slices that take at most a twentieth of its time. The queue is emptied before a window ends: a wrong response counts in
the window in which it came. If the queue is full, a response is not checked and is counted as unchecked, not as
correct. A response that is byte-identical to a checked one costs no more than the comparison of bytes.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from exporter.core.errors import ProtocolError
from exporter.core.facts import ModelFacts
from exporter.core.probe import Validation
from exporter.core.units import NS
from exporter.core.window import Checked
from exporter.payload import OutputComparison, Step, compare
from exporter.services.base import Service
from exporter.transport.call import Response

MAX_WAITING = 1024
MAX_WAITING_BYTES = 16 << 20
"""The most that may be queued: checking it at a window's edge takes some tens of milliseconds."""

SLICE_NS = 500_000
SLICE_GAP = 20
"""One of this many slices of the loop's time is for checking."""

MAX_KNOWN_BYTES = 64 << 20
"""Checked responses kept for comparison, one per step."""

OnChecked = Callable[[int, str], None]
"""Called with the row of a request whose response was checked, and the error; "" if the response is correct."""


class Checker:
    """The checks of one level, whose requests carry these steps."""

    def __init__(
        self,
        steps: Sequence[Step],
        *,
        service: Service,
        facts: ModelFacts,
        rules: Validation,
        on_checked: OnChecked,
    ) -> None:
        self._service = service
        self._facts = facts
        self._rules = rules
        self._steps = steps
        self._on_checked = on_checked
        self.due = 0
        """Responses so far that have an expected output, checked or not."""
        self._waiting: deque[tuple[int, Response, int]] = deque()
        self._waiting_bytes = 0
        self._known: dict[int, tuple[Response, OutputComparison]] = {}
        self._known_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._next_ns = 0
        self._timer: asyncio.TimerHandle | None = None
        self._checked = Checked()
        self._unchecked = 0

    def put_aside(self, step: int, response: Response, row: int) -> None:
        """Queues a response to a request with this step; `row` is its row in the records. Hot."""
        if not self._steps[step].expected:
            return
        self.due += 1
        if len(self._waiting) >= MAX_WAITING or self._waiting_bytes >= MAX_WAITING_BYTES:
            self._unchecked += 1
            return
        self._waiting.append((step, response, row))
        self._waiting_bytes += response.size
        if self._timer is None:
            self._timer = self._loop.call_at(self._next_ns / NS, self._slice)

    def take(self) -> Checked:
        """Checks all queued responses and returns the checks since the last call. Row numbers restart."""
        while self._waiting:
            self._check(*self._waiting.popleft())
        self._waiting_bytes = 0
        checked, self._checked = self._checked + Checked(unchecked=self._unchecked), Checked()
        self._unchecked = 0
        return checked

    def close(self) -> None:
        """Cancels the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _slice(self) -> None:
        begin_ns = now_ns = time.monotonic_ns()
        while self._waiting and now_ns - begin_ns < SLICE_NS:
            number, response, row = self._waiting.popleft()
            self._waiting_bytes -= response.size
            self._check(number, response, row)
            now_ns = time.monotonic_ns()
        self._next_ns = now_ns + SLICE_GAP * (now_ns - begin_ns)
        self._timer = self._loop.call_at(self._next_ns / NS, self._slice) if self._waiting else None

    def _check(self, number: int, response: Response, row: int) -> None:
        step = self._steps[number]
        known = self._known.get(number)
        if known is not None and known[0].messages == response.messages:
            comparison = known[1]
        else:
            comparison = self._compare(step, response)
            self._remember(number, response, comparison)
        wrong = bool(comparison.difference)
        self._checked += Checked(1, int(wrong), comparison.error, comparison.difference)
        self._on_checked(row, comparison.difference)

    def _compare(self, step: Step, response: Response) -> OutputComparison:
        """Compares all responses of a request with all expected ones; the text names the step."""
        try:
            found = self._service.decode_response(self._facts, response)
        except ProtocolError as error:
            return OutputComparison(f"{_of(step)}{error}", None)
        if len(found) != len(step.expected):
            return OutputComparison(f"{_of(step)}expected {len(step.expected)} responses, got {len(found)}", None)
        whole = OutputComparison("", None)
        for number, (expected, got) in enumerate(zip(step.expected, found, strict=True)):
            part = compare(expected, got, self._rules)
            which = f"response {number}, " if len(found) > 1 else ""
            difference = f"{_of(step)}{which}{part.difference}" if part.difference else ""
            whole += OutputComparison(difference, part.error)
        return whole

    def _remember(self, number: int, response: Response, comparison: OutputComparison) -> None:
        if number not in self._known and self._known_bytes + response.size <= MAX_KNOWN_BYTES:
            self._known[number] = (response, comparison)
            self._known_bytes += response.size


def _of(step: Step) -> str:
    return f"{step.place}: " if step.place else ""
