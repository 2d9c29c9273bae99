"""A sweep's whole result as JSON, for programs (`--json`); docs/results.md describes it.

The document follows the core types: a field is a key. What differs is made by rule, so that no figure can be forgotten:
durations leave as seconds, and a name always has its unit. Secrets are never written.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from exporter import __version__
from exporter.core.outcome import Outcome
from exporter.core.probe import Unit
from exporter.core.result import SCHEMA, SCHEMA_VERSION, Measurement, SweepResult
from exporter.core.target import Header
from exporter.core.units import NS

_RENAMED = {"throughput": "inferences_per_second", "offered": "sent_per_second", "ns": "seconds"}
"""Names that are plain inside, where the docstring has the unit."""


def document(result: SweepResult) -> dict[str, Any]:
    """The result as values that `json` takes: no NaN, no infinity."""
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "written_by": f"triton-canary {__version__}",
        **_plain(result),
        "measurements": [_measurement(measurement, result.probe.unit) for measurement in result.measurements],
    }


def json_text(result: SweepResult) -> str:
    """The document as text, which ends its last line."""
    return json.dumps(document(result), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _measurement(measurement: Measurement, unit: Unit | None) -> dict[str, Any]:
    """With its throughput in the probe's own unit, which the core types leave to the report."""
    in_unit = None
    if unit is not None:
        in_unit = {"unit": unit.name, "units_per_second": measurement.throughput * unit.per_inference}
    return {**_fields(measurement), "throughput_in_unit": _plain(in_unit)}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return _fields(value)
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(each) for key, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    if isinstance(value, enum.Enum):
        return value.label if isinstance(value, Outcome) else value.value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _fields(value: Any) -> dict[str, Any]:
    plain = {}
    for field in fields(value):
        name, each = field.name, getattr(value, field.name)
        if name == "ns" or name.endswith("_ns"):
            each = _seconds(each)
        if isinstance(value, Header) and name == "value" and each:
            each = "(hidden)"
        plain[_key(name)] = _plain(each)
    return plain


def _key(name: str) -> str:
    if name.endswith("_ns"):
        return f"{name.removesuffix('_ns')}_seconds"
    if name.endswith("_unix_s"):
        return f"{name.removesuffix('_s')}_seconds"
    return _RENAMED.get(name, name)


def _seconds(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _seconds(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_seconds, value))
    return None if value is None else value / NS
