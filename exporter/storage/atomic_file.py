"""A file that is replaced as a whole: who reads it finds all of the old or all of the new, however its writer ends."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"


def remove_leftovers(folder: Path) -> int:
    """Removes what writers that were killed in mid-write have left in a folder; returns how many. For who holds the
    folder's lock: a file of a writer that still writes would be lost. Raises OSError for a folder that can't be
    read."""
    if not folder.is_dir():
        return 0
    left = [path for path in folder.iterdir() if path.name.endswith(TEMPORARY_SUFFIX) and path.is_file()]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def replace_file(path: Path, text: str) -> None:
    """Writes the file and has it on the disk; makes its folder where there is none. Raises OSError, with the old file
    as it was. Two processes that write the same file never mix their texts: the last one's stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path, str(os.getpid()))
    try:
        write_whole(temporary, text)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def temporary_name(path: Path, process: str) -> Path:
    """Where the process of this name writes what then gets the path's name."""
    # On shared storage another machine's process may have our number.
    return path.with_name(f"{path.name}.{os.uname().nodename}-{process}{TEMPORARY_SUFFIX}")


def write_whole(path: Path, text: str) -> None:
    """Writes a file and has it on the disk. Raises OSError."""
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
