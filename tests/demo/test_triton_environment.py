from __future__ import annotations

import os
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.demo import triton_environment as module
from exporter.demo.triton_environment import (
    EmbeddedTritonError,
    Platform,
    Progress,
    TritonEnvironment,
    cache_folder,
    find_environment,
    make_environment,
)

GOOD = Platform("Linux", "x86_64", (3, 11), (2, 36), Path("/usr/lib"))


@pytest.fixture(autouse=True)
def _usable_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests build nothing real: they hold on every machine."""
    monkeypatch.setattr(Platform, "here", classmethod(lambda cls: GOOD))


def silent(text: str) -> None:
    """Takes progress and tells nobody."""


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


@pytest.mark.parametrize(
    ("platform", "text"),
    [
        (replace(GOOD, system="Darwin", machine="arm64"), "Linux x86_64 only, and this is Darwin arm64"),
        (replace(GOOD, machine="aarch64"), "Linux x86_64 only, and this is Linux aarch64"),
        (replace(GOOD, python=(3, 13)), "needs Python 3.11 or 3.12, and this is Python 3.13"),
        (replace(GOOD, glibc=(2, 31)), "needs glibc 2.35 or newer, and this system has glibc 2.31"),
        (replace(GOOD, glibc=None), "this system has another C library"),
        (replace(GOOD, libpython=None), "loads libpython3.11.so.1.0, and there is none"),
    ],
)
def test_what_the_platform_lacks_is_said_in_one_paragraph(platform: Platform, text: str) -> None:
    with pytest.raises(EmbeddedTritonError) as caught:
        platform.check()
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("platform", [GOOD, replace(GOOD, python=(3, 12)), replace(GOOD, glibc=(2, 35))])
def test_a_platform_with_all_of_it_passes(platform: Platform) -> None:
    platform.check()


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


def test_a_second_process_waits_for_the_first_and_says_so(tmp_path: Path) -> None:
    # A file lock is held by an open file, not by a process: two threads stand for two processes.
    waiting = threading.Event()
    install = FakeInstaller()

    def slow(environment: TritonEnvironment, progress: Progress) -> None:
        second.start()
        assert waiting.wait(10)
        install(environment, progress)

    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        waiting.set()

    second = threading.Thread(target=make_environment, args=(tell,), kwargs={"cache": tmp_path, "install": install})
    make_environment(silent, cache=tmp_path, install=slow)
    second.join(10)
    assert told == ["waiting for another process that makes the embedded Triton's environment"]
    assert install.runs == 1


def test_a_cache_that_cannot_be_written_names_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedTritonError, match="Set TRITON_CANARY_CACHE to a folder"):
        make_environment(silent, cache=tmp_path / "file" / "cache", install=FakeInstaller())


def test_a_failing_pip_is_told_with_its_last_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_python = tmp_path / "fake-python"
    fake_python.write_text(
        '#!/bin/sh\n[ "$2" = venv ] && mkdir -p "$3/bin" && cp "$0" "$3/bin/python3" && exit 0\n'
        'echo "Collecting nvidia-pytriton==0.7.0 (from -r FILE (line 3))"\n'
        'i=0; while [ $i -lt 20 ]; do i=$((i+1)); echo "line $i"; done\n'
        'echo "ERROR: No matching distribution found"\nexit 1\n'
    )
    fake_python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake_python))
    told: list[str] = []
    with pytest.raises(EmbeddedTritonError) as caught:
        make_environment(told.append, cache=tmp_path / "cache")
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("ended with status 1. Its last lines:")
    assert [line.strip() for line in lines[1:]] == [
        *(f"line {number}" for number in range(10, 21)),
        "ERROR: No matching distribution found",
    ]
    assert told[-1] == "Collecting nvidia-pytriton==0.7.0"
    assert not find_environment(tmp_path / "cache").made


def test_variables_put_the_environment_first_and_our_own_python_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/mine")
    monkeypatch.setenv("PYTHONHOME", "/elsewhere")
    environment = TritonEnvironment(tmp_path, Path("/libpython"))
    variables = environment.variables()
    assert variables["PATH"].split(os.pathsep) == [str(tmp_path / "bin"), "/usr/bin"]
    assert variables["LD_LIBRARY_PATH"].split(os.pathsep) == [
        str(environment.server_libraries),
        "/libpython",
        "/mine",
    ]
    assert "PYTHONHOME" not in variables


def test_every_requirement_is_pinned() -> None:
    lines = (Path(module.__file__).parent / "triton-constraints.txt").read_text().splitlines()
    requirements = [line for line in lines if not line.startswith("#")]
    assert "numpy==1.26.4" in requirements
    assert all(len(line.split("==")) == 2 for line in requirements)
