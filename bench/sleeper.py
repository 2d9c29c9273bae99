"""How late this machine wakes a process that does nothing but sleep: what bounds the send lag of any client on it.

    python -m bench.sleeper RATE SECONDS

Prints the median and the 99th percentile of the lateness, in us, and how many cores were busy meanwhile, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.programs import BenchError
from exporter.core.units import NS


class Slept(NamedTuple):
    """How late the sleeper was, and how many cores were busy meanwhile, whatever with."""

    p50_us: float
    p99_us: float
    busy_cores: float


async def sleep_beside(rate: float, seconds: float) -> Slept:
    """What a sleeper in a process of its own found. Raises BenchError."""
    arguments = ("-m", "bench.sleeper", str(rate), str(seconds))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise BenchError(f"the sleeper ended with status {process.returncode}")
    return Slept(*json.loads(output))


def lateness_ns(rate: float, count: int) -> list[int]:
    """Sleeps until each of `count` moments, `rate` a second; gives how much later than that it woke."""
    gap_ns = int(NS / rate)
    start_ns = time.monotonic_ns()
    late = []
    for number in range(1, count + 1):
        due_ns = start_ns + number * gap_ns
        ahead_ns = due_ns - time.monotonic_ns()
        if ahead_ns > 0:
            time.sleep(ahead_ns / NS)
        late.append(time.monotonic_ns() - due_ns)
    return late


def busy_seconds(first_line: str, ticks_per_second: int) -> float:
    """What all cores did since the start of the system but idling and waiting for disks, from /proc/stat."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, first_line.split()[1:9])
    return (user + nice + system + irq + softirq + steal) / ticks_per_second


def sleep(rate: float, seconds: float) -> Slept:
    """Sleeps in this process."""
    began_s, busy_s = time.monotonic(), _busy_seconds_now()
    late_us = np.asarray(lateness_ns(rate, int(rate * seconds))) / 1000
    busy_cores = (_busy_seconds_now() - busy_s) / (time.monotonic() - began_s)
    p50_us, p99_us = np.percentile(late_us, [50, 99])
    return Slept(float(p50_us), float(p99_us), busy_cores)


def _busy_seconds_now() -> float:
    first_line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    return busy_seconds(first_line, os.sysconf("SC_CLK_TCK"))


if __name__ == "__main__":
    print(json.dumps(sleep(float(sys.argv[1]), float(sys.argv[2]))))
