"""The gate's options: may a candidate replace the stable side?"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_gate(gate: argparse.ArgumentParser) -> None:
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
        metavar="FIGURE=PERCENT",
        help="how much worse p50, p99 (any percentile), throughput or ttft may be; repeatable (p99=10%%, "
        "throughput=5%%)",
    )
    gate.add_argument(
        "--max-error-ratio",
        metavar="PERCENT",
        help="allowed part of failed requests of the candidate (0.1%%)",
    )
    gate.add_argument(
        "--output-tolerance", metavar="X", help="outputs that differ by more than X + X * value are wrong"
    )
    gate.add_argument("--min-pairs", metavar="N", help="pairs before the first evaluation (10)")
    gate.add_argument("--max-pairs", metavar="N", help="maximum number of pairs (60)")
    gate.add_argument("--max-duration", metavar="TIME", help="maximum duration (15m)")
    gate.add_argument("--window", metavar="TIME", help="length of each window (2s)")
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

    keys = ("stable", "candidate", "config", "concurrency", "request_rate", "batch_size", "settings")
    limits = ("margins", "max_error_ratio", "min_pairs", "max_pairs", "max_duration", "window", "output_tolerance")
    return run_gate(
        GateCommand(
            SideOptions(**{key: getattr(options, key) for key in keys}),
            {key: value for key in limits if (value := getattr(options, key)) is not None},
            level=options.level,
            form=options.form,
            output=options.output,
            undecided_passes=options.on_undecided == "pass",
        )
    )
