"""What a command prints, and what it complains of."""

from __future__ import annotations

import os
import sys

from exporter.core.exit_code import ExitCode


def show(text: str) -> None:
    """Prints a command's output. A reader that closed the pipe wants no more: that is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(text: str, code: ExitCode = ExitCode.ERROR) -> ExitCode:
    """Prints an error; returns the exit code of a command that ends with it."""
    print(text, file=sys.stderr)
    return code
