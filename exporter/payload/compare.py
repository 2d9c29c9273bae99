"""Is a response as expected, and how far is it from that? Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exporter.core.probe import Validation
from exporter.core.window import OutputError
from exporter.payload.dataset import Tensor, Tensors
from exporter.payload.shapes import shape_text
from exporter.payload.values import shown


@dataclass(frozen=True, slots=True)
class OutputComparison:
    """The first `difference` in words, "" if there is none, and how large the differences of numbers are at most."""

    difference: str
    error: OutputError | None

    def __add__(self, other: OutputComparison) -> OutputComparison:
        error = other.error if self.error is None else self.error
        if self.error is not None and other.error is not None:
            error = self.error + other.error
        return OutputComparison(self.difference or other.difference, error)


def compare(expected: Tensors, found: Tensors, rules: Validation) -> OutputComparison:
    """Compares the outputs in `expected`, in their order, with those of a response; others are not looked at.

    Numbers may differ by `absolute` + `relative` x the expected number, as in numpy's `isclose`; NaN is as expected
    where NaN is expected. With a reference model and neither, only shapes and what is no number must agree.
    """
    whole = OutputComparison("", None)
    for name, wanted in expected.items():
        got = found.get(name)
        if got is None:
            part = OutputComparison(f"tensor {name!r}: expected, and not in the response", None)
        elif got.shape != wanted.shape:
            shapes = f"expected shape {shape_text(wanted.shape)}, got {shape_text(got.shape)}"
            part = OutputComparison(f"tensor {name!r}: {shapes}", None)
        else:
            problem, error = _compare_tensor(wanted, got, rules)
            part = OutputComparison(f"tensor {name!r}, {problem}" if problem else "", error)
        whole += part
    return whole


def _compare_tensor(wanted: Tensor, got: Tensor, rules: Validation) -> tuple[str, OutputError | None]:
    """Where both are of numbers their differences count; else they are the same or not."""
    if not (_is_numeric(wanted) and _is_numeric(got)):
        return _first(wanted, got, np.asarray(wanted != got)), None
    if _loses_digits(wanted, got):
        return _first(wanted, got, np.asarray(wanted != got)), None
    exact, other = wanted.astype(np.float64), got.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.abs(other - exact)
    both_finite = np.isfinite(exact) & np.isfinite(other)
    same = (exact == other) | (np.isnan(exact) & np.isnan(other))
    error = _error(exact, distance, both_finite)
    if rules.absolute is None and rules.relative is None and rules.reference_model:
        return _first(wanted, got, ~(same | both_finite)), error
    # An infinite number allows no difference at all, and 0 times infinity is none to be had.
    allowed = (rules.absolute or 0.0) + (rules.relative or 0.0) * np.where(both_finite, np.abs(exact), 0.0)
    return _first(wanted, got, ~(same | (both_finite & (distance <= allowed)))), error


def _is_numeric(tensor: Tensor) -> bool:
    """Kind V is bfloat16, which is not numpy's own."""
    return tensor.dtype.kind in "iufV"


def _loses_digits(wanted: Tensor, got: Tensor) -> bool:
    """64-bit integers beyond 2**53: as floating numbers different ones would look the same."""
    limit = 2**53
    return any(
        tensor.dtype.kind in "iu"
        and tensor.dtype.itemsize == 8
        and tensor.size > 0
        and (int(tensor.max()) > limit or int(tensor.min()) < -limit)
        for tensor in (wanted, got)
    )


def _error(
    exact: npt.NDArray[np.float64], distance: npt.NDArray[np.float64], finite: npt.NDArray[np.bool_]
) -> OutputError:
    distances, sizes = distance[finite], np.abs(exact[finite])
    if not distances.size:
        return OutputError()
    nonzero = sizes > 0
    return OutputError(
        absolute=float(distances.max()),
        relative=float((distances[nonzero] / sizes[nonzero]).max(initial=0.0)),
        signal=float(np.square(sizes).sum()),
        noise=float(np.square(distances).sum()),
    )


def _first(wanted: Tensor, got: Tensor, wrong: npt.NDArray[np.bool_]) -> str:
    """The first element that is marked as wrong, in words; "" if none is."""
    if not wrong.any():
        return ""
    place = np.unravel_index(int(np.argmax(wrong)), wrong.shape) if wrong.shape else ()
    index = shape_text([int(axis) for axis in place])
    return f"index {index}: expected {_value(wanted[place])}, got {_value(got[place])}"


def _value(element: np.generic | bytes) -> str:
    return shown(element if isinstance(element, bytes) else np.asarray(element).astype(object).item())
