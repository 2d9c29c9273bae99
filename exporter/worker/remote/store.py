"""What travelled to this machine: input files and long texts, kept by the digest of their names and contents.

All Dask workers of a user on one machine share the folder, so each thing travels there once. It outlives them: what was
not asked for longest goes first.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from exporter.payload.input_files import find_input_files

KEPT_BYTES = 16 << 30
KEPT_VARIABLE = "CANARY_POOL_KEPT_MIB"
"""The environment of a Dask worker may allow less."""
KEPT_SECONDS = 7 * 86_400.0
"""What no client asked for in this time goes."""
_USED_SECONDS = 86_400.0
"""What was asked for in this time stays, however large all is together: a sweep asks once, when it begins."""
_UNFINISHED_SECONDS = 600.0
"""What was begun and not continued for so long is of a client that is gone."""

SENT_AHEAD = "\0sent ahead\0"
"""Before the path of a text that went ahead."""

_KEY = re.compile(r"[0-9a-f]{64}\Z")


def shared_folder() -> Path:
    """Beside the Dask worker's own folder, which `--local-directory` sets; the system's for temporary files outside of
    one."""
    base = Path(tempfile.gettempdir())
    with contextlib.suppress(ImportError, ValueError):
        from distributed import get_worker

        base = Path(get_worker().local_directory).parent
    return base / f"triton-canary-input-{os.geteuid()}"


class Store:
    """One for each client, over a folder that all share. All that fails is an OSError."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError unless the folder is ours alone: others could change what is sent."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise PermissionError(f"{folder} is not a folder that only this user can reach: chmod 700, or remove it")
        self.folder = folder
        self._suffix = f".{secrets.token_hex(8)}.part"
        self._purge()

    def lacking(self, keys: Sequence[str]) -> list[str]:
        """Those of these that are not here, or not as they came: a machine may have stopped while they were written."""
        missing = []
        for key in keys:
            place = self._place(key)
            if place.exists() and _digest(place) != key:
                _remove(place)
            try:
                os.utime(place)
            except FileNotFoundError:
                missing.append(key)
        return missing

    def add(self, key: str, name: str, offset: int, data: bytes) -> None:
        """A part of a file, in their order; the first one begins it."""
        part = self._part(key)
        if Path(name).name != name:
            raise ValueError(f"{name!r} is no file's name")
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (0 if offset else os.O_TRUNC)
        try:
            part.mkdir(mode=0o700, exist_ok=True)
            with open(os.open(part / name, flags, 0o600), "wb") as file:
                file.seek(offset)
                file.write(data)
        except OSError:
            _remove(part)
            raise

    def finish(self, key: str) -> bool:
        """All parts have come. Whether they are what the key promised; if not they are gone."""
        part, place = self._part(key), self._place(key)
        try:
            if _digest(part) != key:
                return False
            for path in (*part.iterdir(), part):
                _sync(path)
            with contextlib.suppress(OSError):  # another client's came first
                part.rename(place)
        finally:
            _remove(part)
        self._purge()
        return place.exists()

    def abandon(self) -> None:
        """What was begun and is not finished goes."""
        for part in self.folder.glob(f"*{self._suffix}"):
            _remove(part)

    def _purge(self) -> None:
        """What was not used for longest goes; what a client began and did not finish, too."""
        now_s, kept = time.time(), 0
        most = min(KEPT_BYTES, int(os.environ.get(KEPT_VARIABLE, KEPT_BYTES >> 20)) << 20)
        for used_s, size, entry in sorted(self._entries(), reverse=True, key=lambda each: each[0]):
            kept += size
            idle_s = now_s - used_s
            longest_s = _UNFINISHED_SECONDS if entry.name.endswith(".part") else KEPT_SECONDS
            if idle_s > longest_s or (kept > most and idle_s > _USED_SECONDS):
                _remove(entry)
                kept -= size

    def _entries(self) -> list[tuple[float, int, Path]]:
        """When each was used last, its bytes, and where it is."""
        found = []
        for entry in self.folder.iterdir():
            # Another process removes entries, too; a file that a user put there is not ours.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                files = [file.stat() for file in entry.iterdir()]
                # While a file grows its folder stays as it is.
                used_s = max([entry.stat().st_mtime, *(file.st_mtime for file in files)])
                found.append((used_s, sum(file.st_size for file in files), entry))
        return found

    def _place(self, key: str) -> Path:
        if not _KEY.match(key):
            raise ValueError(f"{key!r} is no key")
        return self.folder / key

    def _part(self, key: str) -> Path:
        place = self._place(key)
        return place.with_name(place.name + self._suffix)


def _digest(folder: Path) -> str:
    """Of what is in it; "" if that can't be read, or there is nothing."""
    try:
        return find_input_files([str(path) for path in sorted(folder.iterdir())]).digest
    except (OSError, ValueError):
        return ""


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
