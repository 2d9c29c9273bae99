"""How values go over values: the environment over the file, a probe over the defaults.

Pure. Mappings merge key by key; everything else is replaced whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FILE_LOADS: dict[str, frozenset[str]] = {"intervals_file": frozenset(), "schedule_file": frozenset()}
_ALTERNATIVES: dict[str, dict[str, frozenset[str]]] = {
    "schedule": {"every": frozenset(), "cron": frozenset({"timezone"})},
    "load": {
        "concurrency": frozenset({"search"}),
        "request_rate": frozenset({"search", "distribution", "seed"}),
        "streams": frozenset({"search", "seed", "step_interval", "ramp"}),
        "periodic_concurrency": frozenset({"request_period"}),
        "session_concurrency": frozenset(),
        **_FILE_LOADS,
    },
}
"""Sections that hold exactly one of these, each with the keys that belong to it: to choose one is to drop what was
inherited of the others alone."""


def merged(base: Any, over: Any, section: str = "") -> Any:
    """`over` laid over `base`; neither is changed."""
    if not isinstance(base, Mapping) or not isinstance(over, Mapping):
        return over
    dropped = _dropped(section, over)
    result = {key: value for key, value in base.items() if key in over or key not in dropped}
    for key, value in over.items():
        result[key] = merged(base[key], value, key) if key in base else value
    return result


def _dropped(section: str, over: Mapping[str, Any]) -> set[str]:
    """The inherited keys of the alternatives that `over` does not choose; none if it chooses nothing."""
    alternatives = _ALTERNATIVES.get(section, {})
    if not alternatives.keys() & over.keys():
        return set()
    kept = {key for choice, own in alternatives.items() if choice in over for key in own}
    return {key for choice, own in alternatives.items() if choice not in over for key in (choice, *own)} - kept


def with_inherited(values: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with each probe laid over the defaults."""
    result = dict(values)
    defaults, probes = values.get("defaults"), values.get("probes")
    if isinstance(defaults, Mapping) and isinstance(probes, list):
        result["probes"] = [merged(defaults, probe) if isinstance(probe, Mapping) else probe for probe in probes]
    return result
