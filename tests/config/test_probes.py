"""From settings to probes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from exporter.baseline.key import load_hash
from exporter.config import build_probes, load
from exporter.config.probes import build_target
from exporter.config.target_settings import TargetSettings
from exporter.core.errors import ConfigError
from exporter.core.probe import (
    Distribution,
    InputOptions,
    LoadLevel,
    MeasurementOptions,
    Mode,
    OverloadPolicy,
    Probe,
    Schedule,
    Search,
    SearchKind,
    SequenceOptions,
    ServerSettings,
    Slo,
    StopRules,
    Unit,
    WindowMode,
)
from exporter.core.target import Header, Resolve, Target, TlsOptions
from exporter.core.units import MS, NS

GOOD = Path(__file__).parent / "good"


def test_the_full_example() -> None:
    chunks, nightly = build_probes(load(GOOD / "full.yaml", {}))
    assert re.fullmatch("[0-9a-f]{12}", chunks.config_hash)
    assert chunks == Probe(
        name="asr-chunks",
        target=Target(
            name="asr-http",
            kind="triton",
            scheme="https",
            host="asr.example.com",
            port=443,
            group="asr",
            path="/triton",
            metrics_url="http://asr.example.com:8002/metrics",
            headers=(
                Header("X-Route", value="canary"),
                Header("Authorization", env="ASR_TOKEN", prefix="Bearer "),
                Header("X-Api-Key", file="/run/secrets/asr-key"),
            ),
            tls=TlsOptions(
                "/etc/triton-canary/ca.pem",
                "/etc/triton-canary/client.pem",
                "/etc/triton-canary/client.key",
                "asr.internal",
                verify_host=False,
            ),
            connect_timeout_ns=2 * NS,
        ),
        model="asr",
        version="2",
        schedule=Schedule(600 * NS, jitter_ns=30 * NS),
        levels=tuple(LoadLevel(Mode.CONCURRENCY, float(value), str(value)) for value in range(1, 9)),
        measurement=MeasurementOptions(2 * NS, 0.05, 95.0, 3, 8, (50.0, 90.0, 95.0, 99.0), 1500 * MS),
        input=InputOptions("random", 7, 2, (("AUDIO", (16000,)), ("LENGTH", (1,))), 32, compression="gzip"),
        stop=StopRules(64, 200_000, 120 * NS, 0.05, 50, max_latency_ns=750 * MS),
        slo=Slo("interactive", 50 * MS, 95.0, ("1", "4")),
        unit=Unit("audio_seconds", 0.3),
        histogram=False,
        variant="fp16",
        variant_group="precision",
        labels=(("stage", "gold"), ("team", "speech")),
        config_hash=chunks.config_hash,
    )
    assert nightly.schedule == Schedule(
        73 * 3600 * NS, "30 2 * * mon,tue,wed,thu,fri", "Europe/Berlin", jitter_ns=30 * NS
    )
    assert nightly.levels == (
        LoadLevel(Mode.REQUEST_RATE, 50.0, "50"),
        LoadLevel(Mode.REQUEST_RATE, 100.5, "100.5"),
    )
    assert (nightly.target.port, nightly.target.group) == (8001, "asr")
    assert (nightly.target.resolve, nightly.target.streams_per_connection) == (Resolve.CONNECTION, 8)


@pytest.mark.parametrize(
    ("given", "verify", "verify_host"),
    [
        ("true", True, True),
        ("full", True, True),
        ("peer", True, False),
        ("none", False, False),
        ("false", False, False),
    ],
)
def test_what_is_verified(given: str, verify: bool, verify_host: bool) -> None:
    settings = TargetSettings.model_validate(
        {"name": "t", "url": "grpcs://h", "tls": {"verify": yaml.safe_load(given)}}
    )
    tls = build_target(settings).tls
    assert (tls.verify, tls.verify_host) == (verify, verify_host)


def test_the_minimal_example_takes_the_types_own_defaults() -> None:
    (probe,) = build_probes(load(GOOD / "minimal.yaml", {}))
    assert probe == Probe(
        name="addsub",
        target=Target("triton", "triton", "http", "localhost", 8000, group="localhost"),
        model="addsub",
        version="",
        schedule=Schedule(300 * NS),
        levels=(LoadLevel(Mode.CONCURRENCY, 1.0, "1"),),
        config_hash=probe.config_hash,
    )


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "path"),
    [
        ("http://h", "http", "h", 8000, ""),
        ("https://h", "https", "h", 443, ""),
        ("grpc://h", "grpc", "h", 8001, ""),
        ("grpcs://h/", "grpcs", "h", 8001, ""),
        ("HTTP://Triton.Example.:80/a/b/", "http", "triton.example", 80, "/a/b"),
        ("http://[::1]:9000", "http", "::1", 9000, ""),
        ("http://my_triton", "http", "my_triton", 8000, ""),
    ],
)
def test_urls(tmp_path: Path, url: str, scheme: str, host: str, port: int, path: str) -> None:
    document = yaml.safe_load((GOOD / "minimal.yaml").read_text())
    document["targets"][0]["url"] = url
    (tmp_path / "canary.yaml").write_text(json.dumps(document))
    (probe,) = build_probes(load(tmp_path / "canary.yaml", {}))
    target = probe.target
    assert (target.scheme, target.host, target.port, target.path, target.group) == (scheme, host, port, path, host)


def hash_with(tmp_path: Path, section: str, **changes: object) -> str:
    document = yaml.safe_load((GOOD / "minimal.yaml").read_text())
    document[section][0].update(changes)
    (tmp_path / "canary.yaml").write_text(json.dumps(document))
    return build_probes(load(tmp_path / "canary.yaml", {}))[0].config_hash


@pytest.mark.parametrize(
    ("kind", "ports"),
    [
        ("triton", {"http": 8000, "https": 443, "grpc": 8001, "grpcs": 8001}),
        ("oip", {"http": 8080, "https": 443, "grpc": 8081, "grpcs": 8081}),
        ("tfserving", {"http": 8501, "https": 443, "grpc": 8500, "grpcs": 8500}),
        ("torchserve", {"http": 8080, "https": 443}),
    ],
)
def test_each_kind_has_its_own_ports(kind: str, ports: dict[str, int]) -> None:
    for scheme, port in ports.items():
        settings = {"name": "t", "kind": kind}
        assert build_target(TargetSettings.model_validate(settings | {"url": f"{scheme}://h"})).port == port
        assert build_target(TargetSettings.model_validate(settings | {"url": f"{scheme}://h:99"})).port == 99


def test_a_triton_in_this_process(tmp_path: Path) -> None:
    given: dict[str, object] = {"name": "here", "kind": "triton_in_process"}
    given |= {"server_directory": "/opt/tritonserver", "model_repository": "/models"}
    path = tmp_path / "config.yaml"
    probe = {"name": "x", "target": "here", "model": "x", "streaming": True}
    probe |= {"schedule": {"every": "5m"}, "load": {"concurrency": 1}}
    path.write_text(yaml.safe_dump({"targets": [given], "probes": [probe]}))
    (built,) = build_probes(load(path, {}))
    target = built.target
    assert (target.url, target.protocol, target.group) == ("file:///models", "in_process", "triton_in_process")
    assert (target.server_directory, target.model_repository) == ("/opt/tritonserver", "/models")
    assert (target.in_process, target.is_grpc, target.is_tls, target.can_stream) == (True, False, False, True)
    assert target.connect_timeout_ns == 60 * NS
    given["connect_timeout"] = "5s"
    path.write_text(yaml.safe_dump({"targets": [given], "probes": [probe]}))
    assert build_probes(load(path, {}))[0].target.connect_timeout_ns == 5 * NS


def test_the_hash_covers_the_effective_probe_and_its_target(tmp_path: Path) -> None:
    same = hash_with(tmp_path, "probes")
    assert same == hash_with(tmp_path, "probes", histogram=True, load={"concurrency": [1]}, schedule={"every": "300s"})
    others = {
        hash_with(tmp_path, "probes", model="echo"),
        hash_with(tmp_path, "probes", version="1"),
        hash_with(tmp_path, "probes", load={"concurrency": 2}),
        hash_with(tmp_path, "probes", load={"request_rate": 1}),
        hash_with(tmp_path, "probes", labels={"team": "a"}),
        hash_with(tmp_path, "probes", measurement={"window": "1s"}),
        hash_with(tmp_path, "probes", schedule={"every": "6m"}),
        hash_with(tmp_path, "targets", url="http://localhost:8001"),
        hash_with(tmp_path, "targets", headers={"X-Route": "a"}),
        hash_with(tmp_path, "targets", headers={"Authorization": {"env": "A"}}),
    }
    assert len(others | {same}) == 11


def probe_with(tmp_path: Path, **changes: object) -> Probe:
    document = yaml.safe_load((GOOD / "minimal.yaml").read_text())
    document["probes"][0].update(changes)
    (tmp_path / "canary.yaml").write_text(json.dumps(document))
    return build_probes(load(tmp_path / "canary.yaml", {}))[0]


def test_rates_at_random(tmp_path: Path) -> None:
    load = {"request_rate": [50, 100], "distribution": "poisson", "seed": 7, "workers": 2}
    probe = probe_with(tmp_path, load=load, stop={"on_overload": "count"})
    assert probe.levels == (
        LoadLevel(Mode.REQUEST_RATE, 50.0, "50", Distribution.POISSON, 7),
        LoadLevel(Mode.REQUEST_RATE, 100.0, "100", Distribution.POISSON, 7),
    )
    assert all(isinstance(level.distribution, Distribution) for level in probe.levels)
    assert probe.workers == 2
    assert probe.stop.on_overload is OverloadPolicy.COUNT


def test_loads_from_files(tmp_path: Path) -> None:
    gaps, night = tmp_path / "gaps.txt", tmp_path / "night.v2.txt"
    gaps.write_text("1000\n3000\n")
    night.write_text("0\n5\n250.5\n")
    (level,) = probe_with(tmp_path, load={"intervals_file": str(gaps)}).levels
    assert (level.mode, level.value, level.label, level.file) == (Mode.INTERVALS, 500.0, "gaps", str(gaps))
    (level,) = probe_with(tmp_path, load={"schedule_file": str(night)}).levels
    assert (level.mode, level.value, level.label, level.file) == (Mode.SCHEDULE, 3.0, "night.v2", str(night))
    assert level.duration_ns == 250_500_000


def test_the_hash_covers_what_is_in_a_file(tmp_path: Path) -> None:
    gaps = tmp_path / "gaps.txt"
    gaps.write_text("1000\n")
    first = hash_with(tmp_path, "probes", load={"intervals_file": str(gaps)})
    assert hash_with(tmp_path, "probes", load={"intervals_file": str(gaps)}) == first
    gaps.write_text("1001\n")
    assert hash_with(tmp_path, "probes", load={"intervals_file": str(gaps)}) != first


MEASURED = """
targets: [{name: t, kind: triton, url: "http://h"}]
defaults:
  schedule: {every: 5m}
  load: {search: binary, request_rate: "10:500:10"}
  measurement: {latency_threshold: 20ms, stability_percentile: 99.95}
