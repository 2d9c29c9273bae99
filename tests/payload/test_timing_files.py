"""Files of gaps and moments: what they give, and how their errors are reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.payload import timing_files
from exporter.payload.timing_files import TimingFile, read_intervals, read_schedule

Read = Callable[[str], TimingFile]


def write(tmp_path: Path, content: str | bytes) -> str:
    path = tmp_path / "night.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize(
    ("read", "content", "entries_ns"),
    [
        (read_intervals, "1000\n0\n25", (1_000_000, 0, 25_000)),
        (read_intervals, "7\r\n8\r\n", (7_000, 8_000)),
        (read_intervals, " 7 \n", (7_000,)),
        (read_schedule, "0\n0\n100\n300.5\n301.000001\n", (0, 0, 100_000_000, 300_500_000, 301_000_001)),
    ],
)
def test_entries(tmp_path: Path, read: Read, content: str, entries_ns: tuple[int, ...]) -> None:
    file = read(write(tmp_path, content))
    assert file.entries_ns == entries_ns
    assert file.stem == "night"


@pytest.mark.parametrize(
    ("read", "content", "message"),
    [
        (read_intervals, "1\n-2\n", ":2: found '-2': must be a whole number of microseconds, 0 or more"),
        (read_intervals, "1.5\n", ":1: found '1.5': must be a whole number of microseconds, 0 or more"),
        (read_intervals, "1\n\n2\n", ":2: found an empty line: must be a whole number of microseconds, 0 or more"),
        (read_intervals, "0\n0\n", ": all intervals are 0; at least one must be above 0"),
        (read_intervals, "", ": has 0 lines; from 1 to 1000000 are allowed"),
        (read_intervals, "1" * 13, ":1: found '1111111111111': must be a whole number of microseconds, 0 or more"),
        (read_intervals, b"\xff\x00" * 40, ":1: found "),
        (read_schedule, "5\n4.5\n", ":2: found 4.5: is before the line ahead of it, 5"),
        (read_schedule, "1s\n", ":1: found '1s': must be milliseconds after the start, as 1500 or 0.25"),
        (read_schedule, "0.1234567\n", ":1: found '0.1234567': must be milliseconds"),
    ],
)
def test_errors(tmp_path: Path, read: Read, content: str | bytes, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        read(path)
    assert str(caught.value).startswith(path + message)


def write_steps(tmp_path: Path, content: str) -> str:
    path = tmp_path / "night.json"
    path.write_text(content)
    return str(path)


def test_the_moments_of_steps(tmp_path: Path) -> None:
    steps = '{"timestamp": 0, "X": [1]}, {"timestamp": [0]}, {"X": [1], "timestamp": 1500}'
    file = read_schedule(write_steps(tmp_path, f'{{"data": [{steps}]}}'))
    assert file.entries_ns == (0, 0, 1_500_000_000)
    assert file.stem == "night"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1\n2", ": is not JSON"),
        ("[" * 100_000, ": is not JSON"),
        ("[]", ": must have 'data', a list of 1 to 1000000 steps"),
        ('{"data": []}', ": must have 'data', a list of 1 to 1000000 steps"),
        ('{"data": [[{"timestamp": 1}]]}', ": step 0: a schedule needs steps, not streams of them"),
        (
            '{"data": [{"timestamp": 1}, {"X": [1]}]}',
            ": step 1: 'timestamp' must be whole milliseconds after the start, found none",
        ),
        (
            '{"data": [{"timestamp": [1, 2]}]}',
            ": step 0: 'timestamp' must be whole milliseconds after the start, found [1, 2]",
        ),
        (
            '{"data": [{"timestamp": 1.5}]}',
            ": step 0: 'timestamp' must be whole milliseconds after the start, found 1.5",
        ),
        (
            '{"data": [{"timestamp": true}]}',
            ": step 0: 'timestamp' must be whole milliseconds after the start, found True",
        ),
        (
            '{"data": [{"timestamp": 5}, {"timestamp": 4}]}',
            ": step 1: timestamp 4 is before that of the step ahead, 5",
        ),
    ],
)
def test_errors_of_steps(tmp_path: Path, content: str, message: str) -> None:
    path = write_steps(tmp_path, content)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        read_schedule(path)
    assert str(caught.value) == path + message


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"none\.txt: cannot be read: No such file or directory"):
        read_intervals(str(tmp_path / "none.txt"))
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        read_schedule(str(tmp_path))
    monkeypatch.setattr(timing_files, "MAX_ENTRIES", 2)
    with pytest.raises(ValueError, match="has 3 lines; from 1 to 2 are allowed"):
        read_schedule(write(tmp_path, "1\n2\n3\n"))
    monkeypatch.setattr(timing_files, "_MAX_BYTES", 4)
    with pytest.raises(ValueError, match="has more than"):
        read_schedule(write(tmp_path, "1\n2\n3\n"))


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    first = read_intervals(write(tmp_path, "1\n2\n")).digest
    assert read_schedule(write(tmp_path, "1\n2\n")).digest == first
    assert read_intervals(write(tmp_path, "1\n3\n")).digest != first
