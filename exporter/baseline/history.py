"""The sweeps that a level's version is remembered by: the last ones as they were, of older ones one for each slot of
time. Bounded: some 75 kB for four weeks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from exporter.core.probe import Signal

SLOTS = 2016
"""Sweeps kept of the time that a baseline is refined with: one every 20 minutes for 28 days."""
RECENT = 288
"""The last sweeps that are all kept; up to twice as many are, until the older ones are thinned."""
_KEPT_LONGER = 1.05

SIGNALS = tuple(Signal)

Floats = npt.NDArray[np.float64]
Logs = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


@dataclass(slots=True, eq=False)
class Rows:
    """Sweeps in the order of time: their ends, the logarithm of each signal (nan: it has none), and which were
    unstable."""

    unix_s: Floats
    logs: Logs
    unstable: Flags

    @classmethod
    def empty(cls, size: int = 0) -> Rows:
        """So many rows, to be written."""
        return cls(np.zeros(size), np.full((size, len(SIGNALS)), np.nan, np.float32), np.zeros(size, bool))

    def __len__(self) -> int:
        return len(self.unix_s)

    def of(self, chosen: slice | Flags | npt.NDArray[np.intp]) -> Rows:
        """Some of the rows, copied."""
        return Rows(self.unix_s[chosen].copy(), self.logs[chosen].copy(), self.unstable[chosen].copy())

    def plus(self, other: Rows) -> Rows:
        """These rows and later ones."""
        return Rows(
            np.concatenate([self.unix_s, other.unix_s]),
            np.concatenate([self.logs, other.logs]),
            np.concatenate([self.unstable, other.unstable]),
        )

    def signal(self, signal: Signal) -> Floats:
        """The signal's logarithms, nan where a sweep has none."""
        column: Floats = self.logs[:, SIGNALS.index(signal)].astype(float)
        return column

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rows):
            return NotImplemented
        return (
            np.array_equal(self.unix_s, other.unix_s)
            and np.array_equal(self.logs, other.logs, equal_nan=True)
            and np.array_equal(self.unstable, other.unstable)
        )


@dataclass(slots=True, eq=False)
class History:
    """`older` is thinned, `_recent` has places for the last sweeps, of which there are `_count`."""

    older: Rows = field(default_factory=Rows.empty)
    _recent: Rows = field(default_factory=Rows.empty)
    _count: int = 0

    def __len__(self) -> int:
        return len(self.older) + self._count

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, History):
            return NotImplemented
        return self.older == other.older and self.recent == other.recent

    @classmethod
    def of(cls, older: Rows, recent: Rows) -> History:
        """A history of these rows."""
        return cls(older, recent, len(recent))

    @property
    def first_unix_s(self) -> float:
        """When the oldest sweep ended; there must be one."""
        return float(self.older.unix_s[0] if len(self.older) else self._recent.unix_s[0])

    @property
    def last_unix_s(self) -> float:
        """When the last sweep ended; 0 without one."""
        if self._count:
            return float(self._recent.unix_s[self._count - 1])
        return float(self.older.unix_s[-1]) if len(self.older) else 0.0

    def moment(self, back: int) -> float:
        """When the last sweep but `back` - 1 ended, or the oldest of the recent ones; there must be one."""
        return float(self._recent.unix_s[max(0, self._count - back)])

    @property
    def recent(self) -> Rows:
        """The last sweeps, all of them."""
        return self._recent.of(slice(0, self._count))

    def add(self, unix_s: float, logs: dict[Signal, float], *, unstable: bool, kept_s: float) -> None:
        """Takes a sweep in. What is older than `kept_s` goes."""
        if self._count == len(self._recent):
            self._free_space(kept_s)
        if self._count and unix_s <= self._recent.unix_s[self._count - 1]:
            return  # the clock was set back: rows must stay in order
        row = self._count
        self._recent.unix_s[row] = unix_s
        self._recent.logs[row] = [logs.get(signal, np.nan) for signal in SIGNALS]
        self._recent.unstable[row] = unstable
        self._count += 1

    def all(self, kept_s: float) -> Rows:
        """All rows of the last `kept_s`; where there are older ones the recent ones are thinned like them."""
        rows = self.older.plus(thinned(self.recent, kept_s / SLOTS)) if len(self.older) else self.recent
        return rows.of(rows.unix_s >= rows.unix_s[-1] - kept_s) if len(rows) else rows

    def since(self, unix_s: float) -> Rows:
        """All that is kept from that moment on."""
        rows = self.older.plus(self.recent)
        return rows.of(rows.unix_s >= unix_s)

    def copy(self) -> History:
        """A copy that changes on its own."""
        return History(self.older, self.recent, self._count)

    def _free_space(self, kept_s: float) -> None:
        """Arrays grow to twice `RECENT`; then the older half is thinned."""
        size = len(self._recent)
        if size < 2 * RECENT:
            bigger = min(2 * RECENT, max(16, 2 * size))
            self._recent = self.recent.plus(Rows.empty(bigger - self._count))
            return
        leave = self._count - RECENT
        rows = self.older.plus(thinned(self._recent.of(slice(0, leave)), kept_s / SLOTS))
        last_s = float(self._recent.unix_s[self._count - 1])
        self.older = rows.of(rows.unix_s >= last_s - _KEPT_LONGER * kept_s)
        self._recent = self._recent.of(slice(leave, self._count)).plus(Rows.empty(leave))
        self._count = RECENT


def thinned(rows: Rows, slot_s: float) -> Rows:
    """The first row of each slot. A row and no median of the slot: what has two modes must keep them."""
    if len(rows) < 2:
        return rows
    slots = np.floor(rows.unix_s / slot_s)
    return rows.of(np.concatenate([[True], slots[1:] != slots[:-1]]))
