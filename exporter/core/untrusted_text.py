"""Sanitizes text from other machines where it enters: printable, one line, short. Pure.

Unprintable characters never reach a terminal, log or page: control characters and terminal escapes (C0, C1),
bidirectional and invisible formatting, line ends, and lone surrogates, which UTF-8 cannot encode. `str.isprintable`
excludes all of them.
"""

from __future__ import annotations

import json
import re
from typing import Any

from exporter.core.bounds import NAME, NESTING, TEXT

_CUT = "…"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""JSON without this escape contains no surrogates, paired or lone."""


def clean_text(text: str, limit: int = TEXT) -> str:
    """The text on one line, printable, at most `limit` characters."""
    # Only this prefix is scanned: the text may be 64 MiB. Runs of blanks collapse to one, hence four times the limit.
    line = " ".join(_printable(text[: 4 * limit], " ").split())
    return line if len(line) <= limit and len(text) <= 4 * limit else f"{line[: limit - 1]}{_CUT}"


def clean_location(location: str, limit: int = TEXT) -> str:
    """A redirect's location without query and fragment: they may hold a login ticket."""
    return clean_text(re.split(r"[?#]", location, maxsplit=1)[0], limit)


def clean_name(name: str, limit: int = NAME) -> str:
    """As `clean_text`, for a name: unprintable characters show as U+FFFD."""
    shown = _printable(name[: limit + 1], "\N{REPLACEMENT CHARACTER}")
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}{_CUT}"


def is_clean_name(name: str, limit: int = NAME) -> bool:
    """Whether `clean_name` would keep the name unchanged."""
    return 0 < len(name) <= limit and name.isprintable()


def load_json(data: bytes | bytearray) -> Any:
    """Parses untrusted JSON; every text in the result is valid UTF-8. Raises ValueError, also if nested too deeply."""
    try:
        # Decoded here: json itself accepts UTF-16 and lone surrogates.
        text = data.decode("utf-8-sig")
        value = json.loads(text)
        if _SURROGATE.search(text):
            value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    nested = [value]
    for _ in range(NESTING + 1):
        nested = [inner for outer in nested for inner in _children(outer) if isinstance(inner, dict | list)]
        if not nested:
            return value
    raise ValueError(_TOO_DEEP)


_TOO_DEEP = f"nested more than {NESTING} levels deep"


def _children(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _printable(text: str, instead: str) -> str:
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else instead for character in text)
