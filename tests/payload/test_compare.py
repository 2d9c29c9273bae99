"""Are responses as expected: tables of tensors, and numpy's own idea of closeness as the oracle."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from exporter.core.probe import Validation
from exporter.core.window import Checked, OutputError, sum_checked
from exporter.payload import compare

EXACT = Validation()
REFERENCE = Validation(reference_model="m")
NAN, INF = math.nan, math.inf


def f32(*values: float) -> Any:
    return np.array(values, np.float32)


CASES: list[tuple[Any, Any, Validation, str]] = [
    (f32(1, 2), f32(1, 2), EXACT, ""),
    (f32(1, 2), f32(1, 2.5), EXACT, "index [1]: expected 2.0, got 2.5"),
    (f32(0.0), f32(-0.0), EXACT, ""),
    (f32(NAN, INF), f32(NAN, INF), EXACT, ""),
    (f32(NAN), f32(1), Validation(absolute=9), "index [0]: expected NaN, got 1.0"),
    (f32(INF), f32(-INF), Validation(relative=1), "index [0]: expected Infinity, got -Infinity"),
    (f32(1), f32(INF), Validation(absolute=9), "index [0]: expected 1.0, got Infinity"),
    (f32(1, 2), f32(1.5, 2.5), Validation(absolute=0.5), ""),
    (f32(1, 2), f32(1.5, 2.75), Validation(absolute=0.5), "index [1]: expected 2.0, got 2.75"),
    (f32(100, -100), f32(101, -101), Validation(relative=0.01), ""),
    (f32(100), f32(102), Validation(absolute=1, relative=0.01), ""),
    (f32(100), f32(1), REFERENCE, ""),
    (f32(100), f32(NAN), REFERENCE, "index [0]: expected 100.0, got NaN"),
    (f32(100), f32(1), Validation(reference_model="m", absolute=1), "index [0]: expected 100.0, got 1.0"),
    (np.array([[1, 2], [3, 4]]), np.array([[1, 2], [3, 5]]), EXACT, "index [1,1]: expected 4, got 5"),
    (np.array([3], np.uint8), np.array([250], np.uint8), Validation(absolute=246), "index [0]: expected 3, got 250"),
    (np.array([2**63 - 1]), np.array([2**63 - 2]), EXACT, f"index [0]: expected {2**63 - 1}, got {2**63 - 2}"),
    (np.array([2**64 - 1], np.uint64), np.array([2**64 - 1], np.uint64), EXACT, ""),
    (np.array([True]), np.array([False]), Validation(absolute=1), "index [0]: expected true, got false"),
    (np.array([b"a", b"b"], object), np.array([b"a", b"c"], object), EXACT, "index [1]: expected b'b', got b'c'"),
    (np.array([1, 2], ml_dtypes.bfloat16), np.array([1, 2.5], ml_dtypes.bfloat16), Validation(absolute=0.5), ""),
    (np.array([1.5], ml_dtypes.bfloat16), np.array([1], ml_dtypes.bfloat16), EXACT, "index [0]: expected 1.5, got 1.0"),
    (f32(1.5), np.array([1.5], np.float16), REFERENCE, ""),
    (np.array(1.0), np.array(2.0), EXACT, "index []: expected 1.0, got 2.0"),
    (np.empty((0, 2)), np.empty((0, 2)), EXACT, ""),
]


@pytest.mark.parametrize(("wanted", "got", "rules", "problem"), CASES)
def test_differences(wanted: Any, got: Any, rules: Validation, problem: str) -> None:
    assert compare({"Y": wanted}, {"Y": got}, rules).difference == (f"tensor 'Y', {problem}" if problem else "")


def test_what_is_missing_or_of_another_shape_and_the_first_of_several() -> None:
    wanted = {"A": f32(1), "B": f32(1, 2), "C": f32(1)}
    assert compare(wanted, {"B": f32(1), "C": f32(2)}, EXACT).difference == (
        "tensor 'A': expected, and not in the response"
    )
    assert compare(wanted, {"A": f32(1), "B": f32(1), "C": f32(2)}, REFERENCE).difference == (
        "tensor 'B': expected shape [2], got [1]"
    )
    assert compare({"A": f32(1)}, {"A": f32(1), "OTHER": f32(5)}, EXACT).difference == ""


def test_errors() -> None:
    found = compare({"A": f32(1, -2, 0, NAN), "B": f32(10)}, {"A": f32(1.5, -2, 2, NAN), "B": f32(10.5)}, REFERENCE)
    assert found.error == OutputError(absolute=2.0, relative=0.5, signal=105.0, noise=4.5)
    assert found.error.signal_to_noise_db == pytest.approx(10 * math.log10(105 / 4.5))
    assert compare({"A": f32(1)}, {"A": f32(1)}, EXACT).error == OutputError(signal=1.0)
    assert OutputError(signal=1.0).signal_to_noise_db is None
    assert compare({"A": np.array([b"x"], object)}, {"A": np.array([b"y"], object)}, EXACT).error is None


def test_checks_add_up() -> None:
    parts = [Checked(2, 1, OutputError(1, 2, 3, 4), "one"), None, Checked(3, 0, OutputError(5, 1, 1, 1)), Checked(1)]
    assert sum_checked(parts) == Checked(6, 1, OutputError(5, 2, 4, 5), "one")
    assert sum_checked([None]) is None


@given(
    arrays.arrays(np.float32, 4, elements=st.floats(width=32)),
    arrays.arrays(np.float32, 4, elements=st.floats(width=32)),
    st.floats(0, 1e6),
    st.floats(0, 10),
)
def test_closeness_is_numpys(wanted: Any, got: Any, absolute: float, relative: float) -> None:
    with np.errstate(all="ignore"):
        close = np.isclose(got.astype(np.float64), wanted.astype(np.float64), relative, absolute, equal_nan=True).all()
    found = compare({"Y": wanted}, {"Y": got}, Validation(absolute=absolute, relative=relative))
    assert (found.difference == "") == close
