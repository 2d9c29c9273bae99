"""Problems for people: what is wrong, where it is, and what would be right.

Turns pydantic's errors into sentences, paths into `file:line`, and unknown keys into the nearest known one. Knows the
shape of the models, not what their keys mean.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, cast

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from exporter.config.document import Block
from exporter.config.environment import Overlay, Path
from exporter.config.fields import is_section
from exporter.config.probe_settings import DefaultsSettings
from exporter.config.settings import Settings
from exporter.config.text import KEY_FILE, MAX_LABEL_LENGTH, SECRET_SECTIONS, as_number, shown, sounds_secret

_SENTENCES = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a number",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of keys",
    "model_type": "must be a mapping of keys",
    "model_attributes_type": "must be a mapping of keys",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "too_long": "must have at most {max_length} entries",
    "literal_error": "must be {expected}",
}
_STRUCTURES = frozenset({"tuple_type", "dict_type", "model_type", "model_attributes_type"})
_PLAIN_KEY = re.compile(r"[a-z]{1,20}([-_][a-z]{1,20}){0,3}")
_BROKEN = "text that begins as a mapping or list, and is none"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `source` is the file or the environment variable; line 0 means all of it."""

    source: str
    line: int
    path: str
    text: str

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line else self.source
        return ": ".join(part for part in (place, self.path, self.text) if part)


@dataclass(frozen=True, slots=True)
class Places:
    """Where each value came from."""

    file: FilePath
    root: Block
    overlay: Overlay
    values: Mapping[str, Any]
    """File and environment joined, before probes inherit."""

    def problem(self, path: Path, text: str) -> Problem:
        """The problem at a path of the effective configuration; what a probe inherited is wrong in the defaults."""
        origin = self._origin(path)
        if variable := self._variable(origin):
            return Problem(variable, 0, self.shown_path(origin), text)
        return Problem(str(self.file), self._line(origin), self.shown_path(origin), text)

    def shown_path(self, path: Path) -> str:
        """A path as people write it: `probes[2] (asr-http).load`."""
        text = ""
        for depth, key in enumerate(path):
            if isinstance(key, str):
                shown_key = key if key.isprintable() and 0 < len(key) <= MAX_LABEL_LENGTH else shown(key)
                text += f".{shown_key}" if text else shown_key
                continue
            text += f"[{key}]"
            name = _name_of(_at(self.values, path[: depth + 1])) if depth == 1 else ""
            text += f" ({name})" if name else ""
        return text

    def _variable(self, path: Path) -> str | None:
        """The variable that gave the value, or what holds it; else the one for which what holds it was made."""
        variables = self.overlay.variables
        for length in range(len(path), 0, -1):
            if path[:length] in variables:
                return variables[path[:length]]
        made = path[: _depth(self.root, path) + 1]
        if len(made) == _depth(self.root, path):
            return None
        return next((name for given, name in variables.items() if given[: len(made)] == made), None)

    def _origin(self, path: Path) -> Path:
        if path[:1] != ("probes",) or len(path) < 3:
            return path
        own = _depth(_at(self.values, path[:2]), path[2:])
        inherited = _depth(self.values.get("defaults"), path[2:])
        return ("defaults", *path[2:]) if inherited > own else path

    def _line(self, path: Path) -> int:
        """The line of the value, or of the nearest that holds it."""
        line, value = 0, cast(Any, self.root)
        for key in path:
            if not _holds(value, key):
                break
            line, value = value.lines[key], value[key]
        return line


def schema_problem(places: Places, error: ErrorDetails) -> Problem:
    """A problem that the models found. Its path is that of the effective configuration."""
    path = tuple(error["loc"])
    if error["type"] == "extra_forbidden":
        hidden = _is_hidden_key(path) and nearest(str(path[-1]), _keys(path[:-1])) is None
        return places.problem(path[:-1] if hidden else path, unknown_key(path))
    if error["type"] == "missing":
        return places.problem(path, "is required")
    given, problem = error["input"], _problem(error)
    if isinstance(given, dict) and error["type"] == "value_error":
        return places.problem(path, problem)
    found = "a hidden value" if _is_hidden(path) else _BROKEN if _is_broken(error) else shown(given)
    return places.problem(path, f"found {found}: {problem}")


def _is_broken(error: ErrorDetails) -> bool:
    """Whether it is text in the place of a mapping or list, and was meant for one: anything may be in it."""
    given = error["input"]
    return error["type"] in _STRUCTURES and isinstance(given, str) and given.lstrip()[:1] in ("{", "[")


