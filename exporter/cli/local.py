"""Commands of this machine: serve, check-config, demo, assets, completion."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from exporter.cli.options import add_config
from exporter.cli.output import complain, show
from exporter.core.exit_code import ExitCode


def add_serve(serve: argparse.ArgumentParser) -> None:
    serve.description = "Runs the daemon until SIGTERM or SIGINT."
    add_config(serve)
    serve.add_argument(
        "--shard",
        default="0/1",
        metavar="I/N",
        help="measure only this part of the groups, I from 0 to N-1, with the same file for all N daemons (default: "
        "all groups)",
    )
    serve.add_argument(
        "--shards-before",
        type=int,
        default=0,
        metavar="M",
        help="daemons of M shards may still run: leave out the groups that move, until all of those are replaced",
    )
    serve.add_argument(
        "--web.config.file",
        dest="web_config",
        type=Path,
        metavar="FILE",
        help="TLS, users and headers of the web side, in the format of Prometheus's exporters",
    )
    serve.set_defaults(command=_serve)


def _serve(options: argparse.Namespace) -> int:
    # Who asks for a reload while the daemon starts, which reads the file in any case, must not kill it: a second of
    # imports and loading lies before the loop has a handler.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from exporter.core.errors import TritonCanaryError
    from exporter.daemon.daemon import serve
    from exporter.schedule.sharding import Shard

    try:
        shard = Shard.parse(options.shard, options.shards_before)
    except ValueError as error:
        return complain(f"--shard: {error}", ExitCode.BAD_OPTIONS)
    try:
        serve(options.config, shard, options.web_config)
    except TritonCanaryError as error:
        return complain(str(error))
    return ExitCode.OK


def add_check_config(check: argparse.ArgumentParser) -> None:
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


def _check_config(options: argparse.Namespace) -> int:
    from exporter.commands.check_config.command import run_check_config
    from exporter.core.errors import ConfigError

    try:
        report, ok = run_check_config(options.file, named=not options.no_files, live=options.live)
    except ConfigError as error:
        return complain(str(error))
    show(report)
    return ExitCode.OK if ok else ExitCode.ERROR


def add_demo(demo: argparse.ArgumentParser) -> None:
    demo.description = "Starts an embedded Triton with sample models and a daemon that measures it; runs until Ctrl-C."
    demo.add_argument(
        "--check",
        action="store_true",
        help="only report what this machine lacks (exit status 1), or what would be downloaded (0)",
    )
    demo.set_defaults(command=_demo)


def _demo(options: argparse.Namespace) -> int:
    if options.check:
        from exporter.demo import machine

        return machine.main(["check"], show)
    from exporter.demo.command import run_demo

    return run_demo()


def add_assets(assets: argparse.ArgumentParser) -> None:
    assets.description = "Writes the files of this release: Grafana boards, alert rules, runbooks and examples."
    assets.add_argument(
        "--to", type=Path, required=True, metavar="DIR", help="the folder; created if it does not exist"
    )
    assets.set_defaults(command=_assets)


def _assets(options: argparse.Namespace) -> int:
    from exporter.commands.assets import write_assets
    from exporter.core.errors import ConfigError

    try:
        show(write_assets(options.to))
    except ConfigError as error:
        return complain(str(error))
    return ExitCode.OK


def add_completion(completion: argparse.ArgumentParser, parser: argparse.ArgumentParser) -> None:
    completion.description = (
        "Prints the script. bash: triton-canary completion bash > /etc/bash_completion.d/triton-canary, or in "
        '~/.bashrc: eval "$(triton-canary completion bash)". zsh: write it to a file _triton-canary in a folder of '
        "$fpath."
    )
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    completion.set_defaults(command=lambda options: _completion(options, parser))


def _completion(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from exporter.commands.analyze.flags.table import GROUPS
    from exporter.commands.completion import completion_script

    flags = ((flag.names, flag.metavar, flag.help) for _, group in GROUPS for flag in group)
    [commands] = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    show(completion_script(options.shell, parser, commands.choices["analyze"], flags))
    return ExitCode.OK
