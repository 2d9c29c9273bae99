"""A Dask scheduler and workers, each a process of its own, as an operator starts them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from exporter.demo.triton import free_ports
from tests.programs import need_right
from tests.waiting import PATIENCE_SECONDS


class Cluster:
    """`workers` Dask workers without a nanny. `address` is the scheduler's. Their host is `host`, their protocol tcp or
    tls; `enter` goes before each command, `environment` is added to their variables, `worker_arguments` to the workers'
    arguments. `places` is the place of each. `ahead_s` is how far the monotonic clock of each is ahead of ours, in
    whole seconds: in a time namespace of its own, which needs root."""

    def __init__(
        self,
        folder: Path,
        workers: int,
        places: Sequence[str] = (),
        *,
        protocol: str = "tcp",
        host: str = "127.0.0.1",
        enter: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        worker_arguments: Sequence[str] = (),
        ahead_s: Sequence[int] = (),
    ) -> None:
        self._folder = folder
        self._places = places
        self._ahead_s = ahead_s
        self._count = workers
        (port,) = free_ports(1)
        self.address = f"{protocol}://{host}:{port}"
        self._host = host
        self._protocol = protocol
        self._worker_arguments = worker_arguments
        self._port = port
        self._enter = enter
        self._environment = environment or {}
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        arguments = [*self._listen(self._protocol), "--port", str(self._port), "--no-dashboard"]
        self.scheduler = self._start("scheduler", "scheduler", arguments, self._environment)
        for number in range(self._count):
            arguments = ["--resources", f"{self._places[number]}=1"] if self._places else []
            enter = _shifted(self._ahead_s[number]) if self._ahead_s else ()
            self.start_worker(f"w{number}", arguments=arguments, enter=enter)
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

    def start_worker(
        self,
        name: str,
        *,
        protocol: str = "",
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        enter: Sequence[str] = (),
    ) -> subprocess.Popen[bytes]:
        """One more, which by default is as the others."""
        protocol = protocol or self._protocol
        _, _, scheduler = self.address.partition("://")
        options = [f"{protocol}://{scheduler}", *self._listen(protocol), "--no-nanny", "--no-dashboard"]
        options += ["--nthreads", "1", "--memory-limit", "0", "--name", name, *self._worker_arguments, *arguments]
        variables = self._environment if environment is None else environment
        worker = self._start("worker", name, options, variables, enter)
        self.workers.append(worker)
        return worker

    def worker_address(self, name: str) -> str:
        """Where the worker of this name listens."""
        found = re.search(r"Start worker at: +(\S+)", self.log(name))
        assert found is not None
        return found[1]

    def _listen(self, protocol: str) -> list[str]:
        return ["--protocol", protocol, "--host", self._host]

    def _start(
        self,
        role: str,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        enter: Sequence[str] = (),
    ) -> subprocess.Popen[bytes]:
        with (self._folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [*self._enter, *enter, sys.executable, "-m", "distributed.cli.dask_" + role, *arguments],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), **environment},
            )

    def _wait_for(self, name: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "Registered to" not in (text := self.log(name)):
            if time.monotonic() > deadline:
                raise AssertionError(text)
            time.sleep(0.1)


def _shifted(ahead_s: int) -> Sequence[str]:
    return ("unshare", "--time", f"--monotonic={ahead_s}", f"--boottime={ahead_s}", "--fork", "--kill-child")


def need_shifted_clocks() -> None:
    """Skips the test where the kernel refuses time namespaces."""
    need_right(*_shifted(1), "true")
