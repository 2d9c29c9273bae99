"""`triton-canary analyze` and perf_analyzer with the same command lines on one embedded Triton: is it the same report?

    python -m bench.analyze_side_by_side --perf-analyzer PATH [--only TEXT] [--ours COMMAND]

Models that take 2, 5 and 20 ms, batch 1 and 4, HTTP and gRPC, concurrency 1 to 4 and request rates from 20 to 200,
judged by their mean or by p95, in time windows and in count windows. Of each level: throughput within 2 %, the mean
and each percentile within 5 % or 200 us, the server's averages within 5 % or 50 us (input and output take some 30 us).
Of each run: the same lines but for their numbers, and the same header of the CSV file up to any column of ours. Where
something is off, both tools are run again, and of all their runs the medians count. A figure that is off all the same
is counted apart if the two tools' figures overlap: on that machine no difference is shown then. (That four runs of each
do not overlap comes about by chance in 2 cases of 70.) About 10 minutes where nothing is off, half an hour where much
is. Exit status 1 if anything else is off, 2 if the server could not be started.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from statistics import median

from bench.models import delayed_models
from bench.printed_report import forms, parse_levels
from bench.programs import BenchError, progress, run_program
from bench.rounds import table
from exporter.demo.triton import ADDRESS, EmbeddedTriton
from exporter.demo.triton_environment import EmbeddedTritonError, make_environment

DELAYS_MS = (2, 5, 20)
INSTANCES = 4
LIMIT_SECONDS = 120.0

OPEN_COUNT = 50
CLOSED_COUNT_MS = 1000
"""Requests in a count window: of a closed loop of one as many as take so long; at the slowest rate 50 take 2.5 s."""

RATES = {2: "20:200:90", 5: "20:200:90", 20: "20:100:40"}
"""By delay: perf_analyzer sends from four threads, each of which waits for its response: 4 / 20 ms is 200 a second,
which it can't keep up with."""


@dataclass(frozen=True, slots=True)
class Case:
    """One command line, without the program and the server's address."""

    delay_ms: int
    batch: int
    endpoint: str
    load: tuple[str, ...]
    judged: tuple[str, ...]
    windows: tuple[str, ...]

    @property
    def name(self) -> str:
        """The command line's distinguishing part."""
        options = " ".join((*self.load, *self.judged, *self.windows))
        return f"-m delay_{self.delay_ms} -b {self.batch} -i {self.endpoint} {options}"

    def arguments(self, server: EmbeddedTriton) -> list[str]:
        """All of it. Any three windows are stable enough: what is compared is the figures."""
        port = server.grpc_port if self.endpoint == "grpc" else server.http_port
        common = ["-u", f"{ADDRESS}:{port}", "-s", "999", "-f", "report.csv", "--verbose-csv"]
        return [*shlex.split(self.name), *common]


def cases() -> list[Case]:
    """Each delay with each batch size, endpoint and kind of load; how it is judged and its windows take turns, so that
    each pair of choices occurs."""
    found = []
    for turn, delay_ms in enumerate(DELAYS_MS):
        for wide, grpc, closed in itertools.product((False, True), repeat=3):
            load = ("--concurrency-range", "1:4") if closed else ("--request-rate-range", RATES[delay_ms])
            judged = ("--percentile=95",) if (turn + grpc + closed) % 2 else ()
            counts = (turn + wide + closed) % 2
            windows = _count_windows(delay_ms, closed) if counts else ("-p", "600" if closed else "1000")
            found.append(Case(delay_ms, 4 if wide else 1, "grpc" if grpc else "http", load, judged, windows))
    return found


def _count_windows(delay_ms: int, closed: bool) -> tuple[str, ...]:
    requests = CLOSED_COUNT_MS // delay_ms if closed else OPEN_COUNT
    return "--measurement-mode=count_windows", f"--measurement-request-count={requests}"


