"""The end of the process."""

from __future__ import annotations

import subprocess
import sys
import time

from tests.waiting import patient

PROGRAM = """
import asyncio, time
from exporter.daemon.exit import leave_stuck_threads, own_blocking_threads

async def main():
    threads = own_blocking_threads()
    await asyncio.to_thread(lambda: 1)
    {stuck}
    await asyncio.sleep(0.1)
    await leave_stuck_threads(threads)

asyncio.run(main())
print("to the end")
"""


def _run(stuck: str) -> tuple[str, float]:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(stuck=stuck)], capture_output=True, text=True, timeout=50, check=True
    )
    return done.stdout, time.monotonic() - started


def test_a_thread_that_hangs_is_left_behind() -> None:
    out, seconds = _run("hanging = asyncio.ensure_future(asyncio.to_thread(time.sleep, 60))")
    assert out == ""
    assert seconds < patient(40)


def test_one_that_ends_is_waited_for() -> None:
    out, _ = _run("ending = asyncio.ensure_future(asyncio.to_thread(time.sleep, 0.3))")
    assert out == "to the end\n"
