"""Commands that ask the running daemon: health, baseline, pause and resume."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.cli.output import complain, show
from exporter.core.exit_code import ExitCode

if TYPE_CHECKING:
    from exporter.web.daemon_client import DaemonClient

_DAEMON_URL = "http://127.0.0.1:9787"


def add_health(health: argparse.ArgumentParser) -> None:
    health.description = "Exit status 0 if the daemon's scheduler runs, otherwise 1; for HEALTHCHECK and the like."
    health.add_argument("--url", default=_DAEMON_URL, help="the daemon's address (%(default)s)")
    health.set_defaults(command=_health)


def _health(options: argparse.Namespace) -> int:
    from exporter.commands.health import UnhealthyError, check

    try:
        show(check(options.url))
    except UnhealthyError as error:
        return complain(str(error))
    return ExitCode.OK


def add_baseline(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Calls the running daemon. pin: makes the present level the baseline, from the sweeps since the regression "
        "began. accept: makes the served version the one that new versions are compared with. clear: deletes the "
        "baseline. Each for all levels or one. Changes need the token of web.api_token_file, and show with the next "
        "sweep."
    )
    parser.add_argument("action", choices=("show", "pin", "accept", "clear", "export", "import"))
    parser.add_argument("probe", metavar="PROBE", help="the probe's name")
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help="import: the output of export")
    parser.add_argument("--level", default="", help="only this level, such as 4 or 'concurrency 4'")
    parser.add_argument(
        "--since",
        default="",
        metavar="TIME",
        help="pin: use the sweeps since 2026-01-31T08:00, or 6h (default: since the regression began)",
    )
    parser.add_argument("--dry-run", action="store_true", help="pin: change nothing, and print the result")
    parser.add_argument("--json", action="store_true", help="show: print JSON")
    parser.add_argument("--force", action="store_true", help="pin: use sweeps from before and after a change, too")
    _add_client(parser)
    parser.set_defaults(command=_baseline)


def _baseline(options: argparse.Namespace) -> int:
    from exporter.commands.baseline.command import BaselineCommand, run
    from exporter.web.daemon_client import CommandError

    if (options.file is not None) != (options.action == "import"):
        return complain("triton-canary: import needs a FILE; no other action takes one", ExitCode.BAD_OPTIONS)
    if _client(options) is None:
        return ExitCode.BAD_OPTIONS
    if (options.since or options.dry_run or options.force) and options.action != "pin":
        return complain("triton-canary: --since, --dry-run and --force belong to pin", ExitCode.BAD_OPTIONS)
    if options.json and options.action != "show":
        return complain("triton-canary: --json belongs to show; export always prints JSON", ExitCode.BAD_OPTIONS)
    keys = (
        *("action", "probe", "url", "level", "file", "token_file", "ca_file", "cert_file", "key_file"),
        *("since", "dry_run", "force", "json"),
    )
    try:
        show(run(BaselineCommand(**{key: getattr(options, key) for key in keys})))
    except CommandError as error:
        return complain(str(error))
    return ExitCode.OK


def add_pause(parser: argparse.ArgumentParser, action: str) -> None:
    parser.description = {
        "pause": "Calls the running daemon. When everything or a target is paused, running sweeps end within two "
        "seconds; when a probe is paused, its sweep continues. Nothing starts until you resume, even after "
        "a restart. Needs the token of web.api_token_file.",
        "resume": "Calls the running daemon to end a pause: of everything, of a target, or of a probe, each "
        "separately. Needs the token of web.api_token_file.",
    }[action]
    scope = parser.add_mutually_exclusive_group(required=True)
    scope.add_argument("--all", action="store_true", help="everything")
    scope.add_argument("--target", default="", metavar="NAME", help="all probes of a target")
    scope.add_argument("--probe", default="", metavar="NAME", help="one probe")
    _add_client(parser)
    parser.set_defaults(command=_pause, action=action)


def _pause(options: argparse.Namespace) -> int:
    from exporter.commands.pause import Scope, run
    from exporter.web.daemon_client import CommandError

    if (client := _client(options)) is None:
        return ExitCode.BAD_OPTIONS
    try:
        show(run(options.action, Scope(options.target, options.probe), client))
    except CommandError as error:
        return complain(str(error))
    return ExitCode.OK


def _add_client(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default=_DAEMON_URL, help="the daemon's address (%(default)s)")
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="file with the token; TRITON_CANARY_API_TOKEN by default"
    )
    parser.add_argument(
        "--ca-file", type=Path, metavar="FILE", help="PEM file of the authorities to trust; the system's by default"
    )
    parser.add_argument(
        "--cert-file",
        type=Path,
        metavar="FILE",
        help="PEM file of a client certificate, if the daemon requires one",
    )
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="PEM file of its key, if separate")


def _client(options: argparse.Namespace) -> DaemonClient | None:
    """How the daemon is asked; None, and a line on stderr, for options that do not go together."""
    from exporter.web.daemon_client import DaemonClient

    if options.key_file and not options.cert_file:
        complain("triton-canary: --key-file needs --cert-file")
        return None
    return DaemonClient(options.url, options.token_file, options.ca_file, options.cert_file, options.key_file)
