"""perf_analyzer as a peer: its arguments, its report, and the stamps of its requests.

Knows nothing of what it is compared with.
"""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.programs import BenchError, run_program
from exporter.demo.triton import ADDRESS

WINDOW_STRETCH = 1.2
"""It measures 1.2 times the interval asked for (its inference_profiler.cc, 1227-1230)."""

WINDOWS = 3
"""It merges so many windows, and can't be asked to take fewer."""


LIMIT_SECONDS, LIMIT_WINDOWS = 15.0, 20.0
"""What a run may take: by default it gives up after ten windows. At a request rate that it can't keep up with it was
seen to hang for ever."""


@dataclass(frozen=True, slots=True)
class Exported:
    """The requests of its measured windows, from its profile export: when the first began and the last ended, in
    nanoseconds of the wall clock, and their mean latency."""

    begin_ns: int
    end_ns: int
    mean_latency_ns: float


@dataclass(frozen=True, slots=True)
class Report:
    """One run of one level: its report's row, what it printed, the cpu time and the peak of memory of the whole run."""

    row: dict[str, str]
    printed: str
    cpu_seconds: float
    peak_bytes: int
    exported: Exported | None = None

    @property
    def throughput(self) -> float:
        """Inferences a second."""
        return float(self.row["Inferences/Second"])

    @property
    def mean_latency_us(self) -> float:
        """Microseconds."""
        return float(self.row["Avg latency"])

    @property
    def p99_latency_seconds(self) -> float:
        """Seconds."""
        return float(self.row["p99 latency"]) / 1e6


async def run_level(
    program: Path,
    *,
    model: str,
    endpoint: str,
    port: int,
    window_seconds: float,
    load: Sequence[str],
    export: bool = False,
) -> Report:
    """Runs one level, given as arguments in `load`. Its report is a file in a folder of its own, which is also its
    current folder. Raises BenchError."""
    interval_ms = round(window_seconds * 1000 / WINDOW_STRETCH)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [
            *(str(program), "-m", model, "-i", endpoint, "-u", f"{ADDRESS}:{port}", "-p", str(interval_ms)),
            *("-f", "report.csv", "--verbose-csv", *load),
            *(("--profile-export-file", "export.json") if export else ()),
        ]
        ended = await run_program(command, folder, LIMIT_SECONDS + LIMIT_WINDOWS * window_seconds)
        report = folder / "report.csv"
        if not report.exists():
            raise BenchError(f"perf_analyzer wrote no report:\n{ended.printed}")
        exported = parse_export((folder / "export.json").read_text(encoding="utf-8")) if export else None
        row = parse_report(report.read_text(encoding="utf-8"))
        return Report(row, ended.printed, ended.cpu_seconds, ended.peak_bytes, exported)


def parse_report(text: str) -> dict[str, str]:
    """The one level in the report that perf_analyzer's `-f` wrote."""
    rows = list(csv.DictReader(text.splitlines()))
    if len(rows) != 1:
        raise BenchError(f"perf_analyzer did not report exactly one level:\n{text}")
    return rows[0]


def parse_export(text: str) -> Exported:
    """The one level in the profile export, which holds the requests of the measured windows."""
    experiments = json.loads(text)["experiments"]
    requests = [request for experiment in experiments for request in experiment["requests"]]
    spans = [(int(each["timestamp"]), int(each["response_timestamps"][-1])) for each in requests]
    if len(experiments) != 1 or not spans:
        raise BenchError("perf_analyzer did not export exactly one level with requests")
    mean_ns = sum(end - begin for begin, end in spans) / len(spans)
    return Exported(min(begin for begin, _ in spans), max(end for _, end in spans), mean_ns)
