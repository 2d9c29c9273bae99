"""What a writer that was killed leaves behind, and who removes it."""

from __future__ import annotations

from pathlib import Path

from exporter.storage.atomic_file import remove_leftovers, replace_file


def test_leftovers_go_and_nothing_else(tmp_path: Path) -> None:
    replace_file(tmp_path / "a.baseline", "good")
    for name in ("a.baseline.host-12.tmp", "state.json.other-host-3.tmp"):
        (tmp_path / name).write_text("half of")
    (tmp_path / "a.baseline.damaged").write_text("kept")
    (tmp_path / "folder.tmp").mkdir()
    assert remove_leftovers(tmp_path) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.baseline", "a.baseline.damaged", "folder.tmp"]
    assert remove_leftovers(tmp_path / "nowhere") == 0
