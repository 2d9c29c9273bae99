from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from exporter.engine.client_health import PROBE_PERIOD_NS, Health, find_cpu_stat, read_throttled_ns

V2 = "usage_usec 5\nnr_throttled 3\nthrottled_usec 1234\n"
V1 = "nr_periods 2\nnr_throttled 1\nthrottled_time 987654\n"


@pytest.mark.parametrize(
    ("cgroup", "files", "found", "throttled_ns"),
    [
        # version 2, its own folder
        ("0::/a/b\n", {"sys/fs/cgroup/a/b/cpu.stat": V2}, "sys/fs/cgroup/a/b/cpu.stat", 1_234_000),
        # version 2 in a container that sees the host's path but not the host's tree
        ("0::/../b\n", {"sys/fs/cgroup/cpu.stat": V2}, "sys/fs/cgroup/cpu.stat", 1_234_000),
        # version 1: the folder is named after the controllers mounted together
        ("5:cpu,cpuacct:/x\n4:memory:/y\n", {"sys/fs/cgroup/cpu,cpuacct/x/cpu.stat": V1}, None, 987_654),
        ("1:cpu:/\n0::/\n", {"sys/fs/cgroup/cpu/cpu.stat": V1}, "sys/fs/cgroup/cpu/cpu.stat", 987_654),
        # the root cgroup of version 2 has the file, but nothing throttles it
        ("0::/\n", {"sys/fs/cgroup/cpu.stat": "usage_usec 5\n"}, "", 0),
        ("4:memory:/y\n", {}, "", 0),
    ],
)
def test_throttled_time(
    tmp_path: Path, cgroup: str, files: dict[str, str], found: str | None, throttled_ns: int
) -> None:
    for name, text in {"proc/self/cgroup": cgroup, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    cpu_stat = find_cpu_stat(tmp_path)
    if found is not None:
        assert cpu_stat == (tmp_path / found if found else None)
    assert read_throttled_ns(cpu_stat) == throttled_ns


def test_no_proc_no_figures(tmp_path: Path) -> None:
    assert find_cpu_stat(tmp_path) is None
    assert read_throttled_ns(None) == 0
    assert read_throttled_ns(tmp_path / "gone") == 0


async def test_a_blocked_loop_shows_once(tmp_path: Path) -> None:
    cpu_stat = tmp_path / "cpu.stat"
    cpu_stat.write_text("throttled_usec 10\n")
    begin_ns, begin_cpu_ns = time.monotonic_ns(), time.process_time_ns()
    health = Health(cpu_stat)
    try:
        blocked_ns = PROBE_PERIOD_NS + 100_000_000
        until_ns = time.monotonic_ns() + blocked_ns
        while time.monotonic_ns() < until_ns:  # busy: this is cpu time too
            pass
        cpu_stat.write_text("throttled_usec 25\n")
        await asyncio.sleep(0.01)
        sample = health.sample()
        assert sample.loop_lag_ns >= 100_000_000
        # On a busy machine we get less of it than we ask for.
        got = (time.process_time_ns() - begin_cpu_ns) / (time.monotonic_ns() - begin_ns)
        assert sample.cpu_ratio > got / 2
        assert sample.throttled_ns == 15_000
        assert health.sample().loop_lag_ns == 0
    finally:
        health.close()
