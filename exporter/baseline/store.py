"""Keeps the baselines of all probes, one small file each, and gives every sweep its verdicts.

It owns the files and the thread that writes them. A write never blocks or fails its caller; what cannot be written is
logged and counted. Only the running daemon writes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from exporter.archive.files import safe_name
from exporter.baseline.file_format import DamagedBaselineError, decode, encode, is_old
from exporter.baseline.judge import judge
from exporter.baseline.key import baseline_key
from exporter.baseline.second_opinion import SecondOpinion
from exporter.baseline.state import LevelState, LoadState, ProbeBaselines, VersionState, level_key
from exporter.core.probe import Probe
from exporter.core.result import LevelVerdict, SweepResult, VerdictChange
from exporter.logs import Throttle, fields
from exporter.storage.atomic_file import replace_file

_log = logging.getLogger("exporter.baseline")

SUFFIX = ".baseline"
_DAMAGED = ".damaged"
_KEPT_KEYS = 10_000
_CHANGES = {
    VerdictChange.PINNED: (logging.INFO, "baseline pinned"),
    VerdictChange.BEGAN: (logging.WARNING, "regression began"),
    VerdictChange.ENDED: (logging.INFO, "regression ended"),
}


class BaselineStore:
    """All methods belong to one thread but `write_errors`. `now` is the wall clock. `claim` is asked before each write,
    and raises OSError while the files are another daemon's."""

    def __init__(
        self, directory: Path, now: Callable[[], float] = time.time, claim: Callable[[], object] = lambda: None
    ) -> None:
        self.now = now
        self._directory = directory
        self._states: dict[str, ProbeBaselines] = {}
        self._keys: dict[str, tuple[Probe, str]] = {}
        self._writer = _Writer(directory, claim)
        self._opinion = SecondOpinion()

    @property
    def write_problem(self) -> str:
        """Why the last write of a baseline failed; "" if it did not."""
        return self._writer.problem

    @property
    def write_errors(self) -> int:
        """How many writes failed since the start."""
        return self._writer.errors

    def judge(self, result: SweepResult) -> SweepResult:
        """The result with its verdicts, and remembers its figures. A sweep without figures changes nothing."""
        probe = result.probe
        if not probe.baseline.enabled or not result.measurements or result.facts is None:
            return result
        load = self.state(kept_as(probe)).load(self._key(probe), self.now())
        verdicts = tuple(self._with_change(probe, load, verdict) for verdict in judge(load, result))
        self.changed(kept_as(probe))
        _log_changes(probe, verdicts)
        return replace(result, verdicts=verdicts)

    def settle(self) -> None:
        """Waits for the change points that are being searched."""
        self._opinion.settle()

    def _with_change(self, probe: Probe, load: LoadState, verdict: LevelVerdict) -> LevelVerdict:
        """With the change point that the last search found; the next search is begun where it is due."""
        name = level_key(verdict.level.mode, verdict.level.label)
        key = kept_as(probe), self._key(probe), name
        found = self._opinion.latest(key)
        self._opinion.look(key, load.levels[name], probe, self.now())
        return replace(verdict, last_change=found) if found is not None else verdict

    def state(self, probe: str) -> ProbeBaselines:
        """What is remembered of a probe, read from its file the first time."""
        if probe not in self._states:
            self._states[probe] = self._read(probe)
        return self._states[probe]

    def put(self, probe: str, baselines: ProbeBaselines) -> None:
        """Takes this in the place of all that is remembered of the probe."""
        self._states[probe] = baselines
        self.changed(probe)

    def current(self, probe: Probe) -> LoadState | None:
        """What is remembered of the probe under its present load, None where there is nothing."""
        return self.state(kept_as(probe)).loads.get(self._key(probe))

    def changed(self, probe: str) -> None:
        """Has the probe's file written soon."""
        self._writer.put(probe, _copy(self._states[probe]))

    def close(self) -> None:
        """Writes what is pending and ends the threads."""
        self._opinion.close()
        self._writer.close()

    def _key(self, probe: Probe) -> str:
        known = self._keys.get(probe.name)
        if known is None or known[0] is not probe:
            if len(self._keys) >= _KEPT_KEYS:  # discovered probes come and go for ever
                self._keys.clear()
            known = self._keys[probe.name] = probe, baseline_key(probe)
        return known[1]

    def _read(self, probe: str) -> ProbeBaselines:
        """A missing file is an empty one; a damaged one is set aside beside it, named in the log, and empty."""
        path = baseline_path(self._directory, probe)
        try:
            text = path.read_text(encoding="utf-8")
            found = decode(text, probe)
            if is_old(text):
                details = fields(probe=probe, file=str(path))
                _log.info("baseline file of an earlier release is read; its baselines keep their level", extra=details)
            return found
        except FileNotFoundError:
            return ProbeBaselines()
        except (OSError, UnicodeDecodeError, DamagedBaselineError) as error:
            aside = path.with_name(path.name + _DAMAGED)
            problem: dict[str, object] = {"probe": probe, "file": str(path), "error": str(error)}
            try:
                path.replace(aside)
            except OSError as rename_error:
                problem["stays"] = str(rename_error)
            else:
                problem["set_aside_as"] = aside.name
            _log.warning("baseline file is damaged and not used", extra=fields(**problem))
            return ProbeBaselines()


