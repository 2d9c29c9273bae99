"""Header values: given, or read from the environment or a file on each use.

Secrets are read late, are not kept for sending, and never appear in a text. No value can contain a line end.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from exporter.core.errors import TransportError
from exporter.core.outcome import Outcome
from exporter.core.redaction import remember_secret
from exporter.core.target import Header

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
"""A token of RFC 9110 section 5.6.2."""
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")


def read_headers(headers: Iterable[Header]) -> tuple[tuple[str, str], ...]:
    """The current names and values.

    Raises TransportError(AUTH_ERROR), with the header's name but never its value, if a variable or file cannot be read,
    is empty, or contains characters that are not allowed in a header (line ends above all).
    """
    return tuple((header.name, _value(header)) for header in headers)


def _value(header: Header) -> str:
    value = header.value
    if header.env:
        value = os.environ.get(header.env, "").strip()
        if not value:
            raise _error(header, f"the environment variable {header.env} is not set")
    elif header.file:
        try:
            value = Path(header.file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            text = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise _error(header, f"the file {header.file} cannot be read: {text}") from None
        if not value:
            raise _error(header, f"the file {header.file} is empty")
    if header.env or header.file:
        remember_secret(value)
    value = header.prefix + value
    if not _NAME.match(header.name):
        raise _error(header, "the name holds characters that a header name may not hold")
    if not _VALUE.match(value):
        raise _error(header, "the value holds characters that a header may not hold, such as a line end")
    return value


def _error(header: Header, text: str) -> TransportError:
    return TransportError(Outcome.AUTH_ERROR, f"header {header.name!r}: {text}")