@dataclass(frozen=True, slots=True)
class Run:
    """What one tool printed (without what went to stderr) and the header of its CSV file."""

    printed: str
    header: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure of one level on both tools, the medians of their runs, and whether it is within its limit."""

    load: str
    figure: str
    theirs: float
    ours: float
    their_range: tuple[float, float]
    our_range: tuple[float, float]

    @property
    def ratio(self) -> float:
        """Ours over theirs."""
        return self.ours / self.theirs if self.theirs else float(self.ours == self.theirs)

    @property
    def holds(self) -> bool:
        """Within the part of it, or the microseconds, that its kind allows."""
        part, floor = limits(self.figure)
        return abs(self.ours - self.theirs) <= max(part * self.theirs, floor)

    @property
    def is_noise(self) -> bool:
        """Whether it is off, but the runs of both overlap."""
        (low, high), (our_low, our_high) = self.their_range, self.our_range
        return not self.holds and low <= our_high and our_low <= high

    @property
    def is_off(self) -> bool:
        """Whether it is off for a reason."""
        return not self.holds and not self.is_noise

    def __str__(self) -> str:
        theirs, ours = _with_range(self.theirs, *self.their_range), _with_range(self.ours, *self.our_range)
        return f"{self.figure} {theirs} / {ours}"


def _with_range(value: float, low: float, high: float) -> str:
    return f"{value:g} ({low:g} to {high:g})" if low < high else f"{value:g}"


def limits(figure: str) -> tuple[float, float]:
    """By how much of it, or by how many units, a figure may differ."""
    if figure == "throughput":
        return 0.02, 0.0
    return (0.05, 50.0) if figure.startswith("server ") else (0.05, 200.0)


async def run_tool(command: Sequence[str], arguments: Sequence[str]) -> Run:
    """One run in a folder of its own. Raises BenchError if it fails, by its exit status too."""
    with tempfile.TemporaryDirectory() as name:
        # What goes to stderr is the tools' own business: it would be at another place in each run.
        quiet = ["bash", "-c", '"$@" 2>stderr || { code=$?; cat stderr; exit $code; }', "bash"]
        ended = await run_program([*quiet, *command, *arguments], Path(name), LIMIT_SECONDS)
        report = Path(name) / "report.csv"
        if not report.exists():
            raise BenchError(f"{command[0]} wrote no CSV file:\n{ended.printed}")
        return Run(ended.printed, report.read_text(encoding="utf-8").splitlines()[0])


Pair = tuple[Run, Run]
"""perf_analyzer's run and ours, one after the other."""


def compare(pairs: Sequence[Pair]) -> list[Finding]:
    """The figures of the levels that all runs have: of several runs of a tool, their median."""
    levels = [[{each.load: each.figures for each in parse_levels(run.printed)} for run in pair] for pair in pairs]
    first = levels[0][0]
    found = []
    for load, figure in [(load, figure) for load, figures in first.items() for figure in figures]:
        values = [[tool.get(load, {}).get(figure) for tool in pair] for pair in levels]
        theirs = [value for value, _ in values if value is not None]
        ours = [value for _, value in values if value is not None]
        if theirs and ours:
            found.append(Finding(load, figure, median(theirs), median(ours), span(theirs), span(ours)))
    return found


def span(values: Sequence[float]) -> tuple[float, float]:
    """Least and largest."""
    return min(values), max(values)


def differences(theirs: Run, ours: Run) -> list[str]:
    """What else differs: lines by their form (so also levels that only one of them has), and the header, after whose
    end we may have columns of our own."""
    found: list[str] = []
    if forms(theirs.printed) != forms(ours.printed):
        found += unified_diff(forms(theirs.printed), forms(ours.printed), "perf_analyzer", "ours", "", "", 0, "")
    if not f"{ours.header},".startswith(f"{theirs.header},"):
        found.append(f"CSV header {theirs.header} against {ours.header}")
    return found


