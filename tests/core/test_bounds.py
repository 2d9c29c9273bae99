"""docs/security.md has every bound."""

from __future__ import annotations

from pathlib import Path

from exporter.core.bounds import BOUNDS, bounds_table

PAGE = Path(__file__).parents[2] / "docs" / "security.md"


def test_the_page_has_the_table_of_bounds() -> None:
    # After a change of the bounds: replace the table below "Bounds" by what bounds_table() gives now.
    assert f"## Bounds\n\n{bounds_table()}\n" in PAGE.read_text(encoding="utf-8")
    assert len({each.what for each in BOUNDS}) == len(BOUNDS)
