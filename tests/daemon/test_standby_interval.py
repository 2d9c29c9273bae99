"""Pairs with a probe each half minute: how long none measures after one daemon is gone, and that no load is doubled."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from tests.daemon.standby_pair import GAP_SECONDS, Pair
from tests.standby.named_server import NamedServer
from tests.waiting import patient

pytestmark = pytest.mark.e2e

INTERVAL_SECONDS = 30
TAKE_OVER_SECONDS = 2 * INTERVAL_SECONDS
STOPPED_SECONDS = float(os.environ.get("STANDBY_STOPPED_SECONDS", "0"))
"""How much longer a stopped daemon stays so; 600 for the figures of docs/standby.md."""


def kill(pair: Pair) -> None:
    pair.a.stop(signal.SIGKILL)


def stop(pair: Pair) -> None:
    os.kill(pair.a.pid, signal.SIGSTOP)


CUTS: dict[str, Callable[[Pair], None]] = {"killed": kill, "stopped": stop, "cut off": Pair.cut_off}


def test_the_standby_takes_over_within_two_intervals(tmp_path: Path) -> None:
    """In mid-sweep, the worst moment. The pairs know nothing of each other: they run at once, to save time."""
    with ThreadPoolExecutor(len(CUTS)) as threads:
        list(threads.map(lambda how: take_over(tmp_path / how.replace(" ", "-"), how), CUTS))


def take_over(folder: Path, how: str) -> None:
    """Runs one pair through it."""
    folder.mkdir()
    with NamedServer() as server, ExitStack() as stack:
        pair = Pair(folder, server, stack, every=f"{INTERVAL_SECONDS}s", duration="15s")
        pair.start()
        pair.a.wait_for(lambda: len(sweeps(server)) >= 2)
        CUTS[how](pair)
        cut_s = time.monotonic()
        try:
            pair.b.wait_for(lambda: server.sent_by("b") > 20)
            if how == "stopped":
                time.sleep(TAKE_OVER_SECONDS + STOPPED_SECONDS)
        finally:
            if how == "stopped":
                os.kill(pair.a.pid, signal.SIGCONT)
        if how == "stopped":
            pair.a.wait_for_log("begins again, as a standby")
        count = len(sweeps(server))
        pair.b.wait_for(lambda: len(sweeps(server)) > count)
        (first, _, last_s), (second, first_s, _) = server.turns()
        assert (first, second) == ("a", "b"), "never both, nor in turns"
        assert first_s - last_s > GAP_SECONDS
        assert first_s - cut_s < patient(TAKE_OVER_SECONDS)
        begins = [at_s for at_s, _ in sweeps(server)]
        missed = sum(max(0, round((after - before) / INTERVAL_SECONDS) - 1) for before, after in pairwise(begins))
        print(
            f"{how}: measured again {first_s - cut_s:.1f} s after, nothing sent for {first_s - last_s:.1f} s; "
            f"{len(begins)} sweeps begun, one cut short, {missed} missed"
        )


def sweeps(server: NamedServer) -> list[tuple[float, str]]:
    """When each began, and whose it was: between two of them nothing is sent for a good while."""
    arrivals = list(server.arrivals)
    begins = arrivals[:1]
    begins += [after for before, after in pairwise(arrivals) if after[0] - before[0] > 3 or after[1] != before[1]]
    return begins
