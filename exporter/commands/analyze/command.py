"""`triton-canary analyze`: one sweep from a command line, by the daemon's own path, reported as perf_analyzer reports
it.

Owns the exit code, and the order of what is printed. There is no schedule, no web side and no archive.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from exporter import __version__
from exporter.commands.analyze.flags import CommandLine, RunOptions, parse
from exporter.commands.analyze.flags.help import help_text
from exporter.commands.analyze.printed_probe import print_document
from exporter.commands.analyze.report.csv import CsvOptions, write_csv
from exporter.commands.analyze.report.lines import ReportOptions
from exporter.commands.analyze.report.plot import SUFFIXES, require_plotting, write_plot
from exporter.commands.analyze.report.profile_export import ProfileExport
from exporter.commands.analyze.report.result_json import json_text
from exporter.commands.analyze.running import Display, exit_code, is_written, print_error, run_sweep
from exporter.config.quantities import format_duration
from exporter.core.errors import ConfigError
from exporter.core.exit_code import ExitCode
from exporter.core.probe import Probe
from exporter.core.result import SweepResult
from exporter.logs import COMMAND_FORMAT, configure


def run_analyze(words: Sequence[str]) -> ExitCode:
    """Runs the command with the words after its name; returns its exit code."""
    code = ExitCode.OK
    try:
        code = _run_command(words)
        sys.stdout.flush()
    except OSError as error:
        # A run that has reported this has a code. Whoever closed our pipe wants no more, and that is no news.
        if code == ExitCode.OK and not isinstance(error, BrokenPipeError):
            print_error(f"cannot write: {error.strerror or error}")
        return code or ExitCode.ERROR
    return code


def _run_command(words: Sequence[str]) -> ExitCode:
    try:
        line = parse(words)
    except ConfigError as error:
        return _refuse(error)
    for notice in line.notices:
        print_error(notice)
    if line.options.help:
        print(help_text())
    elif line.options.version:
        print(f"triton-canary {__version__}")
    elif line.options.print_probe:
        print(print_document(line.document, line.environment, line.probe, line.assumed), end="")
    else:
        assert line.probe is not None
        return _measure(line, line.probe)
    return ExitCode.OK


def _measure(line: CommandLine, probe: Probe) -> ExitCode:
    configure("info" if len(line.options.verbosity) > 1 else "warning", COMMAND_FORMAT)
    if line.options.verbosity:
        print_error(_limits(probe))
    os.environ.update(line.environment)
    try:
        if _plot_paths(line.options):
            require_plotting()
        path = line.options.profile_export_path
        export = ProfileExport(Path(path)) if path else None
    except ConfigError as error:
        return _refuse(error)
    with Display(probe, _report_options(line, probe)) as display:
        result = asyncio.run(run_sweep(probe, [display, export] if export else [display]))
        written = [is_written(name, write) for name, write in _outputs(display, result, line.options, export)]
    return exit_code(result, line.options, written=all(written))


# --- outputs ----------------------------------------------------------------------------------------------------------


def _outputs(
    display: Display, result: SweepResult, options: RunOptions, export: ProfileExport | None
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


def _write_csv(result: SweepResult, options: RunOptions) -> None:
    csv = CsvOptions(options.verbose_csv, bool(result.probe.target.metrics_url), options.include_unstable)
    if not write_csv(Path(options.output_path), result, csv):
        print_error(f"{options.output_path}: not written: no level is stable; --include-unstable writes them all")


def _write_plot(path: str, result: SweepResult) -> None:
    if not write_plot(Path(path), result):
        print_error(f"{path}: not written: no request was ok")


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
    if probe.target.takes_prompts:
        limits += f", {stop.max_tokens} tokens"
    timeout = format_duration(probe.measurement.request_timeout_ns)
    return (
        f"limits: {limits}, {timeout} for a request, {stop.max_error_ratio:.0%} of the requests may fail (see "
        "--print-probe)"
    )


def _refuse(error: ConfigError) -> ExitCode:
    for problem in error.problems:
        print_error(problem)
    return ExitCode.BAD_OPTIONS
