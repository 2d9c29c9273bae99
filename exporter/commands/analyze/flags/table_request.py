"""The flags for what is sent, and where to. Part of `table`."""

from __future__ import annotations

from exporter.commands.analyze.flags import value_parsers as read
from exporter.commands.analyze.flags.flag import Flag, Key, NoEffect, Part, Refused
from exporter.config.target_settings import METRICS_INTERVAL

_DER_CERTIFICATE = "openssl x509 -inform DER -in client.der -out client.pem"
_DER_KEY = "openssl pkey -inform DER -in client.key.der -out client.key.pem"

INPUT = (
    Flag(
        ("-b",),
        "N[,N...]",
        "Inferences in one request; 1 by default. Several: each level with each of them.",
        Part("`input.batch_size`, `load.batch_size`", read.whole_numbers(1)),
    ),
    Flag(
        ("--input-data",),
        "DATA",
        "random (default), zero, a folder with a file per input, or JSON files.",
        Part("`input.source`, `input.paths`", read.filled, repeats=True),
    ),
    Flag(
        ("--shape",),
        "NAME:DIM,...",
        "The complete shape of an input of variable size, without the batch dimension. Once per input.",
        Part("`input.shapes`", read.shape, repeats=True),
    ),
    Flag(
        ("--string-length",),
        "N",
        "Characters in a string element; 128 by default.",
        Key("input.string_length", read.whole(1)),
    ),
    Flag(("--string-data",), "TEXT", "The content of every string element.", Key("input.string_data", str)),
    Flag(
        ("--input-tensor-format",),
        "FORMAT",
        "HTTP: form of the inputs, binary (default) or json.",
        Key("input.format", read.one_of(binary="binary", json="json")),
    ),
    Flag(
        ("--output-tensor-format",),
        "FORMAT",
        "HTTP: form of the outputs, binary (default) or json.",
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
        "Passes tensors in shared memory to a server on this machine: system, cuda or none (default).",
        Key("input.shared_memory", read.one_of(none="none", system="system", cuda="cuda")),
    ),
    Flag(
        ("--output-shared-memory-size",),
        "BYTES",
        "Shared memory for each output of variable size; 102400 by default.",
        Part("`input.output_shared_memory_size`", read.whole(1)),
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
        "How much lengths vary around it; 20 by default.",
        Key("load.sequences.length_variation", read.percentage),
    ),
    Flag(
        ("--sequence-id-range",),
        "START:END",
        "The sequence ids to use, END excluded; from 1 without a limit by default.",
        Part("`load.sequences.start_id`, `load.sequences.id_range`", read.id_range),
    ),
    Flag(("-z",), "", "Zeroes as input.", Part("`input.source`", read.present), "--input-data=zero"),
    Flag(("--data-directory",), "PATH", "A folder of inputs.", Part("`input.paths`", read.filled), "--input-data"),
)

SERVER = (
    Flag(
        ("-u",),
        "URL",
        "The server: host[:port] or a URL; by default localhost and the usual port of the service kind, 8000 (http) "
        "or 8001 (grpc) for Triton.",
        Part("`target.url`", read.filled),
    ),
    Flag(("-i",), "PROTOCOL", "http (default) or grpc.", Part("`target.url`", read.protocol)),
    Flag(
        ("-H",),
        "NAME:VALUE",
        "A header of every request. Can be repeated.",
        Part("`target.headers`", read.header, repeats=True),
    ),
    Flag(
        ("--streaming",),
        "",
        "gRPC: sends requests over streams; openai: streams responses.",
        Part("`streaming`, over gRPC and for openai", read.present),
    ),
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
        "gRPC: PEM file of the client key.",
        Part("`target.tls.key_file`", read.filled),
    ),
    Flag(
        ("--ssl-grpc-certificate-chain-file",),
        "FILE",
        "gRPC: PEM file of the client certificate.",
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
        "HTTPS: whether it must contain the host's name: 0 no, 1 and 2 (default) yes.",
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
        "HTTPS: PEM file of the client certificate.",
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
        "HTTPS: PEM file of the client key.",
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
        "What the server traces during the run: OFF, TIMESTAMPS or TENSORS. Can be repeated.",
        Part(
            "`server_settings.trace_level`",
            read.one_of(OFF="OFF", TIMESTAMPS="TIMESTAMPS", TENSORS="TENSORS"),
            repeats=True,
        ),
    ),
    Flag(("--trace-rate",), "N", "Traces one request in this many.", Key("server_settings.trace_rate", read.whole(1))),
    Flag(
        ("--trace-count",), "N", "The most traces; -1 is no limit.", Key("server_settings.trace_count", read.whole(-1))
    ),
    Flag(
        ("--log-frequency",),
        "N",
        "Traces per trace file; 0 writes them when the server ends.",
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
        "The address of that page; by default the usual one of the server kind: port 8002 for Triton, 8082 for "
        "TorchServe and MLServer (/metrics), 8501 for TensorFlow Serving (/monitoring/prometheus/metrics).",
        Part("`target.metrics_url`", read.filled),
    ),
    Flag(
        ("--metrics-interval",),
        "MS",
        "How often it is read, in milliseconds; 1000 by default.",
        Part("`target.metrics_interval`", read.milliseconds(METRICS_INTERVAL)),
    ),
    Flag(
        ("--enable-mpi",),
        "",
        "Several clients as one MPI job.",
        Refused("MPI is not supported; --workers URL loads one model from many machines (docs/pool.md)"),
    ),
)
