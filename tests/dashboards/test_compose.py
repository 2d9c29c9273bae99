"""The compose file and what it mounts, as far as can be reported without a container engine."""

from __future__ import annotations

import subprocess
from pathlib import PurePosixPath
from typing import Any

import yaml

from dashboards.generate.boards import BOARDS, FOLDER
from exporter.config.environment import PREFIX
from exporter.config.settings import Settings
from tests.programs import need


def loaded(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


SERVICES: dict[str, Any] = loaded("compose.yaml")["services"]


def mounts(service: str) -> dict[str, str]:
    """Where in the container each file or volume lies."""
    parts = (entry.removesuffix(":ro").rpartition(":") for entry in SERVICES[service]["volumes"])
    return {inside: outside for outside, _, inside in parts}


def test_every_board_is_where_the_provisioning_expects_it() -> None:
    (provider,) = loaded("provisioning/dashboards/triton-canary.yaml")["providers"]
    folder = provider["options"]["path"]
    boards = {inside: outside for inside, outside in mounts("grafana").items() if inside.endswith(".json")}
    assert boards == {f"{folder}/{name}.json": f"./{name}.json" for name in BOARDS}


def test_what_is_mounted_is_there() -> None:
    for service in SERVICES:
        for outside in mounts(service).values():
            if outside.startswith("./"):
                assert (FOLDER / outside).exists(), outside


def test_the_addresses_fit_together() -> None:
    (source,) = loaded("provisioning/datasources/prometheus.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (job,) = loaded("prometheus.yaml")["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["exporter:9787"]}]
    assert SERVICES["exporter"]["environment"] == {f"{PREFIX}WEB__LISTEN": "0.0.0.0:9787"}
    data = Settings.model_fields["data_directory"].default
    assert str(PurePosixPath(data)) in mounts("exporter")


def test_nothing_listens_to_the_world() -> None:
    assert all(port.startswith("127.0.0.1:") for service in SERVICES.values() for port in service["ports"])


def test_prometheus_takes_its_configuration() -> None:
    need("promtool")
    subprocess.run(["promtool", "check", "config", str(FOLDER / "prometheus.yaml")], check=True, capture_output=True)
