"""JSON files of input data, in perf_analyzer's form, read without knowing the model.

The parser (RapidJSON, which Triton's own client brings along) reads the file piece by piece, and each array of numbers
is packed as soon as it ends: never is there more of it as Python objects than the array that is being read.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import rapidjson

from exporter.payload.input_errors import InputErrors
from exporter.payload.json_tensor import JsonObject, RawTensor, read_tensor
from exporter.payload.timing_files import TIMESTAMP
from exporter.payload.values import Elements, pack, shown

Progress = Callable[[Path, int, int], None]
"""Logged now and then: the file, how many of its bytes were read, and how many it has."""

RESPONSES = "responses"
"""The key under which a step of `validation_data` lists several responses, as decoupled models give."""

_CHUNK_BYTES = 1 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ROOT_KEYS = ("data", "validation_data")
_IGNORED_KEYS = {"model": str, TIMESTAMP: int}
"""What a step may have beside tensors: its model, which perf_analyzer ignores too, and the moment of its request."""


@dataclass(frozen=True, slots=True, eq=False)
class RawStep:
    """A step: tensors by name, None for what is no tensor. In the data one mapping, in what is expected one for each
    response; none at all if it is no step."""

    place: str
    responses: tuple[Mapping[str, RawTensor | None], ...]


@dataclass(frozen=True, slots=True, eq=False)
class RawFile:
    """What a file holds: streams of steps, and the same of what is expected, if it has any. In a file with the flat
    form all steps are one stream."""

    path: Path
    is_flat: bool
    streams: list[list[RawStep]]
    expected: list[list[RawStep]] | None = None


def read_json_file(path: Path, errors: InputErrors, progress: Progress | None = None) -> RawFile | None:
    """Reads one file. What is wrong with it goes to `errors`; None if it can't be used at all."""
    try:
        with path.open("rb") as file:
            source = cast(IO[bytes], _Source(file, path, progress))
            root = _Decoder()(source, chunk_size=_CHUNK_BYTES)
    except OSError as error:
        errors.add(f"{path}: cannot be read: {error.strerror}")
    except RecursionError:
        errors.add(f"{path}: is nested too deep")
    except UnicodeDecodeError:
        errors.add(f"{path}: is not UTF-8")
    except ValueError as error:
        errors.add(_syntax_problem(path, str(error)))
    else:
        try:
            return _Reading(path, errors).file(root)
        except ValueError as error:
            errors.add(f"{path}: {error}")
    return None


class _Decoder(rapidjson.Decoder):
    def start_object(self) -> JsonObject:
        return JsonObject()

    def end_object(self, value: JsonObject) -> JsonObject:
        # At once, too: of a file full of base64 there is never more text than that of one tensor.
        if isinstance(text := value.get("b64"), str):
            with contextlib.suppress(ValueError):
                dict.__setitem__(value, "b64", base64.b64decode(text, validate=True))
        return value

    def end_array(self, values: Sequence[Any]) -> Elements:
        return pack(values if isinstance(values, list) else list(values))


class _Source:
    """The file as the parser reads it: without a byte order mark, and logging how far it is."""

    def __init__(self, file: IO[bytes], path: Path, progress: Progress | None) -> None:
        self._file = file
        self._path = path
        self._progress = progress
        self._size = path.stat().st_size
        self._read = 0

    def read(self, size: int) -> bytes:
        piece = self._file.read(size)
        if self._read == 0 and piece.startswith(_BYTE_ORDER_MARK):
            piece = piece[len(_BYTE_ORDER_MARK) :]
            self._read = len(_BYTE_ORDER_MARK)
        self._read += len(piece)
        if self._progress is not None:
            self._progress(self._path, self._read, self._size)
        return piece


def _syntax_problem(path: Path, text: str) -> str:
    """RapidJSON's "Parse error at offset 9: …" with the line and the column, which it does not know."""
    _, _, rest = text.partition("at offset ")
    offset, _, problem = rest.partition(": ")
    if not offset.isdigit():
        return f"{path}: is not JSON: {text}"
    line, column = _position(path, int(offset))
    return f"{path}:{line}: is not JSON: {problem.rstrip('.')} (column {column})"


