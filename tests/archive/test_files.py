from __future__ import annotations

import os
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.archive.columns import Table
from exporter.archive.files import (
    append_rows,
    append_tables,
    prune,
    repair_latest,
    safe_name,
    stored_files,
)

TABLE = Table("levels", ("schema_version", "figure"))
OTHER_SCHEMA = Table("levels", ("schema_version", "another"))
DAY = date(2025, 11, 21)
HEADER = b"schema_version,figure\n"


def append(folder: Path, rows: bytes, table: Table = TABLE) -> int:
    return append_rows(folder, DAY, table, rows).grown


def store(directory: Path, name: str, size: int = 100, probe: str = "t/p") -> Path:
    path = directory / probe / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * (size - 1) + b"\n")
    return path


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("triton-http_1.2~a", "triton-http_1.2~a"),
        ("..", "%2E."),
        (".lock", "%2Elock"),
        ("../../etc", "%2E.%2F..%2Fetc"),
        ("a b\n\x00", "a%20b%0A%00"),
        ("50%", "50%25"),
        ("", "%"),
        ("é", "%C3%A9"),
    ],
)
def test_names_are_made_safe(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@given(name=st.text(st.characters(codec=None), max_size=300))
def test_every_name_is_one_short_visible_path_component(name: str) -> None:
    safe = safe_name(name)
    assert safe.isascii()
    assert 0 < len(safe) <= 100
    assert "/" not in safe
    assert not safe.startswith(".")


@given(one=st.text(max_size=300), other=st.text(max_size=300))
def test_different_names_stay_different(one: str, other: str) -> None:
    assert (safe_name(one) == safe_name(other)) == (one == other)


def test_long_names_with_the_same_beginning_stay_different() -> None:
    assert safe_name("x" * 200 + "1") != safe_name("x" * 200 + "2")


# --- appending -------------------------------------------------------------------------------------------------------


def test_a_new_file_gets_its_header_and_each_append_reports_its_growth(tmp_path: Path) -> None:
    folder = tmp_path / "t" / "p"
    assert append(folder, b"1,a\n") == len(HEADER) + 4
    assert append(folder, b"1,b\n1,c\n") == 8
    assert (folder / "2025-11-21.levels.csv").read_bytes() == HEADER + b"1,a\n1,b\n1,c\n"


@pytest.mark.parametrize(
    ("content", "after"),
    [
        (b"", HEADER + b"1,new\n"),
        (HEADER[:5], HEADER + b"1,new\n"),
        (HEADER[:-1], HEADER + b"1,new\n"),
        (HEADER, HEADER + b"1,new\n"),
        (HEADER + b"1", HEADER + b"1,new\n"),
        (HEADER + b"1,a\n1,b", HEADER + b"1,a\n1,new\n"),
        (HEADER + b"1,a\n\0\0\0", HEADER + b"1,a\n1,new\n"),
        (HEADER + b"1,a\n" + b"1" * 200_000, HEADER + b"1,a\n1,new\n"),
        (HEADER + b"1," + b"a" * 200_000 + b"\n1,b", HEADER + b"1," + b"a" * 200_000 + b"\n1,new\n"),
    ],
)
def test_a_torn_end_is_cut_and_whole_rows_stay(tmp_path: Path, content: bytes, after: bytes) -> None:
    path = tmp_path / "2025-11-21.levels.csv"
    path.write_bytes(content)
    grown = append(tmp_path, b"1,new\n")
    assert path.read_bytes() == after
    assert grown == len(after) - len(content)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    "content",
    [
        OTHER_SCHEMA.header + b"1,a\n",
        HEADER + b"2,a\n",  # the same columns with another meaning
        HEADER[:-1] + b",more\n1,a,b\n",
        b"\0" * 50,
        b"something else",
    ],
)
def test_a_file_of_another_schema_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "2025-11-21.levels.csv"
    path.write_bytes(content)
    append(tmp_path, b"1,a\n")
    append(tmp_path, b"1,b\n")
    assert path.read_bytes() == content
    assert (tmp_path / "2025-11-21-2.levels.csv").read_bytes() == HEADER + b"1,a\n1,b\n"


def test_each_schema_of_a_day_has_a_file_that_is_found_again(tmp_path: Path) -> None:
    append(tmp_path, b"1,a\n", OTHER_SCHEMA)
    append(tmp_path, b"1,b\n")
    append(tmp_path, b"1,c\n", OTHER_SCHEMA)
    assert (tmp_path / "2025-11-21.levels.csv").read_bytes() == OTHER_SCHEMA.header + b"1,a\n1,c\n"
    assert (tmp_path / "2025-11-21-2.levels.csv").read_bytes() == HEADER + b"1,b\n"


