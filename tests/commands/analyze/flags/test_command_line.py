"""Command lines, and the configuration that they make."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.commands.analyze.flags import RunOptions, parse
from exporter.commands.analyze.flags.command_line import read
from exporter.commands.analyze.flags.fail_on import parse_condition
from exporter.commands.analyze.printed_probe import print_document
from exporter.config import build_probes, load
from exporter.core.errors import ConfigError
from exporter.core.probe import Mode
from exporter.core.units import NS

TARGET: dict[str, Any] = {"name": "server", "kind": "triton", "url": "http://localhost"}
PROBE: dict[str, Any] = {
    "name": "m",
    "target": "server",
    "model": "m",
    "schedule": {"every": "1h"},
    "load": {"concurrency": 1},
    "stop": {
        "max_requests": 10**9,
        "max_duration": "1d",
        "max_in_flight": 1024,
        "max_latency": "0s",
        "pending_growth": 0,
    },
    "measurement": {"request_timeout": "1m", "stability_rule": "perf_analyzer"},
}

Changes = dict[str, Any]


def laid_over(base: Changes, over: Changes) -> Changes:
    """`over` laid over `base`, sections key by key."""
    both = base | over
    for key, value in over.items():
        if isinstance(base.get(key), dict) and key != "load":
            both[key] = base[key] | value
    return both


LINES: list[tuple[str, Changes, Changes]] = [
    ("-m m", {}, {}),
    ("-mm", {}, {}),
    ("-m m -x 3", {}, {"version": "3"}),
    ("-m group/m.1", {}, {"model": "group/m.1", "name": "group-m.1"}),
    # the measurement
    ("-m m -p 2500", {}, {"measurement": {"window": "2500ms"}}),
    ("-m m -p2500", {}, {"measurement": {"window": "2500ms"}}),
    ("-m m --measurement-interval=2500", {}, {"measurement": {"window": "2500ms"}}),
    ("-m m --measurement-interval 2500", {}, {"measurement": {"window": "2500ms"}}),
    ("-m m --measurement-i 2500", {}, {"measurement": {"window": "2500ms"}}),
    ("-m m -p 1000 -p 2000", {}, {"measurement": {"window": "2000ms"}}),
    ("-m m --percentile=95", {}, {"measurement": {"stability_percentile": 95.0}}),
    ("-m m --percentile 99.9", {}, {"measurement": {"stability_percentile": 99.9}}),
    ("-m m --percentile -1", {}, {}),
    ("-m m --stable-by=canary", {}, {"measurement": {"stability_rule": "canary"}}),
    ("-m m --stability 5", {}, {"measurement": {"stability": "5%"}}),
    ("-m m --measurement-request-count 100", {}, {}),
    (
        "-m m --measurement-request-count 100 --measurement-mode time_windows",
        {},
        {"measurement": {"window_mode": "time"}},
    ),
    ("-m m --output-shared-memory-size 1000", {}, {}),
    ("-m m --output-shared-memory-size 1000 --shared-memory none", {}, {"input": {"shared_memory": "none"}}),
    ("-m m --grpc-compression-algorithm none", {}, {}),
    ("-m m --request-count 0", {}, {"measurement": {"request_count": 0}}),
    ("-m m -p 100 -l 3600000", {}, {"measurement": {"window": "100ms", "latency_threshold": "3600000ms"}}),
    ("-m m -s 3", {}, {"measurement": {"stability": "3%"}}),
    ("-m m --stability-percentage=999", {}, {"measurement": {"stability": "999%"}}),
    ("-m m -r 20", {}, {"measurement": {"max_windows": 20}}),
    ("-m m -r 2", {}, {"measurement": {"max_windows": 2, "stability_windows": 2}}),
    (
        "-m m --measurement-mode=count_windows --measurement-request-count=5000",
        {},
        {"measurement": {"window_mode": "count", "window_requests": 5000}},
    ),
    (
        "-m m --request-count 100 --warmup-request-count 5",
        {},
        {"measurement": {"request_count": 100, "warm_up_requests": 5}},
    ),
    ("-m m --fail-on p95>5ms", {}, {}),
    (
        "-m m --fail-on p99.5>5ms",
        {},
        {"measurement": {"percentiles": [50.0, 90.0, 95.0, 99.0, 99.5, 99.9]}},
    ),
    # the load
    ("-m m --concurrency-range 4", {}, {"load": {"concurrency": 4}}),
    ("-m m --concurrency-range 1:8", {}, {"load": {"concurrency": "1:8:1"}}),
    ("-m m --concurrency-range 1:9:2", {}, {"load": {"concurrency": "1:9:2"}}),
    (
        "-m m --concurrency-range 2000",
        {},
        {"load": {"concurrency": 2000}, "stop": {"max_in_flight": 2000}},
    ),
    (
        "-m m --concurrency-range 1:0:2 -l 100",
        {},
        {
            "load": {"concurrency": "1:0:2", "search": "linear"},
            "measurement": {"latency_threshold": "100ms"},
        },
    ),
    (
        "-m m --concurrency-range 1:64 -l 100 --binary-search",
        {},
        {"load": {"concurrency": "1:64:1", "search": "binary"}, "measurement": {"latency_threshold": "100ms"}},
    ),
    (
        "-m m --concurrency-range 4 -l 100",
        {},
        {"load": {"concurrency": 4}, "measurement": {"latency_threshold": "100ms"}},
    ),
    ("-m m --concurrency-range 1:4 -l 0", {}, {"load": {"concurrency": "1:4:1"}}),
    ("-m m -t 4", {}, {"load": {"concurrency": 4}}),
    ("-m m -d -t 2 -c 6", {}, {"load": {"concurrency": "2:6:1"}}),
    ("-m m -c 6", {}, {"load": {"concurrency": "1:6:1"}}),
    ("-m m --request-rate-range 100", {}, {"load": {"request_rate": 100}}),
    ("-m m --request-rate-range 0.5:2.5:0.5", {}, {"load": {"request_rate": "0.5:2.5:0.5"}}),
    ("-m m --request-rate-range 1e2:3e2:1e2", {}, {"load": {"request_rate": "100:300:100"}}),
    (
        "-m m --request-rate-range 50 --request-distribution poisson",
        {},
        {"load": {"request_rate": 50, "distribution": "poisson"}},
    ),
    ("-m m --request-distribution poisson", {}, {}),
    ("-m m --request-intervals gaps.txt", {}, {"load": {"intervals_file": "gaps.txt"}}),
    (
        "-m m --fixed-schedule --input-data a.json",
        {},
        {"load": {"schedule_file": "a.json"}, "input": {"source": "files", "paths": ["a.json"]}},
    ),
    (
        "-m m -i grpc --streaming --periodic-concurrency-range 1:8:1 --request-period 20",
        {"url": "grpc://localhost"},
        {"load": {"periodic_concurrency": "1:8:1", "request_period": 20}, "streaming": True},
    ),
    (
        "-m m --streams 16:64:16 --step-interval 300 --ramp 2000",
        {},
        {"load": {"streams": "16:64:16", "step_interval": "300ms", "ramp": "2000ms"}},
    ),
    (
        "-m m --streams 2000 --step-interval 300 -l 100",
        {},
        {
            "load": {"streams": 2000, "step_interval": "300ms"},
            "stop": {"max_in_flight": 2000},
            "measurement": {"latency_threshold": "100ms"},
        },
    ),
    (
        "-m m --streams 1:64 --step-interval 300 -l 100 --binary-search",
        {},
        {
            "load": {"streams": "1:64:1", "step_interval": "300ms", "search": "binary"},
            "measurement": {"latency_threshold": "100ms"},
        },
    ),
    # cut short, a flag is one of perf_analyzer's: not our --stable-by, and not our --streams
    ("-m m --stab 5", {}, {"measurement": {"stability": "5%"}}),
    ("-m m -i grpc --stream", {"url": "grpc://localhost"}, {"streaming": True}),
    # workers on other machines
    (
        "-m m --workers tls://s:8786 --worker-count 2 --from zone-a",
        {},
        {"load": {"concurrency": 1, "pool": "tls://s:8786", "workers": 2}, "from": ["zone-a"]},
    ),
    # sequences
    (
        "-m m --sequence-length 50 --sequence-length-variation 10 --serial-sequences --sequence-id-range 10:20",
        {},
        {
            "load": {
                "concurrency": 1,
                "sequences": {"length": 50, "length_variation": "10%", "serial": True, "start_id": 10, "id_range": 10},
            }
        },
    ),
    ("-m m --sequence-id-range 7", {}, {"load": {"concurrency": 1, "sequences": {"start_id": 7}}}),
    ("-m m --num-of-sequences 7", {}, {}),
    (
        "-m m --num-of-sequences 7 --request-rate-range 10",
        {},
        {"load": {"request_rate": 10, "sequences": {"count": 7}}},
    ),
    # the input
    ("-m m -b 4", {}, {"input": {"batch_size": 4}}),
    ("-m m -b 1,4,8", {}, {"load": {"concurrency": 1, "batch_size": [1, 4, 8]}}),
    ("-m m --input-data zero", {}, {"input": {"source": "zero"}}),
    ("-m m -z", {}, {"input": {"source": "zero"}}),
    ("-m m --input-data random", {}, {}),
    ("-m m --input-data a.json --input-data b.json", {}, {"input": {"source": "files", "paths": ["a.json", "b.json"]}}),
    ("-m m --data-directory folder", {}, {"input": {"source": "files", "paths": ["folder"]}}),
    (
        "-m m --shape input:1,320000 --shape a:b:2",
        {},
        {"input": {"shapes": {"input": [1, 320000], "a:b": [2]}}},
    ),
    ("-m m --string-length 5 --string-data abc", {}, {"input": {"string_length": 5, "string_data": "abc"}}),
    (
        "-m m --input-tensor-format json --output-tensor-format binary",
        {},
        {"input": {"format": "json", "output_format": "binary"}},
    ),
    (
        "-m m --request-parameter max_tokens:256:int --request-parameter s:a:b:string --request-parameter f:True:bool",
        {},
        {"input": {"parameters": {"max_tokens": 256, "s": "a:b", "f": True}}},
    ),
    (
        "-m m --shared-memory system --output-shared-memory-size 1000",
        {},
        {"input": {"shared_memory": "system", "output_shared_memory_size": 1000}},
    ),
    # the server
    ("-m m -u triton:9000", {"url": "http://triton:9000"}, {}),
    ("-m m -i gRPC", {"url": "grpc://localhost"}, {}),
    ("-m m -i HTTP -u http://triton:9000/v1", {"url": "http://triton:9000/v1"}, {}),
    ("-m m -u grpc://triton:9000", {"url": "grpc://triton:9000"}, {}),
    ("-m m -u https://triton", {"url": "https://triton"}, {}),
    ("-m m -H X-Team:asr -H X-Team:tts", {"headers": {"X-Team": "tts"}}, {}),
    ("-m m -H Host:m.default.example", {"host_header": "m.default.example"}, {}),
    (
        "-m m -H Authorization:Bearer_x",
        {"headers": {"Authorization": {"env": "TRITON_CANARY_HEADER_AUTHORIZATION"}}},
        {},
    ),
    (
        "-m m -i grpc --ssl-grpc-use-ssl --ssl-grpc-root-certifications-file ca.pem --ssl-grpc-private-key-file k.pem"
        " --ssl-grpc-certificate-chain-file c.pem",
        {"url": "grpcs://localhost", "tls": {"ca_file": "ca.pem", "key_file": "k.pem", "cert_file": "c.pem"}},
        {},
    ),
    (
        "-m m -u https://triton --ssl-https-verify-peer 0 --ssl-https-verify-host 0 --ssl-https-private-key-type PEM",
        {"url": "https://triton", "tls": {"verify": False}},
        {},
    ),
    (
        "-m m -u https://triton --ssl-https-verify-peer 1 --ssl-https-verify-host 2 --ssl-https-ca-certificates-file a",
        {"url": "https://triton", "tls": {"ca_file": "a"}},
        {},
    ),
    ("-m m -u https://x --ssl-https-verify-host 0", {"url": "https://x", "tls": {"verify": "peer"}}, {}),
    ("-m m -u https://x --ssl-https-verify-host 1", {"url": "https://x"}, {}),
    (
        "-m m -i grpc --grpc-compression-algorithm gzip",
        {"url": "grpc://localhost"},
        {"input": {"compression": "gzip"}},
    ),
    ("-m m -i grpc --grpc-compression-algorithm none", {"url": "grpc://localhost"}, {}),
    ("-m m --collect-metrics", {"metrics_url": "http://localhost:8002/metrics"}, {}),
    (
        "-m m -u [::1]:9000 --collect-metrics",
        {"url": "http://[::1]:9000", "metrics_url": "http://[::1]:8002/metrics"},
        {},
    ),
    (
        "-m m --collect-metrics --metrics-url host:1/metrics --metrics-interval 500.0",
        {"metrics_url": "http://host:1/metrics", "metrics_interval": "500ms"},
        {},
    ),
    (
        "-m m --trace-level TIMESTAMPS --trace-level TENSORS --trace-rate 10 --trace-count -1 --log-frequency 0",
        {},
        {
            "server_settings": {
                "trace_level": ["TIMESTAMPS", "TENSORS"],
                "trace_rate": 10,
                "trace_count": -1,
                "log_frequency": 0,
            }
        },
    ),
    ("-m m --bls-composing-models a:3,b", {}, {"composing_models": ["a:3", "b"]}),
    ("-m m --unit seconds_of_audio:0.3", {}, {"unit": {"name": "seconds_of_audio", "per_inference": 0.3}}),
    # what changes nothing of the measurement
    ("-m m -a -v -v --max-threads 8 --service-kind triton -f out.csv --verbose-csv", {}, {}),
    ("-m m -av --model-repository /models --endpoint v1", {}, {}),
    # other kinds of servers, by the lines that their users know
    (
        "-m resnet50 --service-kind tfserving -i grpc -b 1 -p 5000 -u localhost:8500 --model-signature-name predict",
        {"kind": "tfserving", "url": "grpc://localhost:8500"},
        {
            "name": "resnet50",
            "model": "resnet50",
            "measurement": {"window": "5000ms"},
            "input": {"batch_size": 1, "signature": "predict"},
        },
    ),
    (
        "-m resnet50 --service-kind torchserve -i http -u localhost:8080 -b 1 -p 5000 --input-data a.json",
        {"kind": "torchserve", "url": "http://localhost:8080"},
        {
            "name": "resnet50",
            "model": "resnet50",
            "measurement": {"window": "5000ms"},
            "input": {"batch_size": 1, "source": "files", "paths": ["a.json"]},
        },
    ),
    (
        "-m m --service-kind tfserving --tensor-datatype a:b:INT64 --tensor-datatype x:FP32 --shape x:2 --shape a:b:1",
        {"kind": "tfserving", "url": "http://localhost"},
        {"input": {"datatypes": {"a:b": "INT64", "x": "FP32"}, "shapes": {"x": [2], "a:b": [1]}}},
    ),
    (
        "-m m --service-kind openai --endpoint v1/completions --streaming -u h:9 --prompt-tokens 9 "
        "--prompt-cache allow",
        {"kind": "openai", "url": "http://h:9"},
        {
            "input": {"prompt": {"endpoint": "v1/completions", "tokens": 9, "cache": "allow"}},
            "stop": {"max_tokens": 100_000_000},
            "streaming": True,
        },
    ),
    ("-m m --service-kind openai", {"kind": "openai"}, {"stop": {"max_tokens": 100_000_000}}),
    ("-m m --service-kind tfserving", {"kind": "tfserving", "url": "http://localhost"}, {}),
    ("-m m --service-kind tfserving -i grpc", {"kind": "tfserving", "url": "grpc://localhost"}, {}),
    ("-m m --service-kind torchserve -u h", {"kind": "torchserve", "url": "http://h"}, {}),
    ("-m m --service-kind oip -u https://h/x", {"kind": "oip", "url": "https://h/x"}, {}),
    (
        "-m m --service-kind oip -i grpc -u h --collect-metrics",
        {"kind": "oip", "url": "grpc://h", "metrics_url": "http://h:8082/metrics"},
        {},
    ),
    # those that their users know
    (
        "-m wav2vec_general_v2 --percentile=95 --concurrency-range 1:8 --shape input:1,320000",
        {},
        {
            "name": "wav2vec_general_v2",
            "model": "wav2vec_general_v2",
            "load": {"concurrency": "1:8:1"},
            "measurement": {"stability_percentile": 95.0},
            "input": {"shapes": {"input": [1, 320000]}},
        },
    ),
    (
        "-u localhost:8001 -i grpc -a -m streaming_acoustic --streaming --sequence-length=50"
        " --measurement-mode=count_windows --measurement-request-count=5000 --request-rate-range=2048:4096:256"
        " --stability-percentage=100 --latency-threshold=100",
        {"url": "grpc://localhost:8001"},
        {
            "name": "streaming_acoustic",
            "model": "streaming_acoustic",
            "streaming": True,
            "load": {"request_rate": "2048:4096:256", "search": "linear", "sequences": {"length": 50}},
            "measurement": {
                "window_mode": "count",
                "window_requests": 5000,
                "stability": "100%",
                "latency_threshold": "100ms",
            },
        },
    ),
]


@pytest.mark.parametrize(("line", "target", "probe"), LINES, ids=[line for line, _, _ in LINES])
def test_the_configuration_of_a_line(
    line: str, target: Changes, probe: Changes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name in ("a.json", "b.json", "folder/INPUT0", "ca.pem", "k.pem", "c.pem", "a"):
        (tmp_path / name).touch()
    (tmp_path / "gaps.txt").write_text("1000\n")
    (tmp_path / "a.json").write_text('{"data": [{"timestamp": 0}]}')
    draft, _ = read(line.split())
    assert draft.problems == []
    gpu = {} if "metrics_url" in target else {"gpu": "off"}
    document = {"targets": [laid_over(TARGET | gpu, target)], "probes": [laid_over(PROBE, probe)]}
    assert draft.document == document
    assert parse(line.split()).probe is not None


def test_a_triton_in_this_process() -> None:
    line = "-m graphdef_int32_int32_int32 --service-kind=triton_c_api --streaming"
    draft, _ = read([*line.split(), "--triton-server-directory=/triton", "--model-repository=/models"])
    assert (draft.problems, draft.notices) == ([], [])
    (target,), (probe,) = draft.document["targets"], draft.document["probes"]
    folders = {"server_directory": "/triton", "model_repository": "/models"}
    assert target == {"name": "server", "kind": "triton_in_process", "gpu": "off"} | folders
    assert (probe["model"], probe["streaming"]) == ("graphdef_int32_int32_int32", True)
    parse([*line.split(), "--model-repository", "/models"])
    draft, _ = read([*line.split(), "--model-repository", "/models"])
    assert draft.document["targets"][0]["server_directory"] == "/opt/tritonserver"


def zoo(name: str) -> list[tuple[str, list[str]]]:
    """The command lines of a file, each behind a `$` and with what is reported about it below."""
    entries: list[tuple[str, list[str]]] = []
    for text in (Path(__file__).parent / name).read_text().splitlines():
        if text.startswith("$"):
            entries.append((text[1:].strip(), []))
        else:
            entries[-1][1].append(text)
    return entries


OPTIONS: list[tuple[str, RunOptions]] = [
    ("", RunOptions()),
    ("-a --collect-metrics", RunOptions(asynchronous=True)),
    ("-vv -v", RunOptions(verbosity=(True, True, True))),
    ("-f perf.csv --verbose-csv --include-unstable", RunOptions("perf.csv", verbose_csv=True, include_unstable=True)),
    (
        "--fail-on p95>50ms --fail-on throughput<1/s",
        RunOptions(fail_on=(parse_condition("p95>50ms"), parse_condition("throughput<1/s"))),
    ),
    ("--print-probe", RunOptions(print_probe=True)),
    ("--help", RunOptions(help=True)),
    ("--version", RunOptions(version=True)),
]


@pytest.mark.parametrize(("line", "options"), OPTIONS)
def test_the_options_of_a_line(line: str, options: RunOptions) -> None:
    assert read(["-m", "m", *line.split()])[1] == options


@pytest.mark.parametrize(("line", "problems"), zoo("errors.txt"))
def test_what_is_wrong_with_a_line(
    line: str, problems: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        parse(line.split())
    assert caught.value.problems == problems


@pytest.mark.parametrize(("line", "notices"), zoo("notices.txt"))
def test_what_is_reported_about_a_line(line: str, notices: list[str]) -> None:
    draft, _ = read(["-m", "m", *line.split()])
    assert (draft.problems, draft.notices) == ([], notices)


def test_a_secret_is_in_the_environment_alone() -> None:
    line = parse(["-m", "m", "-H", "Authorization: Bearer hunter2", "-H", "X-Anything: Basic hunter2"])
    assert line.environment == {
        "TRITON_CANARY_HEADER_AUTHORIZATION": "Bearer hunter2",
        "TRITON_CANARY_HEADER_X_ANYTHING": "Basic hunter2",
    }
    assert "hunter2" not in repr(line.probe)
    assert "hunter2" not in print_document(line.document, line.environment)


def test_the_probe_of_a_line() -> None:
    words = "-m asr -x 2 -i grpc -u triton --concurrency-range 2:4:2 -p 500 -r 4 -s 5 --percentile 95 --unit s:0.3 -b 3"
    probe = parse(words.split()).probe
    assert probe is not None
    assert (probe.name, probe.model, probe.version, probe.target.url) == ("asr", "asr", "2", "grpc://triton:8001")
    assert [(level.mode, level.value) for level in probe.levels] == [(Mode.CONCURRENCY, 2.0), (Mode.CONCURRENCY, 4.0)]
    measurement = probe.measurement
    assert (measurement.window_ns, measurement.max_windows, measurement.stability_windows) == (NS // 2, 4, 3)
    assert (measurement.stability_ratio, measurement.stability_percentile) == (0.05, 95.0)
    assert (probe.input.batch_size, probe.stop.max_in_flight, probe.stop.max_error_ratio) == (3, 1024, 0.1)
    assert probe.unit is not None
    assert (probe.unit.name, probe.unit.per_inference) == ("s", 0.3)


@pytest.mark.parametrize(
    "line",
    [
        "-m asr",
        "-m 1e3 -x 1 --concurrency-range 1:8:1 --percentile 99.5 --shape null:1,2 --shape 0x1f:3",
        "-m a:b -u [::1]:9000 --request-rate-range 0.5:2.5:0.5 --request-distribution poisson -H X-Team:true",
        "-m no -H Authorization:secret --unit 1_0:0.3 -r 1 -b 2 --string-length 7 --input-data zero",
        "-m m -u https://x --ssl-https-verify-peer 0 --ssl-https-ca-certificates-file ~",
        "-m m --workers tls://s:8786 --from zone-a",
    ],
)
def test_the_daemon_reads_the_printed_probe_as_the_same(line: str, tmp_path: Path) -> None:
    """The same probe by the same models: what the daemon measures is what analyze measures."""
    given = parse(line.split())
    path = tmp_path / "canary.yaml"
    path.write_text(print_document(given.document, given.environment))
    assert build_probes(load(path, dict(given.environment))) == (given.probe,)
    # And as it is printed: the same but for the guards, which are the daemon's.
    path.write_text(print_document(given.document, given.environment, given.probe, given.assumed))
    (printed,) = build_probes(load(path, dict(given.environment)))
    assert given.probe is not None
    assert (printed.stop.max_requests, printed.stop.max_duration_ns) == (1_000_000, 300 * NS)
    assert printed.stop.max_latency_ns != 0
    # Without --collect-metrics analyze reads no GPU figures; a daemon does.
    assert (given.probe.target.gpu, printed.target.gpu) == ("off", "auto")
    assert replace(printed.target, gpu="off") == given.probe.target
    same = {"levels", "input", "unit", "search", "version", "workers", "pool", "place", "name"}
    assert all(getattr(printed, name) == getattr(given.probe, name) for name in same)
    assert printed.measurement.window_ns == given.probe.measurement.window_ns


@pytest.mark.parametrize(
    ("line", "stop"),
    [
        ("--concurrency-range 1:256:255", {}),
        ("--concurrency-range 1:257:256", {"max_in_flight": "257  # raised from 256: the highest level has 257 "}),
        ("--request-rate-range 5000", {}),
        ("--request-count 999998", {}),
        ("--request-count 1000000", {"max_requests": "1000002  # raised from 1000000: the levels send 1000002"}),
        (
            "-p 60000 --concurrency-range 1:2",
            {"max_duration": "13m  # raised from 5m: the levels take 6m1s at least"},
        ),
        ("-p 40000 --concurrency-range 1:2", {}),
    ],
)
def test_a_guard_is_raised_only_where_a_level_needs_it(line: str, stop: dict[str, str], tmp_path: Path) -> None:
    given = parse(["-m", "m", *line.split()])
    text = print_document(given.document, given.environment, given.probe, given.assumed)
    assert ("\n  stop:\n" in text) == bool(stop)
    for key, shown in stop.items():
        assert f"\n    {key}: {shown}" in text
    for key in {"max_in_flight", "max_requests", "max_duration", "max_latency", "pending_growth"} - set(stop):
        assert f"{key}:" not in text
    path = tmp_path / "canary.yaml"
    path.write_text(text)
    assert len(build_probes(load(path, {}))) == 1


def test_a_flag_s_own_rule_is_printed() -> None:
    for flag, is_there in (("", False), ("--stable-by=perf_analyzer", True)):
        given = parse(["-m", "m", *flag.split()])
        text = print_document(given.document, given.environment, given.probe, given.assumed)
        assert ("stability_rule: perf_analyzer" in text) is is_there


@pytest.mark.parametrize(("stream", "streaming"), [(True, True), (False, None), (None, None)])
def test_perf_analyzer_s_payloads_state_whether_they_are_streamed(
    stream: bool | None, streaming: bool | None, tmp_path: Path
) -> None:
    payload = {"messages": [{"role": "user", "content": "x"}]} | ({} if stream is None else {"stream": stream})
    path = tmp_path / "inputs.json"
    path.write_text(json.dumps({"data": [{"payload": [payload]}]}))
    line = f"-m m --service-kind openai --input-data {path} --async --request-count 8 --concurrency-range 2"
    (probe,) = parse(line.split()).document["probes"]
    assert probe.get("streaming") is streaming
    assert probe["input"] == {"source": "files", "paths": [str(path)]}


def test_perf_analyzer_s_sessions(tmp_path: Path) -> None:
    payload = {"messages": [{"role": "user", "content": "x"}]}
    turns = [{"session_id": ["a"], "delay": [300], "payload": [payload]}, {"session_id": ["a"], "payload": [payload]}]
    path = tmp_path / "inputs.json"
    path.write_text(json.dumps({"data": turns}))
    line = f"-m m --service-kind openai --input-data {path} --session-concurrency 2000"
    (probe,) = parse(line.split()).document["probes"]
    assert probe["load"] == {"session_concurrency": 2000}
    assert probe["stop"]["max_in_flight"] == 2000
