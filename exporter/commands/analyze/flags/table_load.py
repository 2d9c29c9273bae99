"""The flags for which model is measured, and how. Part of `table`."""

from __future__ import annotations

from exporter.commands.analyze.flags import value_parsers as read
from exporter.commands.analyze.flags.flag import Flag, Key, NoEffect, Part, Refused, Setting
from exporter.config.probe_settings import LATENCY_THRESHOLD, WINDOW

_NO_THREADS = "one event loop carries all requests, there are no threads to limit"

MODEL = (
    Flag(("-m",), "MODEL", "The model to measure. Required.", Key("model", read.filled)),
    Flag(("-x",), "VERSION", "Its version; the server's choice by default.", Key("version", read.filled)),
    Flag(
        ("--bls-composing-models",),
        "MODEL[:VERSION],...",
        "The models that a BLS model calls, to show their part of the latency.",
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
        "The kind of server: triton (default), triton_c_api (Triton as a library in the worker process), tfserving, "
        "torchserve, openai (a language model behind OpenAI's HTTP API), triton_generate (one behind Triton's "
        "generate extension), or oip (another server of the Open Inference Protocol).",
        Key("target.kind", read.service_kind),
    ),
    Flag(
        ("--endpoint",),
        "PATH",
        "The request path, for openai; v1/chat/completions by default.",
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
        "The method of a gRPC service that is not an inference server.",
        Refused("gRPC services of other kinds are out of scope; ghz measures those"),
    ),
)

MEASUREMENT = (
    Flag(
        ("--async", "-a"),
        "",
        "Asynchronous calls. One event loop handles both kinds; only the report differs.",
        Setting("asynchronous", read.present),
    ),
    Flag(
        ("--sync",),
        "",
        "Synchronous calls. One event loop handles both kinds; only the report differs.",
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
        "Closed loop: requests in flight. An end of 0 is open; it needs -l. 1 by default.",
        Part("`load.concurrency`", read.levels(read.whole(0))),
    ),
    Flag(
        ("--request-rate-range",),
        "START:END:STEP",
        "Open loop: requests sent per second, whatever the responses. An end of 0 is open; it needs -l.",
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
        "Open loop: the gaps between requests, one whole number of microseconds per line, repeated from the start.",
        Part("`load.intervals_file`", read.filled),
    ),
    Flag(
        ("--periodic-concurrency-range",),
        "START:END:STEP",
        "Streams: starts with START requests and adds STEP more each time the last ones have had --request-period "
        "responses.",
        Part("`load.periodic_concurrency`", read.levels(read.whole(0))),
    ),
    Flag(
        ("--request-period",),
        "N",
        "Responses before --periodic-concurrency-range adds more requests; 10 by default.",
        Part("`load.request_period`", read.whole(1)),
    ),
    Flag(
        ("--fixed-schedule",),
        "",
        "Open loop: sends each step of the data file at its own `timestamp`, in milliseconds after the start.",
        Part("`load.schedule_file`", read.present),
    ),
    Flag(
        ("--session-concurrency",),
        "N",
        "Concurrent chat sessions, for openai: the turns with the same `session_id` in the data file. Each session "
        "runs once; a turn's request contains the earlier turns and their responses, and is sent `delay` "
        "milliseconds after the last one.",
        Part("`load.session_concurrency`", read.whole(1)),
    ),
    Flag(
        ("--latency-threshold", "-l"),
        "MS",
        "Stops after the first level with a latency above this; 0, the default, is no limit.",
        Part("`measurement.latency_threshold`, `load.search`", read.threshold(LATENCY_THRESHOLD)),
    ),
    Flag(
        ("--binary-search",),
        "",
        "Searches the range for the highest load that keeps -l; STEP is the precision.",
        Part("`load.search`", read.present),
    ),
    Flag(
        ("--stability-percentage", "-s"),
        "PERCENT",
        "Allowed difference of throughput and latency between the last windows; 10 by default.",
        Key("measurement.stability", read.percentage),
    ),
    Flag(
        ("--max-trials", "-r"),
        "N",
        "The most windows of a level; 10 by default. Below 3, that many windows must agree.",
        Part("`measurement.max_windows`, `measurement.stability_windows`", read.whole(1)),
    ),
    Flag(
        ("--percentile",),
        "P",
        "The judged latency: this percentile, such as 95 or 99.9; the mean by default.",
        Part("`measurement.stability_percentile`", read.percentile),
    ),
    Flag(
        ("--request-count",),
        "N",
        "Measures exactly this many requests in one window; 0, the default, disables this.",
        Key("measurement.request_count", read.whole(0)),
    ),
    Flag(
        ("--warmup-request-count",),
        "N",
        "Requests sent before the measurement, not part of it; 0 by default.",
        Key("measurement.warm_up_requests", read.whole(0)),
    ),
    Flag(
        ("--num-of-sequences",),
        "N",
        "Active sequences at a request rate; 4 by default. In a closed loop the concurrency is their number.",
        Part("`load.sequences.count`", read.whole(1)),
    ),
    Flag(
        ("--serial-sequences",),
        "",
        "At most one request in flight per sequence.",
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
