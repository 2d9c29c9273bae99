"""Broken YAML: what is reported about it, and that no secret is shown with it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.document import parse_document

_SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\n\tb: 2", "column 1: a tab indents the line; YAML takes only blanks: '→b: 2'"),
        ("x:\n  a: 1\n b: 2", "column 2: its indentation does not match that of the lines before: ' b: 2'"),
        ("x:\n  - a: 1\n y: 2", "column 2: its indentation does not match that of the lines before: ' y: 2'"),
        ("a: b: c", "column 5: a second ': ' in one value; put the value in quotes: 'a: b: c'"),
        ("a: - x", "column 4: a list begins in the line of its key; begin it in the next line: 'a: - x'"),
        ("a: {b: 1\nc: 2", "column 2: a '{' above is not closed, or a ',' is missing: 'c: 2'"),
        ('a: "x\n', "column 1: a quotation mark above is not closed"),
        ("a: @daily", "column 4: a value that begins with this character needs quotes: 'a: @daily'"),
        ('a: "x" y', "column 8: text after a value; put all of it in quotes: 'a: \"x\" y'"),
    ],
)
def test_the_mistake_in_words_with_its_line(text: str, problem: str) -> None:
    assert [found for _, found in parse_document(text).problems] == [f"is not YAML: {problem}"]


@given(
    st.sampled_from(["headers", "parameters", "basic_auth_users", "x-api-key", "Authorization", "key_file", "tls"]),
    st.sampled_from(["", "x: y", "\t", "'", "] ", "{"]),
    st.integers(0, 6),
    st.booleans(),
)
def test_no_secret_is_shown(key: str, damage: str, indent: int, inner: bool) -> None:
    secret = f"Bearer {_SECRET}" if key == "tls" else _SECRET
    blanks = " " * indent
    held = f"{blanks}  admin: {secret}: {damage}" if inner else ""
    texts = [
        f"a:\n  b: 1\n{blanks}{key}: {'' if inner else secret + ': ' + damage}\n{held}\n   c: d: e",
        f"{key}:\n{blanks}\tadmin: {secret}\n",
        f"{blanks}- {{{key}: {secret}, [\n",
        f"a: |\n  {secret}\n {secret}\nb: c: d",
    ]
    for text in texts:
        shown = " ".join(problem for _, problem in parse_document(text).problems)
        assert _SECRET not in shown
