"""How values go over values: the environment over the file, a probe over the defaults.

Pure. Mappings merge key by key; everything else is replaced whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ALTERNATIVES = {"schedule": frozenset({"every", "cron"}), "load": frozenset({"concurrency", "request_rate"})}
"""Sections that hold exactly one of these: to choose one is to drop what was inherited of the others."""


def merged(base: Any, over: Any, section: str = "") -> Any:
    """`over` laid over `base`; neither is changed."""
    if not isinstance(base, Mapping) or not isinstance(over, Mapping):
        return over
    dropped = _ALTERNATIVES.get(section, frozenset())
    if not dropped & over.keys():
        dropped = frozenset()
    result = {key: value for key, value in base.items() if key in over or key not in dropped}
    for key, value in over.items():
        result[key] = merged(base[key], value, key) if key in base else value
    return result


def with_inherited(values: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with each probe laid over the defaults."""
    result = dict(values)
    defaults, probes = values.get("defaults"), values.get("probes")
    if isinstance(defaults, Mapping) and isinstance(probes, list):
        result["probes"] = [merged(defaults, probe) if isinstance(probe, Mapping) else probe for probe in probes]
    return result
