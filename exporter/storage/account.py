"""A page of memory that the daemon and one worker share: what the worker has sent, counted where it is sent, and the
signs of life of both. Each cell has one writer; an aligned write of eight bytes is never seen by halves.

It is what is known when nothing else is: of a worker that was killed, of a daemon that is stopped, and, where the page
is a file, of both after a crash.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from pathlib import Path

PAGE_BYTES = 4096
_CELLS = 8
_TEXT_AT = 8 * _CELLS
_RENEWALS, _SENT, _SILENT, _TICKS, _SENT_BEFORE, _TEXT_LENGTH, _ASKED, _TOKENS = range(_CELLS)
_TOKENS_BEFORE_AT = PAGE_BYTES - 8
"""At the end, so that pages that an older version left are read as they were meant: without tokens."""
_LEASE_AT = _TOKENS_BEFORE_AT - 8
_TEXT_BYTES = _LEASE_AT - _TEXT_AT

ACCOUNT_SUFFIX = ".account"

SIGN_OF_LIFE_SECONDS = 0.2
LOST_AFTER_SECONDS = 2.0
"""How often daemon and worker show that they run, and for how long the other may miss it."""


class Account:
    """The page, mapped. The worker counts in it, the daemon reads it, also when the worker is gone.

    `sent` only grows, sweep after sweep, but for what is settled at a level's end: requests that were charged ahead.
    """

    __slots__ = (
        *("_cells", "_descriptor", "_lease_cell", "_map", "_path"),
        *("_sent_cell", "_tokens_before", "_tokens_cell", "serial"),
    )

    def __init__(self, descriptor: int = -1, path: Path | None = None) -> None:
        """Takes the descriptor over; without one the page is this process's own."""
        self._descriptor = descriptor
        self._path = path
        self._map = mmap.mmap(descriptor, PAGE_BYTES)
        self._cells = memoryview(self._map)[:_TEXT_AT].cast("Q")
        self._sent_cell = self._cells[_SENT : _SENT + 1]
        self._tokens_cell = self._cells[_TOKENS : _TOKENS + 1]
        self._tokens_before = memoryview(self._map)[_TOKENS_BEFORE_AT:].cast("Q")
        self._lease_cell = memoryview(self._map)[_LEASE_AT:_TOKENS_BEFORE_AT].cast("Q")
        self.serial = 0
        """The worker's own: the number of the level that it runs."""

    @classmethod
    def create(cls, folder: Path | None = None) -> Account:
        """A new page: a file in this folder, which outlives the processes, or, without one, memory that ends with them.
        Raises OSError."""
        if folder is None:
            descriptor, path = os.memfd_create("triton-canary-account"), None
        else:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(suffix=ACCOUNT_SUFFIX, dir=folder)
            path = Path(name)
        # Its blocks now: a disk that is full is an error here, and not a SIGBUS where a request is counted.
        os.posix_fallocate(descriptor, 0, PAGE_BYTES)
        return cls(descriptor, path)

    def fileno(self) -> int:
        """For a process to inherit."""
        return self._descriptor

    def close(self) -> None:
        """Gives the page up; a file goes with it."""
        for view in (self._sent_cell, self._tokens_cell, self._tokens_before, self._lease_cell, self._cells):
            view.release()
        self._map.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    # --- the worker's part -------------------------------------------------------------------------------------------

    @property
    def sent_cell(self) -> memoryview:
        """Of one number, `sent`: for who counts each request, since this is the fastest way to it."""
        return self._sent_cell

    @property
    def sent(self) -> int:
        """Requests that the worker has sent, or is about to."""
        return int(self._cells[_SENT])

    @property
    def has_lease(self) -> bool:
        """Whether the daemon has set a moment after which nothing may be sent."""
        return self._lease_cell[0] != 0

    def is_lease_over(self) -> bool:
        """Whether that moment has come. The clock counts the time in which the machine sleeps."""
        until_ns = self._lease_cell[0]
        return until_ns != 0 and boottime_ns() >= until_ns

    def ask(self) -> None:
        """Counts a request to a reference model, which is about to be sent: before a level, never in one."""
        self._cells[_SENT] += 1
        self._cells[_ASKED] += 1

    @property
    def asked(self) -> int:
        """How many of those sent were to a reference model."""
        return int(self._cells[_ASKED])

    @property
    def tokens_cell(self) -> memoryview:
        """Of one number, `tokens`: as `sent_cell`."""
        return self._tokens_cell

    @property
    def tokens(self) -> int:
        """Tokens that the requests which ended have spent."""
        return int(self._cells[_TOKENS])

    def silence(self) -> None:
        """The level that runs sends nothing more, but for what is charged already."""
        self._cells[_SILENT] = self.serial

    @property
    def silent_serial(self) -> int:
        """The number of the last level that sends nothing more."""
        return int(self._cells[_SILENT])

    def tick(self) -> None:
        """The worker's sign of life."""
        self._cells[_TICKS] += 1

    @property
    def ticks(self) -> int:
        """Signs of life of the worker so far."""
        return int(self._cells[_TICKS])

    # --- the daemon's part -------------------------------------------------------------------------------------------

    def renew(self) -> None:
        """The daemon's sign of life."""
        self._cells[_RENEWALS] += 1

    def lend(self, until_ns: int) -> None:
        """Nothing may be sent from this moment on, by CLOCK_BOOTTIME; 0 for no such moment."""
        self._lease_cell[0] = until_ns

    @property
    def renewals(self) -> int:
        """Signs of life of the daemon so far."""
        return int(self._cells[_RENEWALS])

    @property
    def sent_since_note(self) -> int:
        """Requests sent for what was noted last."""
        return self.sent - int(self._cells[_SENT_BEFORE])

    @property
    def tokens_since_note(self) -> int:
        """Tokens spent for what was noted last."""
        return self.tokens - int(self._tokens_before[0])

    def note(self, text: str) -> None:
        """What the requests from now on are sent for, in as many bytes as the page has left."""
        data = text.encode()[:_TEXT_BYTES]
        self._cells[_TEXT_LENGTH] = 0
        self._cells[_SENT_BEFORE] = self._cells[_SENT]
        self._tokens_before[0] = self._cells[_TOKENS]
        self._map[_TEXT_AT : _TEXT_AT + len(data)] = data
        self._cells[_TEXT_LENGTH] = len(data)

    @property
    def text(self) -> str:
        """As noted last."""
        length = min(int(self._cells[_TEXT_LENGTH]), _TEXT_BYTES)
        return self._map[_TEXT_AT : _TEXT_AT + length].decode(errors="replace")


def boottime_ns() -> int:
    """The clock of all leases: it can't be set, and it counts the time in which the machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class SignOfLife:
    """Watches a counter that another process moves. A stopped watcher's own pauses do not count: what is counted is
    looks in a row without a move, not time."""

    __slots__ = ("_last", "_limit", "_missed")

    def __init__(self, looks: int = round(LOST_AFTER_SECONDS / SIGN_OF_LIFE_SECONDS)) -> None:
        self._limit = looks
        self._last = -1
        self._missed = 0

    def is_lost(self, count: int) -> bool:
        """Looks at the counter. True once it has not moved at so many looks in a row."""
        self._missed = self._missed + 1 if count == self._last else 0
        self._last = count
        return self._missed >= self._limit
