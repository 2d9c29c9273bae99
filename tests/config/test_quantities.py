"""Durations, sizes and ratios."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.quantities import (
    Quantity,
    duration,
    format_duration,
    format_ratio,
    format_size,
    parse_duration,
    parse_ratio,
    parse_size,
    size,
)
from exporter.config.text import as_number
from exporter.core.units import NS

BARE: list[object] = [5, 5.0, 0, True, None, "", "5", " ", [], {}]


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("0s", 0),
        ("20us", 20_000),
        ("500ms", NS // 2),
        ("1.5s", 1_500_000_000),
        ("5s", 5 * NS),
        ("2m", 120 * NS),
        ("1h30m", 5400 * NS),
        ("1h0m5s", 3605 * NS),
        ("90d", 90 * 86_400 * NS),
    ],
)
def test_durations(text: str, expected_ns: int) -> None:
    assert parse_duration(text) == expected_ns


@pytest.mark.parametrize(
    "text", [*BARE, "5 s", "s", "5sec", "30m1h", "5s5s", "-5s", "٥s", "1e3s", ".5s", "5.s", "5s\n"]
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@given(st.integers(0, 10**15))
def test_durations_survive_being_written(duration_us: int) -> None:
    assert parse_duration(format_duration(duration_us * 1000)) == duration_us * 1000


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [(0, "0s"), (NS, "1s"), (90 * NS, "1m30s"), (1_500_000_000, "1s500ms"), (86_400 * NS, "1d"), (999, "0s")],
)
def test_durations_as_text(duration_ns: int, text: str) -> None:
    assert format_duration(duration_ns) == text


@pytest.mark.parametrize(
    ("text", "expected_bytes"),
    [
        ("512B", 512),
        ("1kB", 1000),
        ("10MiB", 10 * 2**20),
        ("1GB", 10**9),
        ("1.5GiB", 3 * 2**29),
        ("2 TiB", 2**41),
    ],
)
def test_sizes(text: str, expected_bytes: int) -> None:
    assert parse_size(text) == expected_bytes


@pytest.mark.parametrize("text", [*BARE, "10M", "10mib", "MiB", "-1B", "1GiB\n"])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


@given(st.integers(0, 2**60))
def test_sizes_survive_being_written(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == size_bytes


@pytest.mark.parametrize(
    ("given_ratio", "expected"), [("10%", 0.1), ("0.5 %", 0.005), ("100%", 1.0), (0.1, 0.1), (0, 0.0), (1, 1.0)]
)
def test_ratios(given_ratio: object, expected: float) -> None:
    assert parse_ratio(given_ratio) == expected


@pytest.mark.parametrize("given_ratio", [10, 1.01, "0.1", "ten", "-1%", True, None, [], "10%\n"])
def test_what_is_no_ratio(given_ratio: object) -> None:
    with pytest.raises(ValueError, match="ratio"):
        parse_ratio(given_ratio)


@given(st.integers(0, 1000))
def test_ratios_survive_being_written(permille: int) -> None:
    assert parse_ratio(format_ratio(permille / 1000)) == permille / 1000


def test_bounds_are_reported_in_units() -> None:
    bounded = duration("1s", "1h")
    assert [bounded.validate("1s"), bounded.validate("1h")] == [NS, 3600 * NS]
    with pytest.raises(ValueError, match=r"^must be from 1s to 1h$"):
        bounded.validate("999ms")


@given(
    st.one_of(st.integers(0, 10**9), st.floats(0, 10**6, allow_nan=False).map(lambda value: round(value, 3))),
    st.sampled_from([("0s", "1h"), ("100ms", "1h"), ("1d", "36500d"), ("1s", "10m"), ("1us", "60s")]),
)
def test_what_is_suggested_for_a_bare_number_is_allowed(number: float, bounds: tuple[str, str]) -> None:
    quantity = duration(*bounds)
    with pytest.raises(ValueError, match="a duration needs a unit") as caught:
        quantity.validate(number)
    suggested = re.search("write '(.*)'", str(caught.value))
    units = ("d", "h", "m", "s", "ms", "us")
    if suggested:
        assert quantity.low <= quantity.validate(suggested[1]) <= quantity.high
        assert suggested[1].rstrip("dhmsu") == as_number(number)
    else:
        for unit in units:
            with pytest.raises(ValueError, match="must be"):
                quantity.validate(f"{as_number(number)}{unit}")


@pytest.mark.parametrize(
    ("quantity", "number", "text"),
    [
        (duration("100ms", "1h"), 5, "write '5s'"),
        (duration("100ms", "1h"), 5000, "write '5000ms'"),
        (duration("1d", "36500d"), 90, "write '90d'"),
        (duration("0s", "60s"), 10**9, "must be from 0s to 1m"),
        (size("1MiB", "1024TiB"), 5, "write '5MiB'"),
        (size("1KiB", "2GiB"), 4096, "write '4096B'"),
    ],
)
def test_the_suggestion_for_a_bare_number(quantity: Quantity, number: int, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        quantity.validate(number)
