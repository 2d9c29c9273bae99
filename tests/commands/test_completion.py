"""Completion scripts, run by the real shells."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from exporter.cli import run

_ASK_BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 ))
$(complete -p triton-canary | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completions(script: Path, *words: str) -> list[str]:
    done = subprocess.run(
        ["bash", "-c", _ASK_BASH, "bash", str(script), "triton-canary", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_bash_completes_commands_options_and_the_flags_of_analyze(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["completion", "bash"]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    assert completions(script, "com") == ["compare", "completion"]
    assert completions(script, "baseline", "pi") == ["pin"]
    assert completions(script, "baseline", "pin", "x", "--dr") == ["--dry-run"]
    assert completions(script, "analyze", "--concurrency-r") == ["--concurrency-range"]
    (tmp_path / "canary.yaml").touch()
    assert completions(script, "serve", "--config", f"{tmp_path}/can") == [f"{tmp_path}/canary.yaml"]


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_take_the_script(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    assert "concurrency-range" in script.read_text()
    if program := shutil.which(shell):
        subprocess.run([program, "-n", str(script)], check=True)


def test_another_shell_is_refused() -> None:
    with pytest.raises(SystemExit) as ended:
        run(["completion", "fish"])
    assert ended.value.code == 3
