"""What a command line says of this one run, beside what is measured."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.commands.analyze.flags.fail_on import Condition


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How the run is told and judged. Paths are "" where nothing is to be written; `verbosity` has an entry for each
    time that more was asked for. `asynchronous` and `synchronous` change words of the report alone."""

    output_path: str = ""
    verbose_csv: bool = False
    profile_export_path: str = ""
    json_path: str = ""
    plot_path: str = ""
    include_unstable: bool = False
    fail_on: tuple[Condition, ...] = ()
    verbosity: tuple[bool, ...] = ()
    asynchronous: bool = False
    synchronous: bool = False
    print_probe: bool = False
    version: bool = False
    help: bool = False
