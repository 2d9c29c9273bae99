"""The small state file: when each probe last ran and last succeeded, kept over a restart.

It owns the file and the thread that writes it. A write never blocks or fails its caller: what cannot be written is
logged and counted. It knows nothing of sweeps.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from exporter.logs import Throttle
from exporter.storage.atomic_file import replace_file

_log = logging.getLogger(__name__)

_FORMAT_VERSION = 1
_SECONDS_BETWEEN_WRITES = 1.0


@dataclass(frozen=True, slots=True)
class ProbeKey:
    """What makes a probe the same one after a restart: its name and the labels of its series."""

    probe: str
    target: str
    model: str


@dataclass(frozen=True, slots=True)
class LastTimes:
    """Wall-clock ends of the last sweep and of the last usable sweep; 0 = never."""

    run_unix_s: float = 0.0
    success_unix_s: float = 0.0


class StateFile:
    """Keeps `LastTimes` by probe in one JSON file, replaced atomically. `claim` is asked before each write, and raises
    OSError while the file is another daemon's."""

    def __init__(
        self,
        path: Path,
        seconds_between_writes: float = _SECONDS_BETWEEN_WRITES,
        claim: Callable[[], object] = lambda: None,
    ) -> None:
        self._path = path
        self._pause_s = seconds_between_writes
        self._claim = claim
        self._lock = threading.Lock()
        self._pending: Callable[[], Mapping[ProbeKey, LastTimes]] | None = None
        self._writing = False
        self._closing = threading.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="state-file")
        self._write_errors = 0
        self._failing = False
        self._write_problem = ""
        self._log_rarely = Throttle()

    @property
    def write_errors(self) -> int:
        """How many writes failed since the start."""
        return self._write_errors

    @property
    def write_problem(self) -> str:
        """Why the last write failed; "" if it did not."""
        return self._write_problem

    def load(self) -> dict[ProbeKey, LastTimes]:
        """What was kept. A missing file is an empty one; a damaged one is set aside beside it, logged, and empty."""
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            return self._set_aside(error)
        try:
            return _decode(text)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            return self._set_aside(error)

    def save(self, times: Callable[[], Mapping[ProbeKey, LastTimes]]) -> None:
        """Has what `times` returns written soon; of several calls in short order only the last is written. It is called
        in another thread, as it is written: a sweep's end must not cost more the more probes there are."""
        with self._lock:
            if self._closing.is_set():
                return
            self._pending = times
            if self._writing:
                return
            self._writing = True
        self._thread.submit(self._write_pending)

    def close(self) -> None:
        """Writes what is pending and ends the thread."""
        with self._lock:
            self._closing.set()
        self._thread.shutdown(wait=True)

    def _write_pending(self) -> None:
        while True:
            with self._lock:
                times, self._pending = self._pending, None
                if times is None:
                    self._writing = False
                    return
            self._write(times())
            self._closing.wait(self._pause_s)

    def _write(self, times: Mapping[ProbeKey, LastTimes]) -> None:
        try:
            self._claim()
            replace_file(self._path, _encode(times.items()))
        except OSError as error:
            self._write_errors += 1
            if not self._failing and self._log_rarely.passes("failed"):
                _log.warning("state file %s cannot be written: %s", self._path, error)
            self._failing = True
            self._write_problem = f"the state file {self._path} cannot be written: {error.strerror or error}"
        else:
            if self._failing and self._log_rarely.passes("over"):
                _log.info("state file %s is written again", self._path)
            self._failing = False
            self._write_problem = ""

    def _set_aside(self, error: Exception) -> dict[ProbeKey, LastTimes]:
        aside = self._path.with_name(self._path.name + ".damaged")
        try:
            self._path.replace(aside)
        except OSError as rename_error:
            _log.warning("state file %s is damaged (%s) and stays: %s", self._path, error, rename_error)
        else:
            _log.warning("state file %s is damaged (%s); set aside as %s", self._path, error, aside.name)
        return {}


def _encode(items: Iterable[tuple[ProbeKey, LastTimes]]) -> str:
    rows = [
        {
            "probe": key.probe,
            "target": key.target,
            "model": key.model,
            "last_run_unix_s": times.run_unix_s,
            "last_success_unix_s": times.success_unix_s,
        }
        for key, times in items
    ]
    return json.dumps({"version": _FORMAT_VERSION, "probes": rows}, indent=1) + "\n"


def _decode(text: str) -> dict[ProbeKey, LastTimes]:
    content = json.loads(text)
    if content["version"] != _FORMAT_VERSION:
        raise ValueError(f"version {content['version']!r}, not {_FORMAT_VERSION}")
    return {
        ProbeKey(str(row["probe"]), str(row["target"]), str(row["model"])): LastTimes(
            float(row["last_run_unix_s"]), float(row["last_success_unix_s"])
        )
        for row in content["probes"]
    }
