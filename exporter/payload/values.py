"""Elements as a JSON file gave them, and their conversion to a tensor's datatype. Pure.

Nothing is rounded or cut off silently: an integer out of range, a fraction for an integer, a text for a number are
errors, reported with the element's index. (A number for a floating datatype is rounded to it, as always with those.)
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from tritonclient.utils import triton_to_np_dtype

Tensor = npt.NDArray[np.generic]

_LENGTH = struct.Struct("<I")
_SHOWN_LENGTH = 40
_SHOWN_ELEMENTS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """A JSON array of numbers, or of true and false, in 8 bytes an element and not in Python's 32. `first_fraction` is
    the index of the first one written with a point or an exponent, -1 if there is none."""

    array: npt.NDArray[Any]
    first_fraction: int = -1

    def __len__(self) -> int:
        return len(self.array)


Elements = Numbers | Sequence[Any]
"""A whole JSON array: packed, or as it is (texts, an empty one, and everything that will be an error)."""


def pack(values: list[Any]) -> Elements:
    """The array packed, if it is of numbers alone, or of true and false alone, and they fit."""
    types = set(map(type, values))
    if types == {float}:
        return Numbers(np.array(values, np.float64), 0)
    if types == {bool}:
        return Numbers(np.array(values, np.bool_))
    try:
        if types == {int}:
            return Numbers(_integers(values))
        if types == {int, float}:
            first = next(index for index, value in enumerate(values) if type(value) is float)
            return Numbers(np.array(values, np.float64), first)
    except OverflowError:
        pass
    return values


def _integers(values: list[int]) -> npt.NDArray[Any]:
    try:
        return np.array(values, np.int64)
    except OverflowError:
        return np.array(values, np.uint64)


def dtype_of(datatype: str) -> np.dtype[Any]:
    """The numpy type of a datatype, as Triton's client has it. Raises ValueError if there is none."""
    dtype = triton_to_np_dtype(datatype)
    if dtype is None:
        raise ValueError(f"datatype {datatype!r} is none that can be given in a file")
    return cast(np.dtype[Any], np.dtype(dtype))


def convert(elements: Elements, datatype: str) -> Tensor:
    """The elements as a flat tensor. Raises ValueError with the first one that does not fit."""
    dtype = dtype_of(datatype)
    if datatype == "BYTES":
        return _strings(elements)
    if len(elements) == 0:
        return np.empty(0, dtype)
    if isinstance(elements, Numbers):
        return _numbers(elements, datatype, dtype)
    return _numbers_one_by_one(elements, datatype, dtype)


def _strings(elements: Elements) -> Tensor:
    if isinstance(elements, Numbers):
        raise ValueError(_unfit(0, "text", elements.array[0].item()))
    tensor = np.empty(len(elements), np.object_)
    for index, element in enumerate(elements):
        if not isinstance(element, str):
            raise ValueError(_unfit(index, "text", element))
        try:
            tensor[index] = element.encode()
        except UnicodeEncodeError:
            raise ValueError(_unfit(index, "text in Unicode", element)) from None
    return tensor


def _numbers(numbers: Numbers, datatype: str, dtype: np.dtype[Any]) -> Tensor:
    array = numbers.array
    if (dtype.kind == "b") != (array.dtype.kind == "b"):
        raise ValueError(_unfit(0, _wanted(datatype, dtype), array[0].item()))
    if dtype.kind == "b":
        return array
    if dtype.kind in "iu":
        if numbers.first_fraction >= 0:
            index = numbers.first_fraction
            raise ValueError(_unfit(index, _wanted(datatype, dtype), array[index].item()))
        limits = np.iinfo(dtype)
        outside = np.flatnonzero((array < limits.min) | (array > limits.max))
        converted = array.astype(dtype, copy=False)
    else:
        with np.errstate(over="ignore"):
            converted = array.astype(dtype, copy=False)
        outside = np.flatnonzero(np.isinf(converted) & np.isfinite(array))
    if len(outside):
        index = int(outside[0])
        raise ValueError(_unfit(index, _wanted(datatype, dtype), array[index].item()))
    return converted


