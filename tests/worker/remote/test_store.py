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
    return into.finish(key, len(files) > 1)


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
    assert theirs.finish(key, False)
    assert ours.finish(key, False)
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
    ages_s = {"new": 0, "used": 3000, "old": 4000, "older": 5000, "forgotten": store.KEPT_SECONDS + 1}
    keys = {}
    for name, age_s in ages_s.items():
        files = {name: name.encode() * 100 if name != "forgotten" else b""}
        keys[name] = key_of(files)
        kept = folder / keys[name]
        kept.mkdir()
        (kept / name).write_bytes(files[name][:100])
        os.utime(kept, (now_s - age_s, now_s - age_s))
    unfinished = folder / f"{'0' * 64}.0123.part"
    unfinished.mkdir()
    os.utime(unfinished, (0, 0))
    assert put(ours, {"last": b"x" * 100})
    left = {name for name, key in keys.items() if not ours.lacking([key])}
    assert left == {"new", "used"}, "300 bytes, but those were used within the hour"
    assert not unfinished.exists()


def test_asking_for_it_is_using_it(folder: Path) -> None:
    ours = Store(folder)
    put(ours, {"a": b"abc"})
    kept = folder / key_of({"a": b"abc"})
    os.utime(kept, (0, 0))
    ours.lacking([kept.name])
    assert time.time() - kept.stat().st_mtime < 60
