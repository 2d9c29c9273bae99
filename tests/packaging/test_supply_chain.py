"""What is installed is what was tested: versions, hashes, the build backend, the image's base, and the bill of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pinned(name: str) -> dict[str, str]:
    """The versions in a file, by canonical name; a lock's lines each have a hash."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    found: dict[str, str] = {}
    for line in text.splitlines():
        if match := re.match(r"([\w.-]+)==([^\s;]+)", line):
            found[canonicalize_name(match[1])] = match[2]
            assert not name.endswith(".lock") or "--hash=sha256:" in line, line
        else:
            assert line.startswith("#") or not line.strip(), line
    return found


def needed(requirement: Requirement, found: dict[str, str]) -> None:
    """What a requirement brings here, with all that it needs itself."""
    name = canonicalize_name(requirement.name)
    extras = requirement.extras or {""}
    if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
        return
    if name in found and not requirement.extras:
        return
    found[name] = version(name)
    for text in requires(name) or ():
        each = Requirement(text)
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras):
            each.marker = None
            needed(each, found)


def test_the_lock_has_all_that_the_product_needs_in_the_versions_that_were_tested() -> None:
    locked, constraints = pinned("requirements.lock"), pinned("constraints.txt")
    assert {name: locked[name] for name in locked if name in constraints} == {
        name: constraints[name] for name in locked if name in constraints
    }
    found: dict[str, str] = {}
    for text in (*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["kubernetes"]):
        needed(Requirement(text), found)
    assert len(found) > 40
    assert "lightkube" in found, "the chart's standby needs it"
    # packaging/lock.sh, after a change of pyproject.toml or constraints.txt
    assert found == {name: locked.get(name) for name in found}


def test_the_lock_of_the_pool_has_the_same_and_what_dask_needs() -> None:
    locked, plain = pinned("requirements-dask.lock"), pinned("requirements.lock")
    assert plain.items() <= locked.items()
    found: dict[str, str] = {}
    for text in PROJECT["project"]["optional-dependencies"]["dask"]:
        needed(Requirement(text), found)
    assert {"dask", "distributed", "tornado"} <= found.keys()
    assert found == {name: locked.get(name) for name in found}
    assert {name: locked[name] for name in locked.keys() - plain.keys()}.items() <= pinned("constraints.txt").items()


def test_what_builds_the_package_is_pinned() -> None:
    (backend,) = PROJECT["build-system"]["requires"]
    name, _, exact = backend.partition("==")
    assert pinned("requirements-build.lock") == {name: exact}
    assert pinned("constraints.txt")[name] == exact


def test_nothing_is_installed_in_whatever_version_there_is() -> None:
    paths = [ROOT / "README.md", ROOT / "Dockerfile", ROOT / "Makefile", *(ROOT / "docs").rglob("*.md")]
    lines = [
        (path.name, line.strip())
        for path in paths
        for line in path.read_text().splitlines()
        if re.search(r"\bpip\)? (?:--\S+(?: \S+)? )*install\b", line)
    ]
    assert len(lines) >= 7
    for name, line in lines:
        assert re.search(r"-c constraints\.txt|--require-hashes|--no-index", line), (name, line)


def test_the_base_of_the_image_can_be_reported_by_its_digest() -> None:
    text = (ROOT / "Dockerfile").read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert bases == ["${BASE}${BASE_DIGEST:+@${BASE_DIGEST}}"] * 2
    assert 'org.opencontainers.image.base.digest="${BASE_DIGEST}"' in text


@pytest.fixture(scope="module")
def bills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bills")
    command = [str(ROOT / "packaging" / "sbom.sh"), str(Path(sys.executable).parent), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("variant", ["", "-dask"])
def test_the_bill_of_materials_has_what_is_locked(variant: str, bills: Path) -> None:
    bill = json.loads((bills / f"sbom{variant}.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == PROJECT["project"]["name"]
    components = {canonicalize_name(each["name"]): each["version"] for each in bill["components"]}
    assert components == pinned(f"requirements{variant}.lock")
    assert all(each["purl"].startswith("pkg:pypi/") for each in bill["components"])
    assert all(each["externalReferences"][0]["hashes"] for each in bill["components"])
