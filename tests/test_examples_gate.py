"""The manifests of examples/gate: Kubernetes' own kinds against its schemas, commands against the real parser, and the
daemon's configuration against its checks. What Flagger and Argo send is replayed in tests/web/test_gate_routes.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter import cli
from exporter.commands.gate.sides import SideOptions, read_sides
from exporter.config import load
from exporter.config.probes import build_probes
from exporter.rollout.halves import same_load
from tests.helm.schemas import VERSIONS, _validator

FOLDER = Path(__file__).parents[1] / "examples" / "gate"


def jobs() -> list[tuple[str, dict[str, Any]]]:
    """Each Job that an example has or makes, as the cluster would get it."""
    found = []
    for path in sorted(FOLDER.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if document.get("kind") == "Job":
                found.append((path.name, document))
            for metric in document.get("spec", {}).get("metrics", ()) if "kind" in document else ():
                if job := metric["provider"].get("job"):
                    whole = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": job["spec"]}
                    found.append((path.name, whole))
    return found


def test_there_are_two_jobs() -> None:
    assert [name for name, _ in jobs()] == ["argo-job.yaml", "kserve.yaml"]


@pytest.mark.parametrize(("name", "job"), jobs(), ids=[name for name, _ in jobs()])
def test_a_job_is_valid_and_its_command_is_too(name: str, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for version in VERSIONS:
        _validator().validate(job, version, strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    given: list[SideOptions] = []

    def read(options: SideOptions) -> Any:
        given.append(options)
        raise SystemExit(0)

    monkeypatch.setattr("exporter.commands.gate.command.read_sides", read)
    with pytest.raises(SystemExit):
        cli.run(container["args"])
    stable, candidate = read_sides(given[0])
    same_load(stable, candidate)
    assert stable.levels[0].value == 4


def test_the_daemons_configuration_has_both_sides() -> None:
    probes = {probe.name: probe for probe in build_probes(load(FOLDER / "canary.yaml", {}))}
    same_load(probes["resnet-stable"], probes["resnet-canary"])
    for name in ("flagger.yaml", "argo-web.yaml"):
        text = (FOLDER / name).read_text()
        assert all(probe in text for probe in probes)


def test_each_example_is_listed() -> None:
    listed = (FOLDER.parent / "README.md").read_text()
    assert [path.name for path in FOLDER.glob("*.yaml") if f"](gate/{path.name})" not in listed] == []
