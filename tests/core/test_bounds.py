"""docs/security.md has every bound, and each is used where it reports."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exporter.core import bounds
from exporter.core.bounds import BOUNDS, Bound, bounds_table

ROOT = Path(__file__).parents[2]
NAMES = [name for name, value in vars(bounds).items() if name.isupper() and isinstance(value, int)]


def test_the_table_is_made_from_the_code() -> None:
    # After a change of the bounds: replace the table in docs/security.md by what bounds_table() gives now.
    assert bounds_table() in (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def test_each_bound_is_named_once() -> None:
    assert len(NAMES) == len(BOUNDS)
    assert len({each.what for each in BOUNDS}) == len(BOUNDS)


@pytest.mark.parametrize("name", NAMES)
def test_each_bound_is_used(name: str) -> None:
    files = (path for path in (ROOT / "exporter").rglob("*.py") if path.name != "bounds.py")
    assert any(re.search(rf"\b{name}\b", path.read_text(encoding="utf-8")) for path in files)


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [(8 << 20, "bytes", "8 MiB"), (1 << 30, "bytes", "1 GiB"), (1500, "bytes", "1,500 bytes"), (64, "", "64")],
)
def test_values_are_shown_as_people_read_them(value: int, unit: str, shown: str) -> None:
    assert Bound(value, unit, "", "").shown == shown
