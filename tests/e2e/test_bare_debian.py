"""The README's first command on plain systems, as an ordinary user: from a clone to figures, and nothing left after."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.bare import Bare, make_bare
from tests.e2e.test_walk import blocks
from tests.programs import ROOT, need

COLD_SECONDS, WARM_SECONDS = 900, 120
"""For a busy machine and a slow network. How long it takes is printed."""


@pytest.fixture(params=["bookworm", "trixie"])
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> Bare:
    need("debootstrap", "git", ROOT)
    return make_bare(request.param, tmp_path / request.param)


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
            ended = terminal.wait_for("^all is told$", 60)
            assert "left: " not in terminal.output, terminal.output
        with capsys.disabled():
            print(
                f"\n{bare.folder.name}, {what}: first figures after {figures:.1f} s, the table after {table:.1f} s, "
                f"ended {ended - table:.1f} s after Ctrl-C"
            )
    shutil.rmtree(bare.folder)
