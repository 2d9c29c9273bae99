"""The `demo` command: an embedded Triton and a daemon that probes it, from nothing to a table of figures, until Ctrl-C.

Owns the order in which things start and end. Talks to the daemon as a user would: by its command line, its status page
and SIGTERM; must not know how it works.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import json
import signal
import socket
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from exporter.core.errors import OutputError, TritonCanaryError
from exporter.core.exit_code import ExitCode
from exporter.demo.child_process import KeptProcess
from exporter.demo.sweep_table import ProbeJson, fetch_probes, landed, one_line, table
from exporter.demo.triton import ADDRESS, EmbeddedTriton, free_ports
from exporter.demo.triton_environment import EmbeddedTritonError, make_environment

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

DEFAULT_PORT = 9787
DAEMON = (sys.executable, "-m", "exporter", "serve", "--config")
READY_SECONDS = 30.0
FIRST_SWEEPS_SECONDS = 240.0
POLL_SECONDS = 0.25
DAEMON_GRACE_SECONDS = 3.5
DAEMON_HEAD_START_SECONDS = 1.5
"""Triton is asked to end when the daemon has, or after this time: both together stay below 5 s."""
LOG_LINES_SHOWN = 15
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_demo(*, listen: str = "", data_directory: Path | None = None, daemon: Sequence[str] = DAEMON) -> ExitCode:
    """Runs the demo until SIGINT, SIGTERM or SIGHUP; returns the exit code: 0 after one of these, 1 if something could
    not start or ended by itself, which is then reported. Must be called in the main thread.

    `listen` is host:port of the daemon's web side; by default 9787 on the loopback, or a free port if that is taken.
    What it writes goes to `data_directory`, by default a temporary folder that is removed at the end. `daemon` is the
    command that the path of the configuration file is appended to.
    """
    from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    with _signals_interrupt(), _folder(data_directory) as folder:
        demo = _Demo(console, folder, listen or _default_listen())
        try:
            demo.start(daemon)
            demo.show_first_sweeps()
            demo.watch()
        except KeyboardInterrupt:
            _show(console, "\nstopping")
            return ExitCode.OK
        except (EmbeddedTritonError, _DemoError) as error:
            _show(console, str(error), style="red")
            return ExitCode.ERROR
        finally:
            demo.end()


def _show(console: Console, shown: Table | str, style: str = "") -> None:
    """Raises OutputError."""
    try:
        console.print(shown, style=style or None)
    except OSError as error:
        raise OutputError(error) from None


class _DemoError(TritonCanaryError):
    """The daemon or Triton ended by itself, or the daemon never responded."""


class _Demo:
    """The two processes of a demo and the text about them."""

    def __init__(self, console: Console, folder: Path, listen: str) -> None:
        self._console = console
        self._folder = folder
        self._listen = listen
        self._triton: EmbeddedTriton | None = None
        self._daemon: KeptProcess | None = None

    def start(self, daemon: Sequence[str]) -> None:
        """Starts Triton and the daemon; returns when both are ready."""
        environment = make_environment(self._notify)
        self._notify("starting Triton with the sample models")
        self._triton = EmbeddedTriton(environment, log_path=self._folder / "triton.log")
        self._triton.start()
        self._notify("starting the daemon")
        file = self._folder / "demo.yaml"
        file.write_text(demo_config(self._triton, self._folder, self._listen), encoding="utf-8")
        self._daemon = KeptProcess(
            [*daemon, str(file)], log_path=self._folder / "daemon.log", grace_seconds=DAEMON_GRACE_SECONDS
        )
        if all(probes is None for probes in self._statuses(READY_SECONDS)):
            raise _DemoError(f"The daemon was not ready within {READY_SECONDS:g} s. {self._log_end('daemon.log')}")

    def show_first_sweeps(self) -> None:
        """Reports each probe's first sweep as it lands; then all of them in a table, and where to look."""
        self._notify(f"waiting for the first sweeps; status page: http://{self._listen}/")
        shown: set[str] = set()
        latest: list[ProbeJson] = []
        for probes in self._statuses(FIRST_SWEEPS_SECONDS, until_all_landed=True):
            latest = probes or latest
            for probe in latest:
                if landed(probe) and probe["name"] not in shown:
                    shown.add(probe["name"])
                    self._notify(f"{len(shown)}/{len(latest)} {one_line(probe)}")
        _show(self._console, table(latest))
        self._show_addresses()

    def watch(self) -> NoReturn:
        """Returns only by an exception: KeyboardInterrupt, or _DemoError once something has ended by itself."""
        self._notify("running until Ctrl-C")
        while True:
            self._check_alive()
            time.sleep(POLL_SECONDS)

    def end(self) -> None:
        """Ends both and returns when nothing of them is left, within 5 s. Cannot be interrupted."""
        for number in ENDING_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if self._daemon is not None:
            self._daemon.ask_to_stop()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._daemon.wait(DAEMON_HEAD_START_SECONDS)
        if self._triton is not None:
            self._triton.close()
        if self._daemon is not None:
            self._daemon.wait()

    def _statuses(self, seconds: float, *, until_all_landed: bool = False) -> Iterator[list[ProbeJson] | None]:
        """The daemon's status, None for none, until it is ready or all first sweeps have landed, or time is up."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._check_alive()
            probes = fetch_probes(self._listen)
            yield probes
            if probes is not None and (not until_all_landed or all(map(landed, probes))):
                return
            time.sleep(POLL_SECONDS)

    def _check_alive(self) -> None:
        assert self._triton is not None
        assert self._daemon is not None
        if not self._daemon.running:
            raise _DemoError(
                f"The daemon ended by itself, with status {self._daemon.wait()}. {self._log_end('daemon.log')}"
            )
        if not self._triton.running:
            raise _DemoError(f"Triton ended by itself. {self._log_end('triton.log')}")

    def _log_end(self, name: str) -> str:
        lines = (self._folder / name).read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "Its log ends with:\n" + "\n".join(f"  {line}" for line in lines)

    def _show_addresses(self) -> None:
        assert self._triton is not None
        addresses = {
            "status page": f"http://{self._listen}/",
            "metrics": f"http://{self._listen}/metrics",
            "archive": archive_folder(self._folder),
            "configuration": self._folder / "demo.yaml",
            "Triton": f"{self._triton.http_url}  {self._triton.grpc_url}  {self._triton.metrics_url}",
        }
        for name, address in addresses.items():
            _show(self._console, f"{name:<14} {address}")

    def _notify(self, text: str) -> None:
        _show(self._console, text, style="dim")


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Lets each ending signal raise KeyboardInterrupt, as SIGINT does."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in ENDING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    """The folder given, or a temporary one."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
    else:
        with tempfile.TemporaryDirectory(prefix="triton-canary-demo-") as name:
            yield Path(name)


def _default_listen() -> str:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, DEFAULT_PORT))
        except OSError:
            return f"{ADDRESS}:{free_ports(1)[0]}"
    return f"{ADDRESS}:{DEFAULT_PORT}"


def demo_config(triton: EmbeddedTriton, data_directory: Path, listen: str) -> str:
    """The configuration as YAML text. `listen` is host:port of the daemon's web side."""
    values = {
        "data_directory": data_directory,
        "archive_directory": archive_folder(data_directory),
        "http_url": triton.http_url,
        "grpc_url": triton.grpc_url,
        "metrics_url": triton.metrics_url,
        "listen": listen,
    }
    template = string.Template((importlib.resources.files(__package__) / "demo.yaml").read_text(encoding="utf-8"))
    # A JSON string is a YAML string, whatever is in it.
    return template.substitute({name: json.dumps(str(value)) for name, value in values.items()})


def archive_folder(data_directory: Path) -> Path:
    """Where the demo's daemon writes its CSV files."""
    return data_directory / "archive"
