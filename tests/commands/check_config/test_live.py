"""`check-config --live` before real peers: a good configuration, and the commonest mistakes, each with its sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from exporter.cli import run
from exporter.commands.check_config.live import batching_lines
from exporter.demo.triton import EmbeddedTriton
from tests.builders import concurrency, make_facts, make_probe
from tests.services.mistakes import mistakes
from tests.transport.certificates import Certificates


def written(folder: Path, targets: list[dict[str, object]], probes: list[dict[str, object]]) -> str:
    defaults = {"schedule": {"every": "10m"}, "load": {"concurrency": 1}}
    path = folder / "canary.yaml"
    path.write_text(yaml.safe_dump({"targets": targets, "defaults": defaults, "probes": probes}))
    return str(path)


def live(path: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    code = run(["check-config", "--live", path])
    lines = capsys.readouterr().out.splitlines()
    return code, [line for line in lines if line.startswith(("probe ", "metrics page "))][1:]


def test_a_configuration_that_works(triton: EmbeddedTriton, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    targets: list[dict[str, object]] = [
        {"name": "http", "url": triton.http_url, "metrics_url": triton.metrics_url},
        {"name": "grpc", "url": triton.grpc_url},
    ]
    probes: list[dict[str, object]] = [
        {"name": "a", "target": "http", "model": "addsub"},
        {"name": "b", "target": "grpc", "model": "identity", "input": {"shapes": {"INPUT0": [4]}}},
        {"name": "all", "target": "grpc", "models": "all-ready"},
    ]
    code, lines = live(written(tmp_path, targets, probes), capsys)
    assert code == 0, lines
    assert lines[0].startswith("probe a: ok, triton 2.")
    assert "; model addsub version 1 is ready; input INPUT0 FP32[16], INPUT1 FP32[16] (random)" in lines[0]
    assert lines[1] == "probe a: can be judged: latency_p50, latency_p99"
    assert lines[2].startswith("probe b: ok, triton 2.")
    assert f"metrics page {triton.metrics_url}: ok, " in "\n".join(lines)
    assert lines[-1] == "probe all: not asked: it is a pattern, whose probes are discovered"


def test_each_of_many_mistakes_has_its_line(
    triton: EmbeddedTriton, certificates: Certificates, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twenty probes of which one works."""
    (tmp_path / "data.json").write_text(json.dumps({"data": [{"INPUT0": [1.0]}]}))
    with mistakes(triton, certificates, tmp_path) as table:
        targets: list[dict[str, object]] = [{"name": "good", "url": triton.http_url}]
        probes: list[dict[str, object]] = [
            {"name": "good", "target": "good", "model": "addsub"},
            {"name": "unknown", "target": "good", "model": "addsbu"},
            {"name": "shape", "target": "good", "model": "identity"},
            {"name": "stream", "target": "good", "model": "repeat"},
        ]
        for index, mistake in enumerate(table.values()):
            tls = {"tls": {"ca_file": mistake.ca_file}} if mistake.ca_file else {}
            targets.append({"name": f"t{index}", "url": mistake.url, "connect_timeout": "5s", **tls})
            probes.append({"name": f"p{index}", "target": f"t{index}", "model": "addsub"})
        targets[0]["metrics_url"] = f"{triton.http_url}/nothing"
        code, lines = live(written(tmp_path, targets, probes), capsys)
        assert code == 1
        for index, mistake in enumerate(table.values()):
            [line] = [line for line in lines if line.startswith(f"probe p{index}: failed, ")]
            assert mistake.sentence in line, (mistake.name, line)
    assert any(line.startswith("probe good: ok, ") for line in lines)
    assert any(line.startswith("probe unknown: failed, model_unknown: model 'addsbu' is not known") for line in lines)
    assert any(line.startswith("probe shape: failed, bad_input: ") for line in lines)
    assert any("probe stream: failed, unsupported: " in line and "streaming: true" in line for line in lines)
    assert any(line.startswith(f"metrics page {triton.http_url}/nothing: failed: responded ") for line in lines)


def test_a_model_that_batches_is_pointed_to_a_rate() -> None:
    facts = make_facts(dynamic_batching=True)
    assert batching_lines(make_probe(levels=(concurrency(1),)), facts) == []
    (line,) = batching_lines(make_probe(levels=(concurrency(2),)), facts)
    assert line.startswith("probe addsub: model addsub has dynamic batching: ")
    assert "load.request_rate" in line
    assert batching_lines(make_probe(levels=(concurrency(2),)), make_facts()) == []
