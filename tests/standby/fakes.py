"""Stores and clocks of the tests."""

from __future__ import annotations

from exporter.standby.lease import LeaseRecord


class MemoryStore:
    """One record in memory, replaced only in the version that was seen. `down` makes every request fail; `loses`
    makes a write fail after it was done, as when a response gets lost."""

    def __init__(self) -> None:
        self.record: LeaseRecord | None = None
        self.writes = 0
        self.down = False
        self.loses = False

    def read(self) -> LeaseRecord | None:
        if self.down:
            raise OSError(5, "the share does not respond")
        return self.record

    def replace(self, seen: LeaseRecord | None, holder: str, duration_ns: int) -> LeaseRecord | None:
        if self.down:
            raise OSError(5, "the share does not respond")
        if seen != self.record:
            return None
        self.writes += 1
        self.record = LeaseRecord(holder, duration_ns, str(self.writes))
        if self.loses:
            raise OSError(5, "the response was lost")
        return self.record
