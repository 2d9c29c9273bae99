"""What a command does with arguments that it does not know."""

from __future__ import annotations

import pytest

from exporter import cli
from exporter.core.exit_code import ExitCode

CASES = [
    ("check-config canary.yaml --lvie", "triton-canary check-config: --lvie: unknown flag; did you mean '--live'?"),
    ("health --address=x", "triton-canary health: --address: unknown flag; flags are --help, --url"),
    ("check-config one.yaml two.yaml", "triton-canary check-config: two.yaml: unexpected argument"),
]


@pytest.mark.parametrize(("line", "message"), CASES, ids=[line for line, _ in CASES])
def test_the_command_names_it_with_its_own_usage(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.run(line.split())
    assert ended.value.code == ExitCode.BAD_OPTIONS
    reported = capsys.readouterr().err.splitlines()
    assert reported[0].startswith(f"usage: triton-canary {line.split(maxsplit=1)[0]} ")
    assert reported[-1] == message
