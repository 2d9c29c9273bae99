"""Waiting for what another thread or process does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

PATIENCE_SECONDS = 300.0
"""For what would otherwise be waited for without an end: so long that only a hang reaches it, on any machine."""


def patient(seconds: float) -> float:
    """So many seconds on a machine that is at ease; longer by as much as it has more to do than cores. For proofs that
    something is quick."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def becomes_true(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
    """Waits until the condition holds; False if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
