"""Counts tokens by a local file, for servers that do not count them. `tokenizers` is an optional dependency, and
nothing is ever downloaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from exporter.core.errors import InputError


def open_tokenizer(path: str) -> Callable[[str], int] | None:
    """What counts the tokens of a text, special ones left out; None without a path. Raises InputError."""
    if not path:
        return None
    try:
        from tokenizers import Tokenizer
    except ImportError:
        text = "needs the package tokenizers: pip install 'triton-canary[tokenizer]'"
        raise InputError(f"input.prompt.tokenizer: {text}") from None
    try:
        tokenizer = Tokenizer.from_str(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"input.prompt.tokenizer: {path}: cannot be read: {error.strerror}") from None
    except Exception as error:  # what the package raises is a bare Exception
        raise InputError(f"input.prompt.tokenizer: {path}: is not a tokenizer.json: {error}") from None
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
