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


class BenchError(Exception):
    """A tool gave no figures in this run; the text says what it said."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that ended well. `cpu_seconds` is all its user and system time, its own children included."""

    printed: str
    cpu_seconds: float


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
    try:
        async with asyncio.timeout(limit_seconds):
            output, _ = await process.communicate()
    except TimeoutError:
        raise BenchError(f"{Path(command[0]).name} did not end within {limit_seconds:g} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    printed = output.decode(errors="replace")
    if process.returncode != 0:
        said = "\n".join(printed.splitlines()[-LINES_SHOWN:])
        raise BenchError(f"{Path(command[0]).name} ended with status {process.returncode}:\n{said}")
    return Ended(printed, _children_cpu_seconds() - before)


def tell(line: str) -> None:
    """Progress, apart from the tables."""
    print(line, file=sys.stderr, flush=True)


def _children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
