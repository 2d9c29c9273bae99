"""The keeper, by what is left when it has ended: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.demo.child_process import KeptProcess
from tests.demo.processes import alive, descendants
from tests.waiting import PATIENCE_SECONDS, becomes_true

STUBBORN_TREE = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = "import os, signal, time; os.setsid(); signal.signal(15, signal.SIG_IGN); print('up'); time.sleep(99)"
process = subprocess.Popen([sys.executable, "-u", "-c", child], stdout=subprocess.PIPE)
process.stdout.readline()
print("tree is up", flush=True)
time.sleep(99)
"""
"""A process that ignores SIGTERM, and so does its child, which has a session of its own."""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def wait_for(log: Path, text: str) -> None:
    assert becomes_true(lambda: log.exists() and text in log.read_text()), log.read_text()


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("", 0),
        ("raise SystemExit(7)", 7),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 128 + signal.SIGKILL),
    ],
)
def test_the_status_is_the_processs_own(log: Path, code: str, status: int) -> None:
    kept = KeptProcess(python(code), log_path=log)
    assert kept.wait(PATIENCE_SECONDS) == status
    assert not kept.running
    assert kept.stop() == status


def test_stop_lets_it_end_by_itself(log: Path) -> None:
    code = "import signal, sys; signal.signal(15, lambda *_: sys.exit(3)); print('up', flush=True); signal.pause()"
    kept = KeptProcess(python(code), log_path=log)
    wait_for(log, "up")
    assert kept.stop() == 3


@pytest.mark.parametrize("end", [KeptProcess.stop, KeptProcess.kill])
def test_a_tree_that_ignores_sigterm_ends_whole(log: Path, end: object) -> None:
    kept = KeptProcess(python(STUBBORN_TREE), log_path=log, grace_seconds=0.1)
    wait_for(log, "tree is up")
    assert kept.pid is not None
    tree = descendants(kept.pid)
    assert len(tree) == 2
    assert callable(end)
    end(kept)
    assert not alive(tree)


def test_what_it_leaves_behind_ends_with_it(log: Path) -> None:
    code = "import subprocess; print(subprocess.Popen(['sleep', '99']).pid)"
    kept = KeptProcess(python(code), log_path=log)
    assert kept.wait(PATIENCE_SECONDS) == 0
    assert not alive({int(log.read_text())})


def test_it_ends_with_an_owner_that_is_killed(log: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from exporter.demo.child_process import KeptProcess\n"
        f"KeptProcess([sys.executable, '-c', {STUBBORN_TREE!r}], log_path=Path({str(log)!r}), grace_seconds=0.1)\n"
        "time.sleep(99)"
    )
    with subprocess.Popen(python(code), cwd=Path(__file__).parents[2]) as owner:
        wait_for(log, "tree is up")
        tree = descendants(owner.pid)
        assert len(tree) == 4  # owner, keeper, process, its child
        owner.kill()
    assert becomes_true(lambda: not alive(tree))


def test_it_ends_with_its_keeper(log: Path) -> None:
    kept = KeptProcess(python("import time; print('up', flush=True); time.sleep(99)"), log_path=log)
    wait_for(log, "up")
    assert kept.pid is not None
    keeper = int(Path(f"/proc/{kept.pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(keeper, signal.SIGKILL)
    assert becomes_true(lambda: not alive({kept.pid or 0}))
    assert kept.wait(PATIENCE_SECONDS) == -signal.SIGKILL


def test_its_shared_memory_is_removed(log: Path) -> None:
    prefix = f"triton_canary_test_{os.getpid()}_"
    mine, other = Path(f"/dev/shm/{prefix}1"), Path(f"/dev/shm/x{prefix}1")
    mine.touch()
    other.touch()
    try:
        KeptProcess(python(""), log_path=log, shm_prefix=prefix).wait(PATIENCE_SECONDS)
        assert not mine.exists()
        assert other.exists()
    finally:
        other.unlink()
        mine.unlink(missing_ok=True)


def test_a_command_that_does_not_exist_is_reported_in_the_log(log: Path) -> None:
    kept = KeptProcess(["/does/not/exist"], log_path=log)
    assert kept.pid is None
    assert kept.wait(PATIENCE_SECONDS) != 0
    assert "/does/not/exist" in log.read_text()
