"""YAML text as plain values that know their lines.

Reads what YAML 1.2 calls the core schema, from the parser's events, for three reasons: YAML 1.1 reads `1:8:1` as the
number 4081 and `no` as false; a file must not be able to blow up or to nest without end; and every problem must name a
line. Knows nothing of our keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from exporter.config.syntax import syntax_problem
from exporter.config.text import shown

_MAX_DEPTH = 50
_MAX_NODES = 1_000_000
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_STANDARD_TAG = "tag:yaml.org,2002:"


class Block(dict[str, Any]):
    """A YAML mapping; `line` is where it begins, `lines` where its keys are. Lines count from 1."""

    __slots__ = ("line", "lines")

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}


class Series(list[Any]):
    """A YAML sequence; `line` is where it begins, `lines` where its entries are."""

    __slots__ = ("line", "lines")

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: list[int] = []


@dataclass(slots=True)
class Document:
    """What a file holds, and what is wrong with it as YAML, by line (0: the file as a whole)."""

    root: Block
    problems: list[tuple[int, str]] = field(default_factory=list)


class _UnusableError(Exception):
    """The text can't be read on from here."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line
        self.text = text


def read_document(path: Path) -> Document:
    """The file's document. A file that can't be read, isn't UTF-8 or isn't YAML is an empty one with a problem."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return Document(Block(0), [(0, f"cannot be read: {error.strerror or error}")])
    except ValueError:
        return Document(Block(0), [(0, "cannot be read: not a file's name")])
    return decoded_document(data)


def decoded_document(data: bytes) -> Document:
    """The document in what a file held."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Document(Block(0), [(data.count(b"\n", 0, error.start) + 1, "is not UTF-8 text")])
    return parse_document(text)


def parse_document(text: str) -> Document:
    """The document in a YAML text. All duplicate keys are found; what breaks the syntax ends the reading."""
    reader = _Reader(text)
    try:
        root = reader.document()
    except _UnusableError as error:
        return Document(Block(0), [*reader.problems, (error.line, error.text)])
    if root is None:
        return Document(Block(0), [*reader.problems, (0, "is empty")])
    if not isinstance(root, Block):
        kind = "a list" if isinstance(root, Series) else "a single value"
        return Document(Block(0), [*reader.problems, (1, f"must be a mapping of keys, and is {kind}")])
    return Document(root, reader.problems)


def parse_value(text: str) -> Any:
    """One value outside a file: a scalar as YAML reads it, or a mapping or list in braces or brackets (so, JSON).
    What only looks like one is text."""
    stripped = text.strip()
    if stripped[:1] in ("{", "["):
        reader = _Reader(stripped)
        try:
            value = reader.document()
        except _UnusableError:
            return text
        return text if reader.problems else value
    return _resolve(stripped) if stripped else text


def _null(_: str) -> None:
    return None


def parse_any(data: bytes) -> Any:
    """What a YAML text holds, of whatever kind, with the bounds of a configuration. Raises ValueError."""
    reader = _Reader(data.decode("utf-8-sig"))
    try:
        value = reader.document()
    except _UnusableError as error:
        raise ValueError(f"line {error.line}: {error.text}") from None
    if reader.problems:
        line, text = reader.problems[0]
        raise ValueError(f"line {line}: {text}")
    return value


_Resolver = tuple[re.Pattern[str], Callable[[str], Any]]
_RESOLVERS: tuple[_Resolver, ...] = (
    (re.compile(r"|~|null|Null|NULL"), _null),
    (re.compile(r"true|True|TRUE|false|False|FALSE"), lambda text: text[0] in "tT"),
    (re.compile(r"[-+]?(0|[1-9][0-9]{0,17})"), int),
    (re.compile(r"[-+]?(\.[0-9]{1,40}|[0-9]{1,40}(\.[0-9]{0,40})?)([eE][-+]?[0-9]{1,2})?"), float),
)


def _resolve(text: str) -> Any:
    """A plain scalar's value: nothing, a boolean, a number, else text."""
    for pattern, read in _RESOLVERS:
        if pattern.fullmatch(text):
            return read(text)
    return text


