"""The command `check-config`: all errors of a configuration, or its report."""

from __future__ import annotations

import sys
from pathlib import Path

from exporter.commands.check_config.estimate import Estimate, ProbeEstimate, estimate
from exporter.commands.check_config.named import named_problems
from exporter.config import Settings, build_probes
from exporter.config.loading import load_with_places
from exporter.config.quantities import format_duration
from exporter.core.errors import ConfigError, InputError
from exporter.core.units import NS
from exporter.payload import check_files
from exporter.payload.prompts import check_prompt_files

_HEAD = ("probe", "levels", "series", "sweep", "at worst", "due every")


def run_check_config(path: Path, *, named: bool = True, live: bool = False) -> tuple[str, bool]:
    """The report on the file, and whether all is well: with `live` the targets are asked, too. Raises ConfigError with
    all errors of the file, or of what it names: input files, and, with `named`, certificates, tokens and environment
    variables."""
    settings, places = load_with_places(path)
    report = check_report(settings, live=live)
    found = [places.problem(where, text) for where, text in named_problems(settings)] if named else []
    problems = [str(problem) for problem in sorted(found, key=lambda problem: problem.line)]
    probes = build_probes(settings)
    unseen = {probe.input.paths for probe in probes if probe.input.shared_memory != "none"}
    prompted = {probe.input.paths: probe.input for probe in probes if probe.input.paths and probe.target.takes_prompts}
    for paths in dict.fromkeys(probe.input.paths for probe in probes if probe.input.paths):
        try:
            if paths in prompted:
                check_prompt_files(prompted[paths])
                continue
            check_files(paths, _show_progress if sys.stderr.isatty() else None, outputs_seen=paths not in unseen)
        except InputError as error:
            problems += error.lines
    if problems:
        raise ConfigError(problems)
    if not live:
        return report, True
    from exporter.commands.check_config.live import check_live

    asked = check_live(settings)
    return "\n".join([report, "", *asked.lines]), asked.ok


def _show_progress(path: Path, read: int, size: int) -> None:
    end = "\n" if read >= size else ""
    print(f"\r{path}: {read >> 20} of {size >> 20} MiB", end=end, file=sys.stderr, flush=True)


def check_report(settings: Settings, *, live: bool = False) -> str:
    """What the configuration holds and will cost, as lines for people; warnings come last. With `live` it leaves out
    what the servers are asked."""
    found = estimate(settings)
    lines = [f"ok: {len(settings.targets)} target(s), {len(settings.probes)} probe(s)"]
    if found.probes:
        lines += ["", *_table([_HEAD, *map(_row, found.probes)]), "", *_load(settings, found)]
    lines += [f"series: at most about {found.series}, of {settings.limits.max_series} that limits.max_series allows"]
    lines += [f"note: {note}" for note in (*found.notes, *(() if live else found.batching_notes))]
    return "\n".join(lines + [f"warning: {warning}" for warning in found.warnings])


def _row(entry: ProbeEstimate) -> tuple[str, ...]:
    times = (entry.typical_ns, entry.worst_ns, entry.interval_ns)
    return (entry.name, str(entry.levels), str(entry.series), *map(_shown, times))


def _shown(duration_ns: int) -> str:
    """Tenths of a second are enough to read."""
    return format_duration(round(duration_ns, -8) if duration_ns >= NS else duration_ns)


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]


def _load(settings: Settings, found: Estimate) -> list[str]:
    lines = [f"group {group}: busy {part:.1%} of the time" for group, part in found.group_utilisation.items()]
    concurrent = settings.limits.concurrent_sweeps
    allowed = f"the time that limits.concurrent_sweeps, {concurrent}, allows"
    return [*lines, f"all groups: busy {found.utilisation:.1%} of {allowed}"]
