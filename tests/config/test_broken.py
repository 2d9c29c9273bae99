"""The zoo: one file an error, named by it, with the exact message beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.config import load
from exporter.core.errors import ConfigError

BROKEN = Path(__file__).parent / "broken"
FILES = sorted(BROKEN.glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_error_is_reported_in_full(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    found = [problem.replace(str(path), path.name) for problem in caught.value.problems]
    assert found == path.with_suffix(".txt").read_text().splitlines()
    assert not any(secret in str(caught.value) for secret in ("hunter", "er2", "12345"))


def test_each_file_has_its_message_and_each_message_its_file() -> None:
    assert {path.stem for path in FILES} == {path.stem for path in BROKEN.glob("*.txt")}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.yaml", "cannot be read: No such file or directory"),
        (".", "cannot be read: Is a directory"),
        ("a\0b", "cannot be read: not a file's name"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, message: str) -> None:
    path = tmp_path / name
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert caught.value.problems == [f"{path}: {message}"]
