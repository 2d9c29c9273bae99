"""One sweep of one probe in the foreground: how it runs, what a person sees of it, and its exit code.

For the commands `analyze`, whose probe comes from flags, and `try`, whose probe comes from a configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from exporter.commands.analyze.flags import RunOptions
from exporter.commands.analyze.report.lines import ReportOptions
from exporter.commands.analyze.report.live import LiveReport
from exporter.commands.analyze.report.terminal import Report
from exporter.core.exit_code import ExitCode
from exporter.core.facts import ModelFacts
from exporter.core.limits import Load
from exporter.core.outcome import Reason
from exporter.core.probe import LoadLevel, Probe
from exporter.core.result import Measurement, SweepResult, WindowSummary
from exporter.logs import COMMAND_FORMAT
from exporter.sweep.conductor import Sweep
from exporter.sweep.stability import Stability
from exporter.sweep.trace_settings import put_back_now
from exporter.sweep.watcher import Watcher
from exporter.worker.lender import lender
from exporter.worker.local import LocalWorker
from exporter.worker.pool import WorkerPool

PrintError = Callable[[str], None]


def print_error(text: str, command: str = "analyze") -> None:
    """A message of the command, on stderr."""
    print(f"triton-canary {command}: {text}", file=sys.stderr)


async def run_sweep(probe: Probe, watchers: Sequence[Watcher], allowed: Load | None = None) -> SweepResult:
    """The sweep, with workers of its own. SIGINT and SIGTERM end it with what was measured; a second one ends all.
    `allowed` is what the budgets of its group allow, where it has any."""
    sweep = Sweep(probe, [], watchers=watchers, allowed=allowed)
    pool = WorkerPool(1, spawn=partial(LocalWorker.spawn, log_format=COMMAND_FORMAT))
    interrupts: list[asyncio.Task[None]] = []

    def on_signal(number: int) -> None:
        if interrupts:
            for line in put_back_now():
                print_error(line)
            os._exit(128 + number)
        interrupts.append(asyncio.create_task(sweep.interrupt()))

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    try:
        return await sweep.run(lender(probe, pool))
    finally:
        await pool.close()


class Display(Watcher):
    """Prints each level as it ends, with a live line in between on a terminal. A stream that takes nothing any more
    is reported at the end: the sweep does not fail by it."""

    def __init__(self, probe: Probe, options: ReportOptions) -> None:
        self._report = Report(sys.stdout, probe, options)
        self._facts: ModelFacts | None = None
        self._windows = 0
        self._broken: OSError | None = None
        self._live: LiveReport | None = None
        if sys.stdout.isatty():
            from rich.console import Console

            self._live = LiveReport(Console(), probe)

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def model_known(self, facts: ModelFacts) -> None:
        """See `Watcher`."""
        self._facts = facts
        with self._printing():
            self._report.print_settings(facts)
        if self._live:
            self._live.load_begins()

    def window_judged(self, level: LoadLevel, summary: WindowSummary, verdict: Stability) -> None:
        """See `Watcher`."""
        self._windows += 1
        if self._live:
            self._live.window_judged(level, summary, verdict, self._windows)

    def level_ended(self, measurement: Measurement | None) -> None:
        """See `Watcher`."""
        if measurement is None:
            return
        self._windows = 0
        if self._live:
            self._live.level_ended()
        with self._printing():
            self._report.level_ended(measurement, self._facts)

    def finish(self, result: SweepResult) -> None:
        """The summary. Raises the OSError of a stream that could not be written."""
        if self._live:
            self._live.stop()
            self._live = None
        with self._printing():
            self._report.finish(result)
        if self._broken:
            raise self._broken

    @contextlib.contextmanager
    def _printing(self) -> Iterator[None]:
        with self._live.paused() if self._live else contextlib.nullcontext():
            try:
                yield
            except OSError as error:
                self._broken = error


def is_written(name: str, write: Callable[[], object], print_error: PrintError = print_error) -> bool:
    """Each output is tried by itself: one that fails must not cost the others."""
    try:
        write()
    except BrokenPipeError:  # whoever read it wants no more
        return False
    except OSError as error:
        print_error(f"{name}: cannot write: {error.strerror or error}")
        return False
    return True


def exit_code(
    result: SweepResult, options: RunOptions, *, written: bool = True, print_error: PrintError = print_error
) -> ExitCode:
    """What the run came to, reported on stderr where it is not all well. Being interrupted goes before having measured
    nothing, that before a met condition, that before an output that is not `written`, and that before being unstable.
    A level of a search is unstable like any other, though a search continues from it."""
    measured = [measurement for measurement in result.measurements if measurement.latency is not None]
    if result.reason is Reason.SHUTDOWN:
        print_error(f"{result.reason_text or 'interrupted'}; {len(measured)} level(s) measured")
        return ExitCode.INTERRUPTED
    if not measured:
        for text in result.input_faults or (result.reason_text,):
            print_error(f"nothing measured: {result.reason}: {text}")
        return ExitCode.NOTHING
    met = [finding for condition in options.fail_on for m in result.measurements if (finding := condition.finding(m))]
    for finding in met:
        print_error(f"--fail-on: {finding}")
    unstable = [measurement for measurement in result.measurements if not measurement.stable]
    if result.reason is not Reason.NONE:
        print_error(f"{result.reason}: {result.reason_text}")
    elif unstable:
        print_error(f"{Reason.UNSTABLE}: {unstable[0].reason_text}")
    if met:
        return ExitCode.WORSE
    if not written:
        return ExitCode.ERROR
    return ExitCode.UNSTABLE if unstable or result.reason is not Reason.NONE else ExitCode.OK
