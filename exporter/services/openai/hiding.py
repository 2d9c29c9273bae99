"""Prompts that a server repeats in an error text: found there and left out. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

_REPEATED = 16
"""Characters of a prompt in a row that an error's text has not by chance."""
_WHOLE = 6
"""A shorter prompt is left out where it occurs whole, unless it is shorter than this: it would match in every text."""
_NOT_PROMPTS = frozenset({"model", "role", "type", "object"})
_NONCE = re.compile(r"^[0-9a-f]{8} ")


def prompt_texts(body: bytes) -> list[str]:
    """All texts that a request gives to the model, in each form in which an error's text may have them."""
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return []
    texts = [text for found in _texts(payload) for text in (found, _NONCE.sub("", found))]
    return list(dict.fromkeys(form for text in texts for form in _forms(text)))


def _texts(payload: object) -> Iterator[str]:
    parts = [payload]
    while parts:
        part = parts.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            parts += [value for key, value in part.items() if key not in _NOT_PROMPTS]
        elif isinstance(part, list):
            parts += part


def _forms(text: str) -> Iterator[str]:
    """As it is, as JSON, and as JSON in ASCII; on one line, as error texts are cleaned."""
    for form in (text, json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1]):
        yield " ".join(form.split())


def without_repeats(text: str, prompts: list[str]) -> str:
    """The text with each run of characters that is in a prompt, too, and is no chance, as "…"."""
    for short in sorted((each for each in prompts if _WHOLE <= len(each) < _REPEATED), key=len, reverse=True):
        text = text.replace(short, "…")
    whole = "\n".join(each for each in prompts if len(each) >= _REPEATED)
    kept, begin = [], 0
    while begin < len(text):
        end = begin + _REPEATED
        if end > len(text) or text[begin:end] not in whole:
            kept.append(text[begin])
            begin += 1
            continue
        while end < len(text) and text[begin : end + 1] in whole:
            end += 1
        kept.append("…")
        begin = end
    return "".join(kept)
