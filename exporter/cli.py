"""The command line. Knows the commands and their options, nothing of how they work.

Imports are made where they are used: `triton-canary --help` must answer at once.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from exporter import __version__

EXIT_OK = 0
EXIT_ERROR = 1
EXIT_BAD_OPTIONS = 3


def main() -> None:
    """The entry point: exits with the command's code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs one command and returns its exit code: 0 done, 1 failed (said on stderr), 3 what the user wrote is wrong."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="triton-canary",
        description="Measures NVIDIA Triton Inference Server from the client's side, continuously and safely.",
        epilog="See docs/ for the configuration, the metrics and the archive.",
    )
    parser.add_argument("--version", action="version", version=f"triton-canary {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    serve = commands.add_parser("serve", help="run the daemon", description="Runs the daemon until SIGTERM or SIGINT.")
    _add_config(serve)
    serve.set_defaults(command=_serve)

    check = commands.add_parser(
        "check-config",
        help="check a configuration",
        description="Says ok, with an estimate of series and of sweep time against the interval, or all errors.",
    )
    check.add_argument("file", type=Path, metavar="FILE", help="the configuration file")
    check.set_defaults(command=_check_config)

    _add_baseline(commands.add_parser("baseline", help="show and change baselines of the running daemon"))

    demo = commands.add_parser(
        "demo",
        help="a real Triton with sample models, probed by the daemon",
        description="Starts an embedded Triton with sample models and the daemon probing it; runs until Ctrl-C.",
    )
    demo.set_defaults(command=_demo)
    return parser


class _Parser(argparse.ArgumentParser):
    """argparse exits with 2 on bad options; here 2 is kept for a measurement that is unstable."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.print_usage(sys.stderr)
        self.exit(EXIT_BAD_OPTIONS, f"{self.prog}: {message}\n")


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the configuration file")


def _add_baseline(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Asks the running daemon. pin: takes the sweeps there are as the baseline; accept: takes the served version as "
        "the one to hold new ones against; clear: forgets; each at all levels or at one. Changes need the token of "
        "web.api_token_file, and show with the next sweep."
    )
    parser.add_argument("action", choices=("show", "pin", "accept", "clear", "export", "import"))
    parser.add_argument("probe", metavar="PROBE", help="the probe's name")
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help="import: what export printed")
    parser.add_argument("--level", default="", help="one level alone, as 4 or 'concurrency 4'")
    parser.add_argument("--url", default="http://127.0.0.1:9787", help="the daemon's address (%(default)s)")
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="holds the token; TRITON_CANARY_API_TOKEN by default"
    )
    parser.set_defaults(command=_baseline)


def _baseline(options: argparse.Namespace) -> int:
    from exporter.baseline_command import Command, CommandError, run

    if (options.file is not None) != (options.action == "import"):
        print("triton-canary: import needs a FILE, and nothing else takes one", file=sys.stderr)
        return EXIT_BAD_OPTIONS
    keys = ("action", "probe", "url", "level", "file", "token_file")
    try:
        print(run(Command(**{key: getattr(options, key) for key in keys})))
    except CommandError as error:
        return _complain(str(error))
    return EXIT_OK


def _serve(options: argparse.Namespace) -> int:
    from exporter.app import serve
    from exporter.errors import TritonCanaryError

    try:
        serve(options.config)
    except TritonCanaryError as error:
        return _complain(str(error))
    return EXIT_OK


def _check_config(options: argparse.Namespace) -> int:
    from exporter.config import check_report, load
    from exporter.errors import ConfigError

    try:
        report = check_report(load(options.file))
    except ConfigError as error:
        return _complain(str(error))
    print(report)
    return EXIT_OK


def _demo(_options: argparse.Namespace) -> int:
    from exporter.demo.command import run_demo

    return run_demo()


def _complain(text: str) -> int:
    print(text, file=sys.stderr)
    return EXIT_ERROR
