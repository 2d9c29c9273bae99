"""Python's shared library, found or fetched: with programs in the place of apt-get and dpkg."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.demo import libpython as module
from exporter.demo.libpython import LibpythonError, library_name, provide_libpython, python_version

APT_GET = """#!/bin/sh
echo "$@" >>{log}
case "$*" in
*" update") echo "E: The repository of something else is broken"; exit 100 ;;
*" download {package}") touch {package}_1_amd64.deb ;;
*) echo "E: Unable to locate package"; exit 100 ;;
esac
"""
DPKG = """#!/bin/sh
mkdir -p "$3/usr/lib/x86_64-linux-gnu"
echo library >"$3/usr/lib/x86_64-linux-gnu/{name}"
ln -s {name} "$3/usr/lib/x86_64-linux-gnu/libpython.so"
"""


class Programs:
    """`apt-get` and `dpkg` on the PATH, the only ones; and what apt-get was asked."""

    def __init__(self, folder: Path, package: str) -> None:
        self.log = folder / "asked"
        for name, text in (("apt-get", APT_GET), ("dpkg", DPKG)):
            program = folder / name
            program.write_text(text.format(log=self.log, package=package, name=library_name()))
            program.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system without the library; its programs are to be put into the folder `bin`."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("TRITON_CANARY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_loaded", lambda name: None)
    monkeypatch.setattr("sys.base_prefix", "/usr")
    monkeypatch.setattr(module, "_system_folders", list)
    return tmp_path


def silent(text: str) -> None:
    """Takes progress and shows it nowhere."""


@pytest.mark.parametrize("suffix", ["", "t64"])
def test_it_is_fetched_once_from_the_systems_packages(bare: Path, suffix: str) -> None:
    programs = Programs(bare / "bin", f"libpython{python_version()}{suffix}")
    reported: list[str] = []
    library = provide_libpython(reported.append)
    assert library.name == library_name()
    assert library.read_text() == "library\n"
    assert library.is_relative_to(bare / "cache")
    (text,) = reported
    assert text.startswith(f"fetching {library_name()} from this system's package sources")
    asked = len(programs.asked)
    assert provide_libpython(silent) == library
    assert len(programs.asked) == asked
    assert [path.suffix for path in (bare / "cache").iterdir() if path.suffix] == [".lock"]


def test_apt_writes_nowhere_but_in_the_cache(bare: Path) -> None:
    programs = Programs(bare / "bin", f"libpython{python_version()}")
    provide_libpython(silent)
    for line in programs.asked:
        for option in ("Dir::State::Lists", "Dir::Cache"):
            assert f"{option}={bare / 'cache'}/" in line


def test_packages_without_it_are_reported_with_apts_last_lines(bare: Path) -> None:
    Programs(bare / "bin", "another")
    with pytest.raises(LibpythonError) as caught:
        provide_libpython(silent)
    first, *lines = str(caught.value).splitlines()
    assert f"the package libpython{python_version()}" in first
    assert lines == ["  E: The repository of something else is broken", *["  E: Unable to locate package"] * 2]


def test_a_python_from_elsewhere_is_not_given_the_systems_library(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.base_prefix", "/opt/python")
    programs = Programs(bare / "bin", f"libpython{python_version()}")
    with pytest.raises(LibpythonError, match="there is none for /opt/python"):
        provide_libpython(silent)
    assert not programs.log.exists()


def test_a_cache_that_cannot_be_written_names_the_way_out(bare: Path) -> None:
    Programs(bare / "bin", f"libpython{python_version()}")
    (bare / "cache").touch()
    with pytest.raises(LibpythonError, match="Set TRITON_CANARY_CACHE to a folder"):
        provide_libpython(silent)
