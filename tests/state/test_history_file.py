"""The history on the disk: a restart finds what was kept, whatever else is in its files, and never waits for it."""

from __future__ import annotations

import logging
import math
import struct
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.outcome import SweepStatus
from exporter.state.day_ring import CONCLUSIONS, Conclusion, LevelPoint, Rows, SweepPoint
from exporter.state.history import History, key_of
from exporter.state.history_file import HistoryFile
from exporter.state.history_format import HistoryReader, SectionWriter
from exporter.state.state_file import ProbeKey
from tests.builders import concurrency, make_probe
from tests.metrics.results import Clock, make_counts
from tests.state.test_history import KEY, START, history, point, result_at, started

LINE_OF_0_2 = (
    b'[1,["addsub","triton-http","addsub"],1700000100.0,12.0,"regressed","none","p50 +46 %",30,3,'
    b'[["concurrency 1",0.004,0.012,0.016,333.25,0.001,0.003,null,1.1,null]]]'
)


def reloaded(folder: Path, clock: Clock) -> History:
    again = history(lambda _key, _point: None, clock)
    file = HistoryFile(folder, now=clock)
    file.start(again.restore)
    wait_for(file)
    file.close()
    return again


def wait_for(file: HistoryFile) -> None:
    """Until all that it was given is done."""
    file._thread.submit(lambda: None).result()


def read(*contents: bytes, oldest_unix_s: float = -math.inf) -> tuple[dict[ProbeKey, Rows], int]:
    reader = HistoryReader(oldest_unix_s)
    for content in contents:
        reader.add(content)
    return {key: rows for key, rows, _ in reader.days()}, reader.bad


def section(*points: SweepPoint, key: ProbeKey = KEY) -> bytes:
    writer = SectionWriter()
    return b"".join(writer.encode(key, each) for each in points)


def at(rows: Rows) -> list[float]:
    return [float(started_s) - START for started_s in rows.sweeps["started"]]


def test_the_bytes_of_a_sweep() -> None:
    """A format that files are in: version 2, written since 0.3."""
    one = SweepPoint(
        START, 12.5, Conclusion.FAILED, "auth", "x" + "é" * 20, 30, 3, (LevelPoint("rate 5", 0.25, p99=0.5),)
    )
    writer = SectionWriter()
    nan = math.nan

    def name(number: int, text: bytes) -> bytes:
        return struct.pack("<BBHI39sc", 2, len(text), 0, number, text, b"\n")

    assert writer.encode(KEY, one) == b"".join(
        (
            b"\x01triton-canary history 2".ljust(47, b"\0") + b"\n",
            name(0, b'["addsub","triton-http","addsub"]'),
            name(1, b"auth"),
            name(2, b"x" + "é".encode() * 19),
            name(2, "é".encode()),
            name(3, b"rate 5"),
            struct.pack("<BBBxIdqqIIIxxxc", 3, 5, 1, 0, START, 30, 3, 12_500, 1, 2, b"\n"),
            struct.pack("<BxxxI9fxxxc", 4, 3, 0.25, nan, 0.5, nan, nan, nan, nan, nan, nan, b"\n"),
        )
    )
    again = replace(one, conclusion=Conclusion.OK, text="", levels=())
    assert writer.encode(KEY, again) == b"".join(
        (name(4, b""), struct.pack("<BBBxIdqqIIIxxxc", 3, 0, 0, 0, START, 30, 3, 12_500, 1, 4, b"\n"))
    )


