"""Text that others send: made harmless and short where it enters, so that nothing after it has to ask. Pure.

What is not printable never reaches a terminal, log or page: controls and terminal escapes (C0, C1), bidirectional and
invisible formatting characters, line ends, and lone surrogates, which no UTF-8 has. `str.isprintable` rules out all.
"""

from __future__ import annotations

import json
import re
from typing import Any

from exporter.core.bounds import NAME, NESTING, TEXT

_CUT = "…"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""JSON without such an escape has no surrogate at all, paired or not."""


def clean_text(text: str, limit: int = TEXT) -> str:
    """The text on one line, printable, at most `limit` characters."""
    # What is cut off is not looked at: it may be 64 MiB. A run of blanks becomes one, so some more than is kept.
    line = " ".join(_printable(text[: 4 * limit], " ").split())
    return line if len(line) <= limit and len(text) <= 4 * limit else f"{line[: limit - 1]}{_CUT}"


def clean_location(location: str, limit: int = TEXT) -> str:
    """Where a redirect leads, without its query and fragment: these may hold the ticket of a login."""
    return clean_text(re.split(r"[?#]", location, maxsplit=1)[0], limit)


def clean_name(name: str, limit: int = NAME) -> str:
    """The same for a name, in which what is not printable shows as U+FFFD."""
    shown = _printable(name[: limit + 1], "\N{REPLACEMENT CHARACTER}")
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}{_CUT}"


def is_clean_name(name: str, limit: int = NAME) -> bool:
    """Whether a name can be shown unchanged."""
    return 0 < len(name) <= limit and name.isprintable()


def load_json(data: bytes | bytearray) -> Any:
    """JSON that others send; each text in it is valid UTF-8. Raises ValueError, also where it is nested too deeply."""
    try:
        # Not by json itself, which lets surrogates pass, and takes UTF-16.
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
