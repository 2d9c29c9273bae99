"""Keeps the secrets that this process sends out of what it reports: a server may repeat them in an error's text.

Owns the list of secrets read, and how they are found in a text. A secret comes to it when it is read; texts come where
they leave a worker, where a sweep's result is made, and with each line of the log.
"""

from __future__ import annotations

import re

HIDDEN = "<secret>"

_KEPT = 1000
_WHOLE_WORD = 4
"""Shorter words are not hidden: they would be found in every text, and no secret is so short."""
_BEGINNING = 8
"""A text may be cut in the midst of a secret: so many characters of its beginning are as good as all."""

_words: dict[str, None] = {}
_pattern: re.Pattern[str] | None = None


def remember_secret(value: str) -> None:
    """From now on this value, and each word of it but the first of several (a scheme, as `Bearer`), is hidden. Of very
    many the oldest are forgotten: values that are read again at each use are rotated, and the old ones worthless."""
    global _pattern  # noqa: PLW0603 - what a process has read is the process's
    parts = value.split()
    for word in (value, *(parts[1:] if len(parts) > 1 else parts)):
        if len(word) >= _WHOLE_WORD and word not in _words:
            _words[word] = None
            _pattern = None
    while len(_words) > _KEPT:
        del _words[next(iter(_words))]


def redacted(text: str) -> str:
    """The text without any secret that was read before."""
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