FIGURE = st.one_of(st.just(math.nan), st.floats(0, 1e9, width=32))
LEVELS = st.lists(
    st.builds(LevelPoint, st.sampled_from(["concurrency 1", "concurrency 16", "rate 0.5"]), FIGURE, FIGURE, FIGURE),
    max_size=3,
    unique_by=lambda level: level.level,
)
SWEEPS = st.builds(
    SweepPoint,
    st.floats(0, 1e10),
    st.integers(0, 10**9).map(lambda milliseconds: milliseconds / 1000),
    st.sampled_from(CONCLUSIONS),
    st.sampled_from(["", "auth", "unreachable"]),
    st.text(max_size=160),
    st.integers(0, 1 << 61),
    st.integers(0, 1 << 61),
    st.builds(tuple, LEVELS),
)
KEYS = st.builds(ProbeKey, st.sampled_from(["a", "b/c", 'd"\n']), st.text(max_size=60), st.just("m"))


@given(st.lists(st.lists(st.tuples(KEYS, SWEEPS), max_size=5), max_size=3))
def test_what_is_written_is_read(sections: list[list[tuple[ProbeKey, SweepPoint]]]) -> None:
    """Of several daemons one after the other, of any number of probes, by all their figures."""
    content = b"".join(
        b"".join(writer.encode(*each) for each in points)
        for points, writer in ((points, SectionWriter()) for points in sections)
    )
    written: dict[ProbeKey, list[SweepPoint]] = {}
    for key, each in (pair for points in sections for pair in points):
        written.setdefault(key, []).append(each)
    reader = HistoryReader(-math.inf)
    reader.add(content)
    found = {key: (rows, recent) for key, rows, recent in reader.days()}
    assert reader.bad == 0
    assert found.keys() == written.keys()
    for key, points in written.items():
        rows, recent = found[key]
        assert [replace(each, levels=()) for each in points[-20:]] == list(recent)
        assert rows.sweeps.tolist() == [
            (each.started_unix_s, each.slo_requests, each.slo_bad, each.conclusion.severity) for each in points
        ]
        for number, each in enumerate(points):
            levels = {level.level: (level.p50, level.p95, level.p99) for level in each.levels}
            for name, figures in rows.levels.items():
                expected = levels.pop(name, (math.nan,) * 3)
                np.testing.assert_array_equal(figures[number][:3], np.array(expected, np.float32))
            assert not levels


@given(st.lists(st.binary(max_size=60), max_size=8), st.lists(st.tuples(st.integers(0, 900), st.integers(0, 255))))
def test_no_bytes_break_the_reader(parts: list[bytes], changes: list[tuple[int, int]]) -> None:
    content = bytearray(section(*(point(300.0 * number, p50=0.1) for number in range(4))))
    for place, value in changes:
        content[place % len(content)] = value
    for rows in read(b"".join(parts), bytes(content), bytes(content)[:100])[0].values():
        assert np.isfinite(rows.sweeps["started"]).all()
        assert (rows.sweeps["severity"] < len(CONCLUSIONS)).all()
        assert not any(np.isinf(figures).any() for figures in rows.levels.values())


@pytest.mark.parametrize(
    ("place", "value"),
    [
        pytest.param(1, b"\x06", id="no such conclusion"),
        pytest.param(2, b"\x02", id="a level that is not there"),
        pytest.param(4, b"\x09", id="no such probe"),
        pytest.param(8, struct.pack("<d", math.inf), id="no time"),
        pytest.param(16, struct.pack("<q", -1), id="no count"),
        pytest.param(36, b"\x09", id="no such reason"),
        pytest.param(48 + 4, b"\x09", id="no such level"),
        pytest.param(48 + 8, struct.pack("<f", -math.inf), id="no figure"),
        pytest.param(48, b"\x00", id="its level is lost"),
        pytest.param(47, b"\x00", id="cut off"),
        pytest.param(95, b"\x00", id="its level is cut off"),
    ],
)
def test_a_sweep_that_cannot_be_right_is_left_out(place: int, value: bytes) -> None:
    content = bytearray(section(point(0, p50=0.1), point(300, p50=0.2), point(600, p50=0.3)))
    begin = len(content) - 4 * 48  # of the second sweep
    content[begin + place : begin + place + len(value)] = value
    days, bad = read(bytes(content))
    assert (at(days[KEY]), bad) == ([0.0, 600.0], 1)
    assert days[KEY].levels["concurrency 1"][:, 0].tolist() == [np.float32(0.1), np.float32(0.3)]


