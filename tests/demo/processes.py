"""Looking at the machine's processes, for tests that prove an end."""

from __future__ import annotations

import contextlib
from pathlib import Path


def descendants(root: int) -> set[int]:
    """The pids below `root` in the process tree, itself included."""
    parents = _parents()
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def alive(pids: set[int]) -> set[int]:
    """Those of `pids` that still run; ended ones without a wait do not."""
    return pids & _parents().keys()


def _parents() -> dict[int, int]:
    """The parent of each running process."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(status.parent.name)] = int(parent)
    return parents