def _position(path: Path, offset: int) -> tuple[int, int]:
    line, column = 1, 1
    with path.open("rb") as file:
        if file.read(len(_BYTE_ORDER_MARK)) != _BYTE_ORDER_MARK:
            file.seek(0)
        left = offset
        while left > 0 and (piece := file.read(min(left, _CHUNK_BYTES))):
            left -= len(piece)
            newlines = piece.count(b"\n")
            line += newlines
            column = len(piece) - piece.rindex(b"\n") if newlines else column + len(piece)
    return line, column


class _Reading:
    """One file's values as streams, steps and tensors. What does not fit in a step goes to the errors; what makes the
    whole file useless is a ValueError."""

    def __init__(self, path: Path, errors: InputErrors) -> None:
        self._path = path
        self._errors = errors

    def file(self, root: Any) -> RawFile:
        if not isinstance(root, JsonObject):
            raise ValueError(f"expected an object with 'data', found {shown(root)}")
        self._check_keys("", root, _ROOT_KEYS)
        if "data" not in root:
            raise ValueError("expected 'data', a list of steps")
        is_flat, streams = self._streams("data: ", "", root["data"])
        if "validation_data" not in root:
            return RawFile(self._path, is_flat, streams)
        where = "validation_data: "
        expected_is_flat, expected = self._streams(where, where, root["validation_data"])
        if expected_is_flat != is_flat:
            raise ValueError(f"{where}expected the same form as 'data', steps or lists of steps")
        if len(expected) != len(streams):
            raise ValueError(f"{where}expected {len(streams)} streams, as in 'data', found {len(expected)}")
        for index, (wanted, found) in enumerate(zip(streams, expected, strict=True)):
            if len(wanted) != len(found):
                problem = f"expected {len(wanted)} steps, as in 'data', found {len(found)}"
                raise ValueError(f"{where}stream {index}: {problem}")
        return RawFile(self._path, is_flat, streams, expected)

    def _streams(self, key: str, where: str, value: Any) -> tuple[bool, list[list[RawStep]]]:
        """Whether the value has the flat form, steps at once, and its streams."""
        if not isinstance(value, list):
            raise ValueError(f"{key}expected a list of steps, found {shown(value)}")
        if not value:
            raise ValueError(f"{key}expected at least one step, found none")
        is_flat = isinstance(value[0], dict)
        streams = [value] if is_flat else value
        for index, stream in enumerate(streams):
            if not isinstance(stream, list):
                raise ValueError(f"{where}stream {index}: expected a list of steps, found {shown(stream)}")
            if not stream:
                raise ValueError(f"{where}stream {index}: expected at least one step, found none")
        steps = [
            [
                self._step(f"{where}stream {number}, step {index}", entry, bool(where))
                for index, entry in enumerate(stream)
            ]
            for number, stream in enumerate(streams)
        ]
        return is_flat, steps

    def _step(self, place: str, value: Any, expected: bool) -> RawStep:
        responses: tuple[Mapping[str, RawTensor | None], ...] = ()
        if not isinstance(value, JsonObject):
            self._add(f"{place}: ", f"expected an object with tensors, found {shown(value)}")
        elif expected and value.keys() == {RESPONSES} and _is_list_of_objects(value[RESPONSES]):
            listed = enumerate(value[RESPONSES])
            responses = tuple(self._tensors(f"{place}, response {number}", response) for number, response in listed)
        else:
            responses = (self._tensors(place, value),)
        return RawStep(f"{self._path}: {place}", responses)

    def _tensors(self, place: str, value: JsonObject) -> dict[str, RawTensor | None]:
        self._check_keys(f"{place}: ", value)
        tensors: dict[str, RawTensor | None] = {}
        for name, entry in value.items():
            if type(entry) is _IGNORED_KEYS.get(name):
                continue
            try:
                tensors[name] = read_tensor(entry)
            except ValueError as error:
                tensors[name] = None
                self._add(f"{place}, tensor {name!r}: ", str(error))
        return tensors

    # --- errors ------------------------------------------------------------------------------------------------------

    def _check_keys(self, where: str, value: JsonObject, known: Sequence[str] = ()) -> None:
        if problem := value.key_problem(known):
            self._add(where, problem)

    def _add(self, where: str, problem: str) -> None:
        self._errors.add(f"{self._path}: {where}{problem}")


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)
