"""The documentation site."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Links, references, headings: as `make site` does it."""
    program = str(Path(sys.executable).with_name("sphinx-build"))
    command = [program, "-q", "-W", "--keep-going", "-b", "html", "-c", "docs"]
    done = subprocess.run([*command, ".", str(tmp_path / "site")], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
