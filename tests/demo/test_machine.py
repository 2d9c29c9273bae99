"""What is asked of a machine before anything is installed, and that it can be asked with a Python of any age."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.demo import machine as module
from exporter.demo.machine import Machine, index_lacks, main, space_lacks

ROOT = Path(__file__).parents[2]
GOOD = Machine("Linux", "x86_64", (3, 11), (2, 36), libpython=True, venv=True)
OLD_PYTHON = (3, 9)
"""Debian 11's; Ubuntu 22.04 has 3.10."""


@pytest.mark.parametrize(
    ("machine", "text"),
    [
        (replace(GOOD, system="Darwin", machine="arm64"), "Linux x86_64 only, and this is Darwin arm64"),
        (replace(GOOD, machine="aarch64"), "Linux x86_64 only, and this is Linux aarch64"),
        (replace(GOOD, python=(3, 14)), "needs Python 3.11 to 3.13, and this is Python 3.14"),
        (replace(GOOD, glibc=(2, 31)), "needs glibc 2.35 or newer, and this system has glibc 2.31"),
        (replace(GOOD, glibc=None), "this system has another C library"),
        (replace(GOOD, libpython=False), "so.1.0, and there is none"),
    ],
)
def test_what_the_embedded_triton_lacks_is_one_paragraph(machine: Machine, text: str) -> None:
    (lack,) = machine.triton_lacks()
    assert text in lack
    assert "\n" not in lack
    assert machine.product_lacks() == []


@pytest.mark.parametrize(
    ("machine", "text"),
    [
        (replace(GOOD, python=(3, 10)), "Python 3.11 or newer is needed, and this is Python 3.10"),
        (replace(GOOD, venv=False), "apt-get install python3-venv"),
    ],
)
def test_what_the_product_lacks(machine: Machine, text: str) -> None:
    (lack,) = machine.product_lacks()
    assert text in lack


@pytest.mark.parametrize("python", [(3, 11), (3, 12), (3, 13)])
def test_a_machine_with_all_of_it_passes(python: tuple[int, int]) -> None:
    machine = replace(GOOD, python=python, glibc=(2, 35))
    assert machine.product_lacks() == machine.triton_lacks() == []


def test_space_is_added_up_over_folders_of_one_file_system(tmp_path: Path) -> None:
    needs = [(tmp_path / "not" / "yet", 1), (tmp_path, 1)]
    assert space_lacks(needs) == []
    (lack,) = space_lacks([*needs, (tmp_path, 10**9)])
    assert lack.startswith(f"1000000002 MB of free space are needed in {tmp_path}, and ")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert space_lacks([(tmp_path / "cache", 1)]) == [
        f"{tmp_path / 'cache'} is needed, and {tmp_path} cannot be written."
    ]


def test_a_package_index_out_of_reach_is_reported_with_pips_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    (lack,) = index_lacks(sys.executable)
    assert lack.startswith("pip does not reach its package index: ERROR: No matching distribution found")
    assert "PIP_INDEX_URL" in lack


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with nothing installed and nothing in the cache; the machine is as it should be."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRITON_CANARY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Machine, "here", classmethod(lambda cls: GOOD))
    monkeypatch.setattr(module, "_libpython_lacks", list)
    monkeypatch.setattr(module, "index_lacks", lambda python: [])
    return tmp_path


def test_the_check_names_the_downloads_and_makes_nothing(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    out, error = capsys.readouterr()
    assert out.splitlines()[0] == "Nothing is lacking. The demo will download, once:"
    assert f"the embedded Triton's environment: by pip, to {clone / 'cache'}" in out
    assert error == ""
    assert not list(clone.iterdir())


def test_the_check_reports_all_that_is_lacking(
    clone: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    poor = replace(GOOD, glibc=(2, 31), libpython=False)
    monkeypatch.setattr(Machine, "here", classmethod(lambda cls: poor))
    monkeypatch.setattr(module, "index_lacks", lambda python: ["no index"])
    assert main(["check"]) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert [line.split(" and ")[0][:40] for line in error.splitlines()] == [
        "The embedded Triton needs glibc 2.35 or ",
        "The embedded Triton's Python backend loa",
        "no index",
    ]


def test_nothing_is_fetched_for_a_demo_that_cannot_run(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "here", classmethod(lambda cls: replace(GOOD, python=(3, 14))))
    monkeypatch.setattr(module, "_libpython_lacks", lambda: pytest.fail("fetched"))
    assert main(["demo"]) == 1
    assert main(["product"]) == 0


def test_a_library_that_cannot_be_fetched_ends_the_demo(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_libpython_lacks", lambda: ["no mirror"])
    assert main(["demo"]) == 1


def test_it_runs_before_anything_is_installed_and_on_old_pythons() -> None:
    """All that it imports of ours is read by the grammar of Debian 11's Python, and imports nothing but the standard
    library: run without any site-packages."""
    code = (
        "import sys, exporter.demo.machine\n"
        "print(*(module.__file__ for name, module in sys.modules.items() if name.startswith('exporter')), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [Path(line) for line in done.stdout.splitlines()]
    assert {file.name for file in files} == {"__init__.py", "cache.py", "libpython.py", "machine.py"}
    for file in files:
        tree = ast.parse(file.read_text(), feature_version=OLD_PYTHON)
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "slots"]
