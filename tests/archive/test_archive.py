from __future__ import annotations

import errno
import itertools
import logging
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.archive import archive as archive_module
from exporter.archive.archive import CsvArchive
from exporter.archive.columns import LEVELS
from exporter.core.result import SweepResult
from exporter.core.units import NS
from tests.archive.archive_samples import DAY, NOON, make_failed_sweep, make_sweep, read_rows
from tests.builders import make_probe, make_target

WAIT_S = 30.0
LOGGER = "exporter.archive.archive"
PLACE = Path("triton-http", "addsub")


class Clock:
    """A wall clock that stays the same until it is moved."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


Opener = Callable[..., CsvArchive]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(tmp_path: Path, clock: Clock) -> Iterator[Opener]:
    """Opens archives, which end with the test."""
    with ExitStack() as stack:

        def make(
            directory: Path = tmp_path,
            *,
            max_age_ns: int = 30 * DAY * NS,
            max_size_bytes: int = 1 << 30,
            steady: Callable[[], float] | None = None,
        ) -> CsvArchive:
            archive = CsvArchive(directory, max_age_ns, max_size_bytes, wall_clock=clock, steady_clock=steady or clock)
            archive.start()
            stack.callback(archive.close, WAIT_S)
            return archive

        yield make


def write(archive: CsvArchive, *sweeps: SweepResult) -> None:
    for sweep in sweeps:
        archive.sweep_ended(sweep)
    assert archive.flush(WAIT_S)


def files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*.csv"))


def test_a_sweep_becomes_a_row_a_level_and_a_row_a_window(tmp_path: Path, opened: Opener) -> None:
    archive = opened()
    write(archive, make_sweep(id="one"), make_sweep(id="two"), make_failed_sweep(id="three"))
    levels = read_rows(tmp_path / PLACE / "2023-11-15.levels.csv")
    windows = read_rows(tmp_path / PLACE / "2023-11-15.windows.csv")
    assert [(row["sweep_id"], row["status"]) for row in levels] == [("one", "ok"), ("two", "ok"), ("three", "failed")]
    assert [(row["sweep_id"], row["window"]) for row in windows] == list(itertools.product(("one", "two"), "01"))
    assert (archive.rows_written, archive.write_errors, archive.dropped, archive.last_error) == (7, 0, 0, "")
    assert archive.bytes == sum((tmp_path / name).stat().st_size for name in files(tmp_path))


def test_each_target_probe_and_day_has_files_of_its_own(tmp_path: Path, opened: Opener) -> None:
    write(
        opened(),
        make_failed_sweep(probe=make_probe(name="a/b", target=make_target(name=".."))),
        make_failed_sweep(started_unix_s=NOON + DAY),
    )
    assert files(tmp_path) == ["%2E./a%2Fb/2023-11-15.levels.csv", "triton-http/addsub/2023-11-16.levels.csv"]


def test_nothing_is_written_of_what_is_no_result(tmp_path: Path, opened: Opener) -> None:
    archive = opened()
    archive.sweep_started(make_probe(), NOON)
    assert archive.flush(WAIT_S)
    assert files(tmp_path) == []


@settings(max_examples=25, deadline=None)
@given(name=st.text(), reason=st.text(), target=st.text(max_size=40))
def test_any_text_comes_back_from_its_one_row(name: str, reason: str, target: str) -> None:
    probe = make_probe(name=name, target=make_target(name=target))
    with tempfile.TemporaryDirectory() as folder:
        archive = CsvArchive(Path(folder), DAY * NS, 1 << 20)
        archive.start()
        archive.sweep_ended(make_failed_sweep(probe=probe, reason_text=reason))
        archive.close(WAIT_S)
        [file] = files(Path(folder))
        [row] = read_rows(Path(folder, file))
    assert (row["target"], row["probe"], row["reason_text"]) == (target, name, reason)


# --- troubles --------------------------------------------------------------------------------------------------------


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == LOGGER]


def full(_fd: int, _data: bytes) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_counted_logged_once_and_gets_over(
    tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    archive = opened()
    one, two = (make_failed_sweep(probe=make_probe(name=name)) for name in ("one", "two"))
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        write(archive, one, two, one)
    assert (archive.rows_written, archive.write_errors, archive.bytes) == (0, 3, 0)
    assert archive.last_error == "No space left on device"
    assert messages(caplog) == ["archive not written"]
    write(archive, one, one)
    assert (archive.rows_written, archive.write_errors, archive.last_error) == (2, 3, "")
    assert messages(caplog) == ["archive not written", "archive can be written again"]
    assert len(read_rows(tmp_path / "triton-http/one/2023-11-15.levels.csv")) == 2


def test_a_disk_that_fills_up_while_a_row_is_written_keeps_the_rows_before(
    tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = opened()
    write(archive, make_failed_sweep(id="one"))
    real_write = os.write

    def nearly_full(fd: int, data: bytes) -> int:
        if len(data) < 50:
            return full(fd, data)
        return real_write(fd, data[:-49])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", nearly_full)
        write(archive, make_failed_sweep(id="two"))
    path = tmp_path / PLACE / "2023-11-15.levels.csv"
    assert [row["sweep_id"] for row in read_rows(path)] == ["one"]
    assert (archive.write_errors, archive.bytes) == (1, path.stat().st_size)
    write(archive, make_failed_sweep(id="three"))
    assert [row["sweep_id"] for row in read_rows(path)] == ["one", "three"]


def test_an_archive_that_cannot_be_made_is_tried_again_with_each_sweep(
    tmp_path: Path, opened: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    place = tmp_path / "archive"
    place.write_text("a file is in the way")
    archive = opened(place)
    write(archive, make_failed_sweep(), make_failed_sweep(probe=make_probe(name="other")))
    assert (archive.write_errors, archive.last_error) == (2, "File exists")
    assert messages(caplog) == ["archive not written"]
    place.unlink()
    write(archive, make_failed_sweep())
    assert (archive.rows_written, archive.last_error) == (1, "")


def test_one_probes_trouble_is_not_the_others(tmp_path: Path, opened: Opener, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    archive = opened()
    (tmp_path / "triton-http").mkdir()
    (tmp_path / "triton-http" / "bad").write_text("a file is in the way")
    bad, good = (make_failed_sweep(probe=make_probe(name=name)) for name in ("bad", "good"))
    write(archive, bad, good, bad, good, bad)
    assert (archive.rows_written, archive.write_errors) == (2, 3)
    assert messages(caplog) == ["archive not written"]


def test_a_sweep_that_cannot_be_reported_does_not_end_the_writer(opened: Opener) -> None:
    archive = opened()
    write(archive, make_failed_sweep(started_unix_s=float("nan")), make_failed_sweep(started_unix_s=1e20))
    write(archive, make_failed_sweep())
    assert (archive.rows_written, archive.write_errors) == (1, 2)


def test_a_hanging_writer_delays_no_sweep(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hang, reached = threading.Event(), threading.Event()

    def wait(*_: object) -> int:
        reached.set()
        hang.wait(WAIT_S)
        return 0

    monkeypatch.setattr(archive_module, "append_tables", wait)
    monkeypatch.setattr(archive_module, "_QUEUE_LIMIT", 2)
    archive = opened()
    archive.sweep_ended(make_failed_sweep())
    assert reached.wait(WAIT_S)
    for _ in range(5):
        archive.sweep_ended(make_failed_sweep())
    assert archive.dropped == 3
    assert not archive.flush(0.01)
    assert len(messages(caplog)) == 1
    hang.set()
    assert archive.flush(WAIT_S)
    assert (archive.rows_written, archive.dropped) == (3, 3)


def test_closing_writes_what_is_left_and_may_be_done_twice(tmp_path: Path, opened: Opener) -> None:
    archive = opened()
    for _ in range(20):
        archive.sweep_ended(make_failed_sweep())
    archive.close(WAIT_S)
    archive.close(WAIT_S)
    assert len(read_rows(tmp_path / PLACE / "2023-11-15.levels.csv")) == 20
    archive.sweep_ended(make_failed_sweep())
    assert (archive.rows_written, archive.dropped) == (20, 1)


def test_closing_gives_up_on_a_writer_that_hangs(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hang = threading.Event()
    monkeypatch.setattr(archive_module, "append_tables", lambda *_: hang.wait(WAIT_S) and [])
    archive = opened()
    archive.sweep_ended(make_failed_sweep())
    archive.close(0.01)
    assert messages(caplog) == ["archive closed before everything was written"]
    hang.set()


# --- retention -------------------------------------------------------------------------------------------------------


def store(directory: Path, day: date, size: int) -> Path:
    path = directory / "gone" / "probe" / f"{day}.levels.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * (size - 1) + b"\n")
    return path


def test_old_files_go_at_the_start_and_at_each_new_day(tmp_path: Path, opened: Opener, clock: Clock) -> None:
    old, newer = store(tmp_path, date(2023, 11, 12), 500), store(tmp_path, date(2023, 11, 13), 500)
    archive = opened(max_age_ns=2 * DAY * NS)
    assert archive.flush(WAIT_S)
    assert (old.exists(), newer.exists(), archive.bytes) == (False, True, 500)
    clock.now += DAY / 4
    write(archive, make_failed_sweep(started_unix_s=clock.now))
    assert newer.exists()
    clock.now += DAY / 2
    write(archive, make_failed_sweep(started_unix_s=clock.now))
    assert files(tmp_path) == [str(PLACE / f"2023-11-{day}.levels.csv") for day in (15, 16)]
    assert archive.bytes == sum((tmp_path / name).stat().st_size for name in files(tmp_path))
    assert not (tmp_path / "gone").exists()


def test_the_oldest_files_go_once_the_archive_is_too_big(
    tmp_path: Path, opened: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    row = len(LEVELS.header) + 1000
    old, newer = store(tmp_path, date(2023, 11, 12), row), store(tmp_path, date(2023, 11, 13), row)
    archive = opened(max_size_bytes=2 * row)
    assert archive.flush(WAIT_S)
    assert old.exists()
    write(archive, make_failed_sweep())
    assert (old.exists(), newer.exists()) == (False, True)
    write(archive, *[make_failed_sweep()] * 20)
    assert files(tmp_path) == [str(PLACE / "2023-11-15.levels.csv")]
    assert archive.rows_written == 21
    assert messages(caplog) == ["archive exceeds its size limit and nothing is left to remove"] * (
        archive.bytes > 2 * row
    )


def test_today_has_no_more_than_the_size_either(tmp_path: Path, opened: Opener) -> None:
    """At 64 KiB a file is followed by the next, and the oldest of them go: what is left is the newest."""
    archive = opened(max_size_bytes=1 << 20)
    sweeps = [make_failed_sweep(id=str(number), reason_text="x" * 5000) for number in range(400)]
    largest = 0
    for sweep in sweeps:
        write(archive, sweep)
        largest = max(largest, archive.bytes)
    paths = [tmp_path / name for name in files(tmp_path)]
    assert archive.bytes == sum(path.stat().st_size for path in paths) <= 1 << 20
    assert largest <= (1 << 20) + (8 << 10)
    left = sorted(int(row["sweep_id"]) for path in paths for row in read_rows(path))
    assert left == list(range(left[0], 400))
    assert len(left) > 100


def test_a_sweep_is_in_both_tables_or_in_none(tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = opened()
    write(archive, make_sweep(id="one"))
    real_write, writes = os.write, 0

    def full_at_the_second(fd: int, data: bytes) -> int:
        nonlocal writes
        writes += 1
        return real_write(fd, data) if writes % 2 else full(fd, data)

    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full_at_the_second)
        write(archive, make_sweep(id="two"), make_sweep(id="three"))
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before
    assert (archive.write_errors, archive.bytes) == (2, sum(map(len, before.values())))


def test_a_disk_that_is_full_every_other_time_fills_no_log(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    archive = opened()
    for _ in range(10):
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            write(archive, make_failed_sweep())
        assert archive.last_error == "No space left on device"
        write(archive, make_failed_sweep())
        assert archive.last_error == ""
    assert messages(caplog) == ["archive not written", "archive can be written again"]


@pytest.mark.parametrize(("days", "again"), [(100, 0), (-100, 0), (100, 100)])
def test_a_clock_that_jumped_removes_no_file(
    tmp_path: Path, opened: Opener, clock: Clock, days: int, again: int
) -> None:
    paths = [store(tmp_path, date(2023, 10, 20), 500), store(tmp_path, date(2023, 11, 14), 500)]
    steady = Clock()
    archive = opened(max_age_ns=30 * DAY * NS, steady=steady)
    for jump in (days, -days + again):
        clock.now += jump * DAY
        write(archive, make_failed_sweep(started_unix_s=clock.now))
        steady.now += 8
        clock.now += 8
        write(archive, make_failed_sweep(started_unix_s=clock.now))
        assert [path.exists() for path in paths] == [True, True]
    if again:  # it continues from there for a day: the time is what it reports
        for _ in range(25):
            clock.now += 3600
            steady.now += 3600
            write(archive, make_failed_sweep(started_unix_s=clock.now))
        clock.now += DAY
        steady.now += DAY
        write(archive, make_failed_sweep(started_unix_s=clock.now))
        assert [path.exists() for path in paths] == [False, False]


def test_an_archive_that_begins_in_a_wrong_time_keeps_its_files(tmp_path: Path, opened: Opener, clock: Clock) -> None:
    path = store(tmp_path, date(2023, 8, 1), 500)
    archive = opened(max_age_ns=30 * DAY * NS)
    write(archive, make_failed_sweep())
    assert path.exists()
    clock.now += 2 * DAY
    write(archive, make_failed_sweep(started_unix_s=clock.now))
    assert not path.exists()


def test_an_archive_that_cannot_be_pruned_is_written_all_the_same(
    tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(archive_module, "prune", refuse)
    archive = opened()
    write(archive, make_failed_sweep(), make_failed_sweep())
    assert (archive.rows_written, archive.write_errors) == (2, 0)
    assert messages(caplog) == ["archive could not be pruned"]


# --- other processes -------------------------------------------------------------------------------------------------


def test_a_second_archive_waits_until_the_first_is_gone(
    tmp_path: Path, opened: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    first = opened()
    write(first, make_failed_sweep(id="one"))
    second = opened()
    write(second, make_failed_sweep(id="two"), make_failed_sweep(id="three"))
    assert (second.rows_written, second.write_errors) == (0, 2)
    assert second.last_error == f"another process writes this archive: {os.getpid()} {os.uname().nodename}"
    assert messages(caplog) == ["archive not written"]
    first.close(WAIT_S)
    write(second, make_failed_sweep(id="four"))
    assert (second.rows_written, second.last_error) == (1, "")
    path = tmp_path / PLACE / "2023-11-15.levels.csv"
    assert [row["sweep_id"] for row in read_rows(path)] == ["one", "four"]
    assert second.bytes == path.stat().st_size


WRITER = """
import itertools, sys
from pathlib import Path
from exporter.core.probe import NS
from exporter.archive.archive import CsvArchive
from tests.archive.archive_samples import DAY, make_sweep

