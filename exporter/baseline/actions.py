"""What a person may do with the baselines of a probe, while the daemon runs. Each change is a line of the log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from exporter.baseline.file_format import DamagedBaselineError, decode, encode
from exporter.baseline.judge import accept, latest_version, pin_now, worse_than
from exporter.baseline.state import LevelState, LoadState, VersionState
from exporter.baseline.store import BaselineStore, kept_as
from exporter.core.errors import TritonCanaryError
from exporter.core.probe import Probe, Signal
from exporter.core.units import NS
from exporter.logs import fields

_log = logging.getLogger("exporter.audit")

ACTIONS = ("pin", "accept", "clear", "import")


class ActionError(TritonCanaryError):
    """It can't be done; says why. `unknown` is a probe or level that there is not."""

    def __init__(self, text: str, *, unknown: bool = False) -> None:
        super().__init__(text)
        self.unknown = unknown


class BaselineActions:
    """For the thread of the store alone. `probes` gives the probes that are configured now."""

    def __init__(self, store: BaselineStore, probes: Callable[[], Sequence[Probe]]) -> None:
        self._store = store
        self._probes = probes

    def show(self, name: str) -> dict[str, Any]:
        """What is remembered of a probe's levels under its present load, in base units. Raises ActionError."""
        load = self._store.current(self._probe(name))
        levels = load.levels if load else {}
        return {"probe": name, "levels": {level: _shown_level(state) for level, state in levels.items()}}

    def export(self, name: str) -> str:
        """All that is remembered of a probe, as its file holds it. Raises ActionError."""
        return encode(name, self._store.state(kept_as(self._probe(name))))

    def act(self, action: str, name: str, *, level: str = "", document: str = "", by: str = "") -> list[str]:
        """Does it, at one level or at all; says what was done. What it changes shows with the next sweep. Raises
        ActionError, with nothing changed."""
        told = {"action": action, "probe": name, "baseline_level": level, "by": by}
        try:
            done = self._do(action, self._probe(name), level, document)
        except ActionError as error:
            _log.warning("baseline change refused", extra=fields(**told, error=str(error)))
            raise
        self._store.changed(name)
        _log.info("baseline changed", extra=fields(**told, done=done))
        return done

    def _do(self, action: str, probe: Probe, level: str, document: str) -> list[str]:
        if action == "import":
            return self._import(probe, document)
        if action == "clear":
            return self._clear(probe, level)
        return self._decide(probe, action, level)

    def _probe(self, name: str) -> Probe:
        for probe in self._probes():
            if kept_as(probe) == name:
                return probe
        raise ActionError(f"there is no probe {name!r}", unknown=True)

    def _levels(self, probe: Probe, level: str) -> tuple[LoadState, dict[str, LevelState]]:
        load = self._store.current(probe)
        if load is None or not load.levels:
            raise ActionError(f"nothing is remembered yet of probe {kept_as(probe)!r}")
        chosen = {key: state for key, state in load.levels.items() if level in ("", key, key.partition(" ")[2])}
        if not chosen:
            raise ActionError(f"there is no level {level!r}; there are {', '.join(load.levels)}", unknown=True)
        return load, chosen

    def _decide(self, probe: Probe, action: str, level: str) -> list[str]:
        decide = {"pin": pin_now, "accept": accept}[action]
        _, levels = self._levels(probe, level)
        done, faults = [], []
        for key, state in levels.items():
            try:
                done.append(f"{key}: {action} of version {decide(state, self._store.now())}")
            except ValueError as error:
                faults.append(f"{key}: {error}")
        if faults and not done:
            raise ActionError("; ".join(faults))
        return done + faults

    def _clear(self, probe: Probe, level: str) -> list[str]:
        load, levels = self._levels(probe, level)
        for key in levels:
            del load.levels[key]
        return [f"{key}: forgotten" for key in levels]

    def _import(self, probe: Probe, document: str) -> list[str]:
        try:
            baselines = decode(document, kept_as(probe))
        except DamagedBaselineError as error:
            raise ActionError(f"the document is not taken: {error}") from error
        self._store.put(kept_as(probe), baselines)
        return [f"{key}: {len(load.levels)} levels taken over" for key, load in baselines.loads.items()]


def _shown_level(level: LevelState) -> dict[str, Any]:
    return {
        "accepted_version": level.accepted,
        "served_version": latest_version(level) if level.versions else "",
        "versions": {name: _shown_version(level, state) for name, state in level.versions.items()},
    }


def _shown_version(level: LevelState, state: VersionState) -> dict[str, Any]:
    pin, accepted = state.pin, level.accepted_pin
    signals = {}
    for signal, baseline in pin.signals.items() if pin else ():
        unit = 1.0 if signal is Signal.THROUGHPUT else 1.0 / NS
        other = accepted.signals.get(signal) if accepted else None
        signals[signal.value] = {
            "by_hour": [round(value, 9) for value in baseline.values(unit)],
            "noise_ratio": round(baseline.noise, 5),
            "sweeps": baseline.samples,
            "worse_than_accepted": round(worse_than(signal, baseline, other), 4) if other else None,
        }
    return {
        "sweeps_remembered": len(state.rows),
        "pinned_unix_s": pin.pinned_unix_s if pin else None,
        "provisional": pin.provisional if pin else None,
        "regressions": [f"{signal} {tier}" for (signal, tier), kept in state.tiers.items() if kept.holds],
        "note": state.note,
        "signals": signals,
    }