def rows(case: Case, runs: int, found: Sequence[Finding]) -> Iterator[list[str]]:
    """A row of the table for each level: the ratios, and what is off."""
    for load, group in itertools.groupby(found, key=lambda finding: finding.load):
        level = list(group)
        ratios = {finding.figure: finding.ratio for finding in level}
        percentiles = " ".join(f"{ratios[name]:.3f}" for name in ("p50", "p90", "p95", "p99") if name in ratios)
        noise = ", ".join(str(finding) for finding in level if finding.is_noise)
        off = ", ".join(str(finding) for finding in level if finding.is_off) or "ok"
        server = f"{ratios['server request']:.3f}" if "server request" in ratios else "none"
        yield [case.name, str(runs), load, f"{ratios['throughput']:.4f}", percentiles, server, noise, off]


async def measure(case: Case, server: EmbeddedTriton, commands: Sequence[Sequence[str]], attempts: int) -> list[Pair]:
    """Runs both tools in turns until nothing is off, at most so often. Raises BenchError if a run fails."""
    pairs: list[Pair] = []
    while len(pairs) < attempts and (not pairs or is_off(pairs)):
        order = (0, 1) if len(pairs) % 2 else (1, 0)
        runs = {tool: await run_tool(commands[tool], case.arguments(server)) for tool in order}
        pairs.append((runs[0], runs[1]))
    return pairs


def is_off(pairs: Sequence[Pair]) -> bool:
    """Whether a figure is off, or the lines differ in every pair: a busy machine makes a warning now and then."""
    return not all(finding.holds for finding in compare(pairs)) or all(differences(*pair) for pair in pairs)


async def run_cases(
    server: EmbeddedTriton, commands: Sequence[Sequence[str]], chosen: Sequence[Case], attempts: int
) -> bool:
    """Runs all of them, prints the table and what is off, and returns whether nothing is."""
    lines: list[list[str]] = []
    errors: list[str] = []
    figures: list[Finding] = []
    for number, case in enumerate(chosen):
        progress(f"{number + 1} of {len(chosen)}: {case.name}")
        try:
            pairs = await measure(case, server, commands, attempts)
        except BenchError as error:
            errors.append(f"{case.name}: {error}")
            continue
        found = compare(pairs)
        figures += found
        progress(f"  {verdict(found)}, after {len(pairs)} runs of each")
        lines += rows(case, len(pairs), found)
        errors += [f"{case.name}: {line}" for line in min((differences(*pair) for pair in pairs), key=len)]
    header = ["command line", "runs", "load", "throughput", "p50 p90 p95 p99", "server"]
    print(table([*header, "runs overlap: theirs / ours", "off: theirs / ours"], lines))
    print(f"\n{verdict(figures)}. Ratios are ours over perf_analyzer's.")
    for problem in errors:
        print(problem)
    return bool(figures) and not errors and not any(finding.is_off for finding in figures)


def verdict(found: Sequence[Finding]) -> str:
    """How many of the figures hold."""
    holds, noise = (sum(getattr(finding, name) for finding in found) for name in ("holds", "is_noise"))
    return (
        f"{holds} of {len(found)} figures are within their limits, {noise} more are of runs "
        f"that overlap, and {len(found) - holds - noise} off"
    )


def main() -> int:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--perf-analyzer", type=Path, required=True, help="the program to compare with")
    parser.add_argument("--ours", default=f"{sys.executable} -m exporter", help="the command (default: this checkout)")
    parser.add_argument("--only", default="", help="only command lines that contain this text")
    parser.add_argument("--attempts", type=int, default=4, help="runs of a command line in which something is off")
    options = parser.parse_args()
    chosen = [case for case in cases() if options.only in case.name]
    try:
        environment = make_environment(progress)
        with (
            delayed_models(DELAYS_MS, instances=INSTANCES) as models,
            EmbeddedTriton(environment, models=models) as server,
        ):
            commands = [[str(options.perf_analyzer.resolve())], [*shlex.split(options.ours), "analyze"]]
            return 0 if asyncio.run(run_cases(server, commands, chosen, options.attempts)) else 1
    except EmbeddedTritonError as error:
        progress(str(error))
        return 2


if __name__ == "__main__":
    sys.exit(main())
