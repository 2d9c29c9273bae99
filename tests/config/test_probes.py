"""From settings to probes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from exporter.config import build_probes, load
from exporter.probe import (
    NS,
    Distribution,
    Header,
    InputOptions,
    LoadLevel,
    MeasurementOptions,
    Mode,
    OverloadPolicy,
    Probe,
    Schedule,
    SequenceOptions,
    Slo,
    StopRules,
    Target,
    TlsOptions,
    Unit,
)

GOOD = Path(__file__).parent / "good"
MS = NS // 1000


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
            ),
            connect_timeout_ns=2 * NS,
        ),
        model="asr",
        version="2",
        schedule=Schedule(600 * NS, jitter_ns=30 * NS),
        levels=tuple(LoadLevel(Mode.CONCURRENCY, float(value), str(value)) for value in range(1, 9)),
        measurement=MeasurementOptions(2 * NS, 0.05, 95.0, 3, 8, (50.0, 90.0, 95.0, 99.0), 1500 * MS),
        input=InputOptions("random", 7, 2, (("AUDIO", (16000,)), ("LENGTH", (1,))), 32),
        stop=StopRules(64, 200_000, 120 * NS, 0.05, 50),
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
