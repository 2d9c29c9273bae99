"""Whether a probe may begin a sweep now, if its turn has come: pauses by hand, maintenance, the group's budget.

It must not know about turns.
"""

from __future__ import annotations

from datetime import UTC, datetime

from exporter.core.outcome import SkipReason
from exporter.core.probe import Probe
from exporter.schedule.ledger import Ledger
from exporter.schedule.maintenance import MaintenanceCalendar
from exporter.schedule.pauses import EVERYTHING, Pauses, whole_target
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

    def counts(self) -> dict[str, int]:
        """How many pauses by hand there are, by what they stop."""
        counts = {"all": 0, "target": 0, "probe": 0}
        for key in self._pauses:
            counts["all" if key == EVERYTHING else "probe" if key[1] else "target"] += 1
        return counts

    def notices(self) -> list[str]:
        """What is stopped as a whole, in words."""
        if EVERYTHING in self._pauses:
            return ["Everything is paused by hand: no probe runs until it is resumed"]
        targets = sorted(target for target, probe in self._pauses if not probe)
        return [f"Paused by hand, with all of their probes: {', '.join(targets)}"] if targets else []

    def pause(self, probe: Probe) -> str:
        """Why the probe is paused, in words; "" if it is not."""
        key = probe_key(probe)
        if EVERYTHING in self._pauses:
            return "paused by hand, with everything"
        for target in dict.fromkeys((key[0], configured_key(key)[0])):
            if whole_target(target) in self._pauses:
                return f"paused by hand, with all of target {target}"
        if key in self._pauses:
            return "paused by hand"
        if (pattern := configured_key(key)) in self._pauses:
            return f"paused by hand, with all of {pattern[1]}"
        until_unix_s = self._calendar.until(probe)
        if until_unix_s is None:
            return ""
        return f"in maintenance until {datetime.fromtimestamp(until_unix_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
