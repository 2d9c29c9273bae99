"""A child process that cannot outlive us, whatever happens to either: the owner's side of `keeper`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


class KeptProcess:
    """Runs from its making until it ends, by itself or by `stop` or `kill`. All that it started ends with it."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log_path: Path,
        variables: Mapping[str, str] | None = None,
        grace_seconds: float = 3.0,
        shm_prefix: str = "",
    ) -> None:
        """Both of its output streams are appended to `log_path`. Between SIGTERM and SIGKILL it has `grace_seconds`.
        Shared memory regions named `shm_prefix…` are removed at its end."""
        keeper = [sys.executable, "-I", "-S", str(Path(__file__).with_name("reaper.py"))]
        with log_path.open("ab") as log:
            # A session of its own: a Ctrl-C at the terminal is for us, and we end our children in our own order.
            self._keeper = subprocess.Popen(
                [*keeper, str(grace_seconds), shm_prefix, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=variables,
                start_new_session=True,
                text=True,
            )
        assert self._keeper.stdout is not None
        line = self._keeper.stdout.readline()
        self.pid = int(line) if line else None
        """The process itself; None if it could not be started: the log has the reason."""

    @property
    def running(self) -> bool:
        return self._keeper.poll() is None

    def ask_to_stop(self) -> None:
        """Begins its end and does not wait."""
        assert self._keeper.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._keeper.stdin.close()

    def stop(self) -> int:
        """Ends it; returns its exit status when it and all that it started are gone."""
        self.ask_to_stop()
        return self.wait()

    def kill(self) -> None:
        """Ends it as a crash would, by SIGKILL; returns when all is gone."""
        if self.pid is not None and self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.stop()

    def wait(self, timeout_seconds: float | None = None) -> int:
        """The exit status once it has ended; raises subprocess.TimeoutExpired if it has not by then."""
        status = self._keeper.wait(timeout_seconds)
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.close()
        self._keeper.stdout.close()
        return status
