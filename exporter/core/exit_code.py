"""The exit codes of all commands. Public: pipelines read them, and a number keeps its meaning."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """How a command ended. Why is on standard error. A second signal ends the program with 128 and the signal's
    number, as shells have it."""

    OK = 0
    """Done; `analyze`: measured, and every level is stable; `compare`: no figure is worse; `gate`: better or
    equivalent, or undecided under `--on-undecided pass`."""
    ERROR = 1
    """It failed; `analyze`: the report or a file could not be written; `health`: the daemon is not well."""
    UNSTABLE = 2
    """`analyze`: measured, but a level is unstable, or the run was cut short."""
    BAD_OPTIONS = 3
    """What the user wrote is wrong. argparse's own 2 is kept for what is unstable."""
    NOTHING = 4
    """`analyze`: nothing was measured; `compare`: no level has figures on both sides."""
    WORSE = 5
    """`analyze`: a `--fail-on` condition is met; `compare`: a figure is worse, beyond the tolerance; `gate`: the
    candidate is worse."""
    UNDECIDED = 6
    """`gate`: neither a pass nor worse: too few pairs, or a side that could not be measured."""
    INTERRUPTED = 130
    """Ctrl-C or SIGTERM; `analyze` prints what was measured until then."""
