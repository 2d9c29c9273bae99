"""The state file: what outlives a restart, and what a broken file or disk costs."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from exporter.core.outcome import SweepStatus
from exporter.state.probe_state import Board
from exporter.state.state_file import LastTimes, ProbeKey, StateFile
from tests.builders import make_probe
from tests.metrics.results import make_result

KEY = ProbeKey("addsub", "triton-http", "addsub")


def save(path: Path, *times: LastTimes) -> StateFile:
    file = StateFile(path, seconds_between_writes=0.0)
    for each in times:
        file.save(partial(dict, {KEY: each}))
    file.close()
    return file


def test_times_are_kept_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state.json"
    board = Board(path)
    board.configure((make_probe(),))
    board.sweep_ended(make_result(started_unix_s=1000.0))
    board.sweep_ended(make_result(status=SweepStatus.FAILED, started_unix_s=2000.0))
    board.close()
    again = Board(path)
    again.configure((make_probe(), make_probe(name="new"), make_probe(name="x", model="y")))
    known, new, _ = again.probes()
    assert (known.last_run_unix_s, known.last_success_unix_s) == (2012.0, 1012.0)
    assert (known.up, known.result) == (None, None)
    assert (new.last_run_unix_s, new.last_success_unix_s) == (0.0, 0.0)
    again.close()


def test_the_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    file = save(path, LastTimes(1.0, 1.0), LastTimes(3.0, 2.0))
    assert file.write_errors == 0
    assert json.loads(path.read_text()) == {
        "version": 1,
        "probes": [
            {
                "probe": "addsub",
                "target": "triton-http",
                "model": "addsub",
                "last_run_unix_s": 3.0,
                "last_success_unix_s": 2.0,
            }
        ],
    }
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_nothing_is_written_after_the_end(tmp_path: Path) -> None:
    file = save(tmp_path / "state.json")
    file.save(lambda: {KEY: LastTimes(1.0, 1.0)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"version": 2, "probes": []}', b'{"version": 1, "probes": [{}]}', b"\xff\xfe"],
)
def test_a_damaged_file_is_set_aside_and_logged(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(content)
    assert StateFile(path).load() == {}
    assert not path.exists()
    assert (tmp_path / "state.json.damaged").read_bytes() == content
    assert "set aside as state.json.damaged" in caplog.text


def test_a_missing_file_is_an_empty_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert StateFile(tmp_path / "state.json").load() == {}
    assert caplog.text == ""


def test_what_cannot_be_written_is_counted_and_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("")
    board = Board(occupied / "state.json")
    board.configure((make_probe(),))
    board.sweep_ended(make_result())
    board.close()
    assert board.state_write_errors == 1
    assert board.probes()[0].up is True
    assert caplog.text.count("cannot be written") == 1