probes:
  - {name: rate, target: t, model: m}
  - name: open
    target: t
    model: m
    load: {search: linear, concurrency: "2:0:4"}
    measurement: {window_mode: count, window_requests: 500, warm_up: 2s, warm_up_requests: 10, min_reached: 0.95}
  - name: plain
    target: t
    model: m
    load: {search: every, concurrency: 4}
    measurement: {request_count: 100, repeats: 3}
  - {name: gaps, target: t, model: m, load: {intervals_file: GAPS}}
"""


def test_how_it_is_measured(tmp_path: Path) -> None:
    (tmp_path / "gaps.txt").write_text("1000\n")
    (tmp_path / "canary.yaml").write_text(MEASURED.replace("GAPS", str(tmp_path / "gaps.txt")))
    rate, open_end, plain, gaps = build_probes(load(tmp_path / "canary.yaml", {}))
    assert rate.search == Search(SearchKind.BINARY, Mode.REQUEST_RATE, 10, 500, 10)
    assert [level.label for level in rate.levels] == ["10", "500"]
    assert rate.measurement.percentiles == (50.0, 90.0, 95.0, 99.0, 99.9, 99.95)
    assert (rate.measurement.latency_threshold_ns, rate.measurement.min_reached_ratio) == (20 * MS, 0.99)
    assert open_end.search == Search(SearchKind.LINEAR, Mode.CONCURRENCY, 2, 0, 4)
    assert [level.label for level in open_end.levels] == ["2"]
    options = open_end.measurement
    assert (options.window_mode, options.window_requests) == (WindowMode.COUNT, 500)
    assert (options.warm_up_ns, options.warm_up_requests, options.min_reached_ratio) == (2 * NS, 10, 0.95)
    assert (plain.search, plain.measurement.request_count, plain.measurement.repeats) == (None, 100, 3)
    # A file is no range: what was inherited for one is dropped with it.
    assert (gaps.search, gaps.levels[0].mode) == (None, Mode.INTERVALS)
    assert len({probe.config_hash for probe in (rate, open_end, plain, gaps)}) == 4


def test_a_file_cannot_be_searched(tmp_path: Path) -> None:
    (tmp_path / "gaps.txt").write_text("1000\n")
    text = MEASURED.replace("{intervals_file: GAPS}", f"{{search: linear, intervals_file: {tmp_path}/gaps.txt}}")
    (tmp_path / "canary.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "canary.yaml", {})
    (problem,) = caught.value.problems
    assert problem.endswith("probes[3] (gaps).load.search: has no meaning without concurrency, request_rate or streams")


SERVER_SIDE = """
targets: [{name: t, url: "grpc://h", metrics_url: "http://h:9400/metrics", metrics_interval: 250ms, gpu: off}]
probes:
  - name: p
    target: t
    model: m
    schedule: {every: 1m}
    load: {concurrency: 1}
    composing_models: [encoder, decoder]
    server_settings: {trace_level: [TIMESTAMPS, TENSORS], trace_rate: 100, trace_count: -1}
