"""Redacts our own secrets from everything that this process reports: a server may repeat them in an error text.

Owns the list of known secrets. A secret is registered when it is read. Texts are redacted when they leave a worker,
when a sweep's result is built, and in each log line.
"""

from __future__ import annotations

import re

HIDDEN = "<secret>"

_KEPT = 1000
_WHOLE_WORD = 4
"""Shorter words are not redacted: they would match in every text, and no secret is that short."""
_BEGINNING = 8
"""A text may be truncated inside a secret: this many leading characters count as a match."""

_words: dict[str, None] = {}
_pattern: re.Pattern[str] | None = None


def remember_secret(value: str) -> None:
    """Redacts this value and each of its words from now on, except the first of several words: a scheme such as
    `Bearer`. Beyond `_KEPT` words the oldest are forgotten: by then they are rotated and worthless."""
    global _pattern  # noqa: PLW0603 - the list belongs to the process
    parts = value.split()
    for word in (value, *(parts[1:] if len(parts) > 1 else parts)):
        if len(word) >= _WHOLE_WORD and word not in _words:
            _words[word] = None
            _pattern = None
    while len(_words) > _KEPT:
        del _words[next(iter(_words))]


def redacted(text: str) -> str:
    """The text with all known secrets replaced."""
    global _pattern  # noqa: PLW0603
    if not _words or not text:
        return text
    pattern = _pattern
    if pattern is None:
        pattern = _pattern = re.compile("|".join(map(_found_by, sorted(_words, key=len, reverse=True))))
    return pattern.sub(HIDDEN, text)


def _found_by(word: str) -> str:
    whole = re.escape(word)
    if len(word) <= _BEGINNING or " " in word:
        return whole
    return rf"{whole}|{re.escape(word[:_BEGINNING])}[\w.~+/=-]*"