def test_a_section_of_another_version_and_what_is_too_old_are_left_out() -> None:
    newer = section(point(0)).replace(b"history 2", b"history 3")
    days, bad = read(newer, section(point(0), point(300)), oldest_unix_s=START)
    assert (at(days[KEY]), bad) == ([300.0], 1)


def test_a_key_that_is_none_is_counted() -> None:
    content = section(point(0)).replace(b'"triton-http",', b"              ")
    assert read(content) == ({}, 1)


def test_a_day_outlives_a_restart(tmp_path: Path) -> None:
    probe, clock = make_probe(levels=(concurrency(1), concurrency(4))), Clock(START)
    file = HistoryFile(tmp_path / "history", now=clock)
    reported = history(file.append, clock)
    for number in range(500):
        clock.at_s = START + 300 * number
        status = SweepStatus.FAILED if number % 50 == 0 else SweepStatus.OK
        reported.window_ended(probe, make_counts(slo_requests=100, slo_bad=number % 3))
        reported.sweep_ended(result_at(probe, 300 * number, status, p50_ms=1 + number / 7))
        wait_for(file)  # the hour of a file is that of the writing
    file.close()
    day, again = reported.day(probe), reloaded(tmp_path / "history", clock).day(probe)
    assert len(again.started_unix_s) == 288
    for name in ("started_unix_s", "severity", "slo_requests", "slo_bad"):
        np.testing.assert_array_equal(getattr(day, name), getattr(again, name))
    for level in ("concurrency 1", "concurrency 4"):
        np.testing.assert_array_equal(day.levels[level]["p99"], again.levels[level]["p99"])
    assert list(again.recent) == [replace(each, levels=()) for each in day.recent]
    # The hours that are over are gone from the disk.
    assert len(list((tmp_path / "history").iterdir())) <= 27


def test_the_lines_of_0_2_are_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock(START + 400)
    bad = [
        LINE_OF_0_2.replace(b"[1,[", b"[7,["),
        LINE_OF_0_2.replace(b"null]", b"null,1.0]"),
        LINE_OF_0_2.replace(b"1700000100.0", b"1e999"),
        *(b"[" * 100_000, b"{}", b"\x00\xff", b'{"probes": []}', LINE_OF_0_2[:40]),
    ]
    (tmp_path / "2023-11-14T22.jsonl").write_bytes(b"\n".join([*bad, LINE_OF_0_2]))
    (tmp_path / "2023-11-14T22.history").write_bytes(section(point(300, p50=0.25)))
    (tmp_path / "notes.jsonl").write_text("not ours")
    with caplog.at_level(logging.WARNING):
        day = reloaded(tmp_path, clock).day(make_probe())
    assert started(day) == [0.0, 300.0]
    assert [(each.conclusion, each.reason, each.text, each.duration_s) for each in reversed(day.recent)] == [
        (Conclusion.REGRESSED, "none", "p50 +46 %", 12.0),
        (Conclusion.OK, "", "", 12.0),
    ]
    assert (day.slo_requests.tolist(), day.slo_bad.tolist()) == ([30, 0], [3, 0])
    figures = [float(values[0]) for values in day.levels["concurrency 1"].values()]
    assert figures == pytest.approx([0.004, 0.012, 0.016, 333.25, 0.001, 0.003, math.nan, 1.1, math.nan], nan_ok=True)
    (record,) = caplog.records
    assert record.__dict__["fields"]["records"] == len(bad)


