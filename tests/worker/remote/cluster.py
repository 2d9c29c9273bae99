"""A Dask scheduler and workers, each a process of its own, as an operator starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from exporter.demo.triton import free_ports
from tests.waiting import PATIENCE_SECONDS


class Cluster:
    """`workers` Dask workers without a nanny, in these places where some are named. `ahead_s` is how far the monotonic
    clock of each is ahead of ours, in whole seconds: in a time namespace of its own, which needs root."""

    def __init__(self, folder: Path, workers: int, places: Sequence[str] = (), ahead_s: Sequence[int] = ()) -> None:
        self._folder = folder
        self._places = places
        self._ahead_s = ahead_s
        self._count = workers
        (port,) = free_ports(1)
        self.address = f"tcp://127.0.0.1:{port}"
        self._port = port
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", str(self._port), "--no-dashboard")
        for number in range(self._count):
            arguments = [self.address, "--no-nanny", "--no-dashboard", "--nthreads", "1", "--memory-limit", "0"]
            if self._places:
                arguments += ["--resources", f"{self._places[number]}=1"]
            wrapper = _shifted(self._ahead_s[number]) if self._ahead_s else ()
            self.workers.append(self._start("worker", *arguments, "--name", f"w{number}", wrapper=wrapper))
        for number in range(self._count):
            self._wait_for(f"w{number}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in [*self.workers, self.scheduler]:
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()

    def _start(self, role: str, *arguments: str, wrapper: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        name = arguments[-1] if role == "worker" else role
        log = (self._folder / f"{name}.log").open("wb")
        with log:
            return subprocess.Popen(
                [*wrapper, sys.executable, "-m", "distributed.cli.dask_" + role, *arguments],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
            )

    def _wait_for(self, name: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        path = self._folder / f"{name}.log"
        while "Registered to" not in (text := path.read_text()):
            if time.monotonic() > deadline:
                raise AssertionError(text)
            time.sleep(0.1)


def _shifted(ahead_s: int) -> Sequence[str]:
    return ("unshare", "--time", f"--monotonic={ahead_s}", f"--boottime={ahead_s}", "--fork", "--kill-child")


def can_shift_clocks() -> bool:
    """Whether this machine lets us make time namespaces."""
    try:
        return subprocess.run([*_shifted(1), "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False
