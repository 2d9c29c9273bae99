"""Secrets that were read are found in any text, whole or cut off."""

from __future__ import annotations

import pytest

from exporter.core import redaction
from exporter.core.redaction import redacted, remember_secret

TOKEN = "tok-0123456789abcdef"


@pytest.fixture(autouse=True)
def _nothing_read_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_words", {})
    monkeypatch.setattr(redaction, "_pattern", None)


@pytest.mark.parametrize(
    ("value", "text", "shown"),
    [
        (TOKEN, f"HTTP 401: bad token {TOKEN}", "HTTP 401: bad token <secret>"),
        (TOKEN, f'{{"error": "{TOKEN}"}}', '{"error": "<secret>"}'),
        (TOKEN, f"{TOKEN},{TOKEN}", "<secret>,<secret>"),
        (TOKEN, "the text is cut at tok-01234", "the text is cut at <secret>"),
        (TOKEN, "tok-012 is too little of it", "tok-012 is too little of it"),
        (f"Bearer {TOKEN}", f"got Bearer {TOKEN}; Bearer is wanted", "got <secret>; Bearer is wanted"),
        (f"Bearer {TOKEN}", f"bearer {TOKEN} is unknown", "bearer <secret> is unknown"),
        ("a+b(c)*$", "found a+b(c)*$ and a+b(c)", "found <secret> and a+b(c)"),
        ("short", "in short: shorter", "in <secret>: <secret>er"),
        ("abc", "abc is no secret", "abc is no secret"),
    ],
)
def test_what_is_shown(value: str, text: str, shown: str) -> None:
    remember_secret(value)
    assert redacted(text) == shown


def test_a_rotated_secret_and_the_one_before_it() -> None:
    assert redacted("first-secret") == "first-secret"
    remember_secret("first-secret")
    assert redacted("first-secret second-secret") == "<secret> second-secret"
    remember_secret("second-secret")
    assert redacted("first-secret second-secret") == "<secret> <secret>"


def test_of_very_many_the_oldest_are_forgotten() -> None:
    for number in range(1001):
        remember_secret(f"{number:04d}-secret")
    assert redacted("0000-secret 0001-secret 1000-secret") == "0000-secret <secret> <secret>"
