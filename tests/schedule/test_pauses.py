from __future__ import annotations

import json
from pathlib import Path

import pytest

from exporter.core.errors import ConfigError
from exporter.schedule.pauses import EVERYTHING, Pauses, whole_target

KEY, OTHER = ("endpoint", "a"), ("endpoint", "b/10.0.0.1:8001")


def test_they_are_kept_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "data" / "pauses.json"
    pauses = Pauses(path)
    assert KEY not in pauses
    pauses.add(KEY)
    pauses.add(OTHER)
    pauses.discard_all([("endpoint", "never paused")])
    assert sorted(Pauses(path)) == [KEY, OTHER]
    pauses.discard_all([KEY])
    again = Pauses(path)
    assert (KEY in again, OTHER in again) == (False, True)


def test_what_cannot_be_kept_is_not_done(tmp_path: Path) -> None:
    path = tmp_path / "data" / "pauses.json"
    pauses = Pauses(path)
    path.parent.write_text("in the way")
    with pytest.raises(OSError, match="data"):
        pauses.add(KEY)
    assert KEY not in pauses


def test_a_release_that_knows_no_scopes_does_not_read_half_of_them(tmp_path: Path) -> None:
    pauses = Pauses(tmp_path / "pauses.json")
    pauses.add(KEY)
    assert json.loads((tmp_path / "pauses.json").read_text())["version"] == 1
    for key in (EVERYTHING, whole_target("endpoint")):
        pauses.add(key)
        assert json.loads((tmp_path / "pauses.json").read_text())["version"] == 2
        assert sorted(Pauses(tmp_path / "pauses.json")) == sorted([KEY, key])
        pauses.discard_all([key])
    assert json.loads((tmp_path / "pauses.json").read_text())["version"] == 1


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "[" * 100_000, '{"version": 3, "paused": []}', '{"version": 1, "paused": [1]}']
)
def test_a_damaged_file_is_an_error_and_not_forgotten(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pauses.json"
    path.write_text(text)
    with pytest.raises(
        ConfigError, match=r"pauses\.json: the paused probes cannot be read .*; correct it, or remove it"
    ):
        Pauses(path)