def _log_changes(probe: Probe, verdicts: Sequence[LevelVerdict]) -> None:
    """A line for each transition: pinned, a regression began, a regression ended."""
    for verdict in verdicts:
        level = level_key(verdict.level.mode, verdict.level.label)
        for event in verdict.events:
            about: dict[str, object] = {"probe": probe.name, "baseline_level": level, "details": event.text}
            if event.signal is not None:
                about |= {"signal": event.signal.value, "tier": event.tier}
            _log.log(*_CHANGES[event.change], extra=fields(**about))


def kept_as(probe: Probe) -> str:
    """The name under which a probe's baselines are kept: replicas come and go, and share that of their pattern."""
    return probe.parent or probe.name


def baseline_path(directory: Path, probe: str) -> Path:
    """A probe's file."""
    return directory / f"{safe_name(probe)}{SUFFIX}"


def _copy(baselines: ProbeBaselines) -> ProbeBaselines:
    """A copy for the writer's thread: what can change is copied, what is frozen is shared."""
    copied = {}
    for key, load in baselines.loads.items():
        levels = {name: replace(level, versions=_copy_versions(level)) for name, level in load.levels.items()}
        copied[key] = replace(load, levels=levels)
    return ProbeBaselines(copied)


def _copy_versions(level: LevelState) -> dict[str, VersionState]:
    return {name: _copy_version(state) for name, state in level.versions.items()}


def _copy_version(state: VersionState) -> VersionState:
    tiers = {key: replace(tier) for key, tier in state.tiers.items()}
    return replace(
        state,
        history=state.history.copy(),
        components=list(state.components),
        tiers=tiers,
        tail=list(state.tail),
        first_token_tail=list(state.first_token_tail),
        lower_unix_s=dict(state.lower_unix_s),
    )


class _Writer:
    """Writes files in a thread of its own; of several versions of one file in short order only the last."""

    def __init__(self, directory: Path, claim: Callable[[], object]) -> None:
        self.errors = 0
        self.problem = ""
        self._claim = claim
        self._directory = directory
        self._lock = threading.Lock()
        self._pending: dict[str, ProbeBaselines] = {}
        self._closed = False
        self._failing = False
        self._log_rarely = Throttle()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="baselines")

    def put(self, probe: str, baselines: ProbeBaselines) -> None:
        with self._lock:
            if self._closed:
                return
            idle = not self._pending
            self._pending[probe] = baselines
        if idle:
            self._thread.submit(self._write_pending)

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._thread.shutdown(wait=True)

    def _write_pending(self) -> None:
        while True:
            with self._lock:
                if not self._pending:
                    return
                probe = next(iter(self._pending))
                baselines = self._pending[probe]
            self._write(probe, baselines)
            with self._lock:
                if self._pending.get(probe) is baselines:
                    del self._pending[probe]

    def _write(self, probe: str, baselines: ProbeBaselines) -> None:
        path = baseline_path(self._directory, probe)
        try:
            self._claim()
            replace_file(path, encode(probe, baselines))
        except Exception as error:
            self.errors += 1
            if not self._failing and self._log_rarely.passes("failed"):
                _log.warning("baseline file cannot be written", extra=fields(file=str(path), error=str(error)))
            self._failing = True
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            self.problem = f"the baseline file {path} cannot be written: {reason}"
        else:
            if self._failing and self._log_rarely.passes("over"):
                _log.info("baseline files can be written again", extra=fields(file=str(path)))
            self._failing = False
            self.problem = ""
