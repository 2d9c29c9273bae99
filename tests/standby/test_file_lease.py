"""The lease on shared storage: one winner per state, whatever is in the folder."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from exporter.core.units import NS
from exporter.standby.file_lease import KEPT_STATES, FileLease
from exporter.standby.lease import MAX_DURATION_NS, LeaseRecord

DURATION_NS = 15 * NS


def test_what_is_written_is_read_and_each_state_has_its_number(tmp_path: Path) -> None:
    ours, theirs = FileLease(tmp_path), FileLease(tmp_path)
    assert theirs.read() is None
    first = ours.replace(None, "a", DURATION_NS)
    assert first == LeaseRecord("a", DURATION_NS, "1") == theirs.read()
    second = ours.replace(first, "a", DURATION_NS)
    assert second is not None
    assert second.token == "2"
    assert theirs.replace(first, "b", DURATION_NS) is None, "what was replaced cannot be replaced again"
    assert theirs.read() == second
    assert theirs.replace(second, "", DURATION_NS) == LeaseRecord("", DURATION_NS, "3")
    assert not list(tmp_path.glob("*.tmp"))


def test_of_many_that_write_the_same_state_one_succeeds(tmp_path: Path) -> None:
    seen: LeaseRecord | None = None
    for _ in range(30):
        barrier = threading.Barrier(4)
        won: list[LeaseRecord] = []

        def write(name: str, seen: LeaseRecord | None, barrier: threading.Barrier, won: list[LeaseRecord]) -> None:
            store = _store_of(tmp_path, name)
            barrier.wait()
            if (record := store.replace(seen, name, DURATION_NS)) is not None:
                won.append(record)

        threads = [threading.Thread(target=write, args=(name, seen, barrier, won)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (seen,) = won
        assert FileLease(tmp_path).read() == seen


def _store_of(folder: Path, name: str) -> FileLease:
    """One that writes under temporary names of its own, as another process does."""
    store = FileLease(folder)
    store.process = name
    return store


def test_a_folder_that_is_missing_is_no_free_lease(tmp_path: Path) -> None:
    store = FileLease(tmp_path / "lease")
    for ask in (store.read, lambda: store.replace(None, "a", DURATION_NS)):
        with pytest.raises(FileNotFoundError, match="is the share mounted"):
            ask()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"holder": "a"}', b"\xff\xfe", b"[" * 4000, b'{"holder": 1, "duration_ns": "x"}'],
)
def test_a_damaged_file_counts_as_another_holder_and_can_be_replaced(tmp_path: Path, content: bytes) -> None:
    store = FileLease(tmp_path)
    store.replace(None, "a", DURATION_NS)
    (tmp_path / f"{1:012}.lease").write_bytes(content)
    seen = store.read()
    assert seen is not None
    assert seen.holder == "unknown"
    assert store.replace(seen, "b", DURATION_NS) == LeaseRecord("b", DURATION_NS, "2")


def test_a_duration_out_of_all_bounds_is_bounded(tmp_path: Path) -> None:
    store = FileLease(tmp_path)
    store.replace(None, "a", 10**30)
    seen = store.read()
    assert seen is not None
    assert seen.duration_ns == MAX_DURATION_NS


def test_old_states_go_and_a_writer_that_slept_through_them_is_refused(tmp_path: Path) -> None:
    store, slow = FileLease(tmp_path), FileLease(tmp_path)
    seen = store.replace(None, "a", DURATION_NS)
    asleep = slow.read()
    for _ in range(3 * KEPT_STATES):
        seen = store.replace(seen, "a", DURATION_NS)
    assert seen is not None
    assert len(os.listdir(tmp_path)) == KEPT_STATES
    assert slow.replace(asleep, "b", DURATION_NS) is None, "the number is free again, but is not the last"
    assert store.read() == seen
    assert store.replace(seen, "a", DURATION_NS) is not None


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("ours")
    (tmp_path / "x.lease").write_text("no number")
    store = FileLease(tmp_path)
    assert store.read() is None
    assert store.replace(None, "a", DURATION_NS) is not None
    assert (tmp_path / "notes.txt").read_text() == "ours"
