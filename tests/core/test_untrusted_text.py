"""Others' texts: nothing in them moves a cursor, hides a word, breaks a line or an encoding, or is long."""

from __future__ import annotations

import json
import time

import pytest

from exporter.core.bounds import NAME, NESTING, TEXT
from exporter.core.untrusted_text import clean_location, clean_name, clean_text, is_clean_name, load_json

HARMFUL = ["\x1b[2J", "\x9b31m", "\u202e", "\u2066", "\u200b", "\ufeff", "\u2028", "\x00", "\x7f", "\ud800", "\udfff"]


@pytest.mark.parametrize("harmful", HARMFUL, ids=ascii)
def test_harmful_characters_go(harmful: str) -> None:
    for cleaned in (clean_text(f"a{harmful}b"), clean_name(f"a{harmful}b")):
        assert cleaned.isprintable()
        cleaned.encode()
    assert not is_clean_name(f"a{harmful}b")


def test_a_text_is_one_line() -> None:
    assert clean_text("<html>\r\n  <body>\n\tno\v\f\x85such") == "<html> <body> no such"


@pytest.mark.parametrize("length", [TEXT, TEXT + 1, 4 * TEXT, 64 << 20])
def test_a_text_is_short_and_soon_made(length: int) -> None:
    text = "x" * length
    begin = time.process_time()
    cleaned = clean_text(text)
    assert time.process_time() - begin < 0.05
    assert len(cleaned) == TEXT
    assert cleaned.endswith("…") == (length > TEXT)


def test_blanks_that_hide_the_rest_are_reported_to_be_cut() -> None:
    assert clean_text("a" + " " * 10_000 + "b") == "a…"


def test_names() -> None:
    assert clean_name("x" * NAME) == "x" * NAME
    assert clean_name("x" * (8 << 20)) == "x" * (NAME - 1) + "…"
    assert [is_clean_name("x" * length) for length in (0, 1, NAME, NAME + 1)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (rb'{"a": "\ud83d\ude00"}', {"a": "\N{GRINNING FACE}"}),
        (rb'{"\ud800": ["x\udc00y"]}', {"?": ["x?y"]}),
        (rb'["\\ud800"]', [r"\ud800"]),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
    ],
)
def test_each_text_in_json_is_valid(body: bytes, value: object) -> None:
    loaded = load_json(body)
    assert loaded == value
    json.dumps(loaded, ensure_ascii=False).encode()


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_nesting_is_bounded(opening: str) -> None:
    closing = "]" if opening == "[" else "}"

    def nested(levels: int) -> bytes:
        return (opening * levels + "1" + closing * levels).encode()

    load_json(nested(NESTING))
    for levels in (NESTING + 2, 100_000):
        with pytest.raises(ValueError, match="nested more than 64 levels"):
            load_json(nested(levels))


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"\xff\xfe\x00", b"1" * 5000, b'["\xed\xa0\x80"]', "[1]".encode("utf-16")]
)
def test_what_is_no_json_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        load_json(body)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("https://sso.example/login?ticket=1#a", "https://sso.example/login"),
        ("/a#token", "/a"),
        ("/a", "/a"),
        ("x" * 400, "x" * 299 + "…"),
    ],
)
def test_where_a_redirect_leads_is_shown_without_its_ticket(given: str, shown: str) -> None:
    assert clean_location(given) == shown
