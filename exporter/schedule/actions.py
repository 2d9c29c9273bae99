"""What a person may do with a probe while the daemon runs: pause, resume, sweep now. Each is a line of the log."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Sequence

from exporter.errors import TritonCanaryError
from exporter.logs import fields
from exporter.outcome import SkipReason
from exporter.probe import Probe
from exporter.schedule.admission import ProbeState
from exporter.schedule.gate import Gate
from exporter.schedule.pauses import Pauses
from exporter.schedule.phase import probe_key
from exporter.schedule.scheduler import Scheduler

_log = logging.getLogger("exporter.audit")


class Action(enum.StrEnum):
    """What can be done."""

    PAUSE = "pause"
    RESUME = "resume"
    SWEEP_NOW = "sweep-now"


class Fault(enum.Enum):
    """Why something is not done."""

    UNKNOWN = enum.auto()
    CONFLICT = enum.auto()
    BUDGET = enum.auto()
    INTERNAL = enum.auto()


class RefusedError(TritonCanaryError):
    """It is not done; says why."""

    def __init__(self, fault: Fault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


class ProbeActions:
    """For the loop's thread alone. `probes` gives the probes that there are now."""

    def __init__(self, scheduler: Scheduler, gate: Gate, pauses: Pauses, probes: Callable[[], Sequence[Probe]]) -> None:
        self._scheduler = scheduler
        self._gate = gate
        self._pauses = pauses
        self._probes = probes

    def act(self, action: Action, name: str, *, by: str = "") -> str:
        """Does it, and says what was done. Raises RefusedError, with nothing changed."""
        probe = next((probe for probe in self._probes() if probe.name == name), None)
        if probe is None:
            raise RefusedError(Fault.UNKNOWN, f"there is no probe {name!r}")
        told = {"action": action.value, "target": probe.target.name, "probe": name, "by": by}
        try:
            done = self._do(action, probe)
        except RefusedError as error:
            _log.warning("probe action refused", extra=fields(**told, error=str(error)))
            raise
        _log.info("probe action", extra=fields(**told, done=done))
        return done

    def _do(self, action: Action, probe: Probe) -> str:
        try:
            if action is Action.PAUSE:
                self._pauses.add(probe_key(probe))
                self._scheduler.ask_again(probe)
                return "paused; a sweep that runs goes on"
            if action is Action.RESUME:
                self._pauses.discard(probe_key(probe))
                still = self._gate.pause(probe)
                return f"resumed, and {still}" if still else "resumed; it runs from its next slot on"
        except OSError as error:
            text = f"the pause cannot be kept over a restart: {error}"
            raise RefusedError(Fault.INTERNAL, text) from error
        return self._sweep_now(probe)

    def _sweep_now(self, probe: Probe) -> str:
        if why := self._gate.pause(probe):
            raise RefusedError(Fault.CONFLICT, f"the probe is {why}")
        found = self._scheduler.sweep_now(probe)
        if found is ProbeState.RUNNING:
            return "the sweep begins"
        if found is ProbeState.WAITING:
            return "the sweep waits its turn, at most one interval"
        if found is SkipReason.BUDGET:
            raise RefusedError(Fault.BUDGET, f"the budget of group {probe.target.group!r} has no room for a sweep now")
        text = "a sweep of the probe runs" if found is SkipReason.OVERLAP else "the daemon is shutting down"
        raise RefusedError(Fault.CONFLICT, text)
