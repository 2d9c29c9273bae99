"""The flags for which model is measured, and how. Part of `table`."""

from __future__ import annotations

from exporter.commands.analyze.flags import value_parsers as read
from exporter.commands.analyze.flags.flag import Flag, Key, NoEffect, Part, Refused, Setting
from exporter.config.probe_settings import LATENCY_THRESHOLD, WINDOW

_NO_THREADS = "one event loop carries all requests: there are no threads to limit"

MODEL = (
    Flag(("-m",), "MODEL", "The model to measure. Required.", Key("model", read.filled)),
    Flag(("-x",), "VERSION", "Its version; the server's choice by default.", Key("version", read.filled)),
    Flag(
        ("--bls-composing-models",),
        "MODEL[:VERSION],...",
        "The models that a BLS model calls, so that their part in the latency is shown.",
        Key("composing_models", read.model_list),
    ),
    Flag(
        ("--model-signature-name",),
        "NAME",
        "The signature of a TensorFlow Serving model; serving_default by default.",
        Key("input.signature", read.filled),
    ),
    Flag(
        ("--service-kind",),
        "KIND",
        "What serves the model: triton (default), triton_c_api: a Triton in our own process, tfserving, torchserve, "
        "openai: a language model behind OpenAI's HTTP API, triton_generate: one behind Triton's generate extension, "
        "or oip: another server of the Open Inference Protocol.",
        Key("target.kind", read.service_kind),
    ),
    Flag(
        ("--endpoint",),
        "PATH",
        "The path that is asked, for openai; v1/chat/completions by default.",
        Part("`input.prompt.endpoint`", read.filled),
    ),
    Flag(
        ("--triton-server-directory",),
        "PATH",
        "Where Triton is installed, for triton_c_api; /opt/tritonserver by default.",
        Part("`target.server_directory`", read.filled),
    ),
    Flag(
        ("--model-repository",),
        "PATH",
        "The models' folder, for triton_c_api.",
        Part("`target.model_repository`", read.filled),
    ),
    Flag(
        ("--grpc-method",),
        "METHOD",
        "The method of a gRPC service that is no inference server.",
        Refused("gRPC services of other kinds are out of scope; ghz measures those"),
    ),
)

MEASUREMENT = (
    Flag(
        ("--async", "-a"),
        "",
        "Asynchronous calls. One event loop does the work of both; the report shows it.",
        Setting("asynchronous", read.present),
    ),
    Flag(
        ("--sync",),
        "",
        "Synchronous calls. One event loop does the work of both; the report shows it.",
        Setting("synchronous", read.present),
    ),
    Flag(
        ("--measurement-interval", "-p"),
        "MS",
        "The length of a measurement window in milliseconds; 5000 by default.",
        Key("measurement.window", read.milliseconds(WINDOW)),
    ),
    Flag(
        ("--measurement-mode",),
        "MODE",
        "time_windows: windows of a fixed length (default). count_windows: windows of a number of requests.",
        Key("measurement.window_mode", read.one_of(time_windows="time", count_windows="count")),
    ),
    Flag(
        ("--measurement-request-count",),
        "N",
        "The requests of a count window; 50 by default.",
        Part("`measurement.window_requests`", read.whole(1)),
    ),
    Flag(
        ("--concurrency-range",),
        "START:END:STEP",
        "Closed loop: so many requests are in flight at once. An end of 0 is open; it needs -l. 1 by default.",
        Part("`load.concurrency`", read.levels(read.whole(0))),
    ),
    Flag(
        ("--request-rate-range",),
        "START:END:STEP",
        "Open loop: so many requests are sent a second, whatever becomes of them. An end of 0 is open; it needs -l.",
        Part("`load.request_rate`", read.levels(read.number)),
    ),
    Flag(
        ("--request-distribution",),
        "WORD",
        "How the requests of a rate are spread: constant (default) or poisson.",
        Part("`load.distribution`", read.one_of(constant="constant", poisson="poisson")),
    ),
    Flag(
        ("--request-intervals",),
        "FILE",
        "Open loop: the gaps between requests, one whole number of microseconds a line, over and over.",
        Part("`load.intervals_file`", read.filled),
    ),
    Flag(
        ("--periodic-concurrency-range",),
        "START:END:STEP",
        "Streams: START at first, STEP more each time that the last ones have had --request-period responses.",
        Part("`load.periodic_concurrency`", read.levels(read.whole(0))),
    ),
    Flag(
        ("--request-period",),
        "N",
        "The responses after which --periodic-concurrency-range continues; 10 by default.",
        Part("`load.request_period`", read.whole(1)),
    ),
    Flag(
        ("--fixed-schedule",),
        "",
        "Open loop: each step of the data file at its own `timestamp`, in milliseconds after the start.",
        Part("`load.schedule_file`", read.present),
    ),
    Flag(
        ("--session-concurrency",),
        "N",
        "Chat sessions at once, for openai: the turns of the data file that bear one `session_id`. Each is run once; a "
        "turn's request has the turns before it and their responses, and goes `delay` milliseconds after the last.",
        Part("`load.session_concurrency`", read.whole(1)),
    ),
    Flag(
        ("--latency-threshold", "-l"),
        "MS",
        "The levels end at the first whose latency is above this; 0, the default, is no limit.",
        Part("`measurement.latency_threshold`, `load.search`", read.threshold(LATENCY_THRESHOLD)),
    ),
    Flag(
        ("--binary-search",),
        "",
        "Searches the range for the highest load that holds -l; STEP is the precision.",
        Part("`load.search`", read.present),
    ),
    Flag(
        ("--stability-percentage", "-s"),
        "PERCENT",
        "How far apart throughput and latency of the last windows may be; 10 by default.",
        Key("measurement.stability", read.percentage),
    ),
    Flag(
        ("--max-trials", "-r"),
        "N",
        "The most windows of a level; 10 by default. Below 3, so many windows must agree.",
        Part("`measurement.max_windows`, `measurement.stability_windows`", read.whole(1)),
    ),
    Flag(
        ("--percentile",),
        "P",
        "The latency that is judged: this percentile, as 95 or 99.9; the mean by default.",
        Part("`measurement.stability_percentile`", read.percentile),
    ),
    Flag(
        ("--request-count",),
        "N",
        "Measures exactly so many requests, in one window; 0, the default, is none.",
        Key("measurement.request_count", read.whole(0)),
    ),
    Flag(
        ("--warmup-request-count",),
        "N",
        "Requests sent before the measurement and not part of it; 0 by default.",
        Key("measurement.warm_up_requests", read.whole(0)),
    ),
    Flag(
        ("--num-of-sequences",),
        "N",
        "Sequences at once where a rate is given; 4 by default. In a closed loop the concurrency is their number.",
        Part("`load.sequences.count`", read.whole(1)),
    ),
    Flag(
        ("--serial-sequences",),
        "",
        "At most one request of a sequence at once.",
        Key("load.sequences.serial", read.present),
    ),
    Flag(("--max-threads",), "N", "The most threads.", NoEffect(_NO_THREADS, read.whole(1))),
    Flag(
        ("-t",),
        "N",
        "The concurrency, or the lowest.",
        Part("`load.concurrency`", read.whole(1)),
        "--concurrency-range",
    ),
    Flag(("-c",), "N", "The highest concurrency.", Part("`load.concurrency`", read.whole(1)), "--concurrency-range"),
    Flag(("-d",), "", "A search over concurrency.", NoEffect(""), "--concurrency-range"),
)
