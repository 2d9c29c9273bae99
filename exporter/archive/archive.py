"""The CSV archive: every sweep that ended, as rows that outlive the daemon.

Writes go through one background thread behind a bounded queue, so that no disk, however slow, is felt by a sweep.
Nothing here raises towards the caller: what could not be written is counted, and logged when that state changes.
"""

from __future__ import annotations

import errno
import logging
import queue
import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

from exporter.archive.columns import LEVELS, WINDOWS
from exporter.archive.files import append_tables, prune, repair_latest, safe_name, stored_files
from exporter.archive.rows import level_rows, window_rows
from exporter.archive.steady_clock import SteadyClock, since_boot_s
from exporter.core.bounds import SEGMENT_BYTES
from exporter.core.outcome import SkipReason
from exporter.core.probe import Probe
from exporter.core.result import SweepResult, WindowCounts
from exporter.core.units import NS
from exporter.logs import Throttle, fields
from exporter.storage.directory_lock import DirectoryLock, FolderClaim

_log = logging.getLogger(__name__)

_QUEUE_LIMIT = 1000
_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG})
"""Troubles of the whole disk, not of one file on it."""
_WHOLE_ARCHIVE = ""
MIN_SEGMENT_BYTES = 64 << 10


class CsvArchive:
    """A sink that writes each sweep's levels and windows to `directory`, one pair of files per probe and day (UTC), or
    several where one gets large.

    Files older than `max_age_ns` go, unless the clock has jumped, then the oldest until the archive is within
    `max_size_bytes`. Only one process at a time writes an archive: another counts errors until the first is gone.
    `wall_clock` gives unix seconds, `steady_clock` seconds of a clock that can't be set. `lock` takes the place of a
    lock in the folder.
    """

    def __init__(
        self,
        directory: Path,
        max_age_ns: int,
        max_size_bytes: int,
        *,
        wall_clock: Callable[[], float] = time.time,
        steady_clock: Callable[[], float] = since_boot_s,
        lock: FolderClaim | None = None,
    ) -> None:
        self._directory = directory
        self._max_age_ns = max_age_ns
        self._max_size_bytes = max_size_bytes
        self._segment_bytes = min(SEGMENT_BYTES, max(MIN_SEGMENT_BYTES, max_size_bytes // 16))
        self._wall_clock = wall_clock
        self._clock = SteadyClock(wall_clock, steady_clock)
        self._log_rarely = Throttle(steady_clock)
        self._written_last: tuple[Path, ...] = ()
        self._lock = lock or DirectoryLock(directory, "archive")
        self._queue: queue.Queue[SweepResult | threading.Event | None] = queue.Queue(_QUEUE_LIMIT)
        self._thread = threading.Thread(target=self._run, name="archive", daemon=True)
        self._closed = False
        self._dropping = False
        self._troubles: dict[str, str] = {}
        self._tidied_on: date | None = None
        self._nothing_to_prune = False
        self.rows_written = 0
        """Rows of both tables that are on the disk."""
        self.write_errors = 0
        """Sweeps that could not be written, or not wholly."""
        self.dropped = 0
        """Sweeps that never came to be written: the queue was full, or the archive closed."""
        self.bytes = 0
        """Size of the archive's files; 0 while another process writes it."""

    @property
    def last_error(self) -> str:
        """The trouble that the archive has now; "" while it has none."""
        return next(reversed(list(self._troubles.values())), "")

    def start(self) -> None:
        """Starts the writer. Sweeps that end before are kept for it."""
        self._thread.start()

    def flush(self, timeout_s: float) -> bool:
        """Waits until all that came in before has been dealt with; False if that takes longer."""
        deadline = time.monotonic() + timeout_s
        reached = threading.Event()
        try:
            self._queue.put(reached, timeout=timeout_s)
        except queue.Full:
            return False
        return reached.wait(max(0.0, deadline - time.monotonic()))

    def close(self, timeout_s: float) -> None:
        """Writes what has come in and lets go of the archive; gives up after `timeout_s`. May be called again."""
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + timeout_s
        if not self._thread.is_alive():
            return
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            pass
        else:
            self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            _log.warning("archive closed before everything was written", extra=fields(sweeps_left=self._queue.qsize()))

    # --- the sink: on the caller's thread ---

    def sweep_started(self, probe: Probe, started_unix_s: float) -> None:
        """Nothing: the archive holds results."""

    def window_ended(self, probe: Probe, counts: WindowCounts) -> None:
        """Nothing: windows come with their sweep."""

    def sweep_skipped(self, probe: Probe, reason: SkipReason) -> None:
        """Nothing: the archive holds results."""

    def sweep_ended(self, result: SweepResult) -> None:
        """Hands the sweep to the writer; drops and counts it if the writer is too far behind."""
        try:
            if self._closed:
                raise queue.Full
            self._queue.put_nowait(result)
        except queue.Full:
            self.dropped += 1
            if not self._dropping:
                _log.warning("archive drops sweeps: its writer is too slow, or closed", extra=fields(sweep=result.id))
            self._dropping = True
        else:
            self._dropping = False

    # --- the writer's thread ---

    def _run(self) -> None:
        try:
            self._prepare()
        except Exception as error:  # tried again with the first sweep
            self._in_trouble(_WHOLE_ARCHIVE, error)
        while (item := self._queue.get()) is not None:
            if isinstance(item, threading.Event):
                item.set()
            else:
                self._write(item)
        self._lock.release()

    def _write(self, sweep: SweepResult) -> None:
        probe = sweep.probe
        folder = self._directory / safe_name(probe.target.name) / safe_name(probe.name)
        scope = _WHOLE_ARCHIVE
        try:
            self._prepare()
            scope = str(folder)
            self._append(folder, sweep)
        except Exception as error:  # whatever it is, the next sweep is tried again
            self.write_errors += 1
            self._in_trouble(scope, error)
        else:
            self._out_of_trouble(scope)

    def _append(self, folder: Path, sweep: SweepResult) -> None:
        day = datetime.fromtimestamp(sweep.started_unix_s, UTC).date()
        tables = ((LEVELS, level_rows(sweep)), (WINDOWS, window_rows(sweep)))
        encoded = [(table, table.encode(rows)) for table, rows in tables if rows]
        appended = append_tables(folder, day, encoded, self._segment_bytes)
        self.rows_written += sum(len(rows) for _, rows in tables)
        self.bytes += sum(each.grown for each in appended)
        written = tuple(each.path for each in appended)
        if written != self._written_last:
            self._written_last, self._nothing_to_prune = written, False
        if self.bytes > self._max_size_bytes and not self._nothing_to_prune:
            self._tidy()

    def _prepare(self) -> None:
        """Makes sure that the archive is ours, and tidies it when it has just become so and on each new day."""
        taken = self._lock.acquire()
        self._clock.now()
        if taken or self._tidied_on != self._today():
            self._tidied_on = self._today()
            self._tidy(after_crash=taken)

    def _today(self) -> date:
        return datetime.fromtimestamp(self._wall_clock(), UTC).date()

    def _tidy(self, *, after_crash: bool = False) -> None:
        """Prunes, and after another process's end also repairs. If that fails it is logged: rows are written all the
        same."""
        try:
            if after_crash:
                files = stored_files(self._directory)
                repair_latest(files)
                self._clock.confirm(files[-1].day if files else None)
            pruned = prune(self._directory, self._oldest_kept(), self._max_size_bytes, self._written_last)
        except OSError as error:
            _log.warning("archive could not be pruned", extra=fields(error=error))
            return
        self.bytes = pruned.size
        self._nothing_to_prune = pruned.size > self._max_size_bytes
        if pruned.removed:
            _log.info("archive pruned", extra=fields(files_removed=pruned.removed, bytes_left=pruned.size))
        if pruned.error:
            _log.warning("archive file could not be removed", extra=fields(error=pruned.error))
        if self._nothing_to_prune:
            _log.warning(
                "archive exceeds its size limit and nothing is left to remove", extra=fields(bytes=pruned.size)
            )

    def _oldest_kept(self) -> date | None:
        """None while the clock can't be believed: what it calls old may not be."""
        now_unix_s = self._clock.now()
        if now_unix_s is None:
            if self._log_rarely.passes("clock"):
                _log.warning("archive keeps old files: the clock jumped, or the archive's files are from another time")
            return None
        return datetime.fromtimestamp(max(0.0, now_unix_s - self._max_age_ns / NS), UTC).date()

    def _in_trouble(self, scope: str, error: Exception) -> None:
        """Logs a trouble when it begins or changes, not at each row: a disk's once, any other once a folder."""
        expected = isinstance(error, OSError)
        text = str(error) or repr(error)
        if isinstance(error, OSError):
            scope = _WHOLE_ARCHIVE if error.errno in _DISK_ERRORS else scope
            text = error.strerror or text  # without the path, which differs from probe to probe
        if self._troubles.get(scope) != text and self._log_rarely.passes(("trouble", scope, text)):
            where = scope or self._directory
            _log.warning("archive not written", extra=fields(path=where, error=error), exc_info=not expected)
        self._troubles[scope] = text

    def _out_of_trouble(self, scope: str) -> None:
        for ended in (_WHOLE_ARCHIVE, scope):
            if self._troubles.pop(ended, None) is not None and self._log_rarely.passes(("over", ended)):
                _log.info("archive can be written again", extra=fields(errors_so_far=self.write_errors))
