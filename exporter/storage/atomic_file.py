"""A file that is replaced as a whole: who reads it finds all of the old or all of the new, however its writer ends."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def replace_file(path: Path, text: str) -> None:
    """Writes the file and has it on the disk; makes its folder where there is none. Raises OSError, with the old file
    as it was. Two processes that write the same file never mix their texts: the last one's stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # On shared storage another machine's process may have our number.
    temporary = path.with_name(f"{path.name}.{os.uname().nodename}-{os.getpid()}.tmp")
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
