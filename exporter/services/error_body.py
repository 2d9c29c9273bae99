"""The text of an error in the JSON forms that servers wrap it in: `{"error": "…"}`, `{"error": {"message": "…"}}`,
`{"object": "error", "message": "…"}`, `{"detail": "…"}`. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from exporter.core.untrusted_text import load_json


def error_message(body: bytes) -> str:
    """The error text in a response's body; "" if the body is in none of the forms, and is best shown unchanged."""
    try:
        value = load_json(body)
    except ValueError:
        return ""
    if not isinstance(value, dict):
        return ""
    if is_error(value):
        return message_of(value)
    detail = value.get("detail")
    return detail if isinstance(detail, str) else ""


def is_error(value: Mapping[str, Any]) -> bool:
    """Whether a JSON object reports an error, whatever status or event it came with."""
    return bool(value.get("error")) or value.get("object") == "error"


def message_of(value: Mapping[str, Any]) -> str:
    """The text of an object that reports an error."""
    error = value.get("error") or value
    text = (error.get("message") or error) if isinstance(error, dict) else error
    return text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)
