"""One tensor in a JSON file: `[…]`, `{"content": […], "shape": […]}`, `{"b64": "…"}` or `{"content": {"b64": "…"}}`.

Pure; knows no model.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from exporter.payload.values import Elements, Numbers, shown

_KEYS = ("content", "shape", "b64")
_MAX_DIMENSION = 2**31


class JsonObject(dict[str, Any]):
    """A JSON object that knows of a key that it was given twice: one of both values would be lost without a word."""

    __slots__ = ("twice",)

    def __init__(self) -> None:
        super().__init__()
        self.twice: str | None = None

    def __setitem__(self, key: str, value: Any) -> None:
        # The parser sets an object twice, before and after its end.
        if key in self and not (isinstance(value, JsonObject) and self[key] is value):
            self.twice = key
        super().__setitem__(key, value)

    def key_problem(self, known: Sequence[str] = ()) -> str:
        """What is wrong with its keys: one is there twice, or is none of those known, if these are given."""
        if self.twice is not None:
            return f"key {shown(self.twice)} is there twice"
        for key in self if known else ():
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
                hint = f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(map(repr, known))}"
                return f"unknown key {shown(key)}; {hint}"
        return ""


@dataclass(frozen=True, slots=True, eq=False)
class RawTensor:
    """A tensor as the file gives it: its elements, flat and row-major, or its bytes."""

    elements: Elements | None
    data: bytes | None = None
    shape: tuple[int, ...] | None = None


def read_tensor(value: Any) -> RawTensor:
    """The tensor. Raises ValueError with what is wrong."""
    if isinstance(value, Numbers | list):
        return RawTensor(_flat(value))
    if not isinstance(value, JsonObject):
        raise ValueError(f"expected an array, or an object with 'content' or 'b64', found {shown(value)}")
    _check_keys(value, _KEYS)
    shape = _shape(value["shape"]) if "shape" in value else None
    content = value.get("content")
    if "b64" in value:
        if "content" in value:
            raise ValueError("expected 'content' or 'b64', found both")
        return RawTensor(None, _bytes(value["b64"]), shape)
    if isinstance(content, JsonObject):
        _check_keys(content, ("b64",))
        if "b64" not in content:
            raise ValueError("content: expected an array, or an object with 'b64'")
        return RawTensor(None, _bytes(content["b64"]), shape)
    if "content" not in value:
        raise ValueError("expected 'content' or 'b64', found neither")
    if not isinstance(content, Numbers | list):
        raise ValueError(f"content: expected an array, found {shown(content)}")
    return RawTensor(_flat(content), shape=shape)


def _check_keys(value: JsonObject, known: Sequence[str]) -> None:
    if problem := value.key_problem(known):
        raise ValueError(problem)


def _flat(elements: Elements) -> Elements:
    for index, element in enumerate(() if isinstance(elements, Numbers) else elements):
        if isinstance(element, Numbers | list):
            text = "the values are one flat array, row after row, with 'shape' beside 'content'"
            raise ValueError(f"element {index}: found an array: {text}")
    return elements


def _bytes(value: Any) -> bytes:
    """What was base64 is bytes by now."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise ValueError(f"b64: expected text, found {shown(value)}")
    raise ValueError(f"b64: is not base64: {shown(value)}")


def _shape(value: Any) -> tuple[int, ...]:
    if isinstance(value, list) and not value:
        return ()
    if not isinstance(value, Numbers) or value.array.dtype.kind not in "iu":
        raise ValueError(f"shape: expected an array of integers, found {shown(value)}")
    shape = tuple(value.array.tolist())
    if min(shape) < 0 or max(shape) >= _MAX_DIMENSION:
        raise ValueError(f"shape: expected dimensions from 0 to {_MAX_DIMENSION - 1}, found {list(shape)}")
    return shape
