"""The table of values in the chart's README, from the comments of values.yaml. `python -m tests.helm.values_table`
writes it again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from tests.helm.chart import CHART

README = CHART / "README.md"
_BEGIN = "<!-- python -m tests.helm.values_table writes what follows, from values.yaml -->\n"
_END = "<!-- until here -->\n"
_TABLE = re.compile(f"{re.escape(_BEGIN)}.*{re.escape(_END)}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Value:
    """A key with its comment ("" for none) and, if it is more than the head of a section, its default as JSON."""

    path: str
    default: str | None
    comment: str


def values() -> list[Value]:
    """Every key that a reader can set, in the order of the file. A mapping whose keys have no comments is one value."""
    text = (CHART / "values.yaml").read_text()
    tree = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(tree, yaml.MappingNode)
    return list(_walk(tree, text.splitlines(), ""))


def _walk(mapping: yaml.MappingNode, lines: list[str], prefix: str) -> Iterator[Value]:
    for key, value in mapping.value:
        path, comment = f"{prefix}{key.value}", _comment(lines, key.start_mark.line)
        if isinstance(value, yaml.MappingNode) and _has_comments(value, lines, key.start_mark.line):
            yield Value(path, None, comment)
            yield from _walk(value, lines, f"{path}.")
        else:
            yield Value(path, json.dumps(_plain(value), ensure_ascii=False), comment)


def _has_comments(mapping: yaml.MappingNode, lines: list[str], line: int) -> bool:
    """Whether its keys have some; those on the line of its own key can't."""
    inner = [key.start_mark.line for key, _ in mapping.value]
    return any(each > line and _comment(lines, each) for each in inner)


def _plain(node: yaml.Node) -> object:
    return yaml.SafeLoader("").construct_document(node)


def _comment(lines: list[str], line: int) -> str:
    """What is in the comment just before this line, if it begins with `# --`."""
    first = line
    while first and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    words = " ".join(text.strip().removeprefix("#").strip() for text in lines[first:line])
    return words.removeprefix("-- ") if words.startswith("-- ") else ""


def table() -> str:
    """As Markdown."""
    rows = ["| value | default | meaning |", "|---|---|---|"]
    for value in values():
        default = f"`{value.default}`" if value.default is not None else ""
        rows.append(f"| `{value.path}` | {default} | {value.comment.replace('|', '&#124;')} |")
    return "\n".join(rows) + "\n"


def with_table(readme: str) -> str:
    """The README with the table as it must be."""
    made, places = _TABLE.subn(lambda _: f"{_BEGIN}\n{table()}\n{_END}", readme)
    if places != 1:
        raise ValueError(f"{README.name} must have one place for the table: {_BEGIN}{_END}")
    return made


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
