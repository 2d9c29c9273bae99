"""What a command prints, and what it complains of."""

from __future__ import annotations

import os
import sys

from exporter.core.errors import OutputError
from exporter.core.exit_code import ExitCode


def show(text: str, end: str = "\n") -> None:
    """Prints a command's output. A reader that closed the pipe wants no more: that is no error. Any other failure is an
    OutputError."""
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        drop_unwritten()
    except OSError as error:
        raise OutputError(error) from None


def complain(text: str, code: ExitCode = ExitCode.ERROR) -> ExitCode:
    """Prints an error; returns the exit code of a command that ends with it."""
    print(text, file=sys.stderr)
    return code


def drop_unwritten() -> None:
    """What standard output does not take is dropped: Python would try again at the end, and report that it failed."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def open_closed_streams() -> None:
    """Opens the standard streams that the caller closed (`>&-`): a connection would get the free number, and what is
    printed with it. Printing fails then, as in other programs: standard output is open for reading only ("Bad file
    descriptor"). What goes to standard error is lost."""
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)
