"""What a person may do with a probe while the daemon runs: pause, resume, sweep now. Each is a line of the log."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from exporter.core.errors import TritonCanaryError
from exporter.core.outcome import SkipReason
from exporter.core.probe import Probe
from exporter.logs import fields
from exporter.schedule.admission import ProbeState
from exporter.schedule.gate import Gate
from exporter.schedule.pauses import Pauses
from exporter.schedule.phase import ProbeKey, configured_key, probe_key
from exporter.schedule.scheduler import Scheduler

_log = logging.getLogger("exporter.audit")


class Action(enum.StrEnum):
    """What can be done."""

    PAUSE = "pause"
    RESUME = "resume"
    SWEEP_NOW = "sweep-now"


class RefusalKind(enum.Enum):
    """Why something is not done."""

    UNKNOWN = enum.auto()
    CONFLICT = enum.auto()
    BUDGET = enum.auto()
    INTERNAL = enum.auto()


class RefusedError(TritonCanaryError):
    """It is not done; says why."""

    def __init__(self, kind: RefusalKind, text: str) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What a name stands for: one probe, or a pattern of the configuration with all that there is of it now."""

    key: ProbeKey
    probes: Sequence[Probe]
    is_pattern: bool = False


class ProbeActions:
    """For the loop's thread alone. `probes` gives the probes that there are now, `patterns` the names in the
    configuration that stand for any number of them."""

    def __init__(
        self,
        scheduler: Scheduler,
        gate: Gate,
        pauses: Pauses,
        probes: Callable[[], Sequence[Probe]],
        patterns: Callable[[], Collection[ProbeKey]] = tuple,
    ) -> None:
        self._scheduler = scheduler
        self._gate = gate
        self._pauses = pauses
        self._probes = probes
        self._patterns = patterns

    def act(self, action: Action, name: str, *, by: str = "") -> str:
        """Does it, and says what was done. Raises RefusedError, with nothing changed."""
        told = {"action": action.value, "target": "", "probe": name, "by": by}
        try:
            chosen = self._choose(name)
            told["target"] = chosen.key[0]
            done = self._do(action, chosen)
        except RefusedError as error:
            _log.warning("probe action refused", extra=fields(**told, error=str(error)))
            raise
        _log.info("probe action", extra=fields(**told, done=done))
        return done

    def _choose(self, name: str) -> _Chosen:
        probes = self._probes()
        for probe in probes:
            if probe.name == name:
                return _Chosen(probe_key(probe), [probe])
        for key in self._patterns():
            if key[1] == name:
                return _Chosen(key, [probe for probe in probes if configured_key(probe_key(probe)) == key], True)
        raise RefusedError(RefusalKind.UNKNOWN, f"there is no probe {name!r}")

    def _do(self, action: Action, chosen: _Chosen) -> str:
        try:
            if action is Action.PAUSE:
                return self._pause(chosen)
            if action is Action.RESUME:
                return self._resume(chosen)
        except OSError as error:
            text = f"the pause cannot be kept over a restart: {error}"
            raise RefusedError(RefusalKind.INTERNAL, text) from error
        if chosen.is_pattern:
            raise RefusedError(
                RefusalKind.CONFLICT, "the name stands for any number of probes; sweep-now takes that of one"
            )
        return self._sweep_now(chosen.probes[0])

    def _pause(self, chosen: _Chosen) -> str:
        self._pauses.add(chosen.key)
        for probe in chosen.probes:
            self._scheduler.ask_again(probe)
        return f"paused{_number(chosen)}; a sweep that runs goes on"

    def _resume(self, chosen: _Chosen) -> str:
        if chosen.is_pattern:
            self._pauses.discard_all(key for key in self._pauses if configured_key(key) == chosen.key)
        else:
            self._pauses.discard_all([chosen.key])
        if still := next(filter(None, map(self._gate.pause, chosen.probes)), ""):
            return f"resumed{_number(chosen)}, and {still}"
        return f"resumed{_number(chosen)}; it runs from its next slot on"

    def _sweep_now(self, probe: Probe) -> str:
        if why := self._gate.pause(probe):
            raise RefusedError(RefusalKind.CONFLICT, f"the probe is {why}")
        found = self._scheduler.sweep_now(probe)
        if found is ProbeState.RUNNING:
            return "the sweep begins"
        if found is ProbeState.WAITING:
            return "the sweep waits its turn, at most one interval"
        if found is SkipReason.BUDGET:
            raise RefusedError(
                RefusalKind.BUDGET, f"the budget of group {probe.target.group!r} has no room for a sweep now"
            )
        text = "a sweep of the probe runs" if found is SkipReason.OVERLAP else "the daemon is shutting down"
        raise RefusedError(RefusalKind.CONFLICT, text)


def _number(chosen: _Chosen) -> str:
    return f", with all that is found of it, now {len(chosen.probes)}" if chosen.is_pattern else ""
