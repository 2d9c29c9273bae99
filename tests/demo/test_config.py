from __future__ import annotations

from pathlib import Path

from exporter.config import build_probes, load
from exporter.demo.command import archive_folder, demo_config
from exporter.demo.triton import MODELS, EmbeddedTriton
from exporter.demo.triton_environment import TritonEnvironment


def test_the_demos_configuration_is_valid_and_probes_most_models_through_both_endpoints(tmp_path: Path) -> None:
    triton = EmbeddedTriton(TritonEnvironment(tmp_path), log_path=tmp_path / "log")
    triton.http_port, triton.grpc_port, triton.metrics_port = 8000, 8001, 8002
    data = tmp_path / 'a folder: "quoted" #1'
    file = tmp_path / "demo.yaml"
    file.write_text(demo_config(triton, data, "127.0.0.1:9787"), encoding="utf-8")

    settings = load(file, {})
    probes = {probe.name: probe for probe in build_probes(settings)}

    assert settings.data_directory == str(data)
    assert settings.archive.directory == str(archive_folder(data))
    assert settings.web.listen == "127.0.0.1:9787"
    assert {probe.target.url for probe in probes.values()} == {"http://127.0.0.1:8000", "grpc://127.0.0.1:8001"}
    assert {probe.target.group for probe in probes.values()} == {"127.0.0.1"}
    assert {probe.target.metrics_url for probe in probes.values()} == {"http://127.0.0.1:8002/metrics"}
    assert {probe.model for probe in probes.values()} == {"addsub", "delay", "vad", "identity", "pipeline"}
    assert all((MODELS / probe.model / "config.pbtxt").exists() for probe in probes.values())
    assert [level.label for level in probes["addsub-http"].levels] == ["1", "2", "3", "4"]
    assert [level.label for level in probes["delay-grpc"].levels] == ["1", "2", "4"]
    assert probes["vad-grpc"].input.shapes == (("AUDIO", (4800,)),)
