"""The history on the disk: one line per kept sweep, in one file per hour, so that a day's files go one by one and
nothing is ever rewritten.

It owns the files and the thread that writes them. A write never blocks or fails its caller.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from exporter.logs import Throttle, fields
from exporter.state.history import DAY_SECONDS, FIGURES, MAX_LEVELS, Conclusion, LevelPoint, SweepPoint
from exporter.state.state_file import ProbeKey

_log = logging.getLogger(__name__)

_FORMAT_VERSION = 1
_HOUR_SECONDS = 3600.0
MAX_FILE_BYTES = 16 << 20
"""Of one hour: 1000 probes of three levels every five minutes write 4 MiB. What is more stays in memory only."""
_CLOSE_LIMIT_SECONDS = 2.0


class HistoryFile:
    """Appends points in a thread of its own, and reads them once at the start. `claim` is asked before each write, and
    raises OSError while the folder is another daemon's."""

    def __init__(
        self,
        folder: Path,
        claim: Callable[[], object] = lambda: None,
        now: Callable[[], float] = time.time,
        max_file_bytes: int = MAX_FILE_BYTES,
    ) -> None:
        self._folder = folder
        self._claim = claim
        self._now = now
        self._max_file_bytes = max_file_bytes
        self._thread = ThreadPoolExecutor(1, "history")
        self._log_rarely = Throttle()
        self._newest: Path | None = None

    def load(self, restore: Callable[[ProbeKey, SweepPoint], None]) -> None:
        """Gives each point of the last 24 hours to `restore`, oldest file first. Lines that can't be read are left out
        and counted in one line of the log: a crash can cut off the last one, and an older version wrote others."""
        oldest_unix_s = self._now() - DAY_SECONDS
        bad_lines, unread = 0, []
        for path in self._files():
            if _hour_unix_s(path) <= oldest_unix_s - _HOUR_SECONDS:
                continue
            try:
                for found in self._read(path):
                    if found is None:
                        bad_lines += 1
                    elif found[1].started_unix_s > oldest_unix_s:
                        restore(*found)
            except OSError as error:
                unread.append(f"{path.name}: {error.strerror or error}")
        if bad_lines or unread:
            _log.warning(
                "part of the history cannot be read", extra=fields(path=self._folder, lines=bad_lines, files=unread)
            )

    def append(self, key: ProbeKey, point: SweepPoint) -> None:
        """Keeps the point; returns at once."""
        self._thread.submit(self.write, key, point)

    def close(self) -> None:
        """Ends the thread once all is written, or it takes too long."""
        done = self._thread.submit(lambda: None)
        self._thread.shutdown(wait=False)
        try:
            done.result(_CLOSE_LIMIT_SECONDS)
        except TimeoutError:
            _log.error("the history was not written", extra=fields(path=self._folder))

    def write(self, key: ProbeKey, point: SweepPoint) -> None:
        """The same in the caller's thread."""
        line = _encode(key, point)
        path = self._folder / datetime.fromtimestamp(self._now(), UTC).strftime(_NAME)
        try:
            self._claim()
            if path != self._newest:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._remove_old()
                self._newest = path
            with path.open("ab") as file:
                if file.tell() + len(line) > self._max_file_bytes:
                    raise OSError(f"the hour's file has its {self._max_file_bytes} bytes")
                # A line that a crash cut off must not spoil the next one.
                file.write(b"\n" + line.encode())
        except OSError as error:
            if self._log_rarely.passes("failed"):
                _log.warning("the history cannot be written", extra=fields(path=path, error=error))

    def _remove_old(self) -> None:
        oldest_unix_s = self._now() - DAY_SECONDS - 2 * _HOUR_SECONDS
        for path in self._files():
            if _hour_unix_s(path) < oldest_unix_s:
                path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("*.jsonl") if math.isfinite(_hour_unix_s(path)))

    def _read(self, path: Path) -> Iterator[tuple[ProbeKey, SweepPoint] | None]:
        with path.open("rb") as file:
            for line in file.read(self._max_file_bytes).splitlines():
                if line:
                    yield _decode(line)


_NAME = "%Y-%m-%dT%H.jsonl"


def _hour_unix_s(path: Path) -> float:
    """When the file's hour began; NaN for a file that is none of ours."""
    try:
        return datetime.strptime(path.name, _NAME).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return math.nan


def _short(value: float) -> float | None:
    """Six digits, as many as the ring keeps."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _encode(key: ProbeKey, point: SweepPoint) -> str:
    row = [
        _FORMAT_VERSION,
        [key.probe, key.target, key.model],
        round(point.started_unix_s, 3),
        round(point.duration_s, 3),
        point.conclusion.value,
        point.reason,
        point.text,
        point.slo_requests,
        point.slo_bad,
        [[level.level, *(_short(getattr(level, name)) for name in FIGURES)] for level in point.levels],
    ]
    return json.dumps(row, separators=(",", ":"))


def _decode(line: bytes) -> tuple[ProbeKey, SweepPoint] | None:
    try:
        version, key, started, duration, conclusion, reason, text, requests, bad, levels = json.loads(line)
        if version != _FORMAT_VERSION:
            return None
        point = SweepPoint(
            started_unix_s=_finite(started),
            duration_s=_finite(duration),
            conclusion=Conclusion(conclusion),
            reason=str(reason),
            text=str(text),
            slo_requests=_count(requests),
            slo_bad=_count(bad),
            levels=tuple(_decode_level(*level) for level in levels[:MAX_LEVELS]),
        )
        return ProbeKey(*map(str, key)), point
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None


def _decode_level(level: object, *figures: float | None) -> LevelPoint:
    known = [figure for figure in figures if figure is not None]
    if len(figures) != len(FIGURES) or not all(map(math.isfinite, known)):
        raise ValueError("not the figures of a level")
    if len(known) == len(figures):
        return LevelPoint(str(level), *known)
    return LevelPoint(str(level), *(math.nan if figure is None else figure for figure in figures))


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("no number")
    return float(value)


def _count(value: int) -> int:
    if not 0 <= value < 1 << 62:
        raise ValueError("no count")
    return int(value)
