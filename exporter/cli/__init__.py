"""The command line. Knows the commands and their options, nothing of how they work.

Imports are made where they are used: `triton-canary --help` must print at once. Each module adds the commands of one
sort to the parser, and runs them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from exporter import __version__
from exporter.cli import ask_daemon, gate, local, measure
from exporter.cli.output import complain, drop_unwritten, open_closed_streams, show
from exporter.core.errors import OutputError
from exporter.core.exit_code import ExitCode


def main() -> None:
    """The entry point: exits with the command's code."""
    open_closed_streams()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs one command and returns its exit code, an `ExitCode`."""
    try:
        options = make_parser().parse_args(arguments)
        return int(options.command(options))
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except OutputError as error:
        return complain(f"triton-canary: {error}")
    finally:
        drop_unwritten()


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets `command`, the function that runs it."""
    parser = _Parser(
        prog="triton-canary",
        description="Measures NVIDIA Triton Inference Server from the client's side, continuously and safely.",
        epilog="See docs/ for the configuration, the metrics and the archive.",
    )
    parser.add_argument("--version", action="version", version=f"triton-canary {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    local.add_serve(commands.add_parser("serve", help="run the daemon"))
    # Its flags are perf_analyzer's, which argparse can't read: no character begins an option of this parser.
    analyze_help = "measure a model from the command line, as perf_analyzer does"
    measure.add_analyze(commands.add_parser("analyze", help=analyze_help, prefix_chars="\0", add_help=False))
    local.add_check_config(commands.add_parser("check-config", help="check a configuration"))
    measure.add_try(commands.add_parser("try", help="run one sweep of a configured probe and print its report"))
    ask_daemon.add_health(commands.add_parser("health", help="check the health of the running daemon"))
    ask_daemon.add_baseline(commands.add_parser("baseline", help="show and change baselines of the running daemon"))
    for action, text in (("pause", "pause measuring of the running daemon"), ("resume", "resume measuring")):
        ask_daemon.add_pause(commands.add_parser(action, help=text), action)
    local.add_demo(
        commands.add_parser("demo", help="start a real Triton with sample models, and a daemon that measures it")
    )
    measure.add_compare(commands.add_parser("compare", help="compare results or archives, with confidence intervals"))
    gate.add_gate(
        commands.add_parser("gate", help="decide whether a candidate may replace the stable side; for pipelines")
    )
    measure.add_changes(commands.add_parser("changes", help="find change points in an archive"))
    local.add_assets(commands.add_parser("assets", help="write boards, alert rules, runbooks and examples to a folder"))
    local.add_completion(commands.add_parser("completion", help="print a completion script for the shell"), parser)
    return parser


class _Parser(argparse.ArgumentParser):
    """Exits with `ExitCode.BAD_OPTIONS`, not with argparse's 2."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Unknown arguments are the command's own error: argparse would report them with the usage of all commands."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._about(unknown))
        return found, unknown

    def _about(self, unknown: Sequence[str]) -> str:
        name = unknown[0].partition("=")[0]
        if not name.startswith("-"):
            return f"{name}: unexpected argument"
        flags = sorted(flag for flag in self._option_string_actions if flag.startswith("--"))
        near = get_close_matches(name, flags, 1)
        return f"{name}: unknown flag; " + (f"did you mean '{near[0]}'?" if near else f"flags are {', '.join(flags)}")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Help and version are a command's output; argparse ignores that it can't be written."""
        if file is sys.stdout:
            show(message, end="")
        else:
            super()._print_message(message, file)

    def error(self, message: str) -> None:  # type: ignore[override]
        self.print_usage(sys.stderr)
        self.exit(ExitCode.BAD_OPTIONS, f"{self.prog}: {message}\n")