def test_a_torn_record_does_not_spoil_the_next_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    probe, clock = make_probe(), Clock(START)
    for number in range(3):
        clock.at_s = START + 300 * number
        file = HistoryFile(tmp_path, now=clock)
        reported = history(file.append, clock)
        reported.sweep_ended(result_at(probe, 300 * number))
        file.close()
        (path,) = tmp_path.iterdir()
        if number == 1:
            path.write_bytes(path.read_bytes()[:-20])
    with caplog.at_level(logging.WARNING):
        assert started(reloaded(tmp_path, clock).day(probe)) == [0.0, 600.0]
    assert [record.__dict__["fields"]["records"] for record in caplog.records] == [1]


def test_after_a_failed_write_the_file_is_whole(tmp_path: Path) -> None:
    """What the next records refer to is written again: it may have been in what was lost."""
    blocked, clock = [False], Clock(START)

    def claim() -> None:
        if blocked[0]:
            raise OSError("another process writes here")

    file = HistoryFile(tmp_path, claim, clock)
    for number in range(3):
        blocked[0] = number == 1
        file.write(KEY, replace(point(300 * number), reason=f"reason {number}"))
    file.close()
    day = reloaded(tmp_path, clock).day(make_probe())
    assert [each.reason for each in day.recent] == ["reason 2", "reason 0"]


def test_nobody_waits_for_the_reading_and_the_end_stops_it(tmp_path: Path) -> None:
    """Each probe that is restored waits for the test here."""
    clock = Clock(START + 600)
    for number in range(3):
        (tmp_path / f"2023-11-14T2{number}.history").write_bytes(
            section(point(-300), key=ProbeKey(str(number), "", ""))
        )
    first, go = threading.Event(), threading.Event()
    restored = []

    def restore(key: ProbeKey, _rows: Rows, _recent: Sequence[SweepPoint]) -> None:
        restored.append(key)
        first.set()
        go.wait()

    file = HistoryFile(tmp_path, now=clock)
    file.start(restore)
    assert first.wait(60)
    file.append(KEY, point(300))  # returns, while the first probe is still being restored
    closer = threading.Thread(target=file.close)
    closer.start()
    assert file._stopping.wait(60)
    go.set()
    closer.join()
    assert len(restored) == 1
    # What was appended is written nevertheless.
    assert 300.0 in started(reloaded(tmp_path, clock).day(make_probe()))


def test_an_error_in_reading_does_not_end_the_writing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock(START)
    (tmp_path / "2023-11-14T21.history").write_bytes(section(point(-300)))

    def fail(*_day: object) -> None:
        raise RuntimeError("a bug")

    file = HistoryFile(tmp_path, now=clock)
    file.start(fail)
    file.append(KEY, point(0))
    wait_for(file)
    file.close()
    assert [record.message for record in caplog.records] == ["the history cannot be read"]
    assert started(reloaded(tmp_path, clock).day(make_probe())) == [-300.0, 0.0]


def test_an_hour_has_a_bound_on_the_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    probe, clock = make_probe(), Clock(START)
    file = HistoryFile(tmp_path, now=clock, max_file_bytes=500)
    for number in range(10):
        file.append(key_of(probe), point(300 * number))
    file.close()
    (path,) = tmp_path.iterdir()
    assert 300 < path.stat().st_size <= 500
    assert [record.message for record in caplog.records] == ["the history cannot be written"]


def test_nothing_is_written_into_a_folder_of_another_daemon(tmp_path: Path) -> None:
    def refuse() -> None:
        raise OSError("another process writes here")

    file = HistoryFile(tmp_path / "history", refuse)
    file.append(KEY, point(0))
    file.close()
    assert not (tmp_path / "history").exists()


def test_a_disk_that_hangs_costs_bounded_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.state.history_file._MAX_WAITING", 3)
    hangs = threading.Event()
    file = HistoryFile(tmp_path, hangs.wait, Clock(START))
    with caplog.at_level(logging.WARNING):
        for number in range(20):
            file.append(KEY, point(300 * number))
    hangs.set()
    file.close()
    assert [record.message for record in caplog.records] == ["the history cannot be written"]
    assert len(read(next(tmp_path.iterdir()).read_bytes())[0][KEY].sweeps) <= 4
