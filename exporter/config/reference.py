"""The reference of all keys as Markdown, made from the models: the pages docs/keys-*.md."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from typing import Any

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from exporter.config.fields import OneOf, is_section
from exporter.config.inputs import Parameter
from exporter.config.levels import Levels
from exporter.config.probe_settings import DefaultsSettings, ProbeSettings
from exporter.config.problems import bare_type, fields_by_key
from exporter.config.quantities import Quantity
from exporter.config.settings import Settings
from exporter.config.text import Endpoint, as_number
from exporter.payload.input_files import InputFiles
from exporter.payload.timing_files import TimingFile

_HEAD = "| key | value | default | meaning |\n|---|---|---|---|"
_PAGES = {
    "targets": "Keys of a target",
    "probes": "Keys of a probe",
    "baseline": "Keys of a baseline",
    "daemon": "Keys of the daemon",
}
_NOTE = (
    "Generated from the code. How values are written, defaults, secrets: [configuration](configuration.md). All keys: "
    + ", ".join(f"[{title.lower()}](keys-{name}.md)" for name, title in _PAGES.items())
    + "."
)
_OWN_KEYS = [key for key in fields_by_key(ProbeSettings) if key not in fields_by_key(DefaultsSettings)]
_TYPE_NAMES = {
    str: "text",
    bool: "`true` or `false`",
    int: "whole number",
    float: "number",
    Endpoint: "url",
    Levels: "number, list or range",
    TimingFile: "file's path",
    InputFiles: "list of paths",
    Parameter: "text, number, `true` or `false`",
}


def pages() -> dict[str, str]:
    """Each page of the reference by its file's name in docs/: a table per section, in the order in which a reader meets
    them."""
    sections = list(_sections("", Settings))
    return {
        f"keys-{name}.md": f"# {title}\n\n{_NOTE}\n\n"
        + "\n\n".join(table for path, table in sections if _page_of(path) == name)
        + "\n"
        for name, title in _PAGES.items()
    }


def _page_of(path: str) -> str:
    if path.startswith("probes[].baseline"):
        return "baseline"
    return {"targets": "targets", "probes": "probes"}.get(path.partition("[")[0], "daemon")


def _sections(path: str, model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """A section's path and table, then those of the sections inside it."""
    summary = inspect.cleandoc(model.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    rows = [f"## {f'`{path}`' if path else 'The file'}\n\n{summary}\n\n{_HEAD}"]
    fields = fields_by_key(model)
    if model is ProbeSettings:
        fields = {key: fields[key] for key in [*_OWN_KEYS, *fields_by_key(DefaultsSettings)]}
    for key, field in fields.items():
        rows.append(
            f"| `{key}` | {_value(field.annotation, field.metadata)} | {_default(field)} | {field.description} |"
        )
    yield path, "\n".join(rows)
    for key, field in fields.items():
        inner, suffix = _inner_model(field.annotation)
        if inner is not None:
            yield from _sections(f"{path}.{key}{suffix}".lstrip("."), inner)


def _inner_model(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    shape, suffix = bare_type(annotation), ""
    arguments = typing.get_args(shape)
    if typing.get_origin(shape) is tuple:
        shape, suffix = bare_type(arguments[0]), "[]"
    elif typing.get_origin(shape) is dict:
        shape, suffix = bare_type(arguments[1]), ".NAME"
    return (shape, suffix) if is_section(shape) else (None, "")


def _value(annotation: Any, outer_marks: list[Any]) -> str:
    """What may be there: the kind of value and its bounds."""
    shape, inner_marks = _unwrapped(annotation)
    marks = [*outer_marks, *inner_marks]
    if marked := next(filter(None, map(_marked, marks)), ""):
        return marked
    origin, arguments = typing.get_origin(shape), typing.get_args(shape)
    if origin is typing.Literal:
        return _choices(arguments)
    if origin is tuple:
        return f"list, each: {_value(arguments[0], [])}"
    if origin is dict:
        return "section" if arguments[1] is Any else f"mapping, each: {_value(arguments[1], [])}"
    return "section" if is_section(shape) else _TYPE_NAMES[shape] + _bounds(marks)


def _marked(mark: object) -> str:
    if isinstance(mark, Quantity):
        return f"{mark.noun}, {mark.text(mark.low)} to {mark.text(mark.high)}"
    return _choices(mark.choices) if isinstance(mark, OneOf) else ""


def _unwrapped(annotation: Any) -> tuple[Any, list[Any]]:
    """The bare type, and all that is annotated to it on the way there."""
    metadata: list[Any] = []
    while True:
        if typing.get_origin(annotation) is typing.Annotated:
            annotation, *marks = typing.get_args(annotation)
            metadata += [part for mark in marks for part in (mark.metadata if isinstance(mark, FieldInfo) else [mark])]
        elif type(None) in typing.get_args(annotation):
            annotation = next(part for part in typing.get_args(annotation) if part is not type(None))
        else:
            return annotation, metadata


def _choices(choices: tuple[str, ...]) -> str:
    return ", ".join(f"`{choice}`" for choice in choices)


def _bounds(metadata: list[Any]) -> str:
    words = {
        annotated_types.Ge: ("from", "ge"),
        annotated_types.Gt: ("above", "gt"),
        annotated_types.Le: ("to", "le"),
        annotated_types.Lt: ("below", "lt"),
    }
    text = ""
    for mark in metadata:
        if type(mark) in words:
            word, attribute = words[type(mark)]
            text += f" {word} {as_number(getattr(mark, attribute))}"
    return text


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is None or default in ("", (), {}) or isinstance(default, BaseModel):
        return ""
    for mark in _unwrapped(field.annotation)[1] + field.metadata:
        if isinstance(mark, Quantity):
            return f"`{mark.text(default)}`"
    if isinstance(default, tuple):
        entries = (entry if isinstance(entry, str) else as_number(entry) for entry in default)
        return f"`[{', '.join(entries)}]`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default if isinstance(default, str) else as_number(default)}`"
