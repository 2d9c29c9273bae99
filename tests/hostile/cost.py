"""What it costs to hold each bound: `python -m tests.hostile.cost [NAME…]`. Each is exceeded in a process of its own.
Its line has the memory that the process took at most beyond what it had before, and the time. The hostile server, where
there is one, runs in the same process: what it sends is in the figure.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import subprocess
import sys
import time
from pathlib import Path

STATUS = Path("/proc/self/status")
RESET_PEAK = "5"


def memory_mib(field: str) -> float:
    """VmRSS now, VmHWM at most."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


def measure(name: str) -> None:
    from tests.hostile.exceed import EACH

    async def settle() -> None:
        await asyncio.sleep(0)

    asyncio.run(settle())
    gc.collect()
    Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    before, began = memory_mib("VmRSS"), time.perf_counter()
    held = EACH[name]()
    if inspect.iscoroutine(held):
        asyncio.run(held)
    seconds = time.perf_counter() - began
    print(f"{name}: {max(0.0, memory_mib('VmHWM') - before):.0f} MiB, {seconds:.2f} s")


def main(names: list[str]) -> int:
    from tests.hostile.exceed import EACH

    return sum(
        subprocess.run([sys.executable, "-m", "tests.hostile.cost", name, "--here"], check=False).returncode != 0
        for name in names or EACH
    )


if __name__ == "__main__":
    if sys.argv[2:] == ["--here"]:
        measure(sys.argv[1])
    else:
        sys.exit(main(sys.argv[1:]))