"""


def test_the_servers_side(tmp_path: Path) -> None:
    path = tmp_path / "canary.yaml"
    path.write_text(SERVER_SIDE)
    (probe,) = build_probes(load(path, {}))
    assert (probe.target.metrics_interval_ns, probe.target.gpu) == (NS // 4, "off")
    assert probe.composing_models == ("encoder", "decoder")
    assert probe.server_settings == ServerSettings(("TIMESTAMPS", "TENSORS"), 100, -1)
    path.write_text(SERVER_SIDE.replace(", metrics_interval: 250ms, gpu: off", "").partition("    composing")[0])
    (plain,) = build_probes(load(path, {}))
    assert (plain.target.metrics_interval_ns, plain.target.gpu) == (NS, "auto")
    assert (plain.composing_models, plain.server_settings) == ((), None)


def test_sequences(tmp_path: Path) -> None:
    given = {"count": 6, "length": 50, "length_variation": "10%", "serial": True}
    probe = probe_with(tmp_path, load={"request_rate": 50, "sequences": given})
    assert probe.sequences == SequenceOptions(6, 50, 0.1, serial=True)
    assert probe_with(tmp_path, load={"concurrency": 1, "sequences": {}}).sequences == SequenceOptions()
    started = probe_with(tmp_path, load={"concurrency": 1, "sequences": {"start_id": 7}})
    assert started.sequences == SequenceOptions(start_id=7, id_range=2**32 - 1)


def test_streams(tmp_path: Path) -> None:
    assert not probe_with(tmp_path, load={"concurrency": 1}).streaming
    document = yaml.safe_load((GOOD / "minimal.yaml").read_text())
    document["targets"][0]["url"] = "grpc://localhost"
    document["probes"][0].update(streaming=True, load={"periodic_concurrency": "2:8:3", "request_period": 4})
    (tmp_path / "canary.yaml").write_text(json.dumps(document))
    (probe,) = build_probes(load(tmp_path / "canary.yaml", {}))
    assert probe.streaming
    assert probe.levels == (LoadLevel(Mode.PERIODIC, 8.0, "2:8:3", start=2, step=3, request_period=4),)


def test_shared_memory(tmp_path: Path) -> None:
    options = probe_with(tmp_path, input={"shared_memory": "system", "output_shared_memory_size": 4096}).input
    assert (options.shared_memory, options.output_shared_memory_bytes) == ("system", 4096)
    assert probe_with(tmp_path).input.shared_memory == "none"


@pytest.mark.parametrize(
    ("given", "most"),
    [
        ("{concurrency: 4}", 256),
        ("{request_rate: 100}", 256),
        ("{request_rate: [100, 8000]}", 800),
        ("{request_rate: 100000}", 4096),
    ],
)
def test_how_much_may_be_in_flight(tmp_path: Path, given: str, most: int) -> None:
    probe = "name: p, target: t, model: m, schedule: {every: 5m}"
    head = "targets: [{name: t, kind: triton, url: 'http://h'}]"
    (tmp_path / "c.yaml").write_text(f"{head}\nprobes: [{{{probe}, load: {given}}}]\n")
    assert load_probes(tmp_path / "c.yaml")[0].stop.max_in_flight == most
    (tmp_path / "c.yaml").write_text(f"{head}\nprobes: [{{{probe}, load: {given}, stop: {{max_in_flight: 9}}}}]\n")
    assert load_probes(tmp_path / "c.yaml")[0].stop.max_in_flight == 9


def test_the_objective_of_an_slo(tmp_path: Path) -> None:
    probe = "name: p, target: t, model: m, schedule: {every: 5m}, load: {request_rate: 5}"
    head = "targets: [{name: t, kind: triton, url: 'http://h'}]"
    for more, expected in (("", 0.95), (", percentile: 99", 0.99), (", objective: 99.9%", 0.999)):
        text = f"{head}\nprobes: [{{{probe}, slo: {{name: s, latency: 1s{more}}}}}]\n"
        (tmp_path / "c.yaml").write_text(text)
        (found,) = load_probes(tmp_path / "c.yaml")
        assert found.slo is not None
        assert found.slo.objective_ratio == pytest.approx(expected)


def load_probes(path: Path) -> tuple[Probe, ...]:
    return build_probes(load(path, {}))


STREAMED = """
targets: [{name: t, url: "http://h"}]
defaults: {schedule: {every: 5m}, load: {streams: 4, step_interval: 300ms, ramp: 2s}}
probes:
  - {name: plain, target: t, model: m}
  - {name: audio, target: t, model: m, unit: {name: s, per_inference: 0.5}, load: {streams: [2, 8], seed: 5}}
  - name: sought
    target: t
    model: m
    load: {streams: "1:64:1", search: binary, sequences: {length: 50}}
    measurement: {latency_threshold: 100ms}
  - {name: other, target: t, model: m, load: {concurrency: 2}}
