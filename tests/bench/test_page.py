"""What the page keeps of what people wrote at its end."""

from __future__ import annotations

from pathlib import Path

from bench.page import NOTES, kept_notes


def test_notes_at_the_end_are_kept_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "performance.md"
    assert kept_notes(file) == ""
    file.write_text("# Performance\n\n| a table |\n")
    assert kept_notes(file) == ""
    file.write_text(f"# Performance\n\n| a table |\n\n{NOTES}\n\n## Tried\n\nThis.\n")
    assert kept_notes(file) == f"{NOTES}\n\n## Tried\n\nThis.\n"


def test_the_shipped_page_has_notes() -> None:
    assert NOTES in Path("docs/performance.md").read_text()
