"""Boards, rules, runbooks and examples: all of them, from the checkout and from the wheel, written by the command."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from exporter.assets import assets, runbook
from exporter.cli import run

ROOT = Path(__file__).parents[1]
EXPECTED = {
    **{f"boards/{path.name}": path for path in (ROOT / "dashboards").glob("*.json")},
    **{f"rules/{path.name}": path for path in (ROOT / "dashboards" / "rules").glob("*.yaml")},
    **{f"runbooks/{path.name}": path for path in (ROOT / "docs" / "runbooks").glob("*.md")},
    **{f"examples/{path.name}": path for path in (ROOT / "examples").iterdir() if path.is_file()},
}


def test_all_of_them_are_known() -> None:
    assert assets() == EXPECTED
    assert {"boards/model.json", "rules/triton-canary.rules.yaml", "examples/minimal.yaml"} <= set(EXPECTED)
    assert "runbooks/TritonCanaryProbeFailing.md" in EXPECTED


@pytest.mark.parametrize("name", ["", "../alerts", "TritonCanaryNope", "a" * 1000, "TritonCanaryStale.md"])
def test_no_other_file_is_given_as_a_runbook(name: str) -> None:
    assert runbook(name) is None
    assert (runbook("TritonCanaryStale") or "").startswith("# TritonCanaryStale\n")


def test_the_command_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new"
    for _ in range(2):  # again, over those that are there
        assert run(["assets", "--to", str(folder)]) == 0
        out = capsys.readouterr().out
    assert f"{folder}/rules: {sum(name.startswith('rules/') for name in EXPECTED)} files" in out.splitlines()
    written = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in written.items()} == {
        name: path.read_bytes() for name, path in EXPECTED.items()
    }


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert run(["assets", "--to", str(tmp_path / "file")]) == 1
    assert "cannot write: Not a directory" in capsys.readouterr().err


PRINT = """
import exporter.assets as a
print(a.__file__)
for name, path in a.assets().items(): print(name, len(path.read_bytes()))
"""


def test_they_are_in_the_wheel(tmp_path: Path) -> None:
    """And the installed package finds them there. Built from a copy: a build leaves a folder behind."""
    source, installed = tmp_path / "source", tmp_path / "installed"
    for folder in ("exporter", "dashboards", "docs/runbooks", "examples"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / file, source / file)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    interpreter = [sys.executable, "-c", PRINT]
    environment = {"PYTHONPATH": str(installed)}
    done = subprocess.run(interpreter, cwd=tmp_path, capture_output=True, text=True, check=True, env=environment)
    where, *lines = done.stdout.splitlines()
    assert where == str(installed / "exporter" / "assets.py")
    assert dict(line.split() for line in lines) == {name: str(path.stat().st_size) for name, path in EXPECTED.items()}