class _Reader:
    """Builds values from the parser's events. Aliases share what they stand for, so size and depth are counted."""

    def __init__(self, text: str) -> None:
        self.problems: list[tuple[int, str]] = []
        self._events = self._guarded(text)
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._open_anchors: set[str] = set()
        self._nodes = 0

    def document(self) -> Any:
        """The only document, None where there is none."""
        value: Any = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _UnusableError(_line(event), "a second document begins here; only one is read")
                value = self._value(next(self._events), 0)
        return value

    def _guarded(self, text: str) -> Iterator[Any]:
        try:
            yield from yaml.parse(text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = str(error.problem or error.context)
            if mark is None:
                raise _UnusableError(0, f"is not YAML: {problem}") from None
            raise _UnusableError(mark.line + 1, syntax_problem(text, mark.line, mark.column, problem)) from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1 if isinstance(error.position, int) else 0
            raise _UnusableError(line, "is not YAML: it holds a character that is not allowed") from None

    def _count(self, event: Any, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > _MAX_NODES:
            text = f"holds more than {_MAX_NODES} values, aliases counted where they are used"
            raise _UnusableError(_line(event), text)

    def _value(self, event: Any, depth: int) -> Any:
        self._count(event, 1)
        if depth > _MAX_DEPTH:
            raise _UnusableError(_line(event), f"is nested more than {_MAX_DEPTH} deep")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        before = self._nodes
        if event.anchor:
            self._open_anchors.add(event.anchor)
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._series(event, depth)
        else:
            value = self._block(event, depth)
        if event.anchor:
            self._open_anchors.discard(event.anchor)
            self._anchors[event.anchor] = value, self._nodes - before + 1
        return value

    def _alias(self, event: Any) -> Any:
        if event.anchor in self._open_anchors:
            raise _UnusableError(_line(event), f"alias {shown(event.anchor)} holds itself")
        if event.anchor not in self._anchors:
            raise _UnusableError(_line(event), f"alias {shown(event.anchor)} refers to nothing above it")
        value, nodes = self._anchors[event.anchor]
        self._count(event, nodes)
        return value

    def _scalar(self, event: Any) -> Any:
        tag = event.tag
        if tag != f"{_STANDARD_TAG}str":
            self._check_tag(event)
        return _resolve(event.value) if tag is None and event.implicit[0] else event.value

    def _series(self, event: Any, depth: int) -> Series:
        self._check_tag(event)
        series = Series(_line(event))
        while not isinstance(entry := next(self._events), yaml.SequenceEndEvent):
            series.lines.append(_line(entry))
            series.append(self._value(entry, depth + 1))
        return series

    def _block(self, event: Any, depth: int) -> Block:
        self._check_tag(event)
        block = Block(_line(event))
        merged: list[Any] = []
        while not isinstance(entry := next(self._events), yaml.MappingEndEvent):
            line = _line(entry)
            if not isinstance(entry, yaml.ScalarEvent):
                raise _UnusableError(line, "a key must be plain text")
            key = entry.value
            value = self._value(next(self._events), depth + 1)
            if key == "<<" and entry.implicit[0]:
                merged.extend((line, part) for part in (value if isinstance(value, Series) else [value]))
            elif key in block:
                text = f"key {shown(key)} is there twice; the first is in line {block.lines[key]}"
                self.problems.append((line, text))
            else:
                block[key] = value
                block.lines[key] = line
        for line, part in merged:
            self._merge(block, part, line)
        return block

    def _merge(self, block: Block, part: Any, line: int) -> None:
        """The value of the merge key `<<`: keys that the mapping has itself win."""
        if not isinstance(part, Block):
            self.problems.append((line, "'<<' merges mappings only"))
            return
        for key, value in part.items():
            if key not in block:
                block[key] = value
                block.lines[key] = part.lines[key]

    def _check_tag(self, event: Any) -> None:
        if event.tag not in (None, "!", f"{_STANDARD_TAG}map", f"{_STANDARD_TAG}seq"):
            tag = shown(event.tag.replace(_STANDARD_TAG, "!!"))
            self.problems.append((_line(event), f"tag {tag} has no meaning here"))


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1
