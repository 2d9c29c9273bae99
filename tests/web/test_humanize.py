"""Figures as words."""

from __future__ import annotations

import pytest

from exporter.web import humanize as words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0.00 µs"),
        (0.00000123, "1.23 µs"),
        (0.00085, "850 µs"),
        (0.001, "1.00 ms"),
        (0.0123, "12.3 ms"),
        (0.456, "456 ms"),
        (1.0, "1.00 s"),
        (75.5, "75.5 s"),
    ],
)
def test_seconds(value: float | None, text: str) -> None:
    assert words.seconds(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.0, "0.00"), (4.567, "4.57"), (45.67, "45.7"), (12345.6, "12,346")])
def test_per_second(value: float, text: str) -> None:
    assert words.per_second(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0 %"),
        (0.00001, "< 0.01 %"),
        (0.0001, "0.01 %"),
        (0.025, "2.5 %"),
        (0.1, "10 %"),
        (1.0, "100 %"),
    ],
)
def test_ratio(value: float | None, text: str) -> None:
    assert words.ratio(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "never"), (0.4, "0 s"), (119.0, "119 s"), (120.0, "2 min"), (7200.0, "2 h"), (200_000.0, "2 d")],
)
def test_span(value: float | None, text: str) -> None:
    assert words.span(value) == text


@pytest.mark.parametrize(
    ("due", "text"),
    [(None, "not planned"), (0.0, "not planned"), (1040.0, "in 40 s"), (1000.5, "now"), (900.0, "now")],
)
def test_until(due: float | None, text: str) -> None:
    assert words.until(due, 1000.0) == text
