"""The latest change point of each level, found beside the verdicts and slower: over all sweeps that are remembered.

It owns the thread that searches. A search takes some milliseconds for four weeks; each level is searched once an hour.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from exporter.baseline.baseline import Floats
from exporter.baseline.change_points import LEAST_RATIO, find_changes
from exporter.baseline.pins import timezone_of
from exporter.baseline.state import LevelState
from exporter.core.probe import Probe, Signal
from exporter.core.result import LevelChange
from exporter.core.units import NS
from exporter.logs import Throttle, fields

_log = logging.getLogger("exporter.baseline")

SEARCH_EVERY_S = 3_600.0
LEAST_SPAN_S = 7 * 86_400.0
"""In less than a week a change can't be distinguished from the hours of the day, or from a weekend."""
_FORGOTTEN_AFTER_S = 2 * 86_400.0

Key = tuple[str, str, str]
"""Probe, load, level."""


class SecondOpinion:
    """The change points of all levels. `latest` and `look` are called by one thread; the searches run in another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[Key, LevelChange | None] = {}
        self._searched_unix_s: dict[Key, float] = {}
        self._tidied_unix_s = 0.0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="change-points")
        self._log_rarely = Throttle()

    def latest(self, key: Key) -> LevelChange | None:
        """What the last search of this level found."""
        with self._lock:
            return self._found.get(key)

    def look(self, key: Key, level: LevelState, probe: Probe, now_unix_s: float) -> None:
        """Has the level searched soon, unless that was done within the hour. Takes nothing in but a copy."""
        if abs(now_unix_s - self._searched_unix_s.get(key, 0.0)) < SEARCH_EVERY_S:
            return
        if now_unix_s - self._tidied_unix_s > _FORGOTTEN_AFTER_S:
            self._tidy(now_unix_s)
        self._searched_unix_s[key] = now_unix_s
        times, logs = _p50(level)
        if len(times) and times[-1] - times[0] >= LEAST_SPAN_S:
            self._thread.submit(self._search, key, times, logs, timezone_of(probe), probe.baseline.p50_floor_ns / NS)

    def settle(self) -> None:
        """Waits until all searches are done that were asked for."""
        self._thread.submit(lambda: None).result()

    def close(self) -> None:
        """Ends the thread; what it has not begun is left."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _tidy(self, now_unix_s: float) -> None:
        """Discovered probes come and go for ever: forgets the levels that were not judged for long."""
        self._tidied_unix_s = now_unix_s
        for key, at in list(self._searched_unix_s.items()):
            if now_unix_s - at > _FORGOTTEN_AFTER_S:
                del self._searched_unix_s[key]
                with self._lock:
                    self._found.pop(key, None)

    def _search(self, key: Key, times: Floats, logs: Floats, timezone: str, floor_s: float) -> None:
        try:
            changes = find_changes(times, np.exp(logs), LEAST_RATIO, timezone)
        except Exception as error:  # an opinion: without it all else continues
            if self._log_rarely.passes("failed"):
                _log.exception("change points cannot be searched", extra=fields(probe=key[0], error=str(error)))
            return
        real = [each for each in changes if abs(each.after - each.before) > floor_s * NS]
        with self._lock:
            self._found[key] = real[-1] if real else None


def _p50(level: LevelState) -> tuple[Floats, Floats]:
    """The ends of all sweeps that are remembered of the level, of whatever version, and the logarithms of their p50."""
    parts = [state.history.since(0.0) for state in level.versions.values()]
    times = np.concatenate([rows.unix_s for rows in parts]) if parts else np.zeros(0)
    logs = np.concatenate([rows.signal(Signal.LATENCY_P50) for rows in parts]) if parts else np.zeros(0)
    known = ~np.isnan(logs)
    times, logs = times[known], logs[known]
    order = np.argsort(times, kind="stable")
    return times[order], logs[order]
