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
from exporter.schedule.pauses import EVERYTHING, Pauses, whole_target
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
    """It is refused; the text has the reason."""

    def __init__(self, kind: RefusalKind, text: str) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What a name stands for: one probe, or a pattern of the configuration with all that there is of it now."""

    key: ProbeKey
    probes: Sequence[Probe]
    is_pattern: bool = False


@dataclass(frozen=True, slots=True)
class Stopped:
    """What was done, and whether it outlives a restart ("": it does; else why not)."""

    done: str
    not_kept: str = ""


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
        """Does it, and returns what was done. Raises RefusedError, with nothing changed."""
        details = {"action": action.value, "target": "", "probe": name, "by": by}
        try:
            chosen = self._choose(name)
            details["target"] = chosen.key[0]
            done = self._do(action, chosen)
        except RefusedError as error:
            _log.warning("probe action refused", extra=fields(**details, error=str(error)))
            raise
        _log.info("probe action", extra=fields(**details, done=done))
        return done

    def stop(self, target: str | None, *, by: str = "") -> Stopped:
        """Pauses all probes of a target, or of all (None), and ends their running sweeps now. That is done even where
        it can't be kept over a restart: who stops everything has a reason. Raises RefusedError for a target that there
        is not."""
        details = {"action": "pause", "target": "*" if target is None else target, "by": by}
        key = EVERYTHING if target is None else whole_target(self._known(target, details))
        not_kept = ""
        try:
            self._pauses.add_at_once(key)
        except OSError as error:
            not_kept = f"it cannot be saved for a restart: {error}"
        for probe in self._probes():
            self._scheduler.ask_again(probe)
        ended = self._scheduler.interrupt(lambda probe: _is_of(probe, target), "paused by hand")
        what = "everything is paused" if target is None else f"all of target {target} is paused"
        stopped = Stopped(f"{what}; running sweeps that end now: {ended}", not_kept)
        level = logging.WARNING if not_kept else logging.INFO
        _log.log(level, "pause", extra=fields(**details, done=stopped.done, error=not_kept))
        return stopped

    def resume(self, target: str | None, *, by: str = "") -> Stopped:
        """Takes back what `stop` did with the same target; probes and targets paused by themselves stay so. Raises
        RefusedError, with nothing changed, where there is no such pause, or that can't be kept."""
        details = {"action": "resume", "target": "*" if target is None else target, "by": by}
        key = EVERYTHING if target is None else whole_target(target)
        if key not in self._pauses:
            what = "everything is" if target is None else f"target {target!r} is"
            raise self._refused(RefusalKind.CONFLICT, f"{what} not paused as a whole", details)
        try:
            self._pauses.discard_all([key])
        except OSError as error:
            raise self._refused(
                RefusalKind.INTERNAL, f"that cannot be saved for a restart: {error}", details
            ) from error
        still = sum(bool(self._gate.pause(probe)) for probe in self._probes() if _is_of(probe, target))
        done = f"resumed; probes run from their next slots on{f', but for {still} still paused' if still else ''}"
        _log.info("resume", extra=fields(**details, done=done))
        return Stopped(done)

    def _known(self, target: str, details: dict[str, str]) -> str:
        names = {probe.target.name for probe in self._probes()} | {name for name, _ in self._patterns()}
        if target not in names and target not in {name.partition("/")[0] for name in names}:
            raise self._refused(RefusalKind.UNKNOWN, f"there is no target {target!r} with probes", details)
        return target

    def _refused(self, kind: RefusalKind, text: str, details: dict[str, str]) -> RefusedError:
        _log.warning("probe action refused", extra=fields(**details, error=text))
        return RefusedError(kind, text)

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
            text = f"the pause cannot be saved for a restart: {error}"
            raise RefusedError(RefusalKind.INTERNAL, text) from error
        if chosen.is_pattern:
            raise RefusedError(RefusalKind.CONFLICT, "the name covers several probes; sweep-now needs the name of one")
        return self._sweep_now(chosen.probes[0])

    def _pause(self, chosen: _Chosen) -> str:
        self._pauses.add(chosen.key)
        for probe in chosen.probes:
            self._scheduler.ask_again(probe)
        return f"paused{_number(chosen)}; a running sweep continues"

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
                RefusalKind.BUDGET, f"the budget of group {probe.target.group!r} does not allow a sweep now"
            )
        text = "a sweep of the probe runs" if found is SkipReason.OVERLAP else "the daemon is shutting down"
        raise RefusedError(RefusalKind.CONFLICT, text)


def _is_of(probe: Probe, target: str | None) -> bool:
    """Whether a probe is of the target, or of one discovered by it; None is every target."""
    return target is None or target in (probe.target.name, configured_key(probe_key(probe))[0])


def _number(chosen: _Chosen) -> str:
    return f", with all that is found of it, now {len(chosen.probes)}" if chosen.is_pattern else ""
