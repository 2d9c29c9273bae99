"""A file that is replaced as a whole: who reads it finds all of the old or all of the new, however its writer ends."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_TEMPORARY = ".tmp"


def remove_leftovers(folder: Path) -> int:
    """Removes what writers that were killed in mid-write have left in a folder; returns how many. For who holds the
    folder's lock: a file of a writer that still writes would be lost. Raises OSError for a folder that can't be
    read."""
    if not folder.is_dir():
        return 0
    left = [path for path in folder.iterdir() if path.name.endswith(_TEMPORARY) and path.is_file()]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def replace_file(path: Path, text: str) -> None:
    """Writes the file and has it on the disk; makes its folder where there is none. Raises OSError, with the old file
    as it was. Two processes that write the same file never mix their texts: the last one's stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # On shared storage another machine's process may have our number.
    temporary = path.with_name(f"{path.name}.{os.uname().nodename}-{os.getpid()}{_TEMPORARY}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