LIMITED_APPEND = """
import resource, signal, sys
from datetime import date
from pathlib import Path
from exporter.archive.columns import Table
from exporter.archive.files import append_rows

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
table = Table("levels", ("schema_version", "figure"))
try:
    append_rows(Path(sys.argv[1]), date(2025, 11, 21), table, b"1,a\\n" * int(sys.argv[2]))
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.parametrize(
    ("before", "rows", "error"), [(HEADER + b"1,a\n" * 200, 100, "File too large"), (HEADER + b"1,a\n", 10, "")]
)
def test_rows_that_do_not_fit_leave_no_part_of_them(tmp_path: Path, before: bytes, rows: int, error: str) -> None:
    """A limit on the file's size gives the short write that a disk gives when it fills up."""
    path = tmp_path / "2025-11-21.levels.csv"
    path.write_bytes(before)
    command = [sys.executable, "-c", LIMITED_APPEND, str(tmp_path), str(rows)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == error
    assert path.read_bytes() == (before if error else before + b"1,a\n" * rows)


# --- repair and pruning ----------------------------------------------------------------------------------------------


def test_repair_is_for_the_last_two_days_of_the_archive(tmp_path: Path) -> None:
    contents = {"2025-11-18": b"1,a\n1", "2025-11-20": b"1,a\n1", "2025-11-21": b"1,a\n1,b"}
    for day, content in contents.items():
        store(tmp_path, f"{day}.levels.csv").write_bytes(content)
    repair_latest(stored_files(tmp_path))
    repaired = {path.name[:10]: path.read_bytes() for path in (tmp_path / "t/p").iterdir()}
    assert repaired == {"2025-11-18": b"1,a\n1", "2025-11-20": b"1,a\n", "2025-11-21": b"1,a\n"}


def kept(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_files_older_than_the_oldest_kept_day_go(tmp_path: Path) -> None:
    for days in range(5):
        store(tmp_path, f"{DAY - timedelta(days=days)}.levels.csv")
        store(tmp_path, f"{DAY - timedelta(days=days)}-2.windows.csv")
    pruned = prune(tmp_path, DAY - timedelta(days=2), 10**9)
    assert (pruned.size, pruned.removed, pruned.error) == (600, 4, None)
    assert [name[4:14] for name in kept(tmp_path)] == ["2025-11-19"] * 2 + ["2025-11-20"] * 2 + ["2025-11-21"] * 2


@pytest.mark.parametrize(
    ("max_size", "size", "days"),
    [(500, 500, 5), (499, 400, 4), (100, 100, 1), (50, 0, 0)],
)
def test_the_oldest_go_until_the_size_is_kept(tmp_path: Path, max_size: int, size: int, days: int) -> None:
    for back in range(5):
        store(tmp_path, f"{DAY - timedelta(days=back)}.levels.csv", probe=f"t/p{back}")
    pruned = prune(tmp_path, None, max_size)
    assert pruned.size == size
    assert [path[5:15] for path in kept(tmp_path)] == [str(DAY - timedelta(days=back)) for back in range(days)]
    if days:  # emptied folders are gone
        assert sorted(os.listdir(tmp_path / "t")) == [f"p{back}" for back in range(days)]


def test_of_one_day_those_go_first_that_were_written_first_and_never_those_written_last(tmp_path: Path) -> None:
    paths = [store(tmp_path, f"{DAY}-{number}.levels.csv") for number in (2, 3, 4)]
    for path, changed_s in zip(paths, (30, 10, 20), strict=True):
        os.utime(path, (changed_s, changed_s))
    assert prune(tmp_path, None, 200).size == 200
    assert kept(tmp_path) == ["t/p/2025-11-21-2.levels.csv", "t/p/2025-11-21-4.levels.csv"]
    assert prune(tmp_path, None, 0, keep=[paths[0]]).size == 100
    assert kept(tmp_path) == ["t/p/2025-11-21-2.levels.csv"]


def test_a_file_of_its_size_is_followed_by_the_next(tmp_path: Path) -> None:
    for number in range(4):
        append_rows(tmp_path, DAY, TABLE, b"1,%d\n" % number, segment_bytes=len(HEADER) + 8)
    (tmp_path / "2025-11-21.levels.csv").unlink()  # pruned
    append_rows(tmp_path, DAY, TABLE, b"1,4\n", segment_bytes=len(HEADER) + 8)
    contents = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert contents == {
        "2025-11-21-2.levels.csv": HEADER + b"1,2\n1,3\n",
        "2025-11-21-3.levels.csv": HEADER + b"1,4\n",
    }


def test_of_two_tables_both_are_written_or_none(tmp_path: Path) -> None:
    windows = Table("windows", ("schema_version", "figure"))
    append_tables(tmp_path, DAY, [(windows, b"1,a\n"), (TABLE, b"1,a\n")], 10**6)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "2025-11-21.levels.csv").rename(tmp_path / "aside")
    (tmp_path / "2025-11-21.levels.csv").mkdir()
    with pytest.raises(IsADirectoryError):
        append_tables(tmp_path, DAY, [(windows, b"1,b\n"), (TABLE, b"1,b\n")], 10**6)
    assert (tmp_path / "2025-11-21.windows.csv").read_bytes() == before["2025-11-21.windows.csv"]


def test_only_files_of_our_naming_are_ever_touched(tmp_path: Path) -> None:
    others = (
        "2001-01-01.csv",
        "2001-01-01.levels.csv.bak",
        "notes.levels.csv",
        "2001-13-01.levels.csv",
        "2001-01-01-.levels.csv",
        "x2001-01-01.levels.csv",
    )
    for name in others:
        store(tmp_path, name)
    outside = tmp_path / "2001-01-01.levels.csv"
    outside.write_bytes(b"mine")
    elsewhere = store(tmp_path / "elsewhere", "2001-01-01.levels.csv")
    (tmp_path / "t/linked").symlink_to(elsewhere.parent)
    (tmp_path / "t/p/2001-01-02.levels.csv").symlink_to(outside)
    before = kept(tmp_path / "t")
    pruned = prune(tmp_path, DAY, 0)
    assert (pruned.size, pruned.removed) == (0, 0)
    assert kept(tmp_path / "t") == before
    assert outside.exists()
    assert elsewhere.exists()


def test_a_file_that_cannot_be_removed_does_not_keep_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubborn = store(tmp_path, "2025-11-01.levels.csv")
    store(tmp_path, "2025-11-02.levels.csv")
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == stubborn:
            raise PermissionError(1, "Operation not permitted", str(path))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    pruned = prune(tmp_path, DAY, 0)
    assert (pruned.size, pruned.removed) == (100, 1)
    assert isinstance(pruned.error, PermissionError)
    assert kept(tmp_path) == ["t/p/2025-11-01.levels.csv"]
