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
KEPT_SECONDS = 7 * 86_400.0
"""What no client asked for in this time goes."""
_USED_SECONDS = 3600.0
"""What was asked for in this time stays, however large all is together: a level may be about to read it."""

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
            raise PermissionError(f"{folder} is not a folder that only this user can reach")
        self.folder = folder
        self._suffix = f".{secrets.token_hex(8)}.part"

    def lacking(self, keys: Sequence[str]) -> list[str]:
        """Those of these that are not here."""
        missing = []
        for key in keys:
            try:
                os.utime(self._place(key))
            except FileNotFoundError:
                missing.append(key)
        return missing

    def add(self, key: str, name: str, offset: int, data: bytes) -> None:
        """A part of a file, in their order; the first one begins it."""
        part = self._part(key)
        part.mkdir(mode=0o700, exist_ok=True)
        if Path(name).name != name:
            raise ValueError(f"{name!r} is no file's name")
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (0 if offset else os.O_TRUNC)
        with open(os.open(part / name, flags, 0o600), "wb") as file:
            file.seek(offset)
            file.write(data)

    def finish(self, key: str, is_directory: bool) -> bool:
        """All parts have come. Whether they are what the key promised; if not they are gone."""
        part, place = self._part(key), self._place(key)
        names = [str(part)] if is_directory else [str(path) for path in part.iterdir()]
        try:
            if find_input_files(names).digest != key:
                return False
            with contextlib.suppress(OSError):  # another client's came first
                part.rename(place)
        except ValueError:
            return False
        finally:
            shutil.rmtree(part, ignore_errors=True)
        self._purge()
        return place.exists()

    def _purge(self) -> None:
        """What was not used for longest goes; what a client began and did not finish, too."""
        now_s = time.time()
        kept = 0
        for used_s, size, entry in sorted(self._entries(), reverse=True, key=lambda each: each[0]):
            kept += size
            idle_s = now_s - used_s
            if idle_s > KEPT_SECONDS or (kept > KEPT_BYTES and idle_s > _USED_SECONDS):
                shutil.rmtree(entry, ignore_errors=True)
                kept -= size

    def _entries(self) -> list[tuple[float, int, Path]]:
        """When each was used last, its bytes, and where it is."""
        found = []
        for entry in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process removes entries, too
                found.append((entry.stat().st_mtime, sum(file.stat().st_size for file in entry.iterdir()), entry))
        return found

    def _place(self, key: str) -> Path:
        if not _KEY.match(key):
            raise ValueError(f"{key!r} is no key")
        return self.folder / key

    def _part(self, key: str) -> Path:
        place = self._place(key)
        return place.with_name(place.name + self._suffix)
