"""Load levels as a user writes them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.levels import MAX_LEVELS, Levels, Span, matrix, parse_concurrency, parse_request_rate
from exporter.config.text import as_number
from exporter.core.probe import InputOptions, LoadLevel, Mode, at_level
from tests.builders import make_probe


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (4, (4,)),
        (4.0, (4,)),
        ([1, 2, 4], (1, 2, 4)),
        ([4, 1], (4, 1)),
        ("1:4", (1, 2, 3, 4)),
        ("1:8:3", (1, 4, 7)),
        ("2:8:2", (2, 4, 6, 8)),
        ("5:5:1", (5,)),
        ("1:32", tuple(range(1, 33))),
    ],
)
def test_concurrency(written: object, expected: tuple[int, ...]) -> None:
    assert parse_concurrency(written).values == expected


@pytest.mark.parametrize(
    ("written", "labels"),
    [
        (100, ["100"]),
        (100.0, ["100"]),
        ([0.5, 1e6], ["0.5", "1000000"]),
        ("100:500:200", ["100", "300", "500"]),
        ("0.1:0.5:0.1", ["0.1", "0.2", "0.3", "0.4", "0.5"]),
    ],
)
def test_request_rates_and_their_labels(written: object, labels: list[str]) -> None:
    assert [as_number(rate) for rate in parse_request_rate(written).values] == labels


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (0, "from 1 to"),
        (65_537, "from 1 to"),
        (1.5, "whole number"),
        ("1:2:0.5", "whole number"),
        ("1:1025", "gives 1025 levels"),
        ("1:999999999", "gives 999999999 levels"),
        ("0:1e99", "must be a number"),
        ([], "gives 0 levels"),
        (list(range(1, 1026)), "gives 1025 levels"),
        ([2, 2], "level 2 is there twice"),
        ("4:1", "goes up"),
        ("1:4:0", "goes up"),
        ("1:4:-1", "must be a number"),
        ("٣:٤", "must be a number"),
        ("1:4:1:1", "must be a number"),
        ("4", "must be a number"),
        ("a:b", "must be a number"),
        ("nan:inf", "must be a number"),
        ("1:", "must be a number"),
        (True, "must be a number"),
        (None, "must be a number"),
        (["1"], "must be a number"),
        ({}, "must be a number"),
    ],
)
def test_what_is_no_concurrency(written: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_concurrency(written)


@pytest.mark.parametrize("written", [0, -1, 0.0001, 1_000_001, "0:5"])
def test_what_is_no_request_rate(written: object) -> None:
    with pytest.raises(ValueError, match=r"from 0\.001 to 1000000 a second"):
        parse_request_rate(written)


@given(st.integers(1, 1000), st.integers(1, 100), st.integers(0, MAX_LEVELS - 1), st.sampled_from([1, 10, 1000]))
def test_ranges_are_exact(start: int, step: int, steps: int, scale: int) -> None:
    numbers = [Decimal(start + step * index) / scale for index in range(steps + 1)]
    text = f"{numbers[0]}:{numbers[-1]}:{Decimal(step) / scale}"
    assert parse_request_rate(text).values == tuple(map(float, numbers))


@pytest.mark.parametrize(
    ("written", "kind", "expected"),
    [
        ("1:8", "linear", Levels((1, 8), Span(1, 8, 1))),
        ("1:5000:100", "binary", Levels((1, 5000), Span(1, 5000, 100))),  # not all of them are run
        ("2:0:4", "linear", Levels((2,), Span(2, 0, 4))),
        ("4:4", "binary", Levels((4,), Span(4, 4, 1))),
    ],
)
def test_a_search_declares_its_start_and_end(written: str, kind: str, expected: Levels) -> None:
    assert parse_concurrency(written, kind) == expected
    assert parse_request_rate(written, kind) == expected


@pytest.mark.parametrize(
    ("written", "kind", "message"),
    [
        (4, "linear", "needs a range"),
        ([1, 2], "binary", "needs a range"),
        ("1:0", "binary", "needs an end"),
        ("8:1", "linear", "goes up"),
        ("1:8:0", "linear", "goes up"),
        ("0:8", "linear", "whole number from 1"),
        ("1:8:1.5", "linear", "step between concurrencies"),
        ("1:0", "every", "needs search: linear"),
    ],
)
def test_what_cannot_be_searched(written: object, kind: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_concurrency(written, kind)


def test_a_matrix() -> None:
    """Each level with each of the others; what a level differs by is in its label, and its number stays its value."""
    levels = [LoadLevel(Mode.CONCURRENCY, value, f"{value:g}") for value in (1.0, 8.0)]
    assert matrix(levels, (), ()) == tuple(levels)
    found = matrix(levels, (1, 4), [{"b": [3], "a": [1, 320]}, {"a": [2]}])
    assert [level.label for level in found] == [
        *("1@b1@1x320+3", "8@b1@1x320+3", "1@b4@1x320+3", "8@b4@1x320+3"),
        *("1@b1@2", "8@b1@2", "1@b4@2", "8@b4@2"),
    ]
    assert {(level.value, level.batch_size) for level in found} == {(1.0, 1), (8.0, 1), (1.0, 4), (8.0, 4)}
    assert found[0].shapes == (("a", (1, 320)), ("b", (3,)))


def test_the_input_of_a_level_of_a_matrix() -> None:
    probe = make_probe(input=InputOptions(batch_size=2, shapes=(("a", (5,)), ("b", (6,)))))
    (level,) = matrix([LoadLevel(Mode.CONCURRENCY, 1.0, "1")], (4,), [{"a": [7]}])
    assert at_level(probe, level).input == InputOptions(batch_size=4, shapes=(("a", (7,)), ("b", (6,))))
    assert at_level(probe, probe.levels[0]) is probe