def _is_hidden(path: Path) -> bool:
    """Whether what is there may be a secret, which is never shown."""
    hidden = {*SECRET_SECTIONS, KEY_FILE}
    return any(key in hidden or sounds_secret(key) for key in path if isinstance(key, str))


def _is_hidden_key(path: Path) -> bool:
    """Whether an unknown key may be a secret itself, as in `{Bearer x: }`. What looks like the name of one is none."""
    return _is_hidden(path[:-1]) or (_is_hidden(path) and not _PLAIN_KEY.fullmatch(str(path[-1])))


def _problem(error: ErrorDetails) -> str:
    """What pydantic, or a validator of ours, found wrong with a value, as a sentence."""
    context = error.get("ctx", {})
    if error["type"] == "value_error":
        return str(context["error"])
    if error["type"] == "string_type" and isinstance(error["input"], int | float):
        return "must be text; put it in quotes"
    numbers = {key: as_number(bound) for key, bound in context.items() if isinstance(bound, int | float)}
    return _SENTENCES.get(error["type"], error["msg"]).format(**context | numbers)


def unknown_key(path: Path) -> str:
    """What is wrong with a key that the section at `path[:-1]` does not have, and the nearest that it has."""
    key = str(path[-1])
    known = _keys(path[:-1])
    if near := nearest(key, known):
        return f"unknown key; did you mean '{near}'?"
    if model_at(path[:-1]) is DefaultsSettings and key in _keys(("probes", 0)):
        return "cannot be inherited; each probe has its own"
    for inner in known:
        if key in _keys((*path[:-1], inner)):
            return f"unknown key; did you mean '{inner}.{key}'?"
    if "headers" in known and sounds_secret(key):
        return "unknown key; a secret is a header: write it below `headers`, as {env: VARIABLE} or {file: PATH}"
    return f"unknown key; allowed are {', '.join(known)}"


def without_echoes(errors: Iterable[ErrorDetails]) -> list[ErrorDetails]:
    """The errors but for a key that is missing only because it is misspelt beside: that is one mistake."""
    found = list(errors)
    misspelt: set[Path] = set()
    for error in found:
        if error["type"] == "extra_forbidden":
            *section, key = error["loc"]
            if near := nearest(str(key), _keys(tuple(section))):
                misspelt.add((*section, near))
    return [error for error in found if error["type"] != "missing" or tuple(error["loc"]) not in misspelt]


def nearest(given: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like the one given."""
    return next(iter(difflib.get_close_matches(given, list(known), n=1, cutoff=0.7)), None)


def model_at(path: Path) -> type[BaseModel] | None:
    """The model that checks the value at a path; None where it is no section."""
    shape: Any = Settings
    for key in path:
        shape = DefaultsSettings if (shape, key) == (Settings, "defaults") else _inner_type(bare_type(shape), key)
    shape = bare_type(shape)
    return shape if is_section(shape) else None


def fields_by_key(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a model by the keys that a user writes."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def bare_type(annotation: Any) -> Any:
    """A type without what is annotated to it, and without None."""
    if typing.get_origin(annotation) is typing.Annotated:
        return bare_type(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return bare_type(next(part for part in typing.get_args(annotation) if part is not type(None)))
    return annotation


def _inner_type(shape: Any, key: str | int) -> Any:
    if is_section(shape):
        field = fields_by_key(shape).get(str(key))
        return field.annotation if field else None
    arguments = typing.get_args(shape)
    if typing.get_origin(shape) is tuple:
        return arguments[0]
    return arguments[1] if typing.get_origin(shape) is dict else None


def _keys(path: Path) -> list[str]:
    model = model_at(path)
    return list(fields_by_key(model)) if model else []


def _holds(value: object, key: str | int) -> bool:
    if isinstance(key, int):
        return isinstance(value, list) and key < len(value)
    return isinstance(value, Mapping) and key in value


def _at(value: Any, path: Path) -> Any:
    """The value at a path; None where it doesn't lead on."""
    for key in path:
        value = value[key] if _holds(value, key) else None
    return value


def _depth(value: Any, path: Path) -> int:
    """How many steps of a path a value has."""
    for depth, key in enumerate(path):
        if not _holds(value, key):
            return depth
        value = value[key]
    return len(path)


def _name_of(value: Any) -> str:
    """What a target or probe calls itself, where that is fit to be shown."""
    name = value.get("name") if isinstance(value, Mapping) else None
    return name if isinstance(name, str) and name.isprintable() and len(name) <= MAX_LABEL_LENGTH else ""
