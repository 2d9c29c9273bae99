"""Models as users and configurations name them."""

from __future__ import annotations

import pytest

from exporter.core.facts import ModelKey


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("a", ModelKey("a")),
        ("a:2", ModelKey("a", "2")),
        ("a:b:10", ModelKey("a:b", "10")),
        ("a:b", ModelKey("a:b")),
        ("a:", ModelKey("a:")),
        (":2", ModelKey(":2")),
    ],
)
def test_a_model_with_its_version(text: str, key: ModelKey) -> None:
    assert ModelKey.parse(text) == key
