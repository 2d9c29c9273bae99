"""What every section of the comparison is given: the server, our worker, the peers that are there, and the lengths."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import own_load, perf_analyzer
from bench.models import CACHED_IDENTITY
from bench.programs import BenchError
from exporter.core.probe import LoadLevel, Probe
from exporter.demo.triton import ADDRESS, EmbeddedTriton
from exporter.worker.local import LocalWorker

ENDPOINTS = ("http", "grpc")


@dataclass(frozen=True, slots=True)
class Setting:
    """One measurement of a tool takes `seconds`; where the tool measures windows, `perf_analyzer.WINDOWS` equal ones.
    `program` is perf_analyzer, None where there is none; `wrk` likewise. `memory_requests` is how many the memory
    section sends."""

    server: EmbeddedTriton
    worker: LocalWorker
    program: Path | None
    wrk: str | None
    rounds: int
    seconds: float
    memory_requests: int

    def port(self, endpoint: str) -> int:
        """The server's port for http or grpc."""
        return self.server.grpc_port if endpoint == "grpc" else self.server.http_port

    def address(self, endpoint: str) -> str:
        """Host and port."""
        return f"{ADDRESS}:{self.port(endpoint)}"

    def probe(
        self, endpoint: str, model: str, elements: int | None, level: LoadLevel, seconds: float | None = None
    ) -> Probe:
        """Our probe for windows that take `seconds` together."""
        window_seconds = (seconds or self.seconds) / perf_analyzer.WINDOWS
        return own_load.make_probe(
            endpoint=endpoint,
            port=self.port(endpoint),
            model=model,
            level=level,
            window_seconds=window_seconds,
            elements=elements,
        )

    async def run_ours(self, probe: Probe) -> own_load.OwnRun:
        """One level of our own load. Raises BenchError."""
        return await own_load.run_level(self.worker, [self.worker.pid], probe, perf_analyzer.WINDOWS)

    async def run_perf_analyzer(
        self,
        endpoint: str,
        model: str,
        elements: int,
        load: Sequence[str],
        *,
        seconds: float | None = None,
        export: bool = False,
    ) -> perf_analyzer.Report:
        """One level of perf_analyzer's, asynchronous; its windows take `seconds` together, and any three of them are
        stable enough. Raises BenchError."""
        assert self.program is not None
        return await perf_analyzer.run_level(
            self.program,
            model=model,
            endpoint=endpoint,
            port=self.port(endpoint),
            window_seconds=(seconds or self.seconds) / perf_analyzer.WINDOWS,
            load=["-a", "--shape", f"INPUT0:{elements}", "-s", "999", *load],
            export=export,
        )

    def get(self, path: str) -> bytes:
        """A page of the server's HTTP endpoint."""
        try:
            with urllib.request.urlopen(f"{self.server.http_url}{path}", timeout=10) as response:
                return bytes(response.read())
        except OSError as error:
            raise BenchError(f"{path}: {error}") from error

    def requests_served(self, model: str) -> int:
        """How many requests of the model the server has served so far."""
        [statistics] = json.loads(self.get(f"/v2/models/{model}/stats"))["model_stats"]
        return int(statistics["inference_stats"]["success"]["count"])

    async def warm_up(self) -> None:
        """Both endpoints once, and the response cache filled for what our requests hold."""
        for endpoint in ENDPOINTS:
            await self.run_ours(self.probe(endpoint, CACHED_IDENTITY, 16, own_load.concurrency(8), seconds=0.3))


def missing(setting: Setting) -> list[str]:
    """A line for each peer that is not there."""
    lines = []
    if setting.program is None:
        lines.append("perf_analyzer was not given (`--perf-analyzer PATH`): its rows are left out.")
    if setting.wrk is None:
        lines.append("wrk is not on the PATH: its rows are left out.")
    return lines
