"""The command `completion`: a shell's completion script, made by shtab from the parser that the commands have."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

import shtab

SHELLS = ("bash", "zsh", "tcsh")
_FILES = ("FILE", "PATH", "SOURCE", "ARCHIVE")


Option = tuple[Sequence[str], str, str]
"""Names, what is for the value ("" where it takes none), and help."""


def completion_script(
    shell: str, parser: argparse.ArgumentParser, analyze: argparse.ArgumentParser, flags: Iterable[Option]
) -> str:
    """The script for one of SHELLS. `parser` is the whole command line, `analyze` a sub-parser of it that has no
    options yet: it is given these flags."""
    analyze.prefix_chars = "-"
    taken: set[str] = set()
    for given, metavar, meaning in flags:
        names = [name for name in given if name not in taken]
        taken.update(names)
        if not names:
            continue
        # argparse formats a help text with %.
        text = meaning.replace("%", "%%")
        if metavar:
            analyze.add_argument(*names, metavar=metavar, help=text)
        else:
            analyze.add_argument(*names, action="store_true", help=text)
    for each in (parser, *_inner(parser)):
        for action in each._actions:
            if isinstance(action.metavar, str) and action.metavar in _FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell=shell))


def _inner(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parsers of the commands."""
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += list(action.choices.values())
    return found
