"""What breaks a YAML text, for people: the column, what is wrong in words, and the line itself.

Pure. The line is shown without what may be a secret: it is broken text, in which nothing can be known for sure.
"""

from __future__ import annotations

import re

from exporter.config.text import KEY_FILE, SECRET_HEADER, SECRET_SECTIONS, SECRET_VALUE, without_url_secrets

_KEY_LINE = re.compile(
    r"(?P<indent>[ \t]*)(?P<dash>(-[ \t]+)*)(?P<brace>[{\[][ \t]*)?(?P<key>[A-Za-z_][\w.-]{0,63})[ \t]*:"
)
_SECRET = re.compile(rf"{SECRET_HEADER.pattern}|auth|users", re.IGNORECASE)
_MAX_LINE = 80
_TAB = "→"
_INDENTATION = "its indentation does not match that of the lines before"
_WORDS = (
    ("tab character", "a tab indents the line; YAML takes only blanks"),
    ("mapping values are not allowed", "a second ': ' in one value; put the value in quotes"),
    ("did not find expected '-' indicator", _INDENTATION),
    ("block sequence entries are not allowed", "a list begins in the line of its key; begin it in the next line"),
    ("could not find expected ':'", "a key without its ':'"),
    ("expected ',' or ']'", "a '[' above is not closed, or a ',' is missing"),
    ("expected ',' or '}'", "a '{' above is not closed, or a ',' is missing"),
    ("cannot start any token", "a value that begins with this character needs quotes"),
    ("unexpected end of stream", "a quotation mark above is not closed"),
)
"""libyaml's words for the commonest mistakes, and ours."""


def syntax_problem(text: str, line: int, column: int, problem: str) -> str:
    """The sentence for a syntax error at a line and column, both from 0, of the text; `problem` is the parser's own
    description."""
    lines = text.splitlines()
    broken = lines[line] if line < len(lines) else ""
    indent = broken[: len(broken) - len(broken.lstrip())]
    words = next((ours for theirs, ours in _WORDS if theirs in problem), problem)
    if "\t" in indent and column <= len(indent):
        words = _WORDS[0][1]
    elif "did not find expected key" in problem:
        words = _INDENTATION if column <= len(indent) else "text after a value; put all of it in quotes"
    shown = _shown_line(lines, line)
    return f"is not YAML: column {column + 1}: {words}" + (f": {shown}" if shown else "")


def _shown_line(lines: list[str], index: int) -> str:
    """The line in quotes, tabs made visible; "" where it has no key that names it. Its value is left out where
    the line, or a section that it may belong to, sounds secret."""
    broken = lines[index] if index < len(lines) else ""
    match = _KEY_LINE.match(broken)
    if match is None or (not broken.isprintable() and not broken.replace("\t", "").isprintable()):
        return ""
    text = broken.rstrip()
    if _may_be_secret(broken) or any(map(_may_be_secret, _sections(lines, index))):
        text = f"{broken[: match.end()]} …"
    text = (without_url_secrets(text) if "://" in text else text).replace("\t", _TAB)
    return repr(text if len(text) <= _MAX_LINE else f"{text[:_MAX_LINE]}…")


def _may_be_secret(line: str) -> bool:
    keys = {match[1] for match in re.finditer(r"([\w.-]+)[ \t]*:", line)}
    return bool(_SECRET.search(line) or SECRET_VALUE.search(line) or keys & SECRET_SECTIONS or KEY_FILE in keys)


def _sections(lines: list[str], index: int) -> list[str]:
    """The lines before which may hold this one: each that is indented less than all between."""
    found, least = [], _width(lines[index]) + 1
    for line in reversed(lines[:index]):
        if line.strip() and _width(line) < least:
            found.append(line)
            least = _width(line)
    return found


def _width(line: str) -> int:
    return len(line) - len(line.lstrip())
