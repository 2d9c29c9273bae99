"""The client's health while it measures: event loop delay, cpu time and cgroup throttling.

A late loop or a throttled process stamps its responses late, and the server would get the blame.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from exporter.core.window import ClientHealth
from exporter.engine.kernel import Timer

PROBE_PERIOD_NS = 50_000_000
"""Twenty wake-ups a second: about 0.1 % of a core."""


class Health:
    """Watches the running loop until `close`. `sample` covers the time since the last sample. The cpu time is that of
    the loop's thread only: the same process may contain a whole server."""

    def __init__(self, cpu_stat: Path | None) -> None:
        self._cpu_stat = cpu_stat
        self._loop = asyncio.get_running_loop()
        self._timer = Timer()
        self._loop.add_reader(self._timer.fileno(), self._tick)
        self._due_ns = 0
        self._arm()
        self._loop_lag_ns = 0
        self._wall_ns = time.monotonic_ns()
        self._cpu_ns = time.thread_time_ns()
        self._throttled_ns = read_throttled_ns(cpu_stat)

    def sample(self) -> ClientHealth:
        """The largest loop delay, the cpu ratio and the throttled time since the last sample."""
        wall_ns, cpu_ns, throttled_ns = time.monotonic_ns(), time.thread_time_ns(), read_throttled_ns(self._cpu_stat)
        health = ClientHealth(
            loop_lag_ns=self._loop_lag_ns,
            cpu_ratio=(cpu_ns - self._cpu_ns) / max(wall_ns - self._wall_ns, 1),
            throttled_ns=throttled_ns - self._throttled_ns,
        )
        self._loop_lag_ns = 0
        self._wall_ns, self._cpu_ns, self._throttled_ns = wall_ns, cpu_ns, throttled_ns
        return health

    def close(self) -> None:
        """Stops watching."""
        self._loop.remove_reader(self._timer.fileno())
        self._timer.close()

    def _arm(self) -> None:
        self._due_ns = time.monotonic_ns() + PROBE_PERIOD_NS
        self._timer.arm(self._due_ns)

    def _tick(self) -> None:
        self._timer.acknowledge()
        self._loop_lag_ns = max(self._loop_lag_ns, time.monotonic_ns() - self._due_ns)
        self._arm()


def find_cpu_stat(root: Path = Path("/")) -> Path | None:
    """The cpu.stat file of this process's cgroup, version 2 or 1; None if there is none.

    /proc/self/cgroup has lines `hierarchy:controllers:path`; version 2 has no controllers. In a container the path can
    be the host's, and invisible: then the root of the mount is our cgroup.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mounts = [root / "sys/fs/cgroup"]
        elif "cpu" in controllers.split(","):
            mounts = [root / "sys/fs/cgroup" / name for name in (controllers, "cpu")]
        else:
            continue
        for mount in mounts:
            for folder in (mount / path.lstrip("/"), mount):
                if _throttled_ns(folder / "cpu.stat") is not None:
                    return folder / "cpu.stat"
    return None


def read_throttled_ns(cpu_stat: Path | None) -> int:
    """How long this process's cgroup has been throttled so far; 0 if not reported."""
    return 0 if cpu_stat is None else _throttled_ns(cpu_stat) or 0


def _throttled_ns(cpu_stat: Path) -> int | None:
    try:
        text = cpu_stat.read_text()
    except OSError:
        return None
    fields = dict(line.split(maxsplit=1) for line in text.splitlines() if " " in line)
    if "throttled_usec" in fields:  # version 2
        return int(fields["throttled_usec"]) * 1000
    if "throttled_time" in fields:  # version 1, in nanoseconds
        return int(fields["throttled_time"])
    return None
