"""Every bound of docs/security.md's table is exceeded here, at its real value."""

from __future__ import annotations

import inspect

import pytest

from exporter.core import bounds
from tests.hostile.exceed import EACH

NAMES = sorted(name for name, value in vars(bounds).items() if name.isupper() and isinstance(value, int))


def test_no_bound_is_without_its_test() -> None:
    assert sorted(EACH) == NAMES
    assert len(NAMES) == len(bounds.BOUNDS)


@pytest.mark.parametrize("name", NAMES)
async def test_it_holds(name: str) -> None:
    held = EACH[name]()
    if inspect.isawaitable(held):
        await held
