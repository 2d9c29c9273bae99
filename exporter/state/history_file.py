"""The history on the disk: one file per hour, so that a day's files go one by one and nothing is ever rewritten.

It owns the files and the thread that reads and writes them. Neither blocks or fails its caller.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from exporter.logs import Throttle, fields
from exporter.state import history_lines
from exporter.state.day_ring import DAY_SECONDS, Rows, SweepPoint
from exporter.state.history_format import RECORD_BYTES, HistoryReader, SectionWriter
from exporter.state.state_file import ProbeKey

_log = logging.getLogger(__name__)

_HOUR_SECONDS = 3600.0
MAX_FILE_BYTES = 16 << 20
"""Of one hour: 1000 probes of three levels every five minutes write 2.3 MiB. What is more stays in memory only."""
_MAX_WAITING = 20_000
"""Sweeps that wait to be written, as while a disk hangs. What is more stays in memory only."""
_CLOSE_LIMIT_SECONDS = 2.0
_NAME, _LINES_NAME = "%Y-%m-%dT%H.history", "%Y-%m-%dT%H.jsonl"

Restore = Callable[[ProbeKey, Rows, Sequence[SweepPoint]], None]


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
        # By this name the daemon's end knows a thread that hangs.
        self._thread = ThreadPoolExecutor(1, "blocking-history")
        self._waiting = threading.BoundedSemaphore(_MAX_WAITING)
        self._stopping = threading.Event()
        self._log_rarely = Throttle()
        self._newest: Path | None = None
        self._section = SectionWriter()

    def start(self, restore: Restore) -> None:
        """Begins to read; returns at once. What is appended meanwhile is written after that, so that nothing is read
        that this daemon wrote."""
        self._thread.submit(self._load, restore)

    def append(self, key: ProbeKey, point: SweepPoint) -> None:
        """Keeps the point; returns at once."""
        if not self._waiting.acquire(blocking=False):
            self._report(self._folder, f"{_MAX_WAITING} sweeps wait to be written")
            return
        self._thread.submit(self._write_waiting, key, point)

    def close(self) -> None:
        """Ends the thread once all is written, or it takes too long. Reading ends at once."""
        self._stopping.set()
        done = self._thread.submit(lambda: None)
        self._thread.shutdown(wait=False)
        try:
            done.result(_CLOSE_LIMIT_SECONDS)
        except TimeoutError:
            _log.error("the history was not written", extra=fields(path=self._folder))

    def load(self, restore: Restore) -> None:
        """Gives the last 24 hours of each probe to `restore`, in the caller's thread. What can't be read is left out
        and counted in one line of the log: a crash can cut off the last record, and another version wrote others."""
        reader, unread = HistoryReader(self._now() - DAY_SECONDS), []
        for path in self._files():
            if self._stopping.is_set():
                return
            if _hour_unix_s(path) > self._now() - DAY_SECONDS - _HOUR_SECONDS:
                try:
                    self._read(path, reader)
                except OSError as error:
                    unread.append(f"{path.name}: {error.strerror or error}")
        for key, rows, recent in reader.days():
            if self._stopping.is_set():
                return
            restore(key, rows, recent)
        if reader.bad or unread:
            found = fields(path=self._folder, records=reader.bad, files=unread)
            _log.warning("part of the history cannot be read", extra=found)

    def write(self, key: ProbeKey, point: SweepPoint) -> None:
        """Appends the point in the caller's thread."""
        path = self._folder / datetime.fromtimestamp(self._now(), UTC).strftime(_NAME)
        try:
            self._claim()
            if path != self._newest:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._remove_old()
                self._newest, self._section = path, SectionWriter()
            records = self._section.encode(key, point)
            with path.open("ab") as file:
                # A record that a crash cut off must not spoil the next one.
                records = bytes(-file.tell() % RECORD_BYTES) + records
                if file.tell() + len(records) > self._max_file_bytes:
                    raise OSError(f"the hour's file has its {self._max_file_bytes} bytes")
                file.write(records)
        except OSError as error:
            self._newest = None  # what the section's next records refer to may not be there
            self._report(path, error)

    def _load(self, restore: Restore) -> None:
        try:
            self.load(restore)
        except Exception:
            _log.exception("the history cannot be read", extra=fields(path=self._folder))

    def _write_waiting(self, key: ProbeKey, point: SweepPoint) -> None:
        self._waiting.release()
        self.write(key, point)

    def _report(self, path: Path, error: object) -> None:
        if self._log_rarely.passes("failed"):
            _log.warning("the history cannot be written", extra=fields(path=path, error=error))

    def _remove_old(self) -> None:
        oldest_unix_s = self._now() - DAY_SECONDS - 2 * _HOUR_SECONDS
        for path in self._files():
            if _hour_unix_s(path) < oldest_unix_s:
                path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        """By their hours; of one hour those of 0.2 first."""
        found = [path for path in self._folder.glob("*") if math.isfinite(_hour_unix_s(path))]
        return sorted(found, key=lambda path: (_hour_unix_s(path), path.suffix != ".jsonl"))

    def _read(self, path: Path, reader: HistoryReader) -> None:
        with path.open("rb") as file:
            content = file.read(self._max_file_bytes)
        if path.suffix != ".jsonl":
            reader.add(content)
            return
        section, records = SectionWriter(), []
        for line in filter(None, content.splitlines()):
            if self._stopping.is_set():
                return
            if (found := history_lines.decode(line)) is not None:
                records.append(section.encode(*found))
            else:
                reader.bad += 1
        reader.add(b"".join(records))


def _hour_unix_s(path: Path) -> float:
    """When the file's hour began; NaN for a file that is none of ours."""
    for name in (_NAME, _LINES_NAME):
        try:
            return datetime.strptime(path.name, name).replace(tzinfo=UTC).timestamp()
        except ValueError:
            pass
    return math.nan
