"""A probe's effective configuration as plain values: what file, defaults and inheritance made of it, without secrets.

Pure. It must not know YAML or HTML.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import Any

from exporter.core.probe import Probe
from exporter.core.redaction import HIDDEN

_UNITS = (("d", 86_400 * 10**9), ("h", 3_600 * 10**9), ("m", 60 * 10**9), ("s", 10**9), ("ms", 10**6), ("us", 10**3))
_INTERNAL = frozenset({"config_hash", "files_digest", "file_digest", "address", "parent", "value"})
_HIDDEN = frozenset({"string_data"})
_PAIRS = frozenset({"shapes", "datatypes", "labels", "parameters"})


def effective(probe: Probe) -> dict[str, Any]:
    """By the names of the configuration, as far as these are ours: durations as `5s`; what is not set is left out.
    Values of headers and of request parameters are hidden."""
    found = _plain_fields(probe)
    found["levels"] = [f"{level.mode.value} {level.label}" for level in probe.levels]
    return found


def _plain_fields(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in dataclasses.fields(value):
        inner = getattr(value, each.name)
        if each.name in _INTERNAL or inner in (None, "", ()):
            continue
        name = each.name.removesuffix("_ns")
        if each.name in _HIDDEN:
            found[name] = HIDDEN
        elif each.name in ("headers", "management_headers"):
            found[name] = {header.name: _source(header) for header in inner}
        elif each.name == "parameters":
            found[name] = {key: HIDDEN for key, _ in inner}
        elif each.name in _PAIRS:
            found[name] = {key: _plain(item) for key, item in inner}
        elif name != each.name:
            found[name] = duration_text(inner)
        else:
            found[name] = _plain(inner)
    return found


def _source(header: Any) -> str:
    """Where a header's value comes from is no secret."""
    return f"env {header.env}" if header.env else f"file {header.file}" if header.file else HIDDEN


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        return _plain_fields(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def duration_text(ns: int) -> str:
    """A duration as the configuration has it: the largest unit in which it is whole, 90000000000 → "90s"."""
    if not ns:
        return "0s"
    unit, length = next(((unit, length) for unit, length in _UNITS if ns % length == 0), ("ns", 1))
    return f"{ns // length}{unit}"
