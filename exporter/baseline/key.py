"""The hash of the load that a probe makes: results of different loads are not compared with each other."""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, Field, fields
from typing import Any

from exporter.core.probe import Probe
from exporter.core.target import Target

_NO_LOAD = frozenset(
    {
        *("name", "target", "model", "version", "schedule", "stop", "slo", "unit", "histogram", "buckets_per_decade"),
        *("variant", "variant_group", "labels", "config_hash", "baseline", "parent"),
    }
)
"""What a probe has beside its load. What is not named here counts as load: rather a baseline too many."""
_NO_MEASUREMENT = frozenset({"percentiles", "latency_threshold_ns", "min_reached_ratio"})
_PROTOCOL = ("kind", "scheme", "streams_per_connection")


def baseline_key(probe: Probe) -> str:
    """Under what the baselines of a probe are kept: its target (a replica's pattern), its model and its load."""
    return f"{probe.target.parent or probe.target.name} {probe.model} {load_hash(probe)}"


def load_hash(probe: Probe) -> str:
    """Twelve hex digits over payload, levels, measurement and protocol. What has its default does not count, so that
    an option that a later release brings changes nothing for who does not use it."""
    load = {key: value for key, value in _plain(probe).items() if key not in _NO_LOAD}
    measurement = {key: value for key, value in _plain(probe.measurement).items() if key not in _NO_MEASUREMENT}
    target = {key: value for key, value in _plain(probe.target).items() if key in _PROTOCOL}
    canonical = json.dumps([load | {"measurement": measurement}, target], default=_plain, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def _plain(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that have not their default; all of a target's, which has them from its url."""
    if isinstance(value, Target):
        return {entry.name: getattr(value, entry.name) for entry in fields(value)}
    return {entry.name: given for entry in fields(value) if (given := getattr(value, entry.name)) != _default(entry)}


def _default(entry: Field[Any]) -> Any:
    return entry.default if entry.default is not MISSING else None
