"""Commands that measure, or compare what was measured: analyze, try, compare, changes."""

from __future__ import annotations

import argparse
from pathlib import Path

from exporter.cli.options import add_config, percent, percentile
from exporter.cli.output import complain, show
from exporter.core.exit_code import ExitCode


def add_analyze(analyze: argparse.ArgumentParser) -> None:
    analyze.add_argument("words", nargs="*")
    analyze.set_defaults(command=_analyze)


def _analyze(options: argparse.Namespace) -> int:
    from exporter.commands.analyze.command import run_analyze

    return run_analyze(options.words)


def add_try(trial: argparse.ArgumentParser) -> None:
    trial.description = (
        "Runs one sweep of a configured probe within the daemon's guards, and prints its report. Nothing is stored. "
        "Exit status as for analyze: 0 measured and stable, 2 unstable, 3 invalid options, 4 nothing measured."
    )
    trial.add_argument("probe", metavar="PROBE", help="the probe's name")
    add_config(trial)
    trial.set_defaults(command=_try)


def _try(options: argparse.Namespace) -> int:
    from exporter.commands.analyze.try_probe import run_try
    from exporter.core.errors import ConfigError

    try:
        return run_try(options.probe, options.config)
    except ConfigError as error:
        return complain(str(error), ExitCode.BAD_OPTIONS)


def add_compare(compare: argparse.ArgumentParser) -> None:
    compare.description = (
        "Compares measurements level by level: ratios of throughput and of latency percentiles with 95 % intervals, "
        "as text and a Markdown table. Exit status 0: not worse; 5: worse by more than the tolerance; 3: invalid "
        "options; 4: no level has figures on both sides."
    )
    compare.add_argument(
        "paths", nargs="+", type=Path, metavar="SOURCE", help="a result (analyze --json), an archive's folder or file"
    )
    compare.add_argument(
        "--probe", action="append", default=[], metavar="NAME", help="the probe to select; repeat to compare probes"
    )
    compare.add_argument("--target", default="", metavar="NAME", help="only this target")
    compare.add_argument("--level", action="append", default=[], metavar="LEVEL", help="only these levels")
    compare.add_argument(
        "--before", default="", metavar="WHEN", help="FROM..TO (UTC; either can be omitted), or a configuration hash"
    )
    compare.add_argument("--after", default="", metavar="WHEN", help="likewise")
    compare.add_argument(
        "--percentile",
        action="append",
        type=percentile,
        metavar="P",
        help="latency percentile to compare (default: all that both sides have)",
    )
    compare.add_argument(
        "--tolerance", type=percent, default=0.05, metavar="PERCENT", help="regression tolerance (default: 5%%)"
    )
    compare.add_argument(
        "--min-sweeps",
        type=int,
        default=5,
        metavar="N",
        help="sweeps that each side needs for a verdict (default: 5; 1: single runs, judged by their windows, which "
        "resemble each other more than two sweeps)",
    )
    compare.add_argument("--markdown", type=Path, metavar="FILE", help="also write verdict and table to this file")
    compare.set_defaults(command=_compare)


def _compare(options: argparse.Namespace) -> int:
    from exporter.commands.compare.command import CompareOptions, run_compare
    from exporter.core.errors import ConfigError

    try:
        response = run_compare(
            CompareOptions(
                paths=tuple(options.paths),
                probes=tuple(options.probe),
                target=options.target,
                before=options.before,
                after=options.after,
                levels=tuple(options.level),
                percentiles=tuple(options.percentile) if options.percentile else None,
                tolerance=options.tolerance,
                min_sweeps=options.min_sweeps,
            )
        )
    except ConfigError as error:
        return complain(str(error), ExitCode.BAD_OPTIONS)
    written = options.markdown is None or _is_written(options.markdown, f"{response.as_markdown}\n")
    show(response.as_text)
    if not written:
        return ExitCode.BAD_OPTIONS
    if response.nothing:
        return ExitCode.NOTHING
    return ExitCode.WORSE if response.worse else ExitCode.OK


def _is_written(path: Path, text: str) -> bool:
    """Before anything is shown: standard output that takes nothing costs no file."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        complain(f"{path}: {error.strerror or error}")
        return False
    return True


def add_changes(changes: argparse.ArgumentParser) -> None:
    changes.description = (
        "Finds the times at which a level's latency changed, up or down, from all of its sweeps in the archive: "
        "slower than the verdicts, and independent of them."
    )
    changes.add_argument("path", type=Path, metavar="ARCHIVE", help="the archive's folder, or one of its level files")
    changes.add_argument("--probe", default="", metavar="NAME", help="only this probe")
    changes.add_argument("--level", default="", metavar="LEVEL", help="only this level, such as 4")
    changes.add_argument("--percentile", type=percentile, default=50.0, metavar="P", help="of latency (50)")
    changes.add_argument(
        "--least", type=percent, default=0.05, metavar="PERCENT", help="the smallest change to print (5%%)"
    )
    changes.add_argument("--timezone", default="UTC", metavar="ZONE", help="of the hours of the week (UTC)")
    changes.add_argument("--since", default="", metavar="TIME", help="ignore older sweeps, such as 2026-01-31")
    changes.add_argument("--json", action="store_true", help="print JSON")
    changes.set_defaults(command=_changes)


def _changes(options: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from exporter.archive.columns import percentile_text
    from exporter.commands.changes.command import ChangesOptions, as_json, as_text, run_changes
    from exporter.config.text import timezone
    from exporter.core.errors import ConfigError

    try:
        since = datetime.fromisoformat(options.since).replace(tzinfo=UTC).timestamp() if options.since else 0.0
        zone = timezone(options.timezone)
    except ValueError as error:
        return complain(str(error), ExitCode.BAD_OPTIONS)
    column = f"p{percentile_text(options.percentile)}_ns"
    try:
        found = run_changes(
            ChangesOptions(options.path, options.probe, options.level, column, 1 + options.least, zone, since)
        )
    except ConfigError as error:
        return complain(str(error), ExitCode.BAD_OPTIONS)
    show(as_json(found) if options.json else as_text(found))
    return ExitCode.OK
