"""Runs a peer as a child process: bounded in time, gone if we are interrupted, its cpu time known.

Knows nothing of what the program is.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RUN_LIMIT_SECONDS = 60.0
LINES_SHOWN = 15
MEMORY_PERIOD_SECONDS = 0.1


class BenchError(Exception):
    """A tool gave no figures in this run; the text has its output."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that ended well. `cpu_seconds` is all its user and system time, its own children included;
    `peak_bytes` the most that it held in memory, as last read before its end."""

    printed: str
    cpu_seconds: float
    peak_bytes: int


async def run_program(
    command: Sequence[str], folder: Path | None = None, limit_seconds: float = RUN_LIMIT_SECONDS
) -> Ended:
    """Runs the command in `folder` and returns what it printed, errors included. Raises BenchError if it fails or
    takes too long. One at a time: the cpu time is that of all children of ours that end meanwhile."""
    before = _children_cpu_seconds()
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    watch = _PeakMemory(process.pid)
    try:
        async with asyncio.timeout(limit_seconds):
            output, _ = await process.communicate()
    except TimeoutError:
        raise BenchError(f"{Path(command[0]).name} did not end within {limit_seconds:g} s") from None
    finally:
        watch.end()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    printed = output.decode(errors="replace")
    if process.returncode != 0:
        reported = "\n".join(printed.splitlines()[-LINES_SHOWN:])
        raise BenchError(f"{Path(command[0]).name} ended with status {process.returncode}:\n{reported}")
    return Ended(printed, _children_cpu_seconds() - before, watch.peak_bytes)


def progress(line: str) -> None:
    """Progress, apart from the tables."""
    print(line, file=sys.stderr, flush=True)


def memory_bytes(pid: int, name: str) -> int:
    """A line of a process's /proc/PID/status: `VmRSS`, what it holds in memory, or `VmHWM`, the most that it held. 0 if
    it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


class _PeakMemory:
    """Reads a process's peak of memory every now and then: the kernel's account of it is lost when asyncio reaps a
    child."""

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self._pid = pid
        self._loop = asyncio.get_running_loop()
        self._look()

    def end(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        self.peak_bytes = max(self.peak_bytes, memory_bytes(self._pid, "VmHWM"))
        self._timer = self._loop.call_later(MEMORY_PERIOD_SECONDS, self._look)


def _children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
