"""Which two probes the words of a command line name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exporter.commands.gate.sides import SideOptions, read_sides
from exporter.core.errors import ConfigError
from exporter.core.probe import Mode

CONFIG = """\
targets:
  - {name: a, url: grpc://a:8001}
  - {name: b, url: grpc://b:8001}
defaults: {schedule: {every: 5m}, load: {concurrency: [2, 4]}}
probes:
  - {name: old, target: a, model: resnet}
  - {name: new, target: a, model: resnet_trt}
  - {name: twin-a, target: a, model: resnet}
"""


def config(tmp_path: Path) -> Path:
    path = tmp_path / "canary.yaml"
    path.write_text(CONFIG)
    return path


def sides(stable: str, candidate: str, **options: Any) -> Any:
    return read_sides(SideOptions(stable, candidate, environ={}, **options))


@pytest.mark.parametrize(
    ("text", "url", "model", "version"),
    [
        ("grpc://h:8001/resnet", "grpc://h:8001", "resnet", ""),
        ("grpc://h:8001/resnet:2", "grpc://h:8001", "resnet", "2"),
        ("https://h/prefix/of/it/resnet:17", "https://h:443/prefix/of/it", "resnet", "17"),
        ("http://[::1]:8000/a.b-c_d", "http://[::1]:8000", "a.b-c_d", ""),
    ],
)
def test_a_url_names_server_model_and_version(text: str, url: str, model: str, version: str) -> None:
    stable, candidate = sides("grpc://other:1/x", text)
    assert (candidate.target.url, candidate.model, candidate.version) == (url, model, version)
    assert (stable.name, candidate.name, stable.model) == ("stable", "candidate", "x")
    assert [level.label for level in stable.levels] == ["1"]


def test_load_and_any_other_key() -> None:
    stable, _ = sides(
        "grpc://h:1/x",
        "grpc://h:1/y",
        request_rate="50",
        batch_size="4",
        settings=["input.shapes.IN=[3,224]", "target.connect_timeout=2s", "load.distribution=poisson"],
    )
    (level,) = stable.levels
    assert (level.mode, level.value, level.distribution) == (Mode.REQUEST_RATE, 50.0, "poisson")
    assert (stable.input.batch_size, stable.input.shapes) == (4, (("IN", (3, 224)),))
    assert stable.target.connect_timeout_ns == 2_000_000_000


def test_probes_of_a_configuration(tmp_path: Path) -> None:
    stable, candidate = sides("old", "a/new", config=config(tmp_path))
    assert (stable.model, candidate.model) == ("resnet", "resnet_trt")
    assert [level.label for level in stable.levels] == ["2", "4"]


def test_one_of_each(tmp_path: Path) -> None:
    stable, candidate = sides("old", "grpc://new:8001/resnet:2", config=config(tmp_path))
    assert (stable.name, stable.target.name) == ("old", "a")
    assert (candidate.name, candidate.target.url, candidate.version) == ("candidate", "grpc://new:8001", "2")


@pytest.mark.parametrize(
    ("stable", "candidate", "options", "problems"),
    [
        (
            "old",
            "grpc://h/",
            {},
            [
                "--stable: 'old' is not URL/MODEL[:VERSION], as grpc://host:8001/resnet:2; the name of a probe needs "
                "--config",
                "--candidate: 'grpc://h/' is not URL/MODEL[:VERSION], as grpc://host:8001/resnet:2",
            ],
        ),
        ("grpc://h/x", "grpc://h/y", {"config": True}, ["--config: has no effect, since both sides are URLs"]),
        (
            "none",
            "nothing",
            {"config": True},
            [
                "--stable: no probe is named 'none' in the configuration",
                "--candidate: no probe is named 'nothing' in the configuration",
            ],
        ),
        (
            "old",
            "new",
            {"config": True, "concurrency": "3"},
            ["--concurrency: the load is that of the configured probe 'old'; change it there"],
        ),
        ("grpc://h/x", "grpc://h/y", {"settings": ["no"]}, ["--set: 'no' is not KEY=VALUE, as input.batch_size=4"]),
        (
            "grpc://h/x",
            "grpc://h/y",
            {"settings": ["load.concurrency=2", "load.concurrency.x=2"]},
            ["--set: load.concurrency.x: conflicts with another --set"],
        ),
    ],
)
def test_all_that_is_wrong(
    tmp_path: Path, stable: str, candidate: str, options: dict[str, Any], problems: list[str]
) -> None:
    if "config" in options:
        options = options | {"config": config(tmp_path)}
    with pytest.raises(ConfigError) as caught:
        sides(stable, candidate, **options)
    assert caught.value.problems == problems


def test_the_configurations_own_checks_name_the_flag() -> None:
    with pytest.raises(ConfigError) as caught:
        sides("grpc://h:1/x", "grpc://h:1/y", concurrency="0", batch_size="none")
    assert len(caught.value.problems) == 4
    assert {problem.partition(":")[0] for problem in caught.value.problems} == {"--concurrency", "--batch-size"}
