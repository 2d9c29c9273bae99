from __future__ import annotations

import os
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.demo import triton_environment as module
from exporter.demo.cache import Progress, cache_folder
from exporter.demo.libpython import library_name
from exporter.demo.machine import Machine
from exporter.demo.triton_environment import (
    EmbeddedTritonError,
    TritonEnvironment,
    find_environment,
    link_libpython,
    make_environment,
)
from tests.waiting import PATIENCE_SECONDS

GOOD = Machine("Linux", "x86_64", (3, 11), (2, 36), libpython=True, venv=True)


@pytest.fixture(autouse=True)
def _usable_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests build nothing real: they hold on every machine."""
    monkeypatch.setattr(Machine, "here", classmethod(lambda cls: GOOD))
    monkeypatch.setattr(module, "demo_space", list)


def silent(text: str) -> None:
    """Takes progress and shows it to no one."""


class FakeInstaller:
    """Lays out what makes an environment look finished; `fail` is raised half way."""

    def __init__(self, fail: BaseException | None = None) -> None:
        self.runs = 0
        self.fail = fail

    def __call__(self, environment: TritonEnvironment, progress: Progress) -> None:
        self.runs += 1
        assert not environment.root.exists(), "an interrupted build was not removed"
        environment.python.parent.mkdir(parents=True)
        environment.python.touch()
        if self.fail is not None:
            raise self.fail
        environment.server_binary.parent.mkdir(parents=True)
        environment.server_binary.touch()
        environment.server_libraries.mkdir()
        (environment.server_libraries / library_name()).touch()


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"TRITON_CANARY_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/triton-canary"),
        ({"XDG_CACHE_HOME": "", "HOME": "/c"}, "/c/.cache/triton-canary"),
    ],
)
def test_cache_folder(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], folder: str) -> None:
    for name in ("TRITON_CANARY_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(folder)


def test_it_is_made_once(tmp_path: Path) -> None:
    install = FakeInstaller()
    first = make_environment(silent, cache=tmp_path, install=install)
    second = make_environment(silent, cache=tmp_path, install=install)
    assert first == second
    assert first.made
    assert install.runs == 1


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), EmbeddedTritonError("pip failed")])
def test_an_interrupted_build_is_not_taken_for_a_finished_one(tmp_path: Path, interruption: BaseException) -> None:
    with pytest.raises(type(interruption)):
        make_environment(silent, cache=tmp_path, install=FakeInstaller(fail=interruption))
    assert not find_environment(tmp_path).made
    again = FakeInstaller()
    assert make_environment(silent, cache=tmp_path, install=again).made
    assert again.runs == 1


def test_one_whose_python_is_gone_is_made_again(tmp_path: Path) -> None:
    make_environment(silent, cache=tmp_path, install=FakeInstaller()).python.unlink()
    again = FakeInstaller()
    make_environment(silent, cache=tmp_path, install=again)
    assert again.runs == 1


def test_one_whose_shared_library_is_gone_is_made_again(tmp_path: Path) -> None:
    first = make_environment(silent, cache=tmp_path, install=FakeInstaller())
    library = first.server_libraries / library_name()
    library.unlink()
    library.symlink_to(tmp_path / "removed by an update")
    again = FakeInstaller()
    make_environment(silent, cache=tmp_path, install=again)
    assert again.runs == 1


def test_the_shared_library_has_each_name_that_a_stub_asks_for(tmp_path: Path) -> None:
    environment = TritonEnvironment(tmp_path / "env")
    environment.server_libraries.mkdir(parents=True)
    minor = sys.version_info.minor
    bundled = environment.server_libraries / f"libpython3-419a3a08.{minor}.so.1.0"
    other = environment.server_libraries / f"libpython3-419a3a08.{minor + 1}.so.1.0"
    for library in (bundled, other):
        library.touch()
    (tmp_path / "system").touch()
    link_libpython(environment, tmp_path / "system")
    assert bundled.readlink() == (environment.server_libraries / library_name()).readlink() == tmp_path / "system"
    assert not other.is_symlink()


def test_too_little_space_is_reported_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "demo_space", lambda: [(tmp_path, 10**9)])
    install = FakeInstaller()
    with pytest.raises(EmbeddedTritonError, match="1000000000 MB of free space are needed"):
        make_environment(silent, cache=tmp_path, install=install)
    assert install.runs == 0


def test_a_second_process_waits_for_the_first_and_reports_it(tmp_path: Path) -> None:
    # A file lock is held by an open file, not by a process: two threads stand for two processes.
    waiting = threading.Event()
    install = FakeInstaller()

    def slow(environment: TritonEnvironment, progress: Progress) -> None:
        second.start()
        assert waiting.wait(PATIENCE_SECONDS)
        install(environment, progress)

    reported: list[str] = []

    def report(text: str) -> None:
        reported.append(text)
        waiting.set()

    second = threading.Thread(target=make_environment, args=(report,), kwargs={"cache": tmp_path, "install": install})
    make_environment(silent, cache=tmp_path, install=slow)
    second.join(PATIENCE_SECONDS)
    assert reported == ["waiting for another process that makes the embedded Triton's environment"]
    assert install.runs == 1


def test_a_cache_that_cannot_be_written_names_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedTritonError, match="Set TRITON_CANARY_CACHE to a folder"):
        make_environment(silent, cache=tmp_path / "file" / "cache", install=FakeInstaller())


def test_a_failing_pip_is_reported_with_its_last_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_python = tmp_path / "fake-python"
    fake_python.write_text(
        '#!/bin/sh\n[ "$2" = venv ] && mkdir -p "$3/bin" && cp "$0" "$3/bin/python3" && exit 0\n'
        'echo "Collecting nvidia-pytriton==0.7.0 (from -r FILE (line 3))"\n'
        'i=0; while [ $i -lt 20 ]; do i=$((i+1)); echo "line $i"; done\n'
        'echo "ERROR: No matching distribution found"\nexit 1\n'
    )
    fake_python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake_python))
    monkeypatch.setattr(module, "provide_libpython", lambda progress: tmp_path)
    reported: list[str] = []
    with pytest.raises(EmbeddedTritonError) as caught:
        make_environment(reported.append, cache=tmp_path / "cache")
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("ended with status 1. Its last lines:")
    assert [line.strip() for line in lines[1:]] == [
        *(f"line {number}" for number in range(10, 21)),
        "ERROR: No matching distribution found",
    ]
    assert reported[-1] == "Collecting nvidia-pytriton==0.7.0"
    assert not find_environment(tmp_path / "cache").made


def test_variables_put_the_environment_first_and_our_own_python_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/mine")
    monkeypatch.setenv("PYTHONHOME", "/elsewhere")
    environment = TritonEnvironment(tmp_path)
    variables = environment.variables()
    assert variables["PATH"].split(os.pathsep) == [str(tmp_path / "bin"), "/usr/bin"]
    assert variables["LD_LIBRARY_PATH"].split(os.pathsep) == [
        str(environment.server_libraries),
        "/mine",
    ]
    assert "PYTHONHOME" not in variables


def test_a_machine_that_lacks_something_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "here", classmethod(lambda cls: replace(GOOD, python=(3, 14))))
    with pytest.raises(EmbeddedTritonError, match=r"needs Python 3\.11 to 3\.13, and this is Python 3\.14"):
        find_environment()


def test_every_requirement_is_pinned() -> None:
    lines = (Path(module.__file__).parent / "triton-constraints.txt").read_text().splitlines()
    requirements = [line for line in lines if not line.startswith("#")]
    assert "numpy==2.4.6" in requirements
    assert all(len(line.split("==")) == 2 for line in requirements)
