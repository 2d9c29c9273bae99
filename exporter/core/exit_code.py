"""The exit codes of all commands. Public: pipelines depend on them, and a code never changes its meaning."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """How a command ended; standard error has the reason. A second signal ends the program with 128 plus the signal
    number, as in shells."""

    OK = 0
    """Success. `analyze`: measured, and every level is stable; `compare`: no figure is worse; `gate`: better or
    equivalent, or undecided under `--on-undecided pass`."""
    ERROR = 1
    """Failure. `analyze`: the report or a file could not be written; `health`: the daemon is unhealthy."""
    UNSTABLE = 2
    """`analyze`: measured, but a level is unstable, or the run was cut short."""
    BAD_OPTIONS = 3
    """Invalid options or configuration. Not argparse's usual 2, which means unstable here."""
    NOTHING = 4
    """`analyze`: nothing was measured; `compare`: no level has figures on both sides."""
    WORSE = 5
    """`analyze`: a `--fail-on` condition is met; `compare`: a figure is worse by more than the tolerance; `gate`: the
    candidate is worse."""
    UNDECIDED = 6
    """`gate`: no verdict: too few pairs, or a side could not be measured."""
    INTERRUPTED = 130
    """Ctrl-C or SIGTERM. `analyze` prints what it has measured so far."""
