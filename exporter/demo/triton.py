"""A real Triton on this machine, as a child of this process: started on free ports, ended without a trace.

Owns the server's command line, its readiness and its end; must not know what its models or its callers do.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from exporter.demo.child_process import KeptProcess
from exporter.demo.triton_environment import EmbeddedTritonError, TritonEnvironment

MODELS = Path(__file__).parent / "models"
"""The sample models' repository."""

ADDRESS = "127.0.0.1"
START_ATTEMPTS = 5
GRACE_SECONDS = 3.0
"""How long the server may take to end by itself; with the sample models it needs 2 s, and 1 s more at the most."""
LOG_LINES_SHOWN = 15
SHM_BYTES = 1 << 20
"""Of shared memory for each Python model at its start; grows by itself as far as its tensors need it."""
PORT_TAKEN = "already in use"
"""What the server's log has, for each of its endpoints, when another process listens on the port."""


class EmbeddedTriton:
    """One Triton server and its model processes.

    It ends at the latest with this process, however that ends. `start` and `stop` may be called again and again; the
    ports stay the same from the first start on. Not safe for use by several threads at once.
    """

    def __init__(
        self,
        environment: TritonEnvironment,
        *,
        models: Path = MODELS,
        model_control: bool = False,
        extra_arguments: Sequence[str] = (),
        log_path: Path | None = None,
    ) -> None:
        """`model_control` allows to load and unload models over the repository API; all are loaded at the start
        either way. The log goes to `log_path`, appended, or else to a temporary file that ends with this object."""
        self._environment = environment
        self._models = models
        self._model_control = model_control
        self._extra_arguments = tuple(extra_arguments)
        self._own_folder = None if log_path else tempfile.TemporaryDirectory(prefix="triton-canary-")
        self.log_path = log_path or Path(self._own_folder.name if self._own_folder else "", "triton.log")
        self._shm_prefix = f"triton_canary_{uuid4().hex[:12]}_"
        self._process: KeptProcess | None = None
        self._log_begin = 0
        self.http_port = self.grpc_port = self.metrics_port = 0

    @property
    def http_url(self) -> str:
        return f"http://{ADDRESS}:{self.http_port}"

    @property
    def grpc_url(self) -> str:
        return f"grpc://{ADDRESS}:{self.grpc_port}"

    @property
    def metrics_url(self) -> str:
        return f"http://{ADDRESS}:{self.metrics_port}/metrics"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int | None:
        """The server's own process; None while it is stopped."""
        return self._process.pid if self._process else None

    def start(self, deadline_seconds: float = 60.0) -> None:
        """Starts the server and returns when it is ready with all its models.

        Raises EmbeddedTritonError, with the log's last lines, if it ends before that or is not ready in time.
        """
        if self.running:
            return
        self.stop()  # forgets one that ended by itself
        deadline = time.monotonic() + deadline_seconds
        chosen_before = self.http_port != 0
        for attempt in range(1, START_ATTEMPTS + 1):
            if not chosen_before:
                self.http_port, self.grpc_port, self.metrics_port = free_ports(3)
            self._spawn()
            if self._became_ready(deadline):
                return
            log = self._log_since_start()
            self.stop()
            if attempt == START_ATTEMPTS or PORT_TAKEN not in log:
                raise EmbeddedTritonError(_start_failure(log, time.monotonic() >= deadline, deadline_seconds))
            time.sleep(0.2)

    def stop(self) -> None:
        """Ends the server and all its processes, within 5 s; returns when they are gone."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """Ends the server as a crash would: SIGKILL, with no word to its clients. Returns when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def close(self) -> None:
        """Stops it and removes its temporary log."""
        self.stop()
        if self._own_folder is not None:
            self._own_folder.cleanup()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _spawn(self) -> None:
        self._log_begin = self.log_path.stat().st_size if self.log_path.exists() else 0
        self._process = KeptProcess(
            self._command(),
            log_path=self.log_path,
            variables=self._environment.variables(),
            grace_seconds=GRACE_SECONDS,
            shm_prefix=self._shm_prefix,
        )

    def _command(self) -> list[str]:
        control = ["--model-control-mode=explicit", "--load-model=*"] if self._model_control else []
        return [
            str(self._environment.server_binary),
            f"--model-repository={self._models}",
            f"--backend-directory={self._environment.backends}",
            f"--cache-directory={self._environment.caches}",
            f"--cache-config=local,size={1 << 20}",
            f"--backend-config=python,shm-region-prefix-name={self._shm_prefix}",
            f"--backend-config=python,shm-default-byte-size={SHM_BYTES}",
            *(f"--{protocol}-address={ADDRESS}" for protocol in ("http", "grpc", "metrics")),
            f"--http-port={self.http_port}",
            f"--grpc-port={self.grpc_port}",
            f"--metrics-port={self.metrics_port}",
            "--exit-timeout-secs=1",
            "--disable-auto-complete-config",  # it would start each model twice
            *control,
            *self._extra_arguments,
        ]

    def _became_ready(self, deadline: float) -> bool:
        while self.running and time.monotonic() < deadline:
            if self._ready() and self._owns_ports():
                return True
            time.sleep(0.02)
        return False

    def _ready(self) -> bool:
        connection = http.client.HTTPConnection(ADDRESS, self.http_port, timeout=1)
        try:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _owns_ports(self) -> bool:
        """Whether it is our server that listens: on a port taken in between, another one may have responded."""
        ours = set()
        for descriptor in Path(f"/proc/{self.pid}/fd").glob("*"):
            with contextlib.suppress(FileNotFoundError):  # closed since it was listed
                ours.add(str(descriptor.readlink()))
        ports = {port for port, inode in _listening_sockets() if f"socket:[{inode}]" in ours}
        return ports >= {self.http_port, self.grpc_port, self.metrics_port}

    def _log_since_start(self) -> str:
        with self.log_path.open("rb") as log:
            log.seek(self._log_begin)
            return log.read().decode(errors="replace")


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on just now; all held at once, so that none is given twice."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((ADDRESS, 0))
        return [each.getsockname()[1] for each in sockets]


def _listening_sockets() -> list[tuple[int, str]]:
    """Port and inode of every TCP socket that listens on this machine; gRPC binds IPv4 addresses through IPv6."""
    tables = [Path("/proc/net", name) for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    return [(int(row[1].split(":")[1], 16), row[9]) for row in rows if row[3] == "0A"]


def _start_failure(log: str, late: bool, deadline_seconds: float) -> str:
    what = f"was not ready within {deadline_seconds:g} s" if late else "ended while it started"
    lines = "\n".join(f"  {line}" for line in log.splitlines()[-LOG_LINES_SHOWN:])
    return f"The embedded Triton {what}. Its log ends with:\n{lines}"
