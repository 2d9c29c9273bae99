"""Whose a region of shared memory is: all canaries of a machine make theirs in one folder, under one prefix."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from exporter.payload.regions import FOLDER, PREFIX
from tests.demo.processes import descendants

PATIENCE_SECONDS = 10.0


def present() -> set[str]:
    """All that there are, of whomever."""
    return {path.name for path in FOLDER.glob(f"{PREFIX}*")}


def held() -> set[str]:
    """Those whose maker is this process or one below it, and runs."""
    ours = descendants(os.getpid())
    return {name for name, pid in _holders().items() if pid in ours}


def left(before: set[str]) -> set[str]:
    """Those that this process or one below it has left behind, or still holds. `before` is what was present before it
    made any. One without a lock can be another canary's that is being made or removed: it is looked at again."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while found := held() | (present() - before - _holders().keys()):
        if time.monotonic() > deadline:
            return found
        time.sleep(0.05)
    return set()


def _holders() -> dict[str, int]:
    """The process that has the lock on each region, by the region's name."""
    pids = {}
    for line in Path("/proc/locks").read_text().splitlines():
        # "1: FLOCK  ADVISORY  WRITE 1234 00:1a:5678 0 EOF"; one that waits has "->" after the number.
        words = line.split()
        if words[1] == "FLOCK":
            pids[int(words[5].rpartition(":")[2])] = int(words[4])
    holders = {}
    for path in FOLDER.glob(f"{PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):
            if (inode := path.stat().st_ino) in pids:
                holders[path.name] = pids[inode]
    return holders
