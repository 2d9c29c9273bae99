"""All flags of `triton-canary analyze`: those of perf_analyzer 2.60, and our own beside them.

From this table come the parsing, the help and the page docs/analyze.md.
"""

from __future__ import annotations

from exporter.config.flags import readers as read
from exporter.config.flags.fail_on import parse_condition
from exporter.config.flags.flag import Flag, Key, NoEffect, Part, Refused, Setting

_DER_CERTIFICATE = "openssl x509 -inform DER -in client.der -out client.pem"
_DER_KEY = "openssl pkey -inform DER -in client.key.der -out client.key.pem"
_NO_THREADS = "one event loop carries all requests: there are no threads to limit"
_TIMED_REQUESTS = (
    "timed entries of a data file are not read; write their times in milliseconds, one a line, to a file, and give it "
    "to a probe of the daemon as load.schedule_file"
)

_MODEL = (
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
        "The signature of a TensorFlow Serving model.",
        NoEffect("it is for --service-kind=tfserving alone"),
    ),
    Flag(
        ("--service-kind",), "KIND", "What serves the model; triton by default.", Key("target.kind", read.service_kind)
    ),
    Flag(("--endpoint",), "PATH", "The path of an OpenAI server.", NoEffect("it is for --service-kind=openai alone")),
    Flag(
        ("--triton-server-directory",),
        "PATH",
        "Where Triton is installed, for triton_c_api.",
        NoEffect("it is for --service-kind=triton_c_api alone"),
    ),
    Flag(
        ("--model-repository",),
        "PATH",
        "The models' folder, for triton_c_api.",
        NoEffect("it is for --service-kind=triton_c_api alone"),
    ),
    Flag(
        ("--grpc-method",),
        "METHOD",
        "The method of a gRPC service that is no inference server.",
        Refused("gRPC services of other kinds are out of scope; ghz measures those"),
    ),
)

