"""The archive's files: one per probe, day and table, or several numbered ones, each of whole lines only.

Blocking, for one thread. Knows nothing of what a row means. Errors of the file system are raised as OSError.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from urllib.parse import quote

from exporter.archive.columns import Table
from exporter.logs import fields

_log = logging.getLogger(__name__)

_FILE_NAME = re.compile(
    r"(?P<day>\d{4}-\d{2}-\d{2})(?:-(?P<number>\d{1,9}))?\.(?P<table>levels|windows)\.csv", re.ASCII
)
_NAME_LIMIT = 100
_BLOCK = 1 << 16


def safe_name(name: str) -> str:
    """A target's or a probe's name as the name of a folder: another one for each name, never hidden, never a way out
    of the archive, and short enough for any file system."""
    safe = quote(name, safe="", errors="surrogatepass")
    if safe.startswith("."):
        safe = "%2E" + safe[1:]
    if len(safe) > _NAME_LIMIT:
        digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
        safe = f"{safe[: _NAME_LIMIT - 34]}%-{digest[:32]}"
    return safe or "%"  # neither "%-" nor a lone "%" comes out of quote()


# --- writing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Appended:
    """What an append did: the file, its size before the rows, and by how many bytes the archive grew."""

    path: Path
    size_before: int
    grown: int

    def undo(self) -> None:
        """Takes the rows out of the file again."""
        os.truncate(self.path, self.size_before)


def append_tables(folder: Path, day: date, tables: Iterable[tuple[Table, bytes]], segment_bytes: int) -> list[Appended]:
    """Appends to the day's files of several tables: to all of them, or to none and an OSError."""
    done: list[Appended] = []
    try:
        for table, rows in tables:
            done.append(append_rows(folder, day, table, rows, segment_bytes))
    except OSError:
        for appended in done:
            with contextlib.suppress(OSError):
                appended.undo()
        raise
    return done


def append_rows(folder: Path, day: date, table: Table, rows: bytes, segment_bytes: int = sys.maxsize) -> Appended:
    """Appends whole lines to the day's file of the table: all of them, on the disk, or none and an OSError.

    Where the day's file begins otherwise than the table does, it is of another schema: it is left alone, and the name
    gets the next number, from 2 on. So it does where the file has `segment_bytes`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers = sorted(_numbers(folder, day, table), reverse=True)
    for number in numbers:
        appended = _append_if_ours(_numbered(folder, day, table, number), table, rows, segment_bytes)
        if appended is _FULL:
            break
        if isinstance(appended, Appended):
            return appended
    new = _numbered(folder, day, table, numbers[0] + 1 if numbers else 1)
    appended = _append_if_ours(new, table, rows, segment_bytes)
    if not isinstance(appended, Appended):
        raise FileExistsError(errno.EEXIST, "appeared meanwhile, and is not ours", str(new))
    return appended


_FULL = object()


def _numbers(folder: Path, day: date, table: Table) -> Iterator[int]:
    """Those of the day's files of a table."""
    with os.scandir(folder) as entries:
        for entry in entries:
            match = _FILE_NAME.fullmatch(entry.name)
            if match and match["day"] == day.isoformat() and match["table"] == table.name:
                yield int(match["number"] or 1)


def _numbered(folder: Path, day: date, table: Table, number: int) -> Path:
    suffix = "" if number == 1 else f"-{number}"
    return folder / f"{day.isoformat()}{suffix}.{table.name}.csv"


def _append_if_ours(path: Path, table: Table, rows: bytes, segment_bytes: int) -> Appended | object | None:
    """None where the file is of another schema, `_FULL` where it has its size."""
    beginning = table.beginning
    with _opened(path, os.O_RDWR | os.O_APPEND | os.O_CREAT) as fd:
        before = os.fstat(fd).st_size
        if not beginning.startswith(os.pread(fd, len(beginning), 0)):
            return None
        if before >= segment_bytes:
            return _FULL
        size = _cut_torn_row(fd, path)
        data = rows if size else table.header + rows
        try:
            written = os.write(fd, data)
            while written < len(data):  # the disk is nearly full: the next write raises it
                written += os.write(fd, data[written:])
            os.fdatasync(fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, size)
            raise
    if not size:
        _sync_folder(path.parent)
    return Appended(path, size, size + len(data) - before)


def _sync_folder(folder: Path) -> None:
    """Makes a new file's name as lasting as its rows."""
    with _opened(folder, os.O_RDONLY | os.O_DIRECTORY) as fd:
        os.fsync(fd)


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC, 0o644)
    try:
        yield fd
    finally:
        os.close(fd)


def _cut_torn_row(fd: int, path: Path) -> int:
    """Truncates the file behind its last line end and returns its size."""
    size = os.fstat(fd).st_size
    whole = _whole_lines(fd, size)
    if whole != size:
        _log.warning("archive file ended in a torn row: removed", extra=fields(path=path, bytes=size - whole))
        os.ftruncate(fd, whole)
    return whole


def _whole_lines(fd: int, size: int) -> int:
    """How many bytes the whole lines of the file take."""
    end = size
    while end > 0:
        start = max(0, end - _BLOCK)
        found = os.pread(fd, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


# --- keeping it small ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class StoredFile:
    """A file of the archive, by its name; others in the folder are none of ours. Sorted by day, then by when it was
    written last."""

    day: date
    changed_ns: int
    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Pruned:
    """What pruning left and took. `error`: the last file that could not be removed, and why."""

    size: int
    removed: int
    error: OSError | None


def stored_files(directory: Path) -> list[StoredFile]:
    """The archive's files, oldest first."""
    found = []
    for folder in _folders(directory):
        for probe_folder in _folders(folder):
            with os.scandir(probe_folder) as entries:
                for entry in entries:
                    day = _day_of(entry.name)
                    if day and entry.is_file(follow_symlinks=False):
                        stat = entry.stat(follow_symlinks=False)
                        found.append(StoredFile(day, stat.st_mtime_ns, Path(entry.path), stat.st_size))
    return sorted(found)


def _folders(directory: Path) -> list[Path]:
    with os.scandir(directory) as entries:
        return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]


def _day_of(file_name: str) -> date | None:
    match = _FILE_NAME.fullmatch(file_name)
    if not match:
        return None
    try:
        return date.fromisoformat(match["day"])
    except ValueError:
        return None


def repair_latest(files: list[StoredFile]) -> None:
    """Removes the torn row that a crash in mid-write left at a file's end. It can only have been a file of the last
    day written, or, around midnight, of the day before."""
    if files:
        latest = files[-1].day
        for file in files:
            if (latest - file.day).days <= 1:
                with _opened(file.path, os.O_RDWR) as fd:
                    _cut_torn_row(fd, file.path)


def prune(directory: Path, oldest_kept: date | None, max_size_bytes: int, keep: Collection[Path] = ()) -> Pruned:
    """Removes the files of days before `oldest_kept` (None: of none), then the oldest ones until the archive is within
    its size, and the folders that this empties. Only the files in `keep`, those written last, always stay."""
    files = stored_files(directory)
    size = sum(file.size for file in files)
    removed = 0
    error: OSError | None = None
    for file in files:
        if (oldest_kept is None or file.day >= oldest_kept) and size <= max_size_bytes:
            break
        if file.path in keep:
            continue
        try:
            file.path.unlink(missing_ok=True)
        except OSError as failure:
            error = failure
            continue
        size -= file.size
        removed += 1
        with contextlib.suppress(OSError):  # not empty: others' files keep a folder
            file.path.parent.rmdir()
            file.path.parent.parent.rmdir()
    return Pruned(size, removed, error)
