"""The command line. Knows the commands and their options, nothing of how they work.

Imports are made where they are used: `triton-canary --help` must print at once.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from exporter import __version__
from exporter.core.exit_code import ExitCode

if TYPE_CHECKING:
    from exporter.web.daemon_client import DaemonClient

_DAEMON_URL = "http://127.0.0.1:9787"


def main() -> None:
    """The entry point: exits with the command's code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs one command and returns its exit code, an `ExitCode`."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="triton-canary",
        description="Measures NVIDIA Triton Inference Server from the client's side, continuously and safely.",
        epilog="See docs/ for the configuration, the metrics and the archive.",
    )
    parser.add_argument("--version", action="version", version=f"triton-canary {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    _add_serve(commands.add_parser("serve", help="run the daemon"))
    # Its flags are perf_analyzer's, which argparse can't read: no character begins an option of this parser.
    analyze_help = "measure a model from the command line, as perf_analyzer does"
    _add_analyze(commands.add_parser("analyze", help=analyze_help, prefix_chars="\0", add_help=False))
    _add_check_config(commands.add_parser("check-config", help="check a configuration"))
    _add_try(commands.add_parser("try", help="run one sweep of a configured probe and print its report"))
    _add_health(commands.add_parser("health", help="check the health of the running daemon"))
    _add_baseline(commands.add_parser("baseline", help="show and change baselines of the running daemon"))
    for action, text in (("pause", "pause measuring of the running daemon"), ("resume", "resume measuring")):
        _add_pause(commands.add_parser(action, help=text), action)
    _add_demo(commands.add_parser("demo", help="start a real Triton with sample models, and a daemon that measures it"))
    _add_compare(commands.add_parser("compare", help="compare results or archives, with confidence intervals"))
    _add_gate(commands.add_parser("gate", help="decide whether a candidate may replace the stable side; for pipelines"))
    _add_changes(commands.add_parser("changes", help="find change points in an archive"))
    _add_assets(commands.add_parser("assets", help="write boards, alert rules, runbooks and examples to a folder"))
    _add_completion(commands.add_parser("completion", help="print a completion script for the shell"))
    return parser


def _add_serve(serve: argparse.ArgumentParser) -> None:
    serve.description = "Runs the daemon until SIGTERM or SIGINT."
    _add_config(serve)
    serve.add_argument(
        "--shard",
        default="0/1",
        metavar="I/N",
        help="measure only this part of the groups, I from 0 to N-1, with the same file for all N daemons (default: "
        "all groups)",
    )
    serve.add_argument(
        "--web.config.file",
        dest="web_config",
        type=Path,
        metavar="FILE",
        help="TLS, users and headers of the web side, in the format of Prometheus's exporters",
    )
    serve.set_defaults(command=_serve)


def _add_analyze(analyze: argparse.ArgumentParser) -> None:
    analyze.add_argument("words", nargs="*")
    analyze.set_defaults(command=_analyze)


def _add_check_config(check: argparse.ArgumentParser) -> None:
    check.description = (
        "Prints all errors; without errors, an estimate of the series and of the sweeps' duration compared with "
        "their interval."
    )
    check.add_argument("file", type=Path, metavar="FILE", help="the configuration file")
    check.add_argument(
        "--live",
        action="store_true",
        help="also contact every target: reachable, model ready, input valid, metrics page readable, what can be "
        "judged; sends no inference request",
    )
    check.add_argument(
        "--no-files",
        action="store_true",
        help="do not check certificates, tokens and environment variables; for another machine than the daemon's, "
        "as in CI",
    )
    check.set_defaults(command=_check_config)


def _add_try(trial: argparse.ArgumentParser) -> None:
    trial.description = (
        "Runs one sweep of a configured probe within the daemon's guards, and prints its report. Nothing is stored. "
        "Exit status as for analyze: 0 measured and stable, 2 unstable, 3 invalid options, 4 nothing measured."
    )
    trial.add_argument("probe", metavar="PROBE", help="the probe's name")
    _add_config(trial)
    trial.set_defaults(command=_try)


def _add_health(health: argparse.ArgumentParser) -> None:
    health.description = "Exit status 0 if the daemon's scheduler runs, otherwise 1; for HEALTHCHECK and the like."
    health.add_argument("--url", default=_DAEMON_URL, help="the daemon's address (%(default)s)")
    health.set_defaults(command=_health)


def _add_demo(demo: argparse.ArgumentParser) -> None:
    demo.description = "Starts an embedded Triton with sample models and a daemon that measures it; runs until Ctrl-C."
    demo.add_argument(
        "--check",
        action="store_true",
        help="only report what this machine lacks (exit status 1), or what would be downloaded (0)",
    )
    demo.set_defaults(command=_demo)


def _add_changes(changes: argparse.ArgumentParser) -> None:
    changes.description = (
        "Finds the times at which a level's latency changed, up or down, from all of its sweeps in the archive: "
        "slower than the verdicts, and independent of them."
    )
    changes.add_argument("path", type=Path, metavar="ARCHIVE", help="the archive's folder, or one of its level files")
    changes.add_argument("--probe", default="", metavar="NAME", help="only this probe")
    changes.add_argument("--level", default="", metavar="LEVEL", help="only this level, such as 4")
    changes.add_argument("--percentile", type=_percentile, default=50.0, metavar="P", help="of latency (50)")
    changes.add_argument(
        "--least", type=_percent, default=0.05, metavar="PERCENT", help="the smallest change to print (5%%)"
    )
    changes.add_argument("--timezone", default="UTC", metavar="ZONE", help="of the hours of the week (UTC)")
    changes.add_argument("--since", default="", metavar="TIME", help="ignore older sweeps, such as 2026-01-31")
    changes.add_argument("--json", action="store_true", help="print JSON")
    changes.set_defaults(command=_changes)


def _add_assets(assets: argparse.ArgumentParser) -> None:
    assets.description = "Writes the files of this release: Grafana boards, alert rules, runbooks and examples."
    assets.add_argument(
        "--to", type=Path, required=True, metavar="DIR", help="the folder; created if it does not exist"
    )
    assets.set_defaults(command=_assets)


def _assets(options: argparse.Namespace) -> int:
    from exporter.commands.assets import write_assets
    from exporter.core.errors import ConfigError

    try:
        _print(write_assets(options.to))
    except ConfigError as error:
        return _complain(str(error))
    return ExitCode.OK


def _add_completion(completion: argparse.ArgumentParser) -> None:
    completion.description = (
        "Prints the script. bash: triton-canary completion bash > /etc/bash_completion.d/triton-canary, or in "
        '~/.bashrc: eval "$(triton-canary completion bash)". zsh: write it to a file _triton-canary in a folder of '
        "$fpath."
    )
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    completion.set_defaults(command=_completion)


def _completion(options: argparse.Namespace) -> int:
    from exporter.commands.analyze.flags.table import GROUPS
    from exporter.commands.completion import completion_script

    flags = ((flag.names, flag.metavar, flag.help) for _, group in GROUPS for flag in group)
    parser = _parser()
    [commands] = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    _print(completion_script(options.shell, parser, commands.choices["analyze"], flags))
    return ExitCode.OK


def _changes(options: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from exporter.archive.columns import percentile_text
    from exporter.commands.changes.command import ChangesOptions, as_json, as_text, run_changes
    from exporter.config.text import timezone
    from exporter.core.errors import ConfigError

    try:
        since = datetime.fromisoformat(options.since).replace(tzinfo=UTC).timestamp() if options.since else 0.0
        zone = timezone(options.timezone)
    except ValueError as error:
        _complain(str(error))
        return ExitCode.BAD_OPTIONS
    column = f"p{percentile_text(options.percentile)}_ns"
    try:
        found = run_changes(
            ChangesOptions(options.path, options.probe, options.level, column, 1 + options.least, zone, since)
        )
    except ConfigError as error:
        _complain(str(error))
        return ExitCode.BAD_OPTIONS
    _print(as_json(found) if options.json else as_text(found))
    return ExitCode.OK


def _add_compare(compare: argparse.ArgumentParser) -> None:
    compare.description = (
        "Compares measurements level by level: ratios of throughput and of latency percentiles with 95 % intervals, "
        "as text and a Markdown table. Exit status 0: not worse; 5: worse by more than the tolerance; 3: invalid "
        "options; 4: no level has figures on both sides."
    )
    compare.add_argument(
        "paths", nargs="+", type=Path, metavar="SOURCE", help="a result (analyze --json), an archive's folder or file"
    )
    compare.add_argument(
        "--probe", action="append", default=[], metavar="NAME", help="the probe to select; repeat to compare probes"
    )
    compare.add_argument("--target", default="", metavar="NAME", help="only this target")
    compare.add_argument("--level", action="append", default=[], metavar="LEVEL", help="only these levels")
    compare.add_argument(
        "--before", default="", metavar="WHEN", help="FROM..TO (UTC; either can be omitted), or a configuration hash"
    )
    compare.add_argument("--after", default="", metavar="WHEN", help="likewise")
    compare.add_argument(
        "--percentile",
        action="append",
        type=_percentile,
        metavar="P",
        help="latency percentile to compare (default: all that both sides have)",
    )
    compare.add_argument(
        "--tolerance", type=_percent, default=0.05, metavar="PERCENT", help="regression tolerance (default: 5%%)"
    )
    compare.add_argument(
        "--min-sweeps",
        type=int,
        default=5,
        metavar="N",
        help="sweeps that each side needs for a verdict (default: 5; 1: single runs, judged by their windows, which "
        "resemble each other more than two sweeps)",
    )
    compare.add_argument("--markdown", type=Path, metavar="FILE", help="also write verdict and table to this file")
    compare.set_defaults(command=_compare)


def _add_gate(gate: argparse.ArgumentParser) -> None:
    gate.description = (
        "Measures stable and candidate in alternating short windows of the same load, in random order, until the "
        "candidate is better, equivalent or worse, or a limit is reached. A side is URL/MODEL[:VERSION], such as "
        "grpc://host:8001/resnet:2, or the name of a probe in --config. Exit status 0: better or equivalent; 5: "
        "worse; 6: undecided; 3: invalid options; 1: the result could not be written."
    )
    gate.add_argument("--stable", required=True, metavar="SIDE", help="the side that is served now")
    gate.add_argument("--candidate", required=True, metavar="SIDE", help="the side that may replace it")
    gate.add_argument("--config", type=Path, metavar="FILE", help="a configuration of the daemon, to name its probes")
    gate.add_argument("--level", default="", metavar="LEVEL", help="level of the stable probe (default: its first)")
    gate.add_argument("--concurrency", default="", metavar="N", help="load of a URL: requests in flight (1)")
    gate.add_argument("--request-rate", default="", metavar="N", help="load of a URL: requests per second")
    gate.add_argument("-b", "--batch-size", default="", metavar="N", help="batch size of a URL's requests (1)")
    gate.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other probe key for a URL, or target.KEY for its target, as in the configuration; repeatable",
    )
    gate.add_argument(
        "--margin",
        dest="margins",
        action="append",
        type=_margin,
        metavar="FIGURE=PERCENT",
        help="how much worse p50, p99 (any percentile), throughput or ttft may be; repeatable (p99=10%%, "
        "throughput=5%%)",
    )
    gate.add_argument(
        "--max-error-ratio",
        type=_ratio,
        default=0.001,
        metavar="PERCENT",
        help="allowed part of failed requests of the candidate (0.1%%)",
    )
    gate.add_argument(
        "--output-tolerance", type=float, metavar="X", help="outputs that differ by more than X + X * value are wrong"
    )
    gate.add_argument("--min-pairs", type=int, default=10, metavar="N", help="pairs before the first evaluation (10)")
    gate.add_argument("--max-pairs", type=int, default=60, metavar="N", help="maximum number of pairs (60)")
    gate.add_argument("--max-duration", type=_duration_ns, default="15m", metavar="TIME", help="maximum duration (15m)")
    gate.add_argument("--window", type=_duration_ns, default="2s", metavar="TIME", help="length of each window (2s)")
    gate.add_argument(
        "--on-undecided", choices=("fail", "pass"), default="fail", help="pass: exit status 0 if undecided (fail)"
    )
    gate.add_argument("--format", dest="form", choices=("text", "markdown", "json", "junit"), default="text")
    gate.add_argument(
        "--output", type=Path, metavar="FILE", help="write the result to this file, and text to standard output"
    )
    gate.set_defaults(command=_gate)


def _gate(options: argparse.Namespace) -> int:
    from exporter.commands.gate.command import GateCommand, run_gate
    from exporter.commands.gate.sides import SideOptions
    from exporter.core.rollout import DEFAULT_MARGINS, GateOptions

    keys = ("stable", "candidate", "config", "concurrency", "request_rate", "batch_size", "settings")
    limits = ("max_error_ratio", "min_pairs", "max_pairs", "output_tolerance")
    return run_gate(
        GateCommand(
            SideOptions(**{key: getattr(options, key) for key in keys}),
            GateOptions(
                margins=tuple(options.margins) if options.margins else DEFAULT_MARGINS,
                max_duration_ns=options.max_duration,
                window_ns=options.window,
                **{key: getattr(options, key) for key in limits},
            ),
            level=options.level,
            form=options.form,
            output=options.output,
            undecided_passes=options.on_undecided == "pass",
        )
    )


def _margin(text: str) -> object:
    from exporter.core.rollout import Margin

    try:
        return Margin.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _ratio(text: str) -> float:
    from exporter.core.rollout import parse_ratio

    try:
        return parse_ratio(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _duration_ns(text: str) -> int:
    from exporter.config.quantities import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None


class _Parser(argparse.ArgumentParser):
    """Exits with `ExitCode.BAD_OPTIONS`, not with argparse's 2."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.print_usage(sys.stderr)
        self.exit(ExitCode.BAD_OPTIONS, f"{self.prog}: {message}\n")


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the configuration file")


def _add_baseline(parser: argparse.ArgumentParser) -> None:
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


def _add_pause(parser: argparse.ArgumentParser, action: str) -> None:
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
        print("triton-canary: --key-file needs --cert-file", file=sys.stderr)
        return None
    return DaemonClient(options.url, options.token_file, options.ca_file, options.cert_file, options.key_file)


def _pause(options: argparse.Namespace) -> int:
    from exporter.commands.pause import Scope, run
    from exporter.web.daemon_client import CommandError

    if (client := _client(options)) is None:
        return ExitCode.BAD_OPTIONS
    try:
        _print(run(options.action, Scope(options.target, options.probe), client))
    except CommandError as error:
        return _complain(str(error))
    return ExitCode.OK


def _baseline(options: argparse.Namespace) -> int:
    from exporter.commands.baseline.command import BaselineCommand, run
    from exporter.web.daemon_client import CommandError

    if (options.file is not None) != (options.action == "import"):
        print("triton-canary: import needs a FILE; no other action takes one", file=sys.stderr)
        return ExitCode.BAD_OPTIONS
    if _client(options) is None:
        return ExitCode.BAD_OPTIONS
    if (options.since or options.dry_run or options.force) and options.action != "pin":
        print("triton-canary: --since, --dry-run and --force belong to pin", file=sys.stderr)
        return ExitCode.BAD_OPTIONS
    if options.json and options.action != "show":
        print("triton-canary: --json belongs to show; export always prints JSON", file=sys.stderr)
        return ExitCode.BAD_OPTIONS
    keys = (
        *("action", "probe", "url", "level", "file", "token_file", "ca_file", "cert_file", "key_file"),
        *("since", "dry_run", "force", "json"),
    )
    try:
        _print(run(BaselineCommand(**{key: getattr(options, key) for key in keys})))
    except CommandError as error:
        return _complain(str(error))
    return ExitCode.OK


def _serve(options: argparse.Namespace) -> int:
    # Who asks for a reload while the daemon starts, which reads the file in any case, must not kill it: a second of
    # imports and loading lies before the loop has a handler.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from exporter.core.errors import TritonCanaryError
    from exporter.daemon.daemon import serve
    from exporter.schedule.sharding import Shard

    try:
        shard = Shard.parse(options.shard)
    except ValueError as error:
        _complain(f"--shard: {error}")
        return ExitCode.BAD_OPTIONS
    try:
        serve(options.config, shard, options.web_config)
    except TritonCanaryError as error:
        return _complain(str(error))
    return ExitCode.OK


def _health(options: argparse.Namespace) -> int:
    from exporter.commands.health import UnhealthyError, check

    try:
        _print(check(options.url))
    except UnhealthyError as error:
        return _complain(str(error))
    return ExitCode.OK


def _analyze(options: argparse.Namespace) -> int:
    from exporter.commands.analyze.command import run_analyze

    return run_analyze(options.words)


def _check_config(options: argparse.Namespace) -> int:
    from exporter.commands.check_config.command import run_check_config
    from exporter.core.errors import ConfigError

    try:
        report, ok = run_check_config(options.file, named=not options.no_files, live=options.live)
    except ConfigError as error:
        return _complain(str(error))
    _print(report)
    return ExitCode.OK if ok else ExitCode.ERROR


def _try(options: argparse.Namespace) -> int:
    from exporter.commands.analyze.try_probe import run_try
    from exporter.core.errors import ConfigError

    try:
        return run_try(options.probe, options.config)
    except ConfigError as error:
        _complain(str(error))
        return ExitCode.BAD_OPTIONS


def _compare(options: argparse.Namespace) -> int:
    from exporter.commands.compare.command import CompareOptions, run_compare
    from exporter.core.errors import ConfigError

    try:
        response = run_compare(
            CompareOptions(
                paths=tuple(options.paths),
                probes=tuple(options.probe),
                target=options.target,
                before=options.before,
                after=options.after,
                levels=tuple(options.level),
                percentiles=tuple(options.percentile) if options.percentile else None,
                tolerance=options.tolerance,
                min_sweeps=options.min_sweeps,
            )
        )
        _print(response.as_text)
        if options.markdown is not None:
            options.markdown.write_text(f"{response.as_markdown}\n", encoding="utf-8")
    except ConfigError as error:
        _complain(str(error))
        return ExitCode.BAD_OPTIONS
    except OSError as error:
        _complain(f"{options.markdown}: {error.strerror or error}")
        return ExitCode.BAD_OPTIONS
    if response.nothing:
        return ExitCode.NOTHING
    return ExitCode.WORSE if response.worse else ExitCode.OK


def _percent(text: str) -> float:
    """A ratio from "5%" or "5"."""
    try:
        value = float(text.removesuffix("%")) / 100
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage from 0 to below 100")
    return value


def _percentile(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentile between 0 and 100")
    if value < 1:
        from exporter.config.quantities import checked_percentile

        try:
            checked_percentile(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} {error}") from None
    return value


def _demo(options: argparse.Namespace) -> int:
    if options.check:
        from exporter.demo import machine

        return machine.main(["check"])
    from exporter.demo.command import run_demo

    return run_demo()


def _print(text: str) -> None:
    """Prints a command's output. A reader that closed the pipe wants no more: that is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(text: str) -> int:
    print(text, file=sys.stderr)
    return ExitCode.ERROR
