"""The lease in a folder on storage that the daemons share.

Each state of the lease is a file with a number, made complete under another name and then linked to its own: of two
daemons that write the same next number one finds it taken. That is so on local file systems and on NFS of any version,
where locks are not (a client that is cut off may keep its lock for minutes, and a stopped process keeps it for ever).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any

from exporter.core.bounds import TEXT
from exporter.core.untrusted_text import clean_text
from exporter.standby.lease import MAX_DURATION_NS, LeaseRecord
from exporter.storage.atomic_file import temporary_name, write_whole

KEPT_STATES = 32
"""Older files go. A writer that was stopped for longer than so many renewals may find its number free again: so each
one looks for higher numbers after it has its own."""

_NAME = re.compile(r"(\d{1,18})\.lease\Z")
_MAX_BYTES = 4096
_UNKNOWN = "unknown"


class FileLease:
    """Implements `LeaseStore`. The folder must be there: a share that is not mounted looks like an empty folder, in
    which each of two daemons would find the lease free."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.process = str(os.getpid())
        """What no other process on this machine has, for the names of files that are being written."""

    def read(self) -> LeaseRecord | None:
        """See `LeaseStore`."""
        numbers = self._numbers()
        # The highest may be removed between the listing and the reading only if there is a higher one by then.
        return self._read(numbers[-1]) if numbers else None

    def replace(self, seen: LeaseRecord | None, holder: str, duration_ns: int) -> LeaseRecord | None:
        """See `LeaseStore`."""
        number = int(seen.token) + 1 if seen is not None else 1
        text = json.dumps({"holder": holder, "duration_ns": duration_ns})
        path = self._path(number)
        temporary = temporary_name(path, self.process)
        try:
            write_whole(temporary, text)
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
            # Not by the call's own result: a lost response of an NFS server makes it fail after it was done.
            is_ours = temporary.stat().st_nlink == 2
        except FileNotFoundError as error:
            raise self._no_folder(error) from None
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
        numbers = self._numbers()
        if not is_ours or numbers[-1] != number:
            return None
        for old in numbers[:-KEPT_STATES]:
            with contextlib.suppress(OSError):
                self._path(old).unlink()
        return LeaseRecord(holder, duration_ns, str(number))

    def _numbers(self) -> list[int]:
        """Those of the files, in their order."""
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError as error:
            raise self._no_folder(error) from None
        return sorted(int(match[1]) for name in names if (match := _NAME.match(name)))

    def _read(self, number: int) -> LeaseRecord:
        """A damaged file is that of an unknown holder: it lasts as any other, and the next state replaces it."""
        with self._path(number).open("rb") as file:
            data = file.read(_MAX_BYTES)
        try:
            found: dict[str, Any] = json.loads(data)
            duration_ns = min(max(int(found["duration_ns"]), 0), MAX_DURATION_NS)
            return LeaseRecord(clean_text(str(found["holder"]), TEXT), duration_ns, str(number))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return LeaseRecord(_UNKNOWN, 0, str(number))

    def _no_folder(self, error: FileNotFoundError) -> FileNotFoundError:
        fix = f"is the share mounted? Where it is new: mkdir {self._folder}"
        return FileNotFoundError(error.errno, f"there is no folder for the lease ({fix})")

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:012}.lease"
