"""One writer for a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exporter.storage.directory_lock import DirectoryLock, LockHeldError


def test_the_lock_is_taken_once_and_names_its_holder(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "archive"
    first, second = DirectoryLock(directory, "archive"), DirectoryLock(directory, "archive")
    assert first.acquire()
    assert not first.acquire()
    holder = f"another process writes this archive: {os.getpid()} {os.uname().nodename}"
    with pytest.raises(LockHeldError, match=f"^{holder}$"):
        second.acquire()
    assert (first.refusal, second.refusal) == ("", holder)
    first.release()
    assert second.acquire()
    assert second.refusal == ""
    second.release()


def test_a_removed_lock_file_is_made_again(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path, "archive")
    lock.acquire()
    (tmp_path / ".lock").unlink()
    assert lock.acquire()
    with pytest.raises(LockHeldError):
        DirectoryLock(tmp_path, "archive").acquire()
    lock.release()


def test_two_locks_of_one_folder_go_by_their_names(tmp_path: Path) -> None:
    archive, data = DirectoryLock(tmp_path, "archive"), DirectoryLock(tmp_path, "data directory", ".daemon.lock")
    assert archive.acquire()
    assert data.acquire()
    archive.release()
    data.release()


def test_a_folder_that_cannot_be_written_is_a_refusal_too(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    lock = DirectoryLock(tmp_path / "file" / "data", "data directory")
    with pytest.raises(OSError, match="Not a directory"):
        lock.acquire()
    assert lock.refusal == f"the data directory {tmp_path}/file/data cannot be written: Not a directory"
