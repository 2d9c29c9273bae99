"""The folder for what is made once and kept outside the checkout, and the lock of one thing in it.

Standard library only, and importable by Pythons that the product does not run on: `machine.py` needs it before anything
is installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

Progress = Callable[[str], None]
"""Called with one line of text whenever a long step has something to report."""


def cache_folder() -> Path:
    """TRITON_CANARY_CACHE, else triton-canary in the user's cache."""
    if chosen := os.environ.get("TRITON_CANARY_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "triton-canary"


@contextlib.contextmanager
def locked(path: Path, what: str, progress: Progress) -> Iterator[None]:
    """Holds the lock file beside what is being made; while another process holds it, that one is waited for.

    The file stays: removing it would let two processes hold two locks. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another process that makes {what}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
