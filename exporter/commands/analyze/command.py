"""`triton-canary analyze`: one sweep from a command line, by the daemon's own path, reported as perf_analyzer reports
it.

Owns the exit code, and the order of what is printed. There is no schedule, no web side and no archive.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from exporter import __version__
from exporter.commands.analyze.flags import CommandLine, RunOptions, parse
from exporter.commands.analyze.flags.help import help_text
from exporter.commands.analyze.report.csv import CsvOptions, write_csv
from exporter.commands.analyze.report.lines import ReportOptions
from exporter.commands.analyze.report.live import LiveReport
from exporter.commands.analyze.report.plot import SUFFIXES, require_plotting, write_plot
from exporter.commands.analyze.report.profile_export import ProfileExport
from exporter.commands.analyze.report.result_json import json_text
from exporter.commands.analyze.report.terminal import Report
from exporter.config.document import parse_value
from exporter.config.quantities import format_duration
from exporter.core.errors import ConfigError
from exporter.core.exit_code import ExitCode
from exporter.core.facts import ModelFacts
from exporter.core.outcome import Reason
from exporter.core.probe import LoadLevel, Probe
from exporter.core.result import Measurement, SweepResult, WindowSummary
from exporter.logs import COMMAND_FORMAT, configure
from exporter.sweep.conductor import Borrow, Sweep
from exporter.sweep.stability import Stability
from exporter.sweep.trace_settings import put_back_now
from exporter.sweep.watcher import Watcher
from exporter.worker.local import LocalWorker
from exporter.worker.pool import WorkerPool


def run_analyze(words: Sequence[str]) -> ExitCode:
    """Runs the command with the words after its name; returns its exit code."""
    code = ExitCode.OK
    try:
        code = _run_command(words)
        sys.stdout.flush()
    except OSError as error:
        # A run that has reported this has a code. Whoever closed our pipe wants no more, and that is no news.
        if code == ExitCode.OK and not isinstance(error, BrokenPipeError):
            _print_error(f"cannot write: {error}")
        # What is still buffered must not be tried again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code or ExitCode.ERROR
    return code


def _run_command(words: Sequence[str]) -> ExitCode:
    try:
        line = parse(words)
    except ConfigError as error:
        return _refuse(error)
    for notice in line.notices:
        _print_error(notice)
    if line.options.help:
        print(help_text())
    elif line.options.version:
        print(f"triton-canary {__version__}")
    elif line.options.print_probe:
        print(print_document(line.document, line.environment), end="")
    else:
        assert line.probe is not None
        return _measure(line, line.probe)
    return ExitCode.OK


def _measure(line: CommandLine, probe: Probe) -> ExitCode:
    configure("info" if len(line.options.verbosity) > 1 else "warning", COMMAND_FORMAT)
    if line.options.verbosity:
        _print_error(_limits(probe))
    os.environ.update(line.environment)
    try:
        if _plot_paths(line.options):
            require_plotting()
        path = line.options.profile_export_path
        export = ProfileExport(Path(path)) if path else None
    except ConfigError as error:
        return _refuse(error)
    with _Display(probe, _report_options(line, probe)) as display:
        result = asyncio.run(_run(probe, display, export))
        written = [_is_written(name, write) for name, write in _outputs(display, result, line.options, export)]
    return exit_code(result, line.options, written=all(written))


async def _run(probe: Probe, display: _Display, export: ProfileExport | None) -> SweepResult:
    """The sweep, with workers of its own. SIGINT and SIGTERM end it with what was measured; a second one ends all."""
    sweep = Sweep(probe, [], watchers=[display, export] if export else [display])
    pool = WorkerPool(1, spawn=partial(LocalWorker.spawn, log_format=COMMAND_FORMAT))
    borrow: Borrow = partial(pool.lend, probe.workers)
    interrupts: list[asyncio.Task[None]] = []

    def on_signal(number: int) -> None:
        if interrupts:
            for line in put_back_now():
                _print_error(line)
            os._exit(128 + number)
        interrupts.append(asyncio.create_task(sweep.interrupt()))

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    try:
        return await sweep.run(borrow)
    finally:
        await pool.close()


class _Display(Watcher):
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

    def __enter__(self) -> _Display:
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


def exit_code(result: SweepResult, options: RunOptions, *, written: bool = True) -> ExitCode:
    """What the run came to, reported on stderr where it is not all well. Being interrupted goes before having measured
    nothing, that before a met condition, that before an output that is not `written`, and that before being unstable.
    A level of a search is unstable like any other, though a search continues from it."""
    measured = [measurement for measurement in result.measurements if measurement.latency is not None]
    if result.reason is Reason.SHUTDOWN:
        _print_error(f"{result.reason_text or 'interrupted'}; {len(measured)} level(s) measured")
        return ExitCode.INTERRUPTED
    if not measured:
        for text in result.input_faults or (result.reason_text,):
            _print_error(f"nothing measured: {result.reason}: {text}")
        return ExitCode.NOTHING
    met = [finding for condition in options.fail_on for m in result.measurements if (finding := condition.finding(m))]
    for finding in met:
        _print_error(f"--fail-on: {finding}")
    unstable = [measurement for measurement in result.measurements if not measurement.stable]
    if result.reason is not Reason.NONE:
        _print_error(f"{result.reason}: {result.reason_text}")
    elif unstable:
        _print_error(f"{Reason.UNSTABLE}: {unstable[0].reason_text}")
    if met:
        return ExitCode.WORSE
    if not written:
        return ExitCode.ERROR
    return ExitCode.UNSTABLE if unstable or result.reason is not Reason.NONE else ExitCode.OK


# --- outputs ----------------------------------------------------------------------------------------------------------


def _outputs(
    display: _Display, result: SweepResult, options: RunOptions, export: ProfileExport | None
) -> Iterator[tuple[str, Callable[[], object]]]:
    """All that is to be written at the end, each under the name that a failure is reported by."""
    yield "the report", partial(display.finish, result)
    plots = _plot_paths(options)
    if options.output_path and options.output_path not in plots:
        yield options.output_path, partial(_write_csv, result, options)
    for path in plots:
        yield path, partial(_write_plot, path, result)
    if options.json_path:
        yield options.json_path, lambda: Path(options.json_path).write_text(json_text(result), encoding="utf-8")
    if export:
        target = result.probe.target
        yield options.profile_export_path, partial(export.close, "triton_c_api" if target.in_process else target.kind)


def _is_written(name: str, write: Callable[[], object]) -> bool:
    """Each output is tried by itself: one that fails must not cost the others."""
    try:
        write()
    except BrokenPipeError:  # whoever read it wants no more
        return False
    except OSError as error:
        _print_error(f"{name}: cannot write: {error.strerror or error}")
        return False
    return True


def _write_csv(result: SweepResult, options: RunOptions) -> None:
    csv = CsvOptions(options.verbose_csv, bool(result.probe.target.metrics_url), options.include_unstable)
    if not write_csv(Path(options.output_path), result, csv):
        _print_error(f"{options.output_path}: not written: no level is stable; --include-unstable writes them all")


def _write_plot(path: str, result: SweepResult) -> None:
    if not write_plot(Path(path), result):
        _print_error(f"{path}: not written: no request was ok")


def _plot_paths(options: RunOptions) -> list[str]:
    asked = [options.plot_path, options.output_path if options.output_path.endswith(SUFFIXES) else ""]
    return list(dict.fromkeys(filter(None, asked)))


def _report_options(line: CommandLine, probe: Probe) -> ReportOptions:
    streaming = bool(line.document["probes"][0].get("streaming"))
    return ReportOptions(
        verbose=bool(line.options.verbosity),
        asynchronous=line.options.asynchronous or streaming,
        metrics=bool(probe.target.metrics_url),
    )


def _limits(probe: Probe) -> str:
    stop = probe.stop
    limits = f"{stop.max_requests} requests, {format_duration(stop.max_duration_ns)}, {stop.max_in_flight} in flight"
    timeout = format_duration(probe.measurement.request_timeout_ns)
    return f"limits: {limits}, {timeout} for a request, {stop.max_error_ratio:.0%} of them may fail (see --print-probe)"


# --- --print-probe ----------------------------------------------------------------------------------------------------


_PRINTED_HEAD = """\
# The same measurement for the daemon. A command line has no schedule: set your own, and budgets that your server bears.
"""


class _ProbeDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Nobody reads an alias gladly."""
        return True


def _dumped_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    """Text that we would read as something else is quoted; the dumper quotes what YAML 1.1 would."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if parse_value(value) == value else '"')


_ProbeDumper.add_representer(str, _dumped_text)


def print_document(document: Mapping[str, Any], variables: Iterable[str]) -> str:
    """A configuration document as YAML that the daemon reads back as it is. `variables` are those of the
    environment that it needs."""
    text = yaml.dump(dict(document), Dumper=_ProbeDumper, sort_keys=False, allow_unicode=True, width=120)
    return _PRINTED_HEAD + "".join(f"# Needs the secret in the variable {name}.\n" for name in variables) + text


def _refuse(error: ConfigError) -> ExitCode:
    for problem in error.faults:
        _print_error(problem)
    return ExitCode.BAD_OPTIONS


def _print_error(text: str) -> None:
    print(f"triton-canary analyze: {text}", file=sys.stderr)