archive = CsvArchive(Path(sys.argv[1]), 10**6 * DAY * NS, 1 << 40)
archive.start()
for number in itertools.count():
    archive.sweep_ended(make_sweep(id=f"{sys.argv[2]}-{number}", reason_text="x" * 20_000))
    assert archive.flush(30) and archive.rows_written == 3 * (number + 1), archive.last_error
    print(number, flush=True)
"""


def spawn_writer(directory: Path, name: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITER, str(directory), name]
    root = Path(__file__).parents[2]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, env=os.environ | {"PYTHONPATH": str(root)})


def kill(process: subprocess.Popen[bytes]) -> int:
    """Kills it; returns how many sweeps it reported were written."""
    process.send_signal(signal.SIGKILL)
    reported, _ = process.communicate()
    return reported.count(b"\n")


def test_killed_in_mid_write_it_loses_no_row_that_it_reported_was_written(tmp_path: Path, opened: Opener) -> None:
    written: list[str] = []
    delays = random.Random(1)
    for life in range(6):
        process = spawn_writer(tmp_path, str(life))
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], WAIT_S)[0]
        threading.Event().wait(delays.uniform(0.0, 0.05))
        written += [f"{life}-{number}" for number in range(kill(process))]
    assert opened().flush(WAIT_S)  # repairs what the last one left
    levels = [row["sweep_id"] for row in read_rows(tmp_path / PLACE / "2023-11-15.levels.csv")]
    windows = [row["sweep_id"] for row in read_rows(tmp_path / PLACE / "2023-11-15.windows.csv")]
    assert len(written) >= 6
    assert set(written) <= set(levels)
    assert len(levels) == len(set(levels))
    assert set(written) <= set(windows) <= set(levels)


def test_another_process_that_is_killed_leaves_the_archive_to_us(tmp_path: Path, opened: Opener) -> None:
    process = spawn_writer(tmp_path, "other")
    assert process.stdout is not None
    process.stdout.readline()
    archive = opened()
    write(archive, make_failed_sweep(id="ours"))
    assert (archive.rows_written, archive.write_errors) == (0, 1)
    assert str(process.pid) in archive.last_error
    kill(process)
    write(archive, make_failed_sweep(id="ours"))
    assert (archive.rows_written, archive.last_error) == (1, "")
    assert read_rows(tmp_path / PLACE / "2023-11-15.levels.csv")[-1]["sweep_id"] == "ours"
