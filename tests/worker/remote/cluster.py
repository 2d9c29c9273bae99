"""A Dask scheduler and workers, each a process of its own, as an operator starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from exporter.demo.triton import free_ports
from tests.waiting import PATIENCE_SECONDS


class Cluster:
    """`workers` Dask workers without a nanny. `address` is the scheduler's. Their host is `host`, their protocol tcp or
    tls; `enter` goes before each command, `environment` is added to their variables."""

    def __init__(
        self,
        folder: Path,
        workers: int,
        *,
        protocol: str = "tcp",
        host: str = "127.0.0.1",
        enter: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = folder
        self._count = workers
        (port,) = free_ports(1)
        self.address = f"{protocol}://{host}:{port}"
        self._listen = ["--protocol", protocol, "--host", host]
        self._port = port
        self._enter = enter
        self._environment = environment or {}
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.scheduler = self._start("scheduler", *self._listen, "--port", str(self._port), "--no-dashboard")
        for number in range(self._count):
            arguments = [self.address, *self._listen, "--no-nanny", "--no-dashboard", "--nthreads", "1"]
            self.workers.append(self._start("worker", *arguments, "--memory-limit", "0", "--name", f"w{number}"))
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

    def log(self, name: str) -> str:
        """What the scheduler, or the worker of this name, has logged."""
        return (self._folder / f"{name}.log").read_text()

    def _start(self, role: str, *arguments: str) -> subprocess.Popen[bytes]:
        name = arguments[-1] if role == "worker" else role
        log = (self._folder / f"{name}.log").open("wb")
        with log:
            return subprocess.Popen(
                [*self._enter, sys.executable, "-m", "distributed.cli.dask_" + role, *arguments],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), **self._environment},
            )

    def _wait_for(self, name: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "Registered to" not in (text := self.log(name)):
            if time.monotonic() > deadline:
                raise AssertionError(text)
            time.sleep(0.1)
