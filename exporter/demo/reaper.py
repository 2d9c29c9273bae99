"""Keeps one process and everything that it starts: `keeper.py GRACE_SECONDS SHM_PREFIX COMMAND…`, run as a script.

It prints the process's pid on its standard output and then waits. When its own standard input ends, because the owner
closed it or was killed, it ends the process: SIGTERM, and after the grace SIGKILL. When the process has ended, by
itself or not, it kills all descendants that are left, waits for every one of them, removes the shared memory regions
whose name begins with SHM_PREFIX (if it is not ""), and ends with the process's status: 128 + signal if it was killed.

A process of its own, because the alternatives fall short: PR_SET_PDEATHSIG alone fires when the *thread* that started
the child ends, needs code between fork and exec in a process with threads, and does not reach the child's children.
Needs the standard library only, and runs without site-packages.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (not a place for temporary files: where POSIX shared memory lives)


def main(grace_seconds: float, shm_prefix: str, command: list[str]) -> int:
    libc = ctypes.CDLL(None)
    # Orphans of the process become our children, so that their end can be waited for.
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child_ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        # Should the keeper itself be killed. Safe here: this process has one thread, and it is the main one.
        preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),  # noqa: PLW1509
    )
    print(process.pid, flush=True)
    _wait(process, child_ended, grace_seconds)
    _end_descendants()
    if shm_prefix:
        for region in SHARED_MEMORY.glob(f"{shm_prefix}*"):
            region.unlink(missing_ok=True)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _wait(process: subprocess.Popen[bytes], child_ended: int, grace_seconds: float) -> None:
    """Returns when the process has ended. The end of standard input asks it to, and gives it the grace to do so."""
    owner = sys.stdin.fileno()
    watched = [owner, child_ended]
    deadline = None
    while process.poll() is None:
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select(watched, [], [], timeout)
        if owner in ready and not os.read(owner, 1):
            watched.remove(owner)
            deadline = time.monotonic() + grace_seconds
            process.terminate()
        elif child_ended in ready:
            os.read(child_ended, 4096)
        elif not ready:
            process.kill()
            deadline = None


def _end_descendants() -> None:
    """Kills and reaps our children until there are none: the children of each one that ends become ours."""
    while children := _children():
        for pid in children:
            os.kill(pid, signal.SIGKILL)  # a child that has ended is there until it is waited for
        for pid in children:
            os.waitpid(pid, 0)


def _children() -> list[int]:
    """The pids of our children, ended ones included."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # "pid (name) state ppid …"; the name may hold anything.
            if int(status.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(status.parent.name))
    return found


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2], sys.argv[3:]))
