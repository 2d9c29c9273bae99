"""How late this machine wakes a process that does nothing but sleep: what bounds the send lag of any client on it.

    python -m bench.sleeper RATE SECONDS

Prints the median and the 99th percentile of the lateness, in us, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import numpy as np

from bench.programs import BenchError
from exporter.core.units import NS


async def sleep_beside(rate: float, seconds: float) -> tuple[float, float]:
    """Median and 99th percentile of the lateness, us, in a process of its own. Raises BenchError."""
    arguments = ("-m", "bench.sleeper", str(rate), str(seconds))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise BenchError(f"the sleeper ended with status {process.returncode}")
    p50_us, p99_us = json.loads(output)
    return p50_us, p99_us


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


if __name__ == "__main__":
    rate, seconds = float(sys.argv[1]), float(sys.argv[2])
    print(json.dumps([value / 1000 for value in np.percentile(lateness_ns(rate, int(rate * seconds)), [50, 99])]))