def _numbers_one_by_one(elements: Sequence[Any], datatype: str, dtype: np.dtype[Any]) -> Tensor:
    """An array that could not be packed: something in it is wrong, or some of its integers are very large."""
    wanted = _wanted(datatype, dtype)
    parts = []
    for index, element in enumerate(elements):
        packed = pack([element])
        if isinstance(packed, Numbers):
            try:
                parts.append(_numbers(packed, datatype, dtype))
            except ValueError:
                raise ValueError(_unfit(index, wanted, element)) from None
        elif type(element) is int and dtype.kind not in "iub":
            parts.append(_large(index, element, wanted, dtype))
        else:
            raise ValueError(_unfit(index, wanted, element))
    return np.concatenate(parts)


def _large(index: int, element: int, wanted: str, dtype: np.dtype[Any]) -> Tensor:
    """An integer beyond 64 bits as a floating number."""
    try:
        with np.errstate(over="ignore"):
            number = np.array([float(element)]).astype(dtype)
    except OverflowError:
        number = np.array([np.inf])
    if np.isinf(number[0]):
        raise ValueError(_unfit(index, wanted, element))
    return number


def _wanted(datatype: str, dtype: np.dtype[Any]) -> str:
    if dtype.kind == "b":
        return "true or false (BOOL)"
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return f"an integer from {limits.min} to {limits.max} ({datatype})"
    return f"a number that fits into {datatype}"


def _unfit(index: int, wanted: str, found: object) -> str:
    return f"element {index}: expected {wanted}, found {shown(found)}"


def shown(value: object) -> str:
    """A value of a JSON file for a message, cut to a bearable length."""
    if isinstance(value, Numbers) and len(value) <= _SHOWN_ELEMENTS:
        return json.dumps(value.array.tolist())
    if isinstance(value, Numbers | list):
        return f"an array of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, int) and value.bit_length() > 128:
        return "an integer of more than 128 bits"  # Python refuses to write those of thousands of digits
    text = _JSON_WORDS.get(repr(value)) or repr(value)
    return text if len(text) <= _SHOWN_LENGTH else f"{text[: _SHOWN_LENGTH - 2]}…{text[-1]}"


_JSON_WORDS = {
    "None": "null",
    "True": "true",
    "False": "false",
    "nan": "NaN",
    "inf": "Infinity",
    "-inf": "-Infinity",
}


def from_bytes(data: bytes, datatype: str) -> Tensor:
    """A flat tensor from its raw form: little-endian; strings with their length before them. Raises ValueError."""
    dtype = dtype_of(datatype)
    if datatype == "BYTES":
        return _strings_from_bytes(data)
    if len(data) % dtype.itemsize:
        raise ValueError(f"expected a multiple of {dtype.itemsize} bytes ({datatype}), found {len(data)}")
    if dtype.kind == "b":
        flags = np.frombuffer(data, np.uint8)
        wrong = np.flatnonzero(flags > 1)
        if len(wrong):
            raise ValueError(f"byte {wrong[0]}: expected 0 or 1 (BOOL), found {flags[wrong[0]]}")
    return np.frombuffer(data, dtype)


def strings_to_bytes(strings: Sequence[bytes]) -> bytes:
    """Strings in their raw form."""
    return b"".join(_LENGTH.pack(len(string)) + string for string in strings)


def _strings_from_bytes(data: bytes) -> Tensor:
    strings: list[bytes] = []
    position = 0
    while position < len(data):
        if position + _LENGTH.size > len(data):
            raise ValueError(f"element {len(strings)}: expected a length in 4 bytes, found the end of the data")
        (length,) = _LENGTH.unpack_from(data, position)
        position += _LENGTH.size
        if position + length > len(data):
            found = f"found {len(data) - position}"
            raise ValueError(f"element {len(strings)}: expected {length} bytes, as its length field has, {found}")
        strings.append(data[position : position + length])
        position += length
    tensor = np.empty(len(strings), np.object_)
    tensor[:] = strings
    return tensor
