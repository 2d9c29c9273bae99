"""Regions of shared memory: what is in them, and that none outlives its maker."""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.core.errors import InputError
from exporter.payload.regions import FOLDER, PREFIX, CudaRegion, SystemRegion, exists, remove_orphans


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of all regions that the test makes in this process: others on this machine make theirs in the same folder."""
    made: list[str] = []
    original = secrets.token_hex

    def token(size: int) -> str:
        made.append(PREFIX + original(size))
        return made[-1].removeprefix(PREFIX)

    monkeypatch.setattr(secrets, "token_hex", token)
    return made


def test_what_is_written_is_there_under_the_name() -> None:
    region = SystemRegion(100)
    assert exists(region.name)
    assert region.key == f"/{region.name}"
    region.write([(3, b"abc"), (96, b"last")])
    content = (FOLDER / region.name).read_bytes()
    assert content == region.read(0, 100) == bytes(3) + b"abc" + bytes(90) + b"last"
    assert (FOLDER / region.name).stat().st_mode & 0o777 == 0o600
    region.close()
    assert not exists(region.name)


def test_a_region_that_is_in_use_is_no_orphan() -> None:
    region = SystemRegion(10)
    remove_orphans()
    assert exists(region.name)
    region.close()


def test_what_a_killed_process_leaves_is_an_orphan() -> None:
    code = "from exporter.payload.regions import SystemRegion; r = SystemRegion(9); print(r.name, flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    name = process.stdout.readline().strip()
    remove_orphans()
    assert exists(name)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert process.stdin is not None
    process.stdin.close()
    remove_orphans()  # or another canary has done so before
    assert not exists(name)


def test_other_files_are_left_alone() -> None:
    stranger = FOLDER / f"triton_canary_test_{os.getpid()}"
    stranger.write_bytes(b"x")
    remove_orphans()
    assert stranger.exists()
    stranger.unlink()


def test_a_look_for_orphans_while_a_region_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the making of the file and its lock: then another one is made."""
    original, made = fcntl.flock, list[Path]()

    def flock(descriptor: int, how: int) -> None:
        if not made:
            made.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
            made[0].unlink()
        original(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    region = SystemRegion(10)
    assert exists(region.name)
    assert region.name != made[0].name
    region.close()


def test_no_capacity(names: list[str]) -> None:
    with pytest.raises(InputError, match=r"^input\.shared_memory: 1125899906842624 bytes in /dev/shm: No space left"):
        SystemRegion(2**50)
    assert len(names) == 1
    assert not exists(names[0])


def test_cuda_without_a_gpu(names: list[str]) -> None:
    with pytest.raises(InputError, match=r"^input\.shared_memory: cuda, and (no GPU|its module) can"):
        CudaRegion(64)
    assert not any(map(exists, names))
