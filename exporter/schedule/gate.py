"""Whether a probe may begin a sweep now, if its turn has come: pauses by hand, maintenance, the group's budget.

It must not know about turns.
"""

from __future__ import annotations

from datetime import UTC, datetime

from exporter.core.outcome import SkipReason
from exporter.core.probe import Probe
from exporter.schedule.ledger import Ledger
from exporter.schedule.maintenance import MaintenanceCalendar
from exporter.schedule.pauses import Pauses
from exporter.schedule.phase import configured_key, probe_key


class Gate:
    """Joins the three."""

    def __init__(self, pauses: Pauses, calendar: MaintenanceCalendar, ledger: Ledger) -> None:
        self._pauses = pauses
        self._calendar = calendar
        self._ledger = ledger

    def refusal(self, probe: Probe) -> SkipReason | None:
        """Under which reason it may not; None if it may."""
        return SkipReason.PAUSED if self.pause(probe) else self._ledger.refusal(probe)

    def pause(self, probe: Probe) -> str:
        """Why the probe is paused, in words; "" if it is not."""
        key = probe_key(probe)
        if key in self._pauses:
            return "paused by hand"
        if (pattern := configured_key(key)) in self._pauses:
            return f"paused by hand, with all of {pattern[1]}"
        until_unix_s = self._calendar.until(probe)
        if until_unix_s is None:
            return ""
        return f"in maintenance until {datetime.fromtimestamp(until_unix_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
