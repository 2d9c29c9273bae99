"""All flags of `triton-canary analyze`: those of perf_analyzer 2.60, and our own beside them.

From this table come the parsing, the help and the page docs/analyze.md.
"""

from __future__ import annotations

from exporter.commands.analyze.flags import value_parsers as read
from exporter.commands.analyze.flags.fail_on import parse_condition
from exporter.commands.analyze.flags.flag import Flag, Key, Part, Setting
from exporter.commands.analyze.flags.table_load import MEASUREMENT, MODEL
from exporter.commands.analyze.flags.table_request import INPUT, SERVER
from exporter.config.load_settings import RAMP, STEP_INTERVAL

_REPORT = (
    Flag(
        ("-f",),
        "FILE",
        "Writes the levels as CSV; as a plot if it ends in .png, .svg or .pdf.",
        Setting("output_path", read.filled),
    ),
    Flag(("--verbose-csv",), "", "Adds columns to the CSV.", Setting("verbose_csv", read.present)),
    Flag(
        ("--profile-export-file",),
        "FILE",
        "Writes every request as JSON. The file must not exist.",
        Setting("profile_export_path", read.filled),
    ),
    Flag(("-v", "--verbose"), "", "Verbose output; repeat for more.", Setting("verbosity", read.present, repeats=True)),
    Flag(("--version",), "", "Prints the version.", Setting("version", read.present)),
)

_OWN = (
    Flag(
        ("--streams",),
        "START:END:STEP",
        "At the pace of real time: so many streams at once, each of which sends a step of its sequence every "
        "--step-interval. An end of 0 is open; it needs -l.",
        Part("`load.streams`", read.levels(read.whole(0))),
    ),
    Flag(
        ("--step-interval",),
        "MS",
        "streams: the milliseconds between two steps, as the length of a chunk of audio.",
        Part("`load.step_interval`", read.milliseconds(STEP_INTERVAL)),
    ),
    Flag(
        ("--ramp",),
        "MS",
        "streams: the milliseconds over which they begin; 0 by default.",
        Part("`load.ramp`", read.milliseconds(RAMP)),
    ),
    Flag(
        ("--workers",),
        "URL",
        "The Dask scheduler whose workers make the load, as tls://scheduler:8786.",
        Key("load.pool", read.filled),
    ),
    Flag(
        ("--worker-count",),
        "N",
        "How many processes share each level, of --workers or of this machine; 1 by default.",
        Key("load.workers", read.whole(1, 16)),
    ),
    Flag(
        ("--from",),
        "PLACE",
        "The place to measure from, such as zone-a: a resource of the workers of --workers.",
        Part("`from`", read.filled, repeats=True),
    ),
    Flag(
        ("--tensor-datatype",),
        "NAME:TYPE",
        "The datatype of an input that the server does not report (oip, tfserving), such as x:FP32. Once per input.",
        Part("`input.datatypes`", read.datatype, repeats=True),
    ),
    Flag(
        ("--optional-inputs",),
        "WHICH",
        "Generated input: send the model's optional inputs (send, the default), or only those with --shape (omit).",
        Key("input.optional_inputs", read.one_of(send="send", omit="omit")),
    ),
    Flag(
        ("--prompt-tokens",),
        "N",
        "openai: approximate number of tokens in a generated prompt; 128 by default.",
        Part("`input.prompt.tokens`", read.whole(1)),
    ),
    Flag(
        ("--output-tokens",),
        "N",
        "openai: requested output tokens, if the data does not set them; 64 by default.",
        Part("`input.prompt.output_tokens`", read.whole(1)),
    ),
    Flag(
        ("--prompt-cache",),
        "WHICH",
        "openai: avoid (default) puts a unique text before each prompt; allow measures the server's prefix cache.",
        Part("`input.prompt.cache`", read.one_of(avoid="avoid", allow="allow")),
    ),
    Flag(
        ("--tokenizer",),
        "FILE",
        "openai: a local tokenizer.json, for servers that do not count tokens.",
        Part("`input.prompt.tokenizer`", read.filled),
    ),
    Flag(
        ("--stable-by",),
        "RULE",
        "When windows agree: perf_analyzer (default) by its max/min rule; canary by the daemon's rule, which allows "
        "for chance and rejects a drift.",
        Key("measurement.stability_rule", read.one_of(perf_analyzer="perf_analyzer", canary="canary")),
    ),
    Flag(
        ("--unit",),
        "NAME:PER",
        "The unit of one inference, such as seconds_of_audio:0.3; throughput is also reported in it.",
        Key("unit", read.unit),
    ),
    Flag(
        ("--fail-on",),
        "CONDITION",
        "Exit code 5 if a level meets this condition, such as 'p95>50ms', 'throughput<100/s', 'error_ratio>1%'. Can "
        "be repeated.",
        Setting("fail_on", parse_condition, repeats=True),
    ),
    Flag(
        ("--include-unstable",), "", "Includes unstable levels in the CSV.", Setting("include_unstable", read.present)
    ),
    Flag(("--json",), "FILE", "Writes the whole result as JSON.", Setting("json_path", read.filled)),
    Flag(
        ("--plot",), "FILE", "Draws latency against throughput: .png, .svg or .pdf.", Setting("plot_path", read.filled)
    ),
    Flag(
        ("--print-probe",),
        "",
        "Measures nothing; prints the same measurement as a configuration for the daemon.",
        Setting("print_probe", read.present),
    ),
    Flag(("--help", "-h"), "", "Prints this.", Setting("help", read.present)),
)

GROUPS: tuple[tuple[str, tuple[Flag, ...]], ...] = (
    ("The model", MODEL),
    ("The measurement", MEASUREMENT),
    ("The input", INPUT),
    ("The server", SERVER),
    ("The report", _REPORT),
    ("Our own", _OWN),
)
"""All flags, as a reader meets them. All but the last group are perf_analyzer's; of its own are --verbose and -h."""

OWN_NAMES = frozenset(name for flag in _OWN for name in flag.names)
"""Those that perf_analyzer has not, and its -h."""

FLAGS: dict[str, Flag] = {name: flag for _, flags in GROUPS for flag in flags for name in flag.names}
"""The flags by each of their names."""
