"""The systemd unit, by systemd's own judgement and against our own defaults."""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from pathlib import Path

from exporter.config.quantities import parse_duration
from exporter.config.settings import Settings
from exporter.core.units import NS
from exporter.worker.pool import CLOSE_LIMIT_SECONDS
from tests.programs import need

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "packaging" / "systemd" / "triton-canary.service"


def directives() -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for line in UNIT.read_text().splitlines():
        if (match := re.fullmatch(r"(\w+)=(.*)", line)) is not None:
            found[match[1]].append(match[2])
    return found


def analyze(*arguments: str) -> str:
    need("systemd-analyze")
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_systemd_understands_all_of_it(tmp_path: Path) -> None:
    # It wants the program to be there.
    program = tmp_path / "triton-canary"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/triton-canary/bin/triton-canary", str(program)))
    reported = analyze("verify", "--man=no", "--recursive-errors=no", str(unit))
    assert not [line for line in reported.splitlines() if UNIT.name in line], reported


def test_its_exposure_is_what_a_network_client_must_have() -> None:
    """Of 10 as systemd counts them; without any hardening a unit has 9.6."""
    analyze("security", "--offline=true", "--threshold=15", str(UNIT))


def test_it_writes_where_the_daemon_does_and_waits_as_long() -> None:
    given = directives()
    assert Path("/var/lib") / given["StateDirectory"][0] == Path(Settings.model_fields["data_directory"].default)
    longest_ns = Settings().limits.shutdown_timeout_ns + round(CLOSE_LIMIT_SECONDS * NS)
    assert parse_duration(f"{given['TimeoutStopSec'][0]}s") > longest_ns + 5 * NS
    assert given["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert given["ExecStart"] == ["/opt/triton-canary/bin/triton-canary serve --config /etc/triton-canary/canary.yaml"]


def test_a_hang_up_that_kills_is_no_clean_end() -> None:
    given = directives()
    assert (given["Restart"], given["RestartForceExitStatus"]) == (["on-failure"], ["SIGHUP"])


def test_memory_is_bounded_and_never_written_out() -> None:
    given = directives()
    assert given["LimitCORE"] == ["0"]
    assert given["MemoryMax"] == ["4G"]
    assert given["OOMPolicy"] == ["continue"]  # else a worker's end would be the daemon's