"""


def test_streams_at_the_pace_of_real_time(tmp_path: Path) -> None:
    (tmp_path / "canary.yaml").write_text(STREAMED)
    plain, audio, sought, other = build_probes(load(tmp_path / "canary.yaml", {}))
    level = LoadLevel(Mode.STREAMS, 4.0, "4", step_interval_ns=300 * MS, ramp_ns=2 * NS)
    assert plain.levels == (level,)
    assert level.requests_per_second == pytest.approx(40 / 3)
    # A stream is a sequence, and a step is worth its interval, where nothing else is set.
    assert (plain.sequences, plain.unit) == (SequenceOptions(), Unit("stream_seconds", 0.3))
    assert audio.levels == tuple(replace(level, value=value, label=f"{value:g}", seed=5) for value in (2.0, 8.0))
    assert audio.unit == Unit("s", 0.5)
    assert sought.search == Search(SearchKind.BINARY, Mode.STREAMS, 1, 64, 1)
    assert sought.sequences == SequenceOptions(length=50)
    assert (other.levels, other.sequences, other.unit) == ((LoadLevel(Mode.CONCURRENCY, 2.0, "2"),), None, None)


PLACES = """
targets: [{name: t, url: "http://t"}]
probes:
  - {name: asr, target: t, model: m, from: FROM, schedule: {every: 1m}, load: {concurrency: 1POOL}MORE}
