"""What the repository owes its readers: workflows that run what is there, variables that are explained, one version."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter import __version__
from tests.programs import need

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def steps(path: Path) -> list[dict[str, Any]]:
    document = yaml.safe_load(path.read_text())
    return [step for job in document["jobs"].values() for step in job["steps"]]


def test_there_is_a_workflow_for_each_task() -> None:
    assert [path.stem for path in WORKFLOWS] == ["docs", "e2e", "image", "release", "test"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_what_is_there(path: Path) -> None:
    lines = [line for step in steps(path) for line in step.get("run", "").splitlines()]
    assert set(re.findall(r"\bmake ([a-z0-9-]+)", "\n".join(lines))) <= TARGETS
    for line in lines:
        if line.startswith(".ci/run"):
            assert set(line.split()[1:]) <= {"test", "e2e"}
    assert all("uses" in step or "run" in step for step in steps(path))


def test_workflows_and_templates_satisfy_githubs_schemas_and_an_audit() -> None:
    done = subprocess.run(
        [ROOT / "packaging" / "check-repository.sh", Path(sys.executable).parent], capture_output=True
    )
    assert done.returncode == 0, (done.stdout, done.stderr)


def test_the_audit_finds_an_action_that_is_not_pinned(tmp_path: Path) -> None:
    """So that the test above can fail."""
    text = (GITHUB / "workflows" / "docs.yml").read_text()
    broken = tmp_path / ".github" / "workflows" / "docs.yml"
    broken.parent.mkdir(parents=True)
    broken.write_text(re.sub(r"actions/checkout@\w+", "someone/checkout@main", text))
    zizmor = Path(sys.executable).with_name("zizmor")
    done = subprocess.run([zizmor, "--offline", "--quiet", tmp_path], capture_output=True, text=True)
    assert done.returncode != 0
    assert "unpinned-uses" in done.stdout


def test_what_the_owner_sets_is_explained_and_nothing_else_is_asked_for() -> None:
    text = (GITHUB / "workflows").joinpath("release.yml").read_text() + (GITHUB / "workflows" / "docs.yml").read_text()
    asked = set(re.findall(r"\b(?:vars|secrets)\.(\w+)", text))
    explained = set(re.findall(r"`([A-Z][A-Z_]+)`", (ROOT / "RELEASING.md").read_text().split("\nPlaceholders", 1)[0]))
    assert asked == explained
    assert "SECURITY_CONTACT" in (ROOT / "SECURITY.md").read_text()


def test_both_images_are_built_by_pull_requests_and_by_a_release() -> None:
    """Under the tag that the chart takes for a pool."""
    jobs = [
        yaml.safe_load((GITHUB / "workflows" / f"{name}.yml").read_text())["jobs"]["image"]
        for name in ("image", "release")
    ]
    built = [{each["lock"]: each.get("suffix") for each in job["strategy"]["matrix"]["include"]} for job in jobs]
    assert built[0].keys() == {"requirements.lock", "requirements-dask.lock"}
    assert built[1] == {"requirements.lock": "", "requirements-dask.lock": "-dask"}
    for job in jobs:
        (build,) = [
            step["with"] for step in job["steps"] if step.get("uses", "").startswith("docker/build-push-action@")
        ]
        assert "LOCK=${{ matrix.lock }}" in build["build-args"].split("\n")
    assert build["tags"].endswith(":${{ steps.when.outputs.version }}${{ matrix.suffix }}")


def test_one_version_in_four_places() -> None:
    chart = yaml.safe_load((ROOT / "helm" / "triton-canary" / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (dockerfile,) = re.findall(r"^ARG VERSION=(\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert {project["version"], dockerfile, chart["version"], chart["appVersion"]} == {__version__}


@pytest.mark.timeout(300)
def test_a_release_has_all_parts_and_a_wheel_with_all_data(tmp_path: Path) -> None:
    need("git")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, clone], check=True, capture_output=True)
    (clone / ".venv").symlink_to(Path(sys.prefix))
    subprocess.run([clone / "packaging" / "release.sh"], check=True, capture_output=True)
    version = re.escape(__version__)
    names = sorted(path.name for path in (clone / "dist").iterdir())
    assert re.fullmatch(
        rf"sbom-dask\.cdx\.json sbom\.cdx\.json triton-canary-{version}\.tgz triton_canary-{version}-py3-none-any\.whl "
        rf"triton_canary-{version}\.tar\.gz",
        " ".join(names),
    )
    with zipfile.ZipFile(next((clone / "dist").glob("*.whl"))) as wheel:
        packed = set(wheel.namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "exporter"], cwd=clone, check=True, capture_output=True, text=True
    ).stdout.split()
    assert sorted(set(tracked) - packed) == []
