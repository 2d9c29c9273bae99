"""The README's first command on plain systems, as an ordinary user: from a clone to figures, and nothing left after."""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.bare import Bare, make_bare
from tests.e2e.test_walk import blocks
from tests.programs import ROOT, need

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
COLD_SECONDS, WARM_SECONDS = 900, 120
"""For a busy machine and a slow network. How long it takes is printed."""


@pytest.fixture
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bare]:
    """A plain system of that release."""
    need("debootstrap", "git", ROOT)
    yield make_bare(request.param, tmp_path / request.param)
    shutil.rmtree(tmp_path / request.param)


@pytest.mark.parametrize("bare", ["bookworm", "trixie"], indirect=True)
@pytest.mark.e2e
@pytest.mark.bare
@pytest.mark.timeout(2400)
def test_the_demo_needs_nothing_before_it(bare: Bare, capsys: pytest.CaptureFixture[str]) -> None:
    (command, *_) = blocks("README.md", "Try it")
    for what, seconds in (("cold, with all downloads", COLD_SECONDS), ("warm", WARM_SECONDS)):
        with bare.terminal(command) as terminal:
            figures = terminal.wait_for(r"^1/7 .* inferences/s", seconds)
            table = terminal.wait_for("running until Ctrl-C", 300)
            terminal.press_ctrl_c()
            ended = terminal.wait_for("^all is reported$", 60)
            assert "left: " not in terminal.output, terminal.output
        with capsys.disabled():
            print(
                f"\n{bare.folder.name}, {what}: first figures after {figures:.1f} s, the table after {table:.1f} s, "
                f"ended {ended - table:.1f} s after Ctrl-C",
                file=sys.stderr,  # of several processes that run tests, this is what is seen
            )


@pytest.mark.parametrize("bare", ["trixie", "forky"], indirect=True)
@pytest.mark.e2e
@pytest.mark.bare
@pytest.mark.timeout(2400)
def test_the_product_holds_on_newer_pythons(bare: Bare, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that are declared beside the Python of CI itself: the fast tests, in the Debians that have them."""
    with bare.terminal("python3 --version && make test-fast") as terminal:
        terminal.wait_for("^all is reported$", 2100)
    version = re.search(r"^Python (3\.\d+)", terminal.output, re.MULTILINE)
    assert version is not None, terminal.output
    assert f"Programming Language :: Python :: {version[1]}" in PROJECT["classifiers"]
    assert "status 0\n" in terminal.output, terminal.output[-8000:]
    with capsys.disabled():
        print(f"\n{bare.folder.name}, {version[0]}: {terminal.output[-600:]}", file=sys.stderr)


@pytest.mark.parametrize("bare", ["trixie"], indirect=True)
@pytest.mark.soak
@pytest.mark.bare
@pytest.mark.timeout(7200)
def test_make_test_needs_nothing_before_it(bare: Bare, capsys: pytest.CaptureFixture[str]) -> None:
    """All of it, by an ordinary user: what the system lacks is a skipped test, and is named at the end."""
    with bare.terminal("make test") as terminal:
        wall = terminal.wait_for("^all is reported$", 7000)
    assert "status 0\n" in terminal.output, terminal.output[-8000:]
    skips = re.search(r"^Tests were skipped for want of (.+): apt-get install (.+)$", terminal.output, re.MULTILINE)
    assert skips is not None, terminal.output[-8000:]
    assert {"gcc", "nginx", "promtool", ROOT} <= set(skips[1].split(", "))
    assert "left: " not in terminal.output, terminal.output[-8000:]
    with capsys.disabled():
        print(f"\n{bare.folder.name}, make test, {wall:.0f} s: {terminal.output[-600:]}", file=sys.stderr)
