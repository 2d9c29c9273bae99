"""Prompts that a server repeats in an error text: found there and left out. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

_REPEATED = 16
"""Characters of a prompt in a row that an error's text has not by chance."""
_WHOLE = 6
"""A shorter prompt is left out where it occurs whole, unless it is shorter than this: it would match in every text."""
_BEGUN = 3
"""Characters at the beginning of a prompt whose end is cut off: fewer would match by chance, and show nothing."""
_HIDDEN = "\0"
"""In place of what is hidden, until cuts are looked at: cleaned texts do not have it."""
_WORDS = frozenset(
    {
        "system",
        "assistant",
        "developer",
        "function",
        "image_url",
        "input_audio",
        "audio_url",
        "video_url",
        "refusal",
        "input_text",
        "input_image",
        "input_file",
        "output_text",
        "json_object",
        "json_schema",
        "object",
        "string",
        "number",
        "integer",
        "boolean",
        "custom",
        "grammar",
        "required",
        "ephemeral",
    }
)
"""OpenAI's own, as roles and types of parts, formats and tools; shorter ones match nothing anyway."""
_NONCE = re.compile(r"^[0-9a-f]{8} ")


def prompt_texts(body: bytes, *, names_model: bool) -> list[str]:
    """All texts that a request gives to the model, in each form in which an error's text may have them.

    `names_model`: the body's `model` is the model's name, which is shown; else it is an input like any other.
    """
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return []
    if names_model and isinstance(payload, dict):
        payload.pop("model", None)
    texts = [text for found in _texts(payload) for text in (found, _NONCE.sub("", found))]
    return list(dict.fromkeys(form for text in texts for form in _forms(text)))


def _texts(payload: object) -> Iterator[str]:
    parts = [payload]
    while parts:
        part = parts.pop()
        if isinstance(part, str):
            if part not in _WORDS:
                yield part
        elif isinstance(part, dict):
            parts += part.values()  # whatever the key: an input may have any name
        elif isinstance(part, list):
            parts += part


def _forms(text: str) -> Iterator[str]:
    """As it is, as JSON, and as JSON in ASCII; on one line, as error texts are cleaned."""
    for form in (text, json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1]):
        yield " ".join(form.split())


def without_repeats(text: str, prompts: list[str]) -> str:
    """The text with each run of characters that is in a prompt, too, and is no chance, as "…". Where the text was cut,
    and shows so by "…", the beginning of a prompt is left out, too."""
    for short in sorted((each for each in prompts if _WHOLE <= len(each) < _REPEATED), key=len, reverse=True):
        text = text.replace(short, _HIDDEN)
    text = _without_runs(text, "\n".join(each for each in prompts if len(each) >= _REPEATED))
    if "…" in text:
        begun = {each[:end] for each in prompts if len(each) >= _WHOLE for end in range(_BEGUN, _REPEATED)}
        *cut, last = text.split("…")
        text = "…".join([*(_without_begun(each, begun) for each in cut), last])
    return text.replace(_HIDDEN, "…")


def _without_runs(text: str, whole: str) -> str:
    kept, begin = [], 0
    while begin < len(text):
        end = begin + _REPEATED
        if end > len(text) or text[begin:end] not in whole:
            kept.append(text[begin])
            begin += 1
            continue
        while end < len(text) and text[begin : end + 1] in whole:
            end += 1
        kept.append(_HIDDEN)
        begin = end
    return "".join(kept)


def _without_begun(text: str, begun: set[str]) -> str:
    """The text without the longest of these at its end."""
    for length in range(_REPEATED - 1, _BEGUN - 1, -1):
        if text[-length:] in begun:
            return text[:-length]
    return text
