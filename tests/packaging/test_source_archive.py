"""Two builds of one commit give the same source archive, whichever machine and user builds it, and when."""

from __future__ import annotations

import importlib.util
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EPOCH_S = 1_700_000_000
FILES = {"p-1/a.py": b"print(1)\n", "p-1/run.sh": b"#!/bin/sh\n", "p-1/PKG-INFO": b"Name: p\n"}


@pytest.fixture(scope="module")
def normalize() -> Callable[[bytes, int], bytes]:
    spec = importlib.util.spec_from_file_location("source_archive", ROOT / "packaging" / "source_archive.py")
    assert spec
    assert spec.loader
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.normalize  # type: ignore[no-any-return]


def built(names: list[str], *, user: str, uid: int, umask: int, at_s: float) -> bytes:
    """A source archive as this user's machine makes it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(FILES[name]), at_s
            member.uid = member.gid = uid
            member.uname = member.gname = user
            member.mode = (0o777 if name.endswith(".sh") else 0o666) & ~umask
            archive.addfile(member, io.BytesIO(FILES[name]))
    return packed.getvalue()


def test_user_time_umask_and_order_leave_no_trace(normalize: Callable[[bytes, int], bytes]) -> None:
    first = built(list(FILES), user="ci", uid=1001, umask=0o022, at_s=1_701_000_000.25)
    second = built(list(reversed(FILES)), user="root", uid=0, umask=0o002, at_s=1_702_000_000.5)
    assert first != second
    assert normalize(first, EPOCH_S) == normalize(second, EPOCH_S)


def test_content_and_executable_bit_stay(normalize: Callable[[bytes, int], bytes]) -> None:
    again = normalize(built(list(FILES), user="ci", uid=1001, umask=0o022, at_s=1.5), EPOCH_S)
    with tarfile.open(fileobj=io.BytesIO(again)) as archive:
        members = archive.getmembers()
        assert [member.name for member in members] == sorted(FILES)
        assert {member.name: archive.extractfile(member).read() for member in members} == FILES  # type: ignore[union-attr]
        assert {member.name: member.mode for member in members} == {
            "p-1/PKG-INFO": 0o644,
            "p-1/a.py": 0o644,
            "p-1/run.sh": 0o755,
        }
        assert {(member.uid, member.gid, member.uname, member.gname) for member in members} == {(0, 0, "", "")}
        assert {member.mtime for member in members} == {EPOCH_S}


def test_other_content_is_another_archive(normalize: Callable[[bytes, int], bytes], monkeypatch: Any) -> None:
    arguments: dict[str, Any] = {"user": "ci", "uid": 1, "umask": 0o022, "at_s": 1.0}
    before = normalize(built(list(FILES), **arguments), EPOCH_S)
    monkeypatch.setitem(FILES, "p-1/a.py", b"print(2)\n")
    assert normalize(built(list(FILES), **arguments), EPOCH_S) != before


def test_a_release_normalizes_its_source_archive() -> None:
    script = (ROOT / "packaging" / "release.sh").read_text()
    build, normalized = script.index("-m build"), script.index("packaging/source_archive.py")
    assert script.index("export SOURCE_DATE_EPOCH") < build < normalized
