from __future__ import annotations

from pathlib import Path

import pytest

from exporter.core.errors import ConfigError
from exporter.schedule.pauses import Pauses

KEY, OTHER = ("door", "a"), ("door", "b/10.0.0.1:8001")


def test_they_are_kept_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "data" / "pauses.json"
    pauses = Pauses(path)
    assert KEY not in pauses
    pauses.add(KEY)
    pauses.add(OTHER)
    pauses.discard_all([("door", "never paused")])
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


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2, "paused": []}', '{"version": 1, "paused": [1]}'])
def test_a_damaged_file_is_an_error_and_not_forgotten(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pauses.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"pauses\.json: the paused probes cannot be read .*; mend it, or remove it"):
        Pauses(path)
