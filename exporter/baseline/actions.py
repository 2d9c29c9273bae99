"""What a person may do with the baselines of a probe, while the daemon runs. Each change is a line of the log."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from exporter.baseline.decisions import Pinning, UndecidedError, accept, apply_pin, latest_version, prepare_pin
from exporter.baseline.file_format import DamagedBaselineError, decode, encode
from exporter.baseline.pins import worse_than
from exporter.baseline.state import LevelState, LoadState, VersionState
from exporter.baseline.store import BaselineStore, kept_as
from exporter.config.quantities import parse_duration
from exporter.core.errors import TritonCanaryError
from exporter.core.probe import Probe, Signal
from exporter.core.units import MS, NS
from exporter.logs import fields

_log = logging.getLogger("exporter.audit")

ACTIONS = ("pin", "accept", "clear", "import")


class ActionError(TritonCanaryError):
    """It can't be done; the text has the reason. `unknown` is a probe or level that there is not."""

    def __init__(self, text: str, *, unknown: bool = False) -> None:
        super().__init__(text)
        self.unknown = unknown


@dataclass(frozen=True, slots=True)
class PinRequest:
    """How to pin: from the sweeps `since` a moment (ISO 8601) or a time ago ("6h"; "": since the regression began);
    `dry_run` only returns what it would be; `force` takes sweeps from before and after a change, too."""

    since: str = ""
    dry_run: bool = False
    force: bool = False


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

    def act(
        self,
        action: str,
        name: str,
        *,
        level: str = "",
        document: str = "",
        by: str = "",
        pin: PinRequest | None = None,
    ) -> list[str]:
        """Does it, at one level or at all; returns what was done. What it changes shows with the next sweep. Raises
        ActionError, with nothing changed."""
        pin = pin or PinRequest()
        about = {"action": action, "probe": name, "baseline_level": level, "by": by}
        try:
            done = self._do(action, self._probe(name), level, document, pin)
        except ActionError as error:
            _log.warning("baseline change refused", extra=fields(**about, error=str(error)))
            raise
        if not pin.dry_run:
            self._store.changed(name)
            _log.info("baseline changed", extra=fields(**about, done=done))
        return done

    def _do(self, action: str, probe: Probe, level: str, document: str, pin: PinRequest) -> list[str]:
        if action == "import":
            return self._import(probe, document)
        if action == "clear":
            return self._clear(probe, level)
        return self._pin(probe, level, pin) if action == "pin" else self._accept(probe, level)

    def _probe(self, name: str) -> Probe:
        for probe in self._probes():
            if kept_as(probe) == name:
                return probe
        raise ActionError(f"there is no probe {name!r}", unknown=True)

    def _levels(self, probe: Probe, level: str) -> tuple[LoadState, dict[str, LevelState]]:
        load = self._store.current(probe)
        if load is None or not load.levels:
            raise ActionError(f"probe {kept_as(probe)!r} has no sweeps yet")
        chosen = {key: state for key, state in load.levels.items() if level in ("", key, key.partition(" ")[2])}
        if not chosen:
            raise ActionError(f"there is no level {level!r}; there are {', '.join(load.levels)}", unknown=True)
        return load, chosen

    def _pin(self, probe: Probe, level: str, request: PinRequest) -> list[str]:
        now_unix_s = self._store.now()
        since = _moment(request.since, now_unix_s) if request.since else None
        _, levels = self._levels(probe, level)
        made: dict[str, Pinning] = {}
        problems = []
        for key, state in levels.items():
            try:
                made[key] = prepare_pin(state, probe, now_unix_s, since, force=request.force)
            except UndecidedError as error:
                problems.append(f"{key}: {error}")
        if problems and not made:
            raise ActionError("; ".join(problems))
        for key, pinning in made.items():
            if not request.dry_run:
                apply_pin(levels[key], pinning)
        verb = "would pin" if request.dry_run else "pinned"
        return [line for key, pinning in made.items() for line in _pinned_lines(key, verb, pinning)] + problems

    def _accept(self, probe: Probe, level: str) -> list[str]:
        _, levels = self._levels(probe, level)
        done, problems = [], []
        for key, state in levels.items():
            try:
                before, after, pinning = accept(state, probe, self._store.now())
            except UndecidedError as error:
                problems.append(f"{key}: {error}")
                continue
            if pinning is not None:
                done += _pinned_lines(key, "accepted and pinned", pinning)
            elif before == after:
                text = f"{key}: nothing changed: version {after} is the accepted one already"
                done.append(f"{text}; `pin` makes its present level the baseline")
            else:
                done.append(f"{key}: accepted version {after} in the place of {before}, with the baseline that it has")
        if problems and not done:
            raise ActionError("; ".join(problems))
        return done + problems

    def _clear(self, probe: Probe, level: str) -> list[str]:
        load, levels = self._levels(probe, level)
        for key in levels:
            del load.levels[key]
        return [f"{key}: forgotten" for key in levels]

    def _import(self, probe: Probe, document: str) -> list[str]:
        try:
            baselines = decode(document, kept_as(probe))
        except DamagedBaselineError as error:
            raise ActionError(f"the document is rejected: {error}") from error
        self._store.put(kept_as(probe), baselines)
        return [f"{key}: {len(load.levels)} levels taken over" for key, load in baselines.loads.items()]


def _moment(text: str, now_unix_s: float) -> float:
    """A moment (ISO 8601; without a zone in UTC), or a duration before now. Raises ActionError."""
    try:
        return now_unix_s - parse_duration(text) / NS
    except ValueError:
        pass
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ActionError(f"since, {text!r}, is neither a moment (2026-01-31T08:00) nor a time ago (6h)") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    if moment.timestamp() > now_unix_s:
        raise ActionError(f"since, {text!r}, is in the future")
    return moment.timestamp()


def _pinned_lines(key: str, verb: str, pinning: Pinning) -> list[str]:
    since = dt.datetime.fromtimestamp(pinning.since_unix_s, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    compared = ", ".join(
        f"{signal.replace('_', ' ')} {_figure(signal, after)}" + (f" (was {_figure(signal, before)})" if before else "")
        for signal, before, after in pinning.compared
    )
    lines = [f"{key}: {verb} version {pinning.version} from {pinning.sweeps} sweeps since {since}"]
    lines.append(f"{key}: the next sweeps are compared with {compared}")
    return lines + [f"{key}: note: {warning}" for warning in pinning.warnings]


def _figure(signal: Signal, value: float) -> str:
    return f"{value:.4g}/s" if signal.is_rate else f"{value / MS:.4g} ms"


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
        unit = 1.0 if signal.is_rate else 1.0 / NS
        other = accepted.signals.get(signal) if accepted else None
        signals[signal.value] = {
            "by_hour_of_week": [round(value, 9) for value in baseline.values(unit)],
            "timezone": baseline.timezone,
            "noise_ratio": round(baseline.noise, 5),
            "bimodal": baseline.modes is not None,
            "sweeps": baseline.samples,
            "worse_than_accepted": round(worse_than(signal, baseline, other), 4) if other else None,
        }
    return {
        "sweeps_remembered": len(state.history),
        "pinned_unix_s": pin.pinned_unix_s if pin else None,
        "provisional": pin.provisional if pin else None,
        "final": pin.final if pin else None,
        "regressions": [f"{signal} {tier}" for (signal, tier), kept in state.tiers.items() if kept.holds],
        "note": state.note,
        "signals": signals,
    }
