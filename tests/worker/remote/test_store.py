"""What a machine keeps of input that travelled: whole, once, ours alone, and not for ever."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.payload.input_files import find_input_files
from exporter.worker.remote import store
from exporter.worker.remote.store import Store

NAMES = st.text("ab.é-", min_size=1, max_size=6).filter(lambda name: not name.startswith("."))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kept"


def key_of(files: dict[str, bytes]) -> str:
    """As documented: SHA-256 over each name, a zero, and the digest of the content; in the names' order."""
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(os.fsencode(name) + b"\0" + hashlib.sha256(files[name]).digest())
    return whole.hexdigest()


def put(into: Store, files: dict[str, bytes], *, key: str = "", chunk: int = 3) -> bool:
    key = key or key_of(files)
    for name, content in files.items():
        for offset in range(0, max(len(content), 1), chunk):
            into.add(key, name, offset, content[offset : offset + chunk])
    return into.finish(key)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(files=st.dictionaries(NAMES, st.binary(max_size=10), min_size=1, max_size=4), chunk=st.integers(1, 11))
def test_what_is_kept_is_what_came(tmp_path: Path, files: dict[str, bytes], chunk: int) -> None:
    key = key_of(files)
    ours = Store(tmp_path / "kept")
    assert put(ours, files, chunk=chunk)
    assert ours.lacking([key]) == []
    kept = ours.folder / key
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == files
    assert find_input_files([str(kept)] if len(files) > 1 else [str(kept / next(iter(files)))]).digest == key
    assert [entry.name for entry in ours.folder.iterdir() if entry.name.endswith(".part")] == []


def test_what_is_not_what_the_key_promised_is_not_kept(folder: Path) -> None:
    ours = Store(folder)
    key = key_of({"a": b"as it was"})
    assert not put(ours, {"a": b"as it is"}, key=key)
    assert ours.lacking([key]) == [key]
    assert list(folder.iterdir()) == []


def test_of_two_clients_that_send_the_same_both_have_it(folder: Path) -> None:
    ours, theirs = Store(folder), Store(folder)
    files = {"a": b"abc"}
    key = key_of(files)
    ours.add(key, "a", 0, b"a")
    theirs.add(key, "a", 0, b"abc")
    ours.add(key, "a", 1, b"bc")
    assert theirs.finish(key)
    assert ours.finish(key)
    assert (folder / key / "a").read_bytes() == b"abc"
    assert [entry.name for entry in folder.iterdir()] == [key]


@pytest.mark.parametrize("name", ["../a", "a/b", "", ".", ".."])
def test_nothing_is_written_elsewhere(folder: Path, name: str) -> None:
    ours = Store(folder)
    with pytest.raises((ValueError, OSError)):
        ours.add("0" * 64, name, 0, b"x")
    with pytest.raises(ValueError, match="no key"):
        ours.add("../../etc", "a", 0, b"x")
    assert [path for path in folder.parent.rglob("*") if path.is_file()] == []


def test_only_this_user_reaches_it(folder: Path, tmp_path: Path) -> None:
    put(Store(folder), {"a": b"secret"})
    reached = [path for path in (folder, *folder.rglob("*")) if path.stat().st_mode & 0o077]
    assert reached == []
    open_to_all = tmp_path / "open"
    open_to_all.mkdir(mode=0o777)
    open_to_all.chmod(0o777)
    elsewhere = tmp_path / "link"
    elsewhere.symlink_to(folder)
    for planted in (open_to_all, elsewhere):
        with pytest.raises(PermissionError, match="only this user"):
            Store(planted)


def test_what_was_not_used_for_longest_goes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "KEPT_BYTES", 250)
    ours = Store(folder)
    now_s = time.time()
    ages_s = {"new": 0, "used": 80_000, "old": 90_000, "older": 100_000, "forgotten": store.KEPT_SECONDS + 60}
    keys = {}
    for name, age_s in ages_s.items():
        content = b"" if name == "forgotten" else name[:1].encode() * 100
        keys[name] = key_of({name: content})
        kept = folder / keys[name]
        kept.mkdir()
        (kept / name).write_bytes(content)
        for path in (kept / name, kept):
            os.utime(path, (now_s - age_s, now_s - age_s))
    unfinished = folder / f"{'0' * 64}.0123.part"
    unfinished.mkdir()
    os.utime(unfinished, (0, 0))
    assert put(ours, {"last": b"x" * 100})
    left = {name for name, key in keys.items() if not ours.lacking([key])}
    assert left == {"new", "used"}, "300 bytes, but those were used within the day"
    assert not unfinished.exists()


def test_asking_for_it_is_using_it(folder: Path) -> None:
    ours = Store(folder)
    put(ours, {"a": b"abc"})
    kept = folder / key_of({"a": b"abc"})
    os.utime(kept, (0, 0))
    ours.lacking([kept.name])
    assert time.time() - kept.stat().st_mtime < 60


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_what_is_damaged_travels_again(folder: Path, damage: str) -> None:
    """A machine that stopped may have left less than it had reported."""
    ours = Store(folder)
    files = {"a": b"abc", "b": b"def"}
    key = key_of(files)
    put(ours, files)
    path = folder / key / "b"
    if damage == "cut":
        path.write_bytes(b"de")
    else:
        path.unlink()
    assert ours.lacking([key]) == [key]
    assert put(ours, files)
    assert ours.lacking([key]) == []


def test_what_is_not_finished_goes_with_its_client(folder: Path) -> None:
    ours, theirs = Store(folder), Store(folder)
    key = key_of({"a": b"abc"})
    for each in (ours, theirs):
        each.add(key, "a", 0, b"a")
    ours.abandon()
    theirs.add(key, "a", 1, b"bc")
    assert theirs.finish(key)


def test_a_store_that_is_opened_is_purged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether anything travels later, or not; a file that grows keeps what is not finished."""
    ours = Store(folder)
    put(ours, {"a": b"abc"})
    old = folder / key_of({"a": b"abc"})
    growing = folder / f"{'1' * 64}.0123.part"
    growing.mkdir()
    (growing / "a").write_bytes(b"a")
    stray = folder / "README"
    stray.write_text("a user's")
    for entry in (old, growing):
        os.utime(entry, (0, 0))
    os.utime(old / "a", (0, 0))
    monkeypatch.setenv(store.KEPT_VARIABLE, "1")
    Store(folder)
    assert sorted(entry.name for entry in folder.iterdir()) == sorted([growing.name, stray.name])


def test_a_full_disk_is_left_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Store(folder)
    key = key_of({"a": b"abc"})
    ours.add(key, "a", 0, b"a")

    real = os.open

    def full(path: Path, flags: int, *arguments: int, **more: int) -> int:
        if flags & os.O_WRONLY:
            raise OSError(28, "No space left on device")
        return real(path, flags, *arguments, **more)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(OSError, match="No space left"):
        ours.add(key, "a", 1, b"b")
    monkeypatch.undo()
    assert list(folder.iterdir()) == []
