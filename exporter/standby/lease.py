"""One lease, as one of the daemons that want it sees it. Pure: time is an argument, and where it is kept is not known.

Two machines' clocks are never compared. A daemon that wants the lease waits until it has seen no change of it for the
lease's whole duration by its own clock. The one that holds it counts from before it asked for the renewal that was
granted, and stops MARGIN earlier. So the next one begins after the last one has stopped, as long as both clocks run
equally fast, within `MARGIN / duration`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from exporter.core.units import NS

MARGIN_NS = 3 * NS
"""How long before its lease is anyone else's a daemon sends nothing more: longer than requests in flight are awaited
(2 s) after the last one was sent."""

MAX_DURATION_NS = 600 * NS
"""No record is waited for longer, whatever it holds."""

_RENEWALS_PER_LEASE = 5
_LOOKS_PER_LEASE = 10


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What the store holds. `holder` is "" where the last one gave it up. `token` is another after each write."""

    holder: str
    duration_ns: int
    token: str


class LeaseStore(Protocol):
    """Keeps one record for all daemons. Its methods block; they raise OSError for what can't be read or written, and
    may then have written nevertheless."""

    def read(self) -> LeaseRecord | None:
        """The record, None where there was never one."""

    def replace(self, seen: LeaseRecord | None, holder: str, duration_ns: int) -> LeaseRecord | None:
        """Writes a record in the place of the one that was seen, and returns it; None if that was replaced meanwhile.
        Of several callers that saw the same one, one succeeds."""


class Lease:
    """Who may act, and until when. For one thread that changes it; `is_held` may be asked from any."""

    def __init__(self, holder: str, duration_ns: int) -> None:
        """`holder` is our name, which no other daemon has."""
        self.holder = holder
        self.duration_ns = duration_ns
        self.record: LeaseRecord | None = None
        self.until_ns = 1
        """We may act up to this moment; one that is long past where the lease isn't ours. Never 0."""
        self._changed_ns: int | None = None
        self._last: LeaseRecord | None = None
        """The last record that there was. Whoever wrote it may still act by it where it has been deleted."""

    @property
    def renew_ns(self) -> int:
        """How long after a renewal the next one is due."""
        return self.duration_ns // _RENEWALS_PER_LEASE

    @property
    def look_ns(self) -> int:
        """How often a daemon that waits for the lease looks at it."""
        return self.duration_ns // _LOOKS_PER_LEASE

    def is_held(self, now_ns: int) -> bool:
        """Whether we may act now."""
        return now_ns < self.until_ns

    def observe(self, record: LeaseRecord | None, now_ns: int) -> None:
        """This was read; the reading ended now. While it isn't ours."""
        if self._changed_ns is None or record != self.record:
            self._changed_ns = now_ns
        self.record = record
        self._last = record or self._last

    def may_ask(self, now_ns: int) -> bool:
        """Whether the lease is free: it was given up, there was never one, or it was not renewed for as long as it
        lasts. Or it is ours by a request whose outcome we did not learn. The longer duration counts where the settings
        of the daemons differ."""
        if self._changed_ns is None:
            return False
        if self._last is None or self._last.holder in ("", self.holder):
            return True
        return now_ns - self._changed_ns >= max(self._last.duration_ns, self.duration_ns)

    def granted(self, record: LeaseRecord, asked_ns: int, now_ns: int) -> bool:
        """The store took our record; asked for then, known now. False if that took so long that it is worth nothing:
        another may take it for over."""
        self.record = self._last = record
        self._changed_ns = now_ns
        until_ns = asked_ns + self.duration_ns - MARGIN_NS
        if now_ns >= until_ns:
            self.end()
            return False
        self.until_ns = until_ns
        return True

    def end(self) -> None:
        """It is not ours any more."""
        self.until_ns = 1