"""


def _places(folder: Path, given: str, pool: str = ", pool: 'tls://dask:8786'", more: str = "") -> tuple[Probe, ...]:
    path = folder / "canary.yaml"
    path.write_text(PLACES.replace("FROM", given).replace("POOL", pool).replace("MORE", more))
    return build_probes(load(path, {}))


def test_a_probe_for_each_place(tmp_path: Path) -> None:
    a, b = _places(tmp_path, "[zone-a, zone-b]")
    assert [(p.name, p.place, p.pool) for p in (a, b)] == [
        ("asr/zone-a", "zone-a", "tls://dask:8786"),
        ("asr/zone-b", "zone-b", "tls://dask:8786"),
    ]
    assert [(p.variant, p.variant_group) for p in (a, b)] == [("zone-a", "asr"), ("zone-b", "asr")]
    assert a.config_hash != b.config_hash
    assert load_hash(a) != load_hash(b)
    [plain] = _places(tmp_path, "[]")
    assert (plain.name, plain.place, plain.variant) == ("asr", "", "")
    [named] = _places(tmp_path, "[x]", more=", variant: onnx, variant_group: g")
    assert (named.name, named.variant, named.variant_group) == ("asr/x", "onnx", "g")


@pytest.mark.parametrize(
    ("given", "pool", "more", "problem"),
    [
        ("[a]", "", "", "probes[0] (asr).from: needs load.pool"),
        ("[a, b, a]", ", pool: 'tls://d:1'", "", "probes[0] (asr).from[2]: found 'a': is listed twice"),
        ("[a]", ", pool: 'tls://d:1'", ", labels: {place: x}", "probes[0] (asr).labels.place: is a label of"),
        ("[a/b]", ", pool: 'tls://d:1'", "", "probes[0] (asr).from[0]: found 'a/b'"),
    ],
)
def test_places_that_cannot_be(given: str, pool: str, more: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)):
        _places(tmp_path, given, pool, more)
