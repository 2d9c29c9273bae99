"""The command `completion`: a shell's completion script, made by shtab from the parser that the commands have."""

from __future__ import annotations

import argparse

import shtab

from exporter.commands.analyze.flags.table import GROUPS

SHELLS = ("bash", "zsh", "tcsh")
_FILES = ("FILE", "PATH", "SOURCE", "ARCHIVE")


def completion_script(shell: str, parser: argparse.ArgumentParser, analyze: argparse.ArgumentParser) -> str:
    """The script for one of SHELLS. `parser` is the whole command line, `analyze` a sub-parser of it that has no
    options yet: it is given those of the table of flags."""
    analyze.prefix_chars = "-"
    taken: set[str] = set()
    for flag in (flag for _, flags in GROUPS for flag in flags):
        names = [name for name in flag.names if name not in taken]
        taken.update(names)
        if not names:
            continue
        # argparse formats a help text with %.
        text = flag.help.replace("%", "%%")
        if flag.metavar:
            analyze.add_argument(*names, metavar=flag.metavar, help=text)
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
