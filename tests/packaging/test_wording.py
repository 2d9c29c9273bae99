"""The check of our wording: it passes, and finds each word where people read it and nowhere else."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Places = Callable[[str, str], list[str]]


@pytest.fixture(scope="module")
def places() -> Places:
    """The findings in the text of a file of this name."""
    spec = importlib.util.spec_from_file_location("check_wording", ROOT / "packaging" / "check_wording.py")
    assert spec is not None
    assert spec.loader is not None
    check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    listed = check.words()
    return lambda name, text: list(check.found(Path(name), text, listed))


def test_the_check_passes() -> None:
    done = subprocess.run([sys.executable, ROOT / "packaging" / "check_wording.py"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_spelling_is_right() -> None:
    codespell = Path(sys.executable).with_name("codespell")
    done = subprocess.run([codespell, "exporter", "docs", "examples", "README.md"], cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("# The door of the server is open\n", "door"),
        ('"""What the server says of itself."""\n', "says"),
        ('log = "no answer within 5 s"\n', "answer"),
        ('log = f"no {answer} was told"\n', "told"),
        ('"""One line.\n\nIs held against it.\n"""\n', "held against"),
    ],
)
def test_words_of_comments_docstrings_and_messages_are_found(places: Places, text: str, word: str) -> None:
    (place,) = places("exporter/x.py", text)
    assert f": {word!r}: write " in place


@pytest.mark.parametrize(
    "text",
    [
        "answer = told.door\n",  # names are code
        'key = "answer"\n',  # a single word is a key
        "# The key `answers` of the model\n",
        '# Triton\'s own words: "no answer"  wording: quoted\n',
        "# Its hour stands for the whole day\n",
    ],
)
def test_code_and_quotations_are_left_alone(places: Places, text: str) -> None:
    assert places("exporter/x.py", text) == []


def test_documents(places: Places) -> None:
    text = "It answers.\n\n```\necho answer\n```\n\nSee [it](answer.md), and `answer`.\n"
    assert places("docs/x.md", text) == ["docs/x.md:1: 'answers': write response, respond"]