_MEASUREMENT = (
    Flag(
        ("--async", "-a"),
        "",
        "Asynchronous calls. One event loop does the work of both; the report says so.",
        Setting("asynchronous", read.present),
    ),
    Flag(
        ("--sync",),
        "",
        "Synchronous calls. One event loop does the work of both; the report says so.",
        Setting("synchronous", read.present),
    ),
    Flag(
        ("--measurement-interval", "-p"),
        "MS",
        "The length of a measurement window in milliseconds; 5000 by default.",
        Key("measurement.window", read.milliseconds),
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
        Key("measurement.window_requests", read.whole(1)),
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
        "The responses after which --periodic-concurrency-range goes on; 10 by default.",
        Part("`load.request_period`", read.whole(1)),
    ),
    Flag(("--fixed-schedule",), "", "Requests at the times that the data file gives.", Refused(_TIMED_REQUESTS)),
    Flag(
        ("--session-concurrency",),
        "N",
        "Chat sessions at once.",
        Refused("it is for OpenAI servers, which are out of scope; AIPerf measures those"),
    ),
    Flag(
        ("--latency-threshold", "-l"),
        "MS",
        "The levels end at the first whose latency is above this; 0, the default, is no limit.",
        Part("`measurement.latency_threshold`, `load.search`", read.threshold),
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
        Key("measurement.request_count", read.whole(1)),
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

_INPUT = (
    Flag(("-b",), "N", "Inferences in one request; 1 by default.", Key("input.batch_size", read.whole(1))),
    Flag(
        ("--input-data",),
        "DATA",
        "random (default), zero, a folder with a file for each input, or a JSON file; JSON files can be several.",
        Part("`input.source`, `input.paths`", read.filled, repeats=True),
    ),
    Flag(
        ("--shape",),
        "NAME:DIM,...",
        "The full shape of an input that varies in size, without the batch dimension. Once for each input.",
        Part("`input.shapes`", read.shape, repeats=True),
    ),
    Flag(
        ("--string-length",),
        "N",
        "Characters in a string element; 128 by default.",
        Key("input.string_length", read.whole(1)),
    ),
    Flag(("--string-data",), "TEXT", "What stands in every string element.", Key("input.string_data", str)),
    Flag(
        ("--input-tensor-format",),
        "FORMAT",
        "HTTP: how inputs travel, binary (default) or json.",
        Key("input.format", read.one_of(binary="binary", json="json")),
    ),
    Flag(
        ("--output-tensor-format",),
        "FORMAT",
        "HTTP: how outputs travel, binary (default) or json.",
        Key("input.output_format", read.one_of(binary="binary", json="json")),
    ),
    Flag(
        ("--request-parameter",),
        "NAME:VALUE:TYPE",
        "A parameter of every request; the type is int, bool or string. Can be repeated.",
        Part("`input.parameters`", read.parameter, repeats=True),
    ),
    Flag(
        ("--shared-memory",),
        "KIND",
        "How tensors go to a server on this machine: system, cuda or none (default).",
        Key("input.shared_memory", read.one_of(none="none", system="system", cuda="cuda")),
    ),
    Flag(
        ("--output-shared-memory-size",),
        "BYTES",
        "Shared memory for each output that varies in size; 102400 by default.",
        Key("input.output_shared_memory_size", lambda given: f"{read.whole(0)(given)}B"),
    ),
    Flag(
        ("--sequence-length",),
        "N",
        "The mean length of a sequence, in requests; 20 by default.",
        Key("load.sequences.length", read.whole(1)),
    ),
    Flag(
        ("--sequence-length-variation",),
        "PERCENT",
        "How far lengths go up and down from it; 20 by default.",
        Key("load.sequences.length_variation", read.percentage),
    ),
    Flag(
        ("--sequence-id-range",),
        "START:END",
        "The sequence ids to use, END not among them; from 1 without a bound by default.",
        Part("`load.sequences.start_id`, `load.sequences.id_range`", read.id_range),
    ),
    Flag(("-z",), "", "Zeroes as input.", Part("`input.source`", read.present), "--input-data=zero"),
    Flag(("--data-directory",), "PATH", "A folder of inputs.", Part("`input.paths`", read.filled), "--input-data"),
)

_SERVER = (
    Flag(
        ("-u",),
        "URL",
        "The server: host[:port] or a url; localhost, port 8000 (http) or 8001 (grpc), by default.",
        Part("`target.url`", read.filled),
    ),
    Flag(("-i",), "PROTOCOL", "http (default) or grpc.", Part("`target.url`", read.protocol)),
    Flag(
        ("-H",),
        "NAME:VALUE",
        "A header of every request. Can be repeated.",
        Part("`target.headers`", read.header, repeats=True),
    ),
    Flag(("--streaming",), "", "gRPC: requests go over streams.", Part("`streaming`, over gRPC alone", read.present)),
    Flag(
        ("--grpc-compression-algorithm",),
        "NAME",
        "gRPC: how requests are compressed: none (default), gzip or deflate.",
        Part("`input.compression`", read.one_of(none="none", gzip="gzip", deflate="deflate")),
    ),
    Flag(("--ssl-grpc-use-ssl",), "", "gRPC over TLS.", Part("`target.url`", read.present)),
    Flag(
        ("--ssl-grpc-root-certifications-file",),
        "FILE",
        "gRPC: PEM file of the authorities to trust.",
        Part("`target.tls.ca_file`", read.filled),
    ),
    Flag(
        ("--ssl-grpc-private-key-file",),
        "FILE",
        "gRPC: PEM file of our key.",
        Part("`target.tls.key_file`", read.filled),
    ),
    Flag(
        ("--ssl-grpc-certificate-chain-file",),
        "FILE",
        "gRPC: PEM file of our certificate.",
        Part("`target.tls.cert_file`", read.filled),
    ),
    Flag(
        ("--ssl-https-verify-peer",),
        "0|1",
        "HTTPS: whether the server's certificate is verified; 1 by default.",
        Part("`target.tls.verify`", read.whole(0, 1)),
    ),
    Flag(
        ("--ssl-https-verify-host",),
        "0|1|2",
        "HTTPS: whether it must bear the host's name: 0 no, 1 and 2 (default) yes.",
        Part("`target.tls.verify`", read.whole(0, 2)),
    ),
    Flag(
        ("--ssl-https-ca-certificates-file",),
        "FILE",
        "HTTPS: PEM file of the authorities to trust.",
        Part("`target.tls.ca_file`", read.filled),
    ),
    Flag(
        ("--ssl-https-client-certificate-file",),
        "FILE",
        "HTTPS: PEM file of our certificate.",
        Part("`target.tls.cert_file`", read.filled),
    ),
    Flag(
        ("--ssl-https-client-certificate-type",),
        "PEM",
        f"Its form. DER is converted with `{_DER_CERTIFICATE}`.",
        NoEffect("", read.pem(_DER_CERTIFICATE)),
    ),
    Flag(
        ("--ssl-https-private-key-file",),
        "FILE",
        "HTTPS: PEM file of our key.",
        Part("`target.tls.key_file`", read.filled),
    ),
    Flag(
        ("--ssl-https-private-key-type",),
        "PEM",
        f"Its form. DER is converted with `{_DER_KEY}`.",
        NoEffect("", read.pem(_DER_KEY)),
    ),
    Flag(
        ("--trace-level",),
        "LEVEL",
        "What the server traces meanwhile: OFF, TIMESTAMPS or TENSORS. Can be repeated.",
        Part(
            "`server_settings.trace_level`",
            read.one_of(OFF="OFF", TIMESTAMPS="TIMESTAMPS", TENSORS="TENSORS"),
            repeats=True,
        ),
    ),
    Flag(("--trace-rate",), "N", "One request in so many is traced.", Key("server_settings.trace_rate", read.whole(1))),
    Flag(
        ("--trace-count",), "N", "The most traces; -1 is no limit.", Key("server_settings.trace_count", read.whole(-1))
    ),
    Flag(
        ("--log-frequency",),
        "N",
        "Traces in one trace file; 0 writes them at the server's end.",
        Key("server_settings.log_frequency", read.whole(0)),
    ),
    Flag(
        ("--collect-metrics",),
        "",
        "Reads the server's metrics page during each window.",
        Part("`target.metrics_url`", read.present),
    ),
    Flag(
        ("--metrics-url",),
        "URL",
        "That page; port 8002 of the server, /metrics, by default.",
        Part("`target.metrics_url`", read.filled),
    ),
    Flag(
        ("--metrics-interval",),
        "MS",
        "How often it is read, in milliseconds; 1000 by default.",
        Part("`target.metrics_interval`", read.milliseconds),
    ),
    Flag(
        ("--enable-mpi",),
        "",
        "Several clients as one MPI job.",
        Refused("there is no MPI here; start one analyze for each model"),
    ),
)

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
    Flag(("-v", "--verbose"), "", "Says more; twice, still more.", Setting("verbosity", read.present, repeats=True)),
    Flag(("--version",), "", "Prints the version.", Setting("version", read.present)),
)

_OWN = (
    Flag(
        ("--unit",),
        "NAME:PER",
        "What one inference is worth, as seconds_of_audio:0.3; throughput is given in it, too.",
        Key("unit", read.unit),
    ),
    Flag(
        ("--fail-on",),
        "CONDITION",
        "Exit code 5 if a level is like this, as 'p95>50ms', 'throughput<100/s', 'error_ratio>1%'. Can be repeated.",
        Setting("fail_on", parse_condition, repeats=True),
    ),
    Flag(
        ("--include-unstable",), "", "Unstable levels are in the CSV, too.", Setting("include_unstable", read.present)
    ),
    Flag(("--json",), "FILE", "Writes the whole result as JSON.", Setting("json_path", read.filled)),
    Flag(
        ("--plot",), "FILE", "Draws latency against throughput: .png, .svg or .pdf.", Setting("plot_path", read.filled)
    ),
    Flag(
        ("--print-probe",),
        "",
        "Measures nothing; prints the same measurement as a configuration of the daemon.",
        Setting("print_probe", read.present),
    ),
    Flag(("--help", "-h"), "", "Prints this.", Setting("help", read.present)),
)

GROUPS: tuple[tuple[str, tuple[Flag, ...]], ...] = (
    ("The model", _MODEL),
    ("The measurement", _MEASUREMENT),
    ("The input", _INPUT),
    ("The server", _SERVER),
    ("The report", _REPORT),
    ("Our own", _OWN),
)
"""All flags, as a reader meets them. All but the last group are perf_analyzer's; of its own are --verbose and -h."""

FLAGS: dict[str, Flag] = {name: flag for _, flags in GROUPS for flag in flags for name in flag.names}
"""The flags by each of their names."""
