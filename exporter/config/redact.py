"""The configuration as it is shown to others: file and environment joined, without anything secret."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from exporter.config.loading import join
from exporter.config.text import SECRET_SECTIONS, sounds_secret, without_url_secrets
from exporter.core.redaction import HIDDEN

_SOURCES = frozenset({"env", "file"})
"""Where a hidden value comes from is no secret."""


def shown_configuration(path: Path, data: bytes, environ: Mapping[str, str] = os.environ) -> str:
    """The configuration that `data`, once read from the file at `path`, makes with the environment, as YAML."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(
        _shown(join(path, data, environ), hidden=False), Dumper=dumper, sort_keys=False, allow_unicode=True, width=120
    )
    return text


def _shown(value: Any, *, hidden: bool) -> Any:
    if isinstance(value, Mapping):
        return {key: _entry(key, inner, hidden=hidden) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shown(inner, hidden=hidden) for inner in value]
    if hidden:
        return HIDDEN
    return without_url_secrets(value) if isinstance(value, str) else value


def _entry(key: str, value: Any, *, hidden: bool) -> Any:
    if hidden and key in _SOURCES:
        return value
    secret = key in SECRET_SECTIONS or (sounds_secret(key) and not key.endswith("_file"))
    return _shown(value, hidden=hidden or secret)
