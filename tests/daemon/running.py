"""A daemon as a user runs it: a process, a configuration file, its pages and its log."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.waiting import PATIENCE_SECONDS

QUICK = {
    "schedule": {"every": "2s"},
    "measurement": {"window": "200ms", "stability": "100%", "max_windows": 4, "request_timeout": "1s"},
    "stop": {"max_duration": "20s"},
}
"""Probe defaults that let a sweep land within a second or two; the figures themselves are of no interest."""


class RunningDaemon:
    """Starts `triton-canary serve` with this configuration (plus a free port and `tmp_path` for its data)
    and these arguments."""

    def __init__(
        self, folder: Path, configuration: dict[str, Any], *arguments: str, wrapper: Sequence[str] = ()
    ) -> None:
        """`wrapper` is a command that becomes the one that follows it."""
        self._wrapper = wrapper
        self.folder = folder
        self._arguments = arguments
        values = {"data_directory": str(folder / "data"), "web": {"listen": "127.0.0.1:0"}, "defaults": QUICK}
        self.config_path = folder / "canary.yaml"
        self.config_path.write_text(yaml.safe_dump(values | configuration))
        self.log_path = folder / "daemon.log"
        self.address = ""
        self._log_begin = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when it serves."""
        self.launch()
        event = self.wait_for_log("ready")
        self.address = event["listen"]

    def launch(self) -> None:
        """Returns when there is a process."""
        command = [
            *self._wrapper,
            sys.executable,
            "-m",
            "exporter",
            "serve",
            "--config",
            str(self.config_path),
            *self._arguments,
        ]
        with self.log_path.open("ab") as log:
            self._log_begin = log.tell()
            self._process = subprocess.Popen(command, stderr=log)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal, waits for the end, returns the exit status."""
        if self._process is None:
            return 0
        self._process.send_signal(number)
        status = self._process.wait(PATIENCE_SECONDS)
        self._process = None
        return status

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    # --- what it reports
    # -----------------------------------------------------------------------------------------------

    def get(self, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> tuple[int, bytes]:
        """Status and body; an error status is no exception."""
        request = urllib.request.Request(f"http://{self.address}{path}", headers=headers or {}, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=PATIENCE_SECONDS) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample of the page by name and labels."""
        status, body = self.get("/metrics")
        assert status == 200
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        """The one sample of this name whose labels include these; None if there is none."""
        found = [
            value
            for (sample, sample_labels), value in self.metrics().items()
            if sample == name and labels.items() <= dict(sample_labels).items()
        ]
        assert len(found) <= 1, found
        return found[0] if found else None

    def status(self, probe: str) -> dict[str, Any]:
        """The probe in `/api/status`."""
        probes = json.loads(self.get("/api/status")[1])["probes"]
        return next(entry for entry in probes if entry["name"] == probe)

    def log_events(self) -> list[dict[str, str]]:
        """The log since the last start, a mapping for each line."""
        return [_parse_logfmt(line) for line in self.log_path.read_bytes()[self._log_begin :].decode().splitlines()]

    # --- waiting -----------------------------------------------------------------------------------------------------

    def wait_for(self, condition: Callable[[], Any]) -> Any:
        """Waits until the condition gives something true, and returns that."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if found := condition():
                return found
            if self._process is not None and self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"waited in vain; the log:\n{self.log_path.read_text()[-4000:]}")

    def wait_for_log(self, message: str, **values: str) -> dict[str, str]:
        """Waits for an event with this message and these fields."""

        def found() -> dict[str, str] | None:
            for event in self.log_events():
                if event.get("msg") == message and values.items() <= event.items():
                    return event
            return None

        event: dict[str, str] = self.wait_for(found)
        return event

    def wait_for_state(self, probe: str, *reasons: str) -> dict[str, Any]:
        """Waits until the probe's last sweep ended for one of these reasons ("" is ok)."""

        def found() -> dict[str, Any] | None:
            status = self.status(probe)
            landed = status["state"] in ("ok", "unstable", "failed", "aborted")
            return status if landed and status["reason"] in reasons else None

        status: dict[str, Any] = self.wait_for(found)
        return status


def _parse_logfmt(line: str) -> dict[str, str]:
    event: dict[str, str] = {}
    decoder = json.JSONDecoder()
    while "=" in line:
        key, _, line = line.partition("=")
        if line.startswith('"'):
            event[key.strip()], end = decoder.raw_decode(line)
            line = line[end:]
        else:
            event[key.strip()], _, line = line.partition(" ")
    return event
